"""--measured with files: fitted, said beside every answer, refused in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]

CASES = Path(__file__).parents[1] / "cases" / "benchmarks"
LLAMA = ("llama-3.1-8b", "--gpu", "a100-pcie-80gb", "--engine", "vllm")
FILE = str(CASES / "vllm-serve.json")
LOG = "vllm-hybrid.log"
POINTS = ("--measured", FILE, "--measured", "tpot_ms=14.2 batch=1 seq=2k", "--measured", "tpot_ms=20 batch=8 seq=2k")


def test_a_file_and_points_by_hand_are_fitted_together(run: Run) -> None:
    found = run("speed", *LLAMA, "--prompt", "1k", "--answer", "256", "--batch", "16", *POINTS, "--json").json
    assert found["measured"]["points"] == 3
    assert found["measured"]["sources"] == [FILE, "a point by hand"]
    assert found["tpot_seconds"] == pytest.approx(0.026, rel=0.15)
    assert "3 measured points given" in found["constants_from"]


def test_a_page_says_how_far_off_points_were_when_left_out(run: Run) -> None:
    page = " ".join(run("speed", *LLAMA, "--batch", "16", *POINTS).out.split())
    assert "3 measured points given" in page
    assert "when left out" in page


def test_simulate_takes_the_same_files(run: Run) -> None:
    flags = ("--prompt", "1k", "--answer", "100", "--rate", "1/s", "--requests", "50", "--json")
    with_file = run("simulate", *LLAMA, *flags, "--measured", FILE).json
    assert with_file != run("simulate", *LLAMA, *flags).json


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("/nowhere/run.json", "cannot be read"),
        (str(CASES), "directory"),
        (str(CASES / "README.md"), "no benchmark's file that is known here"),
    ],
)
def test_what_is_no_benchmark_is_one_line(run: Run, given: str, words: str) -> None:
    assert words in run("speed", *LLAMA, "--measured", given).refused()


def test_a_file_without_lengths_says_what_is_wanted(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "latency.json"
    path.write_text('{"avg_latency": 1.5, "latencies": [1.5], "percentiles": {"50": 1.5}}')
    line = run("speed", *LLAMA, "--measured", str(path)).refused()
    assert "requests at once, lengths, and TTFT or TPOT" in line


def test_reconcile_puts_files_of_benchmarks_beside_what_is_expected(run: Run) -> None:
    found = run("reconcile", FILE, str(CASES / "llmperf.json"), "--gpu", "a100-pcie-80gb", "--json").json
    assert found["ledgers"] == []
    assert [one["measured"]["tool"] for one in found["speed"]] == ["LLMPerf", "vllm bench serve"]
    one = found["speed"][1]
    assert one["expected"]["batch"] == 16
    low, high = one["expected"]["tpot_seconds_low"], one["expected"]["tpot_seconds_high"]
    assert one["place"]["tpot"] == ("inside" if low <= 0.026 <= high else "above")


def test_the_verdict_of_several_files_is_line_two(run: Run) -> None:
    lines = run("reconcile", FILE, "--gpu", "a100-pcie-80gb").out.splitlines()
    assert lines[0] == "speed  vllm bench serve on a100-pcie-80gb"
    assert "of 2 measured times lie in the range that is expected." in lines[1]


def test_a_time_that_the_device_cannot_reach_is_marked(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "fast.json"
    path.write_text(Path(FILE).read_text().replace('"mean_tpot_ms": 26.0', '"mean_tpot_ms": 0.1'))
    page = run("reconcile", path, "--gpu", "a100-pcie-80gb").out
    assert "faster than the device can be" in page
    assert run("reconcile", path, "--gpu", "a100-pcie-80gb", "--json").json["speed"][0]["place"]["tpot"] == "beyond"


def test_a_log_and_a_benchmark_of_one_server_are_one_page(run: Run) -> None:
    log = CASES.parent / "logs" / LOG
    found = run("reconcile", log, FILE, "--gpu", "h100-sxm", "--json").json
    assert len(found["ledgers"]) == 1
    assert "vLLM" in found["speed"][0]["expected"]["constants_from"]
    assert found["files"] == [str(log), FILE]


@pytest.mark.parametrize(
    ("given", "code", "words"),
    [
        ((FILE,), 2, "held against a device: --gpu NAME"),
        ((str(CASES / "README.md"), "--gpu", "l4"), 1, "no start-up line"),
        ((str(CASES.parent / "metrics" / "vllm-1.txt"), "--gpu", "l4"), 1, "kvplan watch FILE"),
    ],
)
def test_what_reconcile_cannot_hold_against_anything_is_one_line(
    run: Run, given: tuple[str, ...], code: int, words: str
) -> None:
    assert words in run("reconcile", *given).refused(code)

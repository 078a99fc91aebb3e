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

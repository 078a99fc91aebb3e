"""--measured with files: fitted, said beside every answer, refused in one line."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from planner.answers.server import with_log
from planner.options.reconcile import FLAGS, server_asked
from planner.options.running import Load, Running, speed_of
from planner.options.tables import empty
from planner.reconcile.facts import Log, engines_of
from planner.reconcile.ledger import Given
from planner.reconcile.reader import Source
from planner.reconcile.runs import ledger_of

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
        ((str(CASES.parent / "metrics" / "vllm-1.txt"),), 2, "held against a device: --gpu NAME"),
        ((FILE, "--gpu", "l4", "--figure", "curve.gif"), 2, "none of .svg, .png, .pdf"),
        ((FILE, "--gpu", "a100-pcie-80gb", "--figure", "curve.svg"), 1, "two loads at least"),
    ],
)
def test_what_reconcile_cannot_hold_against_anything_is_one_line(
    run: Run, given: tuple[str, ...], code: int, words: str
) -> None:
    assert words in run("reconcile", *given).refused(code)


METRICS = str(CASES.parent / "metrics" / "vllm-2.txt")


@pytest.fixture
def loads(tmp_path: Path) -> list[str]:
    """The benchmark at four loads: TPOT by hand, 13.5 ms alone to 29 ms of 32."""
    found = []
    for batch, tpot in ((1, 13.5), (4, 14.2), (16, 16.9), (32, 29.0)):
        made = json.loads(Path(FILE).read_text()) | {"max_concurrency": batch, "mean_tpot_ms": tpot}
        path = tmp_path / f"run{batch}.json"
        path.write_text(json.dumps(made))
        found.append(str(path))
    return found


def test_log_benchmarks_and_metrics_are_one_page(run: Run, loads: list[str]) -> None:
    pytest.importorskip("prometheus_client")
    log = CASES.parent / "logs" / LOG
    page = run("reconcile", log, *loads, METRICS, "--gpu", "h100-sxm", "--model", "llama-3.1-8b").out
    assert page.splitlines()[0] == "vllm llama-3.1-8b on h100-sxm"
    verdict = page.splitlines()[1]
    for part in ("memory DOES NOT CLOSE", "measured times lie in the range", "load: meets its targets", "Best: "):
        assert part in verdict
    assert "where it went" in page and "running" in page and "what one flag would change" in page
    assert "the files name several models" in page


def test_advice_is_in_order_of_gain_and_each_flag_is_answered_anew(run: Run, loads: list[str]) -> None:
    found = run("reconcile", *loads, "--gpu", "h100-sxm", "--engine", "vllm", "--ttft", "10s", "--json").json["advice"]
    gains = [change["gain"] for change in found["changes"]]
    assert gains == sorted(gains, reverse=True) and min(gains) > 1.02
    assert found["points"] == 4
    changed = next(change for change in found["changes"] if change["flags"] == "--quantization fp8")
    asked = (
        "speed",
        "llama-3.1-8b",
        "--gpu",
        "h100-sxm",
        "--engine",
        "vllm",
        "--dtype",
        "fp8",
        "--prompt",
        "1k",
        "--answer",
        "256",
    )
    most = run(*asked, "--json", "--batch", str(changed["most_users"])).json
    assert changed["by"] != "memory" or most["largest_batch"] == changed["most_users"]
    assert {"--kv-cache-dtype fp8", "--gpu-memory-utilization 0.95", "--tensor-parallel-size 2"} <= set(found["tried"])


def test_advice_by_slower_times_of_the_server_serves_fewer(run: Run, loads: list[str], tmp_path: Path) -> None:
    slow = tmp_path / "slow.json"
    slow.write_text(json.dumps(json.loads(Path(loads[2]).read_text()) | {"mean_tpot_ms": 60.0}))
    asked = ("--gpu", "h100-sxm", "--engine", "vllm", "--ttft", "60s", "--json")
    fast, late = (run("reconcile", file, *asked).json["advice"]["now"] for file in (loads[2], str(slow)))
    assert late["most_users"] < fast["most_users"] and late["tpot_seconds"] == pytest.approx(0.060, rel=0.1)


def test_two_reads_of_metrics_say_what_came_between(run: Run) -> None:
    pytest.importorskip("prometheus_client")
    first = str(CASES.parent / "metrics" / "vllm-1.txt")
    found = run("reconcile", first, METRICS, "--gpu", "h100-sxm", "--json").json
    assert found["load"]["ttft_seconds"] == pytest.approx((27 - 12) / 100)
    assert [one["measured"]["tool"] for one in found["speed"]] == ["/metrics"]
    assert "vLLM" in found["speed"][0]["expected"]["constants_from"]


def test_a_page_and_a_figure_of_several_loads(run: Run, loads: list[str], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    html, figure = tmp_path / "server.html", tmp_path / "curve.svg"
    run("reconcile", *loads, "--gpu", "h100-sxm", "--html", html, "--figure", figure)
    page = html.read_text()
    assert page.startswith("<!DOCTYPE html>") and "<svg" in page and "What one flag would change" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    drawn = figure.read_text()
    assert "Requests at once" in drawn and "the device allows" in drawn


def test_points_are_recorded_as_rows_of_a_case_file_once(run: Run, loads: list[str], tmp_path: Path) -> None:
    path = tmp_path / "speeds.csv"
    for _ in range(2):
        run("reconcile", *loads, "--gpu", "h100-sxm", "--engine", "vllm==0.11.2", "--record", path)
    rows = list(csv.DictReader(path.read_text().splitlines()))
    with (CASES.parent / "serving_speed.csv").open() as file:
        assert list(rows[0]) == next(csv.reader(file))
    tpot = {int(row["batch"]): float(row["value"]) for row in rows if row["measured"] == "tpot_ms"}
    assert tpot == {1: 13.5, 4: 14.2, 16: 16.9, 32: 29.0}
    assert len(rows) == len({tuple(row.values()) for row in rows})
    first = rows[0]
    assert (first["engine"], first["engine_version"], first["gpu"], first["load"]) == (
        "vllm",
        "0.11.2",
        "h100-sxm",
        "closed_loop",
    )
    assert first["note"] == "vllm bench serve" and first["source"] == loads[0]


def test_a_file_that_holds_no_speeds_stays_as_it_was(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "logs.csv"
    path.write_text("id,engine,version\n1,vllm,0.9\n")
    assert "no column" in run("reconcile", FILE, "--gpu", "h100-sxm", "--record", path).refused()
    assert path.read_text() == "id,engine,version\n1,vllm,0.9\n"


def test_a_version_written_after_the_engine_keeps_the_limits_of_the_log() -> None:
    """`--engine vllm==0.11.0` lost the log's share and longest request, for "vllm==0.11.0" is no key."""
    log = str(CASES.parent / "logs" / LOG)
    found = []
    for engine in ("vllm", "vllm==0.11.0"):
        made = ledger_of(engines_of(Log().read(Source(log).lines()))[0], Given())
        found.append(with_log(Running(engine=engine), [made]))
    assert found[0].max_model_len == found[1].max_model_len is not None
    assert found[0] == replace(found[1], engine="vllm")


def test_the_share_of_a_server_is_that_of_its_own_engine() -> None:
    """--mem-fraction-static became the share of a vLLM server where no --engine was named."""
    asked = server_asked(
        empty(FLAGS) | {"mem_fraction_static": "0.5", "gpu_memory_utilization": "0.8", "gpu": "l4"}
    ).running
    assert asked.share is None
    shares = {name: replace(asked, engine=name).with_own_share().share for name in ("vllm==0.11.0", "sglang", "mlx")}
    assert shares == {"vllm==0.11.0": Fraction(4, 5), "sglang": Fraction(1, 2), "mlx": None}


def test_lmdeploys_share_counts_under_both_of_its_backends() -> None:
    load = Load(1, 1000, 100)
    for engine in ("lmdeploy", "lmdeploy-pytorch"):
        asked = speed_of(Running(model="qwen3-8b", gpu="l4", engine=engine, share=Fraction(1, 2)), load)
        assert asked.engine is not None and asked.engine.options.fraction == Fraction(1, 2)

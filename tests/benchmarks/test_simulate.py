"""The simulator's benchmark runs and prints both parts; how fast is for people to read, not for a test."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "simulate.py"


def printed(*arguments: str) -> str:
    command = [sys.executable, str(BENCHMARK), "--requests", "500", "--rounds", "1", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_day_and_the_comparison_are_printed_and_vidur_is_skipped_with_a_word() -> None:
    found = printed("--every", "400", "--vidur-python", sys.executable)
    assert "a day     500 requests" in found and "s of one core" in found
    assert "beside    2,000 requests" in found and "vidur" in found
    assert "measured  TTFT under load" in found and "measured  TPOT under load" in found


def test_json_holds_the_same_and_every_seventh_measured_row_is_as_near_as_all() -> None:
    found = json.loads(printed("--every", "7", "--json"))
    assert found["day"]["requests"] == 500 and found["beside"]["kvplan_seconds"] > 0
    ttft, tpot = found["measured"]
    # 1,283 rows, those of models with experts among them: 10.5 %. Of the 600 dense ones alone it was below 10 %.
    assert tpot["rows"] > 150 and tpot["median_error"] < 0.12 and 0.9 < tpot["median_ratio"] < 1.1
    assert ttft["rows"] > 120 and ttft["median_error"] < 0.6 and 0.7 < ttft["median_ratio"] < 1.5

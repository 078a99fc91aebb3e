"""The benchmarks run and print their table; how fast is for people to read, not for a test."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def run(name: str, *arguments: str) -> str:
    command = [sys.executable, str(BENCHMARKS / name), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_startup_prints_a_row_for_each_command_or_why_not() -> None:
    printed = run("startup.py", "--rounds", "1")
    commands = ("python ", "kvplan ", "vramcalc ", "llm-flops ", "hf-mem ")
    rows = [line for line in printed.splitlines() if line.startswith(commands)]
    assert len(rows) == 8
    assert all(" ms" in row or "skipped: " in row for row in rows)
    assert "python -m kvplan" in printed


def test_plan_prints_the_ratios_of_formula_to_simulation() -> None:
    printed = run("plan.py", "--requests", "120", "--no-search")
    for kind in ("at random", "users ", "users who pause"):
        assert sum(line.startswith(kind) for line in printed.splitlines()) >= 3
    assert "P95 TTFT" in printed and "mean |log|" in printed

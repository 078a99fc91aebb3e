"""The committed example, and the benchmark of reports."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "example-report"


def run(*words: str) -> str:
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, cwd=ROOT, timeout=1800, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_example_has_the_numbers_of_today() -> None:
    run("docs/example.py", "--check")


def test_the_example_is_whole_and_small() -> None:
    listed = json.loads((FOLDER / "report.json").read_text(encoding="utf-8"))["files"]
    found = sorted(str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*") if path.is_file())
    assert found == listed
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < 2_500_000


def test_the_benchmark_prints_time_and_memory() -> None:
    printed = run("benchmarks/report.py", "--runs", "2", "--models", "1")
    assert "1 models, 3 devices, 2 runs" in printed and " MiB at most" in printed

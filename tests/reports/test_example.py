"""The committed example, and the benchmark of reports."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from kvplan.cli import main

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "example-report"


@pytest.mark.usefixtures("undrawn")
def test_the_example_has_the_numbers_of_today(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`python docs/example.py --check` without its drawings, which it does not compare."""
    spec = importlib.util.spec_from_file_location("example_report", ROOT / "docs" / "example.py")
    assert spec is not None and spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)

    def write(folder: Path) -> None:
        with pytest.raises(SystemExit) as ended:
            main([*example.COMMAND, "-o", str(folder), "--force"])
        assert not ended.value.code

    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", example.DAY)
    monkeypatch.setattr(example, "write", write)
    assert (example.main(["--check"]), capsys.readouterr().err) == (0, "")


def test_the_example_is_whole_and_small() -> None:
    named = re.findall(r"\((figures/[^)]+)\)", (FOLDER / "report.md").read_text(encoding="utf-8"))
    found = sorted(str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*") if path.is_file())
    assert found == sorted([*named, "report.html", "report.md"])
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < 1_500_000


def test_the_benchmark_prints_time_and_memory() -> None:
    words = [sys.executable, "benchmarks/report.py", "--runs", "2", "--models", "1", "--devices", "1"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, timeout=1800, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 models, 1 devices, 2 runs" in done.stdout and " MiB at most" in done.stdout

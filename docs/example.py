"""Writes docs/example-report: python docs/example.py [--check]

The report is that of `kvplan report` over the run in docs/example-runs, which `kvplan profile gpt2` made. Needs
the extra `report`. --check compares the numbers alone (tables and words), for drawings differ from one release of
matplotlib to the next.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "example-report"
COMMAND = (
    "report", "gpt2", "llama-7b", "llama-3.1-8b", "deepseek-v3", "gemma-3-27b", "qwen3-next-80b",
    "--gpu", "rtx-4090,h100-sxm", "--seq", "8k", "--run", "docs/example-runs/gpt2.json",
)  # fmt: skip
KEPT = (".html", ".md", ".svg")  # what a reader opens; tables and PNGs are written by anyone with the command
DAY = "1795305600"  # 2026-11-22, when the run was made


def write(folder: Path) -> None:
    """The report in `folder`, by the command line, without what no reader opens."""
    environment = {"SOURCE_DATE_EPOCH": DAY, **os.environ}
    if folder.exists():  # without its manifest kvplan would not replace it
        shutil.rmtree(folder)
    words = [sys.executable, "-m", "kvplan", *COMMAND, "-o", str(folder), "--force"]
    subprocess.run(words, cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_file() and path.suffix not in KEPT:
            path.unlink()
        elif path.is_dir() and not any(path.iterdir()):
            path.rmdir()


def main(arguments: list[str]) -> int:
    if arguments != ["--check"]:
        write(FOLDER)
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        fresh = Path(scratch) / "report"
        write(fresh)
        names = sorted(str(path.relative_to(fresh)) for path in fresh.rglob("*") if path.suffix == ".md")
        stale = [name for name in names if stable(fresh / name) != stable(FOLDER / name)]
    if stale:
        print(f"stale in docs/example-report: {', '.join(stale[:5])}; run python docs/example.py", file=sys.stderr)
    return int(bool(stale))


def stable(path: Path) -> list[str]:
    """The lines of a file, fractions to nine digits, without those that name what the report was made with."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    kept = [line for line in lines if not line.startswith(("- Python:", "- packages:", "- kvplan:"))]
    return [re.sub(r"\d+\.\d+(e[+-]?\d+)?", lambda found: f"{float(found[0]):.9g}", line) for line in kept]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

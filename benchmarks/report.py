"""How long a report takes, and how much memory: by default 100 runs and 20 models on three devices.

    pip install '.[report]'
    python benchmarks/report.py [--runs 100] [--models 20] [--devices 3] [--limit-seconds 30] [--limit-mib 500]

The runs are copies of the one behind docs/example-report, each a little slower than the one before. Exit code 1
when a limit is given and passed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from machine import header, peak_rss_bytes

EXAMPLE = ROOT / "docs" / "example-runs" / "gpt2.json"
DEVICES = ("l4", "rtx-4090", "h100-sxm")


def slower(raw: dict[str, Any], factor: float) -> dict[str, Any]:
    """The run with every time stretched."""
    made: dict[str, Any] = json.loads(json.dumps(raw))
    for point in made["points"]:
        for name, reading in point["readings"].items():
            if name.endswith("_seconds"):
                reading.update(
                    {key: reading[key] * factor for key in ("value", "low", "high") if reading[key] is not None}
                )
    return made


def write_runs(folder: Path, count: int) -> list[str]:
    raw = json.loads(EXAMPLE.read_text(encoding="utf-8"))
    paths = []
    for number in range(count):
        path = folder / f"run-{number:03}.json"
        path.write_text(json.dumps(slower(raw, 1 + number / 50)), encoding="utf-8")
        paths.append(str(path))
    return paths


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--models", type=int, default=20)
    parser.add_argument("--devices", type=int, default=len(DEVICES))
    parser.add_argument("--limit-seconds", type=float)
    parser.add_argument("--limit-mib", type=float)
    asked = parser.parse_args()
    from planner.catalogue.entries import models

    names = [entry.name for entry in models()]
    chosen = names[:: max(1, len(names) // asked.models)][: asked.models]
    with tempfile.TemporaryDirectory() as scratch:
        paths = write_runs(Path(scratch), asked.runs)
        start, cpu = time.perf_counter(), time.process_time()
        size, count = make(chosen, DEVICES[: asked.devices], paths, Path(scratch) / "out")
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    memory = (peak_rss_bytes() or 0) / 2**20
    print(header())
    print(f"{len(chosen)} models, {len(DEVICES[: asked.devices])} devices, {asked.runs} runs")
    print(
        f"report: {seconds:.1f} s ({cpu:.1f} s of processor), {memory:.0f} MiB at most, {count} files of {size / 1e6:.1f} MB"
    )
    late = asked.limit_seconds is not None and seconds > asked.limit_seconds
    large = asked.limit_mib is not None and memory > asked.limit_mib
    return int(late or large)


def make(chosen: list[str], devices: tuple[str, ...], paths: list[str], out: Path) -> tuple[int, int]:
    """(bytes, files) of one report, imports and writing included."""
    from reports.content import report
    from reports.folder import files_of, write_folder
    from reports.question import question
    from reports.runs import load_runs

    runs, _ = load_runs(paths)
    found = files_of(report(question(tuple(chosen), gpus=devices, runs=runs)))
    write_folder(str(out), found, force=False)
    return sum(map(len, found.values())), len(found)


if __name__ == "__main__":
    sys.exit(main())

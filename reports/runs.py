"""Run files of `kvplan profile`: read, and those that cannot be used named with the reason."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

from planner.errors import KvplanError, one_line
from profiler.results import Measurement, load


@dataclass(frozen=True, eq=False)
class Run:
    """A result and the name it goes by in figures and tables."""

    name: str
    path: str
    found: Measurement

    @property
    def busy(self) -> str | None:
        """Why its speeds are no measure of the machine: other programs ran, or a step read faster than the calibration."""
        said = [line for line in self.found.warnings if line.startswith("the load of this machine was")]
        if said:
            load = re.search(r"was ([\d.]+)", said[0])
            return f"measured while the machine was busy (load {load[1] if load else 'high'}): repeat when idle"
        if _over(self.found):
            return "it read faster than kvplan calibrate found, which was measured while the machine was busy: calibrate again when idle"
        return None


def load_runs(paths: Sequence[str]) -> tuple[tuple[Run, ...], tuple[str, ...]]:
    """Reads the runs that can be used, and returns one line for each file that cannot.

    Raises KvplanError where none of the files can be used.
    """
    runs: list[Run] = []
    skipped: list[str] = []
    for path in dict.fromkeys(paths):
        try:
            runs.append(Run(run_name(path), path, load(path)))
        except KvplanError as error:
            skipped.append(str(error))
    if paths and not runs:
        more = f" (and {len(skipped) - 1} more files that cannot be used)" if len(skipped) > 1 else ""
        raise KvplanError(f"{skipped[0]}{more}")
    names = unique([run.name for run in runs])
    return tuple(Run(name, run.path, run.found) for name, run in zip(names, runs, strict=True)), tuple(skipped)


def unique(names: list[str]) -> list[str]:
    """Numbers names that come again, so that each is there once.

    >>> unique(["gpt2", "llama", "gpt2"])
    ['gpt2', 'llama', 'gpt2 (2)']
    """
    seen: dict[str, int] = {}
    found = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        found.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return found


def run_name(path: str) -> str:
    """Returns the file's name without its ending.

    >>> run_name("/tmp/gpt2-cpu.json")
    'gpt2-cpu'
    """
    base = os.path.basename(path)
    return one_line(base.removesuffix(".json") or path, 60)


def reach(found: Measurement) -> tuple[float | None, float | None]:
    """Returns (bytes/s, FLOP/s) that the machine of a result was measured to reach: its calibration, or more where a
    step reached more.
    """
    figures = found.figures
    bandwidth = figures["read_bytes_per_s"].value if "read_bytes_per_s" in figures else None
    peak = figures["flops_per_s"].value if "flops_per_s" in figures else None
    for point in found.points:
        got = point.readings
        if bandwidth is None and "read_share" in got and got["read_share"].value:
            bandwidth = got["read_bytes_per_s"].value / got["read_share"].value
        if peak is None and "flops_share" in got and got["flops_share"].value:
            peak = got["flops_per_s"].value / got["flops_share"].value
    reads = [point.readings["read_bytes_per_s"].value for point in found.points if "read_bytes_per_s" in point.readings]
    rates = [point.readings["flops_per_s"].value for point in found.points if "flops_per_s" in point.readings]
    return (None if bandwidth is None else max([bandwidth, *reads])), (None if peak is None else max([peak, *rates]))


def _over(found: Measurement) -> bool:
    """A share of the bandwidth or of the arithmetic above all of it."""
    shares = [
        point.readings[name].value
        for point in found.points
        for name in ("read_share", "flops_share")
        if name in point.readings
    ]
    return any(share > 1 for share in shares)

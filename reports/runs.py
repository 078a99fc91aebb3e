"""Run files of `kvplan profile`: read, and those that cannot be used named with the reason."""

from __future__ import annotations

import os
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


def load_runs(paths: Sequence[str]) -> tuple[tuple[Run, ...], tuple[str, ...]]:
    """The runs that can be used, and one line for each file that cannot.

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
    """
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
    """The file's name without its ending.

    >>> run_name("/tmp/gpt2-cpu.json")
    'gpt2-cpu'
    """
    base = os.path.basename(path)
    return one_line(base.removesuffix(".json") or path, 60)


def reach(found: Measurement) -> tuple[float | None, float | None]:
    """(bytes/s, FLOP/s) that the machine of a result was measured to reach, from its figures or from its shares."""
    figures = found.figures
    bandwidth = figures["read_bytes_per_s"].value if "read_bytes_per_s" in figures else None
    peak = figures["flops_per_s"].value if "flops_per_s" in figures else None
    for point in found.points:
        got = point.readings
        if bandwidth is None and "read_share" in got and got["read_share"].value:
            bandwidth = got["read_bytes_per_s"].value / got["read_share"].value
        if peak is None and "flops_share" in got and got["flops_share"].value:
            peak = got["flops_per_s"].value / got["flops_share"].value
    return bandwidth, peak

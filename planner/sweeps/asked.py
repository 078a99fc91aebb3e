"""Reads what `kvplan sweep` asks, and answers it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from planner.errors import BadRequest, UsageError
from planner.memory.estimate import SCHEMA_VERSION
from planner.options import tables as flags
from planner.options.readers import count_up_to, switch, text
from planner.options.tables import Flag
from planner.shown import Shown, html_table, shown
from planner.sweeps import files, workers
from planner.sweeps.axes import Grid, parse_grid
from planner.sweeps.questions import Row, answer_rows, columns, shared_of
from planner.sweeps.run import Outcome, sweep
from planner.terminal.progress import Progress

FLAGS: tuple[Flag, ...] = (
    Flag("--workers", "N", "Processes on this machine (default: 1).", count_up_to(workers.MAX_WORKERS), "Load"),
    Flag("--ray", "ADDRESS", "The workers of a Ray cluster: host:port, or auto (extra `cluster`).", text, "Load"),
    Flag("--resume", "", "Keep the points that FILE already holds.", switch, "Output"),
    *flags.ASSUME,
    *flags.ONLINE,
    *flags.ROPE,
    Flag("--output", "FILE", "What to write, .csv or .parquet (extra `parquet`).", text, "Output"),
)
SHOWN_ROWS = 20  # of a notebook's table


@dataclass(frozen=True)
class SweepAsked:
    """A grid of questions, who computes it, and the file it goes to (None: to memory alone)."""

    grid: Grid
    path: str | None = None
    workers: int = 1
    ray: str | None = None
    resume: bool = False
    assume: str | None = None
    online: bool = False
    rope_scaling: float | None = None


@dataclass(frozen=True, eq=False, repr=False)
class SweepAnswer(Shown):
    """The rows of a grid, in its order: the axes, the figures, why there are none, and the mark of the formulas."""

    grid: Grid
    cells: tuple[Row, ...]

    def rows(self) -> list[dict[str, Any]]:
        """A row a point."""
        names = [name for name, _ in columns(self.grid.question)]
        return [dict(zip(names, row, strict=True)) for row in self.cells]

    def to_dict(self) -> dict[str, Any]:
        """The JSON contract: base units, keys that stay."""
        return {
            "schema_version": SCHEMA_VERSION,
            "question": self.grid.question,
            "points": len(self.cells),
            "rows": self.rows(),
        }

    def _repr_html_(self) -> str:
        rows = [{key: value for key, value in row.items() if key != "formulas"} for row in self.rows()[:SHOWN_ROWS]]
        keys = [key for key in rows[0] if any(row[key] is not None for row in rows)] if rows else []
        return html_table(
            keys, [[shown(key, row[key]) if row[key] is not None else "" for key in keys] for row in rows]
        )


def sweep_asked(question: str, axes: Iterable[str], values: Mapping[str, Any]) -> SweepAsked:
    """Reads the question that the flags ask; a file is wanted where --resume or a Ray cluster is."""
    given = flags.read_values(FLAGS, values)
    if given["workers"] is not None and given["ray"] is not None:
        raise UsageError("--workers is of this machine and --ray of a cluster; give one of them")
    if given["resume"] and given["output"] is None:
        raise UsageError("--resume goes on with a file: name it with --output")
    return SweepAsked(
        grid=parse_grid(question, axes),
        path=given["output"],
        workers=given["workers"] or 1,
        ray=given["ray"],
        resume=given["resume"],
        assume=given["assume"],
        online=given["online"],
        rope_scaling=given["rope_scaling"],
    )


def write_sweep(asked: SweepAsked, progress: Progress | None = None) -> Outcome:
    """Writes the grid into its file; on Ctrl-C what is there is saved."""
    if asked.path is None:
        raise UsageError("where to? -o FILE.csv or -o FILE.parquet")
    files.check_path(asked.path)
    shared = shared_of(asked.grid, assume=asked.assume, online=asked.online, rope_scaling=asked.rope_scaling)
    work: Any = workers.here
    if asked.ray is not None:
        work = partial(workers.on_ray, address=asked.ray)
    elif asked.workers > 1:
        work = partial(workers.in_processes, workers=asked.workers)
    return sweep(asked.grid, shared, asked.path, work, resume=asked.resume, progress=progress)


def sweep_answer(asked: SweepAsked) -> SweepAnswer:
    """Returns the rows of the grid; by way of its file where one is named."""
    if asked.path is not None:
        if not write_sweep(asked).complete:
            raise KeyboardInterrupt
        return SweepAnswer(asked.grid, tuple(files.read_rows(asked.path, columns(asked.grid.question))))
    if asked.workers > 1 or asked.ray is not None:
        raise BadRequest("several processes write a file: name it with --output")
    shared = shared_of(asked.grid, assume=asked.assume, online=asked.online, rope_scaling=asked.rope_scaling)
    return SweepAnswer(asked.grid, tuple(answer_rows(shared, asked.grid.points())))

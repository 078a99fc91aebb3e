"""A sweep from start to file: what is kept, what is computed, when it is saved."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass

from planner.sweeps import files
from planner.sweeps.axes import OF_QUESTION, Grid
from planner.sweeps.questions import Columns, Point, Row, Shared, columns, mark
from planner.sweeps.workers import chunks
from planner.terminal.progress import Progress

SAVE_SECONDS = 0.5
"""At least so long between two saves, and ten times what a save takes: what SIGKILL can lose."""
Work = Callable[[Shared, Iterable[Sequence[Point]]], Generator[list[Row], None, None]]


@dataclass(frozen=True)
class Outcome:
    """How a sweep ended: points of the grid, those that the file had, those answered and refused; `complete` or stopped."""

    points: int
    kept: int
    answered: int
    refused: int
    complete: bool
    first_refusal: str | None = None


def sweep(  # parameters: what, with what, where to, and who computes it
    grid: Grid, shared: Shared, path: str, work: Work, *, resume: bool = False, progress: Progress | None = None
) -> Outcome:
    """Writes every point of the grid into `path`, in the grid's order; on Ctrl-C what is there is saved.

    `resume`: rows of `path` with the same axes and the same mark of formulas are kept, refused ones are tried again.
    """
    points = grid.points()
    rows: list[Row | None] = _kept(grid, shared, path, points=points) if resume else [None] * len(points)
    kept = len(rows) - rows.count(None)
    missing = [i for i, row in enumerate(rows) if row is None]
    progress = progress or Progress(0, quiet=True)
    progress.total = len(points) or 1
    progress.done = kept
    saver, complete = _Saver(path, columns(grid.question)), True
    todo = iter(missing)
    fresh = not missing  # a sweep that fails at its first point leaves the file as it was
    try:
        with closing(work(shared, chunks(grid.question, [points[i] for i in missing]))) as results:
            for answers in results:
                for row in answers:
                    rows[next(todo)] = row
                fresh = True
                progress.step(_words(grid, answers[-1]), len(answers))
                saver.now_and_then(rows)
    except KeyboardInterrupt:
        complete = False
    finally:
        progress.close()
        if fresh:
            saver.save(rows)
    return _outcome(rows, kept, complete)


def _kept(grid: Grid, shared: Shared, path: str, *, points: Sequence[Point]) -> list[Row | None]:
    if not os.path.exists(path):
        return [None] * len(points)
    width = len(OF_QUESTION[grid.question])
    wanted = set(points)
    there = files.read_rows(path, columns(grid.question))
    found = {row[:width]: row for row in there if row[-2] is None and row[:width] in wanted}
    kept = [found.get(point) for point in points]
    return [
        row if row is not None and row[-1] == mark(shared, point) else None
        for row, point in zip(kept, points, strict=True)
    ]


class _Saver:
    """Saves at the end, and between whenever saving took less than a tenth of the time since the last."""

    def __init__(self, path: str, names: Columns) -> None:
        self.path, self.columns = path, names
        self.last, self.took = time.monotonic(), 0.0

    def now_and_then(self, rows: Sequence[Row | None]) -> None:
        if time.monotonic() - self.last > max(SAVE_SECONDS, 10 * self.took):
            self.save(rows)

    def save(self, rows: Sequence[Row | None]) -> None:
        start = time.monotonic()
        files.write_rows(self.path, self.columns, [row for row in rows if row is not None])
        self.last = time.monotonic()
        self.took = self.last - start


def _words(grid: Grid, row: Row) -> str:
    return ", ".join(str(row[grid.axes.index(axis)]) for axis in list(grid.given)[:4])


def _outcome(rows: Sequence[Row | None], kept: int, complete: bool) -> Outcome:
    refusals = [row[-2] for row in rows if row is not None and row[-2] is not None]
    there = sum(row is not None for row in rows)
    first = str(refusals[0]) if refusals else None
    return Outcome(len(rows), kept, there - len(refusals), len(refusals), complete, first)

"""A line of progress on stderr with the time left, once something has taken two seconds."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TextIO

from planner.terminal.tables import BAR_WIDTH

SILENT_SECONDS = 2.0


EVERY_SECONDS = 0.2


class Progress:
    """`step(words, weight)` after each piece of work; `total` is the sum of weights. With `with` it closes itself."""

    def __init__(
        self,
        total: float,
        *,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
        quiet: bool = False,
    ) -> None:
        self.total, self.done, self.clock = total, 0.0, clock
        self.stream = stream or sys.stderr
        self.quiet = quiet or not (self.stream and self.stream.isatty())
        self.start = self.last = clock()
        self.shown = False

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def step(self, words: str, weight: float = 1.0) -> None:
        self.done = min(self.total, self.done + weight)
        self.show(words)

    def show(self, words: str) -> None:
        """Says what is going on now."""
        now = self.clock()
        if self.quiet or now - self.start < SILENT_SECONDS or now - self.last < EVERY_SECONDS:
            return
        self.last, self.shown = now, True
        print("\r\x1b[K" + self.line(words, now - self.start), end="", file=self.stream, flush=True)

    def line(self, words: str, elapsed_seconds: float) -> str:
        share = self.done / self.total if self.total else 1.0
        width = BAR_WIDTH // 2
        cells = "#" * round(width * share)
        left = f"{elapsed_seconds * (1 - share) / share:4.0f} s left" if share > 0.02 else "   ? s left"
        return f"[{cells:.<{width}}] {100 * share:3.0f} % {left}  {words[:60]}"

    def close(self) -> None:
        if self.shown:
            print("\r\x1b[K", end="", file=self.stream, flush=True)
            self.shown = False

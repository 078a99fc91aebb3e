"""What a report is made of: figures, tables and lines, in sections, with a headline above."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import pandas as pd
from matplotlib.figure import Figure

from reports.kinds import Kind
from reports.style import save, titled

ROWS_SHOWN = 60


@dataclass(frozen=True, eq=False)
class Picture:
    """A figure with its sentence and its text for those who cannot see it."""

    name: str
    title: str
    sees: str
    alt: str
    frame: pd.DataFrame
    kind: Kind
    about: str = ""

    def figure(self) -> Figure:
        return titled(self.kind.draw(self.frame), self.title, self.about)

    @cached_property
    def files(self) -> dict[str, bytes]:
        drawn = self.figure()
        return {kind: save(drawn, kind) for kind in ("svg", "png")}


@dataclass(frozen=True, eq=False)
class Table:
    """A table with its sentence. `columns` of it are shown, the first `rows` of them; files hold it all."""

    name: str
    title: str
    sees: str
    frame: pd.DataFrame
    columns: tuple[str, ...] = ()
    rows: int = ROWS_SHOWN
    view: pd.DataFrame | None = None  # what people read in place of the frame that files hold

    @property
    def shown(self) -> pd.DataFrame:
        if self.view is not None:
            return self.view
        return self.frame[list(self.columns) if self.columns else list(self.frame.columns)].head(self.rows)

    @property
    def left_out(self) -> int:
        return max(0, len(self.frame) - self.rows)


@dataclass(frozen=True)
class Lines:
    """A list of sentences, or of command lines."""

    title: str
    items: tuple[str, ...]
    code: bool = False


Block = Picture | Table | Lines


@dataclass(frozen=True)
class Section:
    name: str
    title: str
    sees: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Card:
    """One device or model of the summary: what it says first, and the lines below."""

    title: str
    good: bool | None
    answer: str
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """`made` is the only thing that differs between two reports of the same input."""

    title: str
    question: str
    answer: str
    cards: tuple[Card, ...]
    summary: tuple[str, ...]
    sections: tuple[Section, ...]
    made: tuple[tuple[str, str], ...]
    headline: Table | None = None
    files: dict[str, bytes] = field(default_factory=dict, hash=False)

    @property
    def pictures(self) -> list[Picture]:
        return [block for section in self.sections for block in section.blocks if isinstance(block, Picture)]

    @property
    def tables(self) -> list[Table]:
        first = [] if self.headline is None else [self.headline]
        return first + [block for section in self.sections for block in section.blocks if isinstance(block, Table)]

"""Several answers of one kind: what a list of lengths, models or devices returns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, overload

from planner.shown import NO, Shown, frame, html_table, shown

A = TypeVar("A", bound=Shown)


@dataclass(frozen=True, repr=False)
class Answers(Sequence[A], Generic[A]):
    """Answers in the order they were asked for: a sequence, one table, one verdict.

    columns   the keys of its table in a notebook
    all_must  the verdict is no where one of them is; else only where all are
    """

    items: tuple[A, ...]
    columns: tuple[str, ...] = ()
    all_must: bool = True

    def __len__(self) -> int:
        return len(self.items)

    @overload
    def __getitem__(self, index: int) -> A: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[A, ...]: ...
    def __getitem__(self, index: int | slice) -> A | tuple[A, ...]:
        return self.items[index]

    def __iter__(self) -> Iterator[A]:
        return iter(self.items)

    def __repr__(self) -> str:
        return "\n".join(["[", *(f"  {item!r}," for item in self.items), "]"])

    def to_dict(self) -> list[dict[str, Any]]:
        """The JSON contract: a list, an object an answer."""
        return [item.to_dict() for item in self.items]

    @property
    def exit_code(self) -> int:
        """0, or 3 where the answer is no."""
        codes = [item.exit_code for item in self.items]
        return NO if (any(codes) if self.all_must else all(codes)) else 0

    def rows(self) -> list[dict[str, Any]]:
        """The rows of all of them."""
        return [row for item in self.items for row in item.rows()]

    def to_frame(self) -> Any:
        """A pandas DataFrame of `rows`. Needs pandas (extra `report`)."""
        return frame(self.rows())

    def _repr_html_(self) -> str:
        rows = self.rows()
        keys = [key for key in self.columns if any(row.get(key) is not None for row in rows)]
        return html_table(
            keys, [[shown(key, row[key]) if row.get(key) is not None else "" for key in keys] for row in rows]
        )

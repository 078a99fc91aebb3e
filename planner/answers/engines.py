"""Answers `engines`: what each serving engine makes of the same model and device, side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from planner.answers.engine import as_stored, kv_name, limited
from planner.engines.base import EngineAnswer
from planner.engines.registry import TABLE, answer_of
from planner.errors import KvplanError
from planner.memory.estimate import SCHEMA_VERSION, Estimate, estimate
from planner.options.engine import EngineAsked
from planner.options.engines import EnginesAsked
from planner.shown import NO, Shown, html_table, shown

COLUMNS = ("label", "request_bytes", "pool_bytes", "pool_tokens", "most_requests")


@dataclass(frozen=True)
class EngineRow:
    """One engine and version: its answer, or in words why there is none; how it stores K and V."""

    label: str
    answer: EngineAnswer | None
    refused: str | None = None
    kv_dtype: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The row of JSON and CSV."""
        found = {"label": self.label, "refused": self.refused, "kv_dtype": self.kv_dtype}
        return found if self.answer is None else found | self.answer.to_dict()


@dataclass(frozen=True, eq=False, repr=False)
class EnginesAnswer(Shown):
    """The same request in the terms of every engine."""

    estimate: Estimate
    engines: tuple[EngineRow, ...]

    @property
    def held(self) -> tuple[EngineRow, ...]:
        """The engines that hold a request."""
        return tuple(row for row in self.engines if row.answer is not None and holds(row.answer))

    @property
    def exit_code(self) -> int:
        """0, or 3 where no engine holds a request of this length."""
        return 0 if self.held else NO

    def to_dict(self) -> dict[str, Any]:
        """The JSON contract: base units, keys that stay; an object an engine in `engines`."""
        one = self.estimate
        return {
            "schema_version": SCHEMA_VERSION,
            "model": one.spec.name,
            "read_as": one.spec.read_as.to_dict() if one.spec.read_as else None,
            "device": one.capacity.name if one.capacity else None,
            "seq_tokens": one.request.seq_tokens,
            "batch": one.request.batch,
            "kv_dtype": one.fmt.name,
            "engines": self.rows(),
            "warnings": list(one.warnings),
        }

    def rows(self) -> list[dict[str, Any]]:
        """A row an engine."""
        return [row.to_dict() for row in self.engines]

    def _repr_html_(self) -> str:
        cells = [
            [shown(key, row[key]) if row.get(key) is not None else row["refused"] or "" for key in COLUMNS[:2]]
            + [shown(key, row[key]) if row.get(key) is not None else "" for key in COLUMNS[2:]]
            for row in self.rows()
        ]
        return html_table(list(COLUMNS), cells)


def holds(answer: EngineAnswer) -> bool:
    """Tells whether an engine holds one request: by its pool, else as far as it is known to fit."""
    return bool(answer.most_requests) if answer.most_requests is not None else answer.fits is not False


def engines_answer(asked: EnginesAsked) -> EnginesAnswer:
    """Answers what each engine makes of the request; a refusal is a row of its own."""
    found = estimate(asked.spec, asked.request, asked.capacity)
    rows = []
    for name, version, label in TABLE:
        try:
            options = asked.options[name]
            answer = answer_of(name, version, found, options=options)
            asked_of = EngineAsked(name, version, options)
            stored = kv_name(as_stored(asked_of, found), name)
            rows.append(EngineRow(label, limited(asked_of, found, answer), kv_dtype=stored))
        except KvplanError as error:
            rows.append(EngineRow(label, None, str(error)))
    return EnginesAnswer(found, tuple(rows))

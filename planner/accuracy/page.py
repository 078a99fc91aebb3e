"""docs/accuracy.md and the JSON of `kvplan accuracy`: how many references agree, and the reason for each that does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from planner.accuracy import references
from planner.accuracy.cases import FILES, Cases
from planner.accuracy.engine_logs import Asked, FirstPrinciples, asked
from planner.errors import KvplanError, one_line

SPEED_MODULE, SPEED_CASES = "planner.accuracy.speed", "serving_speed.csv"
HEAD = "<!-- written by `kvplan accuracy -o docs/accuracy.md`; edit planner/accuracy, not this -->"


@dataclass(frozen=True)
class Accuracy:
    """All that the case files of a folder say."""

    cases: Cases
    counts: tuple[references.Count, ...]
    rows: tuple[Asked, ...]

    @property
    def differing(self) -> list[Asked]:
        return [row for row in self.rows if not row.refused and not row.agrees]

    @property
    def unexplained(self) -> list[str]:
        """What differs and has no reason: references by name, rows by id."""
        short = [count.reference for count in self.counts if count.agree < count.of]
        return short + [row.id for row in self.differing if not row.row["reason"]]

    @property
    def first(self) -> list[FirstPrinciples]:
        return [row.first for row in self.rows if row.first is not None]

    @property
    def first_unsaid(self) -> list[FirstPrinciples]:
        return [row.first_unsaid for row in self.rows if row.first_unsaid is not None]


PARTS = 2  # calls of `progress`


def compare(cases: Cases, progress: Callable[[str], None] = lambda _: None) -> Accuracy:
    """Reads and compares every case file of a folder.

    Raises KvplanError where the folder has none, or one that cannot be read.
    """
    if not any(cases.has(name) for name in FILES):
        raise KvplanError(
            f"{one_line(str(cases.folder), 80)} has no case file ({', '.join(FILES)}); "
            "give the folder tests/cases of a checkout, or one that kvplan reconcile --record wrote to, with --cases"
        )
    counts = tuple(references.counts(cases))
    progress("models")
    rows = tuple(asked(cases))
    progress("server logs")
    return Accuracy(cases, counts, rows)


def page(found: Accuracy) -> str:
    """Writes the whole of it as Markdown."""
    lines = [HEAD, "", "# Predicted against real", ""]
    if found.counts:
        lines += _reference_lines(found)
    if found.rows:
        lines += _engine_lines(found)
        lines += _first_lines(found)
        lines += _row_lines(found)
    lines += _speed_lines(found.cases)
    lines += references.Verified(found.cases.record("verified.json")).lines
    return "\n".join(lines).rstrip("\n") + "\n"


def _reference_lines(found: Accuracy) -> list[str]:
    reasons = {**references.CACHE_REASONS, **references.BYTES_REASONS, **references.PARAMETER_REASONS}
    return [
        "| reference | agree | of |",
        "|---|---|---|",
        *[f"| {count.reference} | {count.agree} | {count.of} |" for count in found.counts],
        "",
        "transformers drops the oldest token of a window (and of a chunk) after a forward pass: it keeps window - 1; both",
        "counts are accepted above. Left out, or compared in elements only, with the reason:",
        "",
        *[f"- {name}: {reason}" for name, reason in sorted(reasons.items())],
        "",
        "Rows of a log that compare with more than the pool alone may stand above ours:",
        "",
        *[f"- {kind}: up to {above} %, {reason}" for kind, (above, reason) in references.LOG_REASONS.items()],
        "",
    ]


def _engine_lines(found: Accuracy) -> list[str]:
    lines = [
        "## Engines",
        "",
        "Start-up logs of real servers beside the rules of docs/engines.md: given the budget that a log prints, the tokens,",
        "blocks, concurrency, cells and buffers that it prints (`engine_logs.csv`, `llamacpp_memory.csv`).",
        "",
        "| engine | rows | agree within the rounding of the log | within 1 % |",
        "|---|---|---|---|",
    ]
    for engine, rows in sorted(by_engine(found).items()):
        exact, near = sum(row.agrees for row in rows), sum(row.near for row in rows)
        lines.append(f"| {engine} | {len(rows)} | {exact} | {near} |")
    buffers = [row.compute for row in found.rows if row.compute is not None]
    if buffers:
        lines += ["", f"The range of the compute buffer holds {sum(buffers)} of {len(buffers)} logged ones."]
    return [*lines, ""]


def by_engine(found: Accuracy) -> dict[str, list[Asked]]:
    """Sorts the rows that were not refused by their engine."""
    rows: dict[str, list[Asked]] = {}
    for row in found.rows:
        if not row.refused:
            rows.setdefault(row.engine, []).append(row)
    return rows


def _first_lines(found: Accuracy) -> list[str]:
    """Two counts: with the flags of the source, and without those that users seldom state."""
    if not found.first:
        return []
    return [
        "## Engines from first principles",
        "",
        "Model, card and flags alone, nothing read from the log: the rows that state card, share and weights' dtype of the",
        "very model that is asked. `max_num_seqs`, `max_num_batched_tokens` and the rank of adapters are flags that their",
        "sources print beside the log; the second line leaves them out, as most questions do.",
        "",
        "| tokens of the pool | rows | within 5 % | within 15 % | range holds |",
        "|---|---|---|---|---|",
        _first_line("with the flags of the source", found.first),
        _first_line("without these three", found.first_unsaid),
        "",
        "| row | logged tokens | ours | off | low | high |",
        "|---|---|---|---|---|---|",
        *[
            f"| {one.id} | {one.logged:,} | {one.tokens:,} | {one.off_percent:+.1f} % | {one.low:,} | {one.high:,} |"
            for one in found.first
        ],
        "",
    ]


def _first_line(words: str, rows: list[FirstPrinciples]) -> str:
    five, fifteen = (sum(abs(one.off_percent) <= limit for one in rows) for limit in (5, 15))
    return f"| {words} | {len(rows)} | {five} | {fifteen} | {sum(one.in_range for one in rows)} |"


def _row_lines(found: Accuracy) -> list[str]:
    lines = []
    if found.differing:
        lines += ["## Rows that differ", ""]
        lines += [f"- {row.id}: {row.row['reason'] or 'no reason is given'}" for row in found.differing]
        lines.append("")
    far = [(row, row.first) for row in found.rows if row.first is not None and abs(row.first.off_percent) > 15]
    if far:
        lines += ["From first principles, more than 15 % off:", ""]
        lines += [f"- {row.id}: {row.row['first_reason'] or 'no reason is given'}" for row, _ in far]
        lines.append("")
    refused = [row for row in found.rows if row.refused]
    if refused:
        lines += ["Rows that could not be asked:", ""]
        lines += [f"- {row.id}: {row.refused}" for row in refused]
        lines.append("")
    return lines


def _speed_lines(cases: Cases) -> list[str]:
    """The section of measured speeds, where the folder has them: `speed_accuracy(folder) -> str`."""
    if not cases.has(SPEED_CASES) or find_spec(SPEED_MODULE) is None:
        return []
    text: str = import_module(SPEED_MODULE).speed_accuracy(cases.folder)
    return [*text.splitlines(), ""] if text.strip() else []


def to_dict(found: Accuracy) -> dict[str, Any]:
    """Returns the JSON contract: counts and every row, keys that stay."""
    return {
        "cases": str(found.cases.folder),
        "references": [{"reference": count.reference, "agree": count.agree, "of": count.of} for count in found.counts],
        "engines": [
            {
                "engine": engine,
                "rows": len(rows),
                "exact": sum(row.agrees for row in rows),
                "within_1_percent": sum(row.near for row in rows),
            }
            for engine, rows in sorted(by_engine(found).items())
        ],
        "compute_buffers": {
            "rows": sum(row.compute is not None for row in found.rows),
            "in_range": sum(bool(row.compute) for row in found.rows),
        },
        "first_principles": _first_dict(found.first),
        "first_principles_fewer_flags": _first_dict(found.first_unsaid),
        "differ": [{"id": row.id, "reason": row.row["reason"]} for row in found.differing],
        "not_asked": [{"id": row.id, "reason": row.refused} for row in found.rows if row.refused],
        "unexplained": found.unexplained,
    }


def _first_dict(rows: list[FirstPrinciples]) -> dict[str, Any]:
    return {
        "rows": len(rows),
        "within_5_percent": sum(abs(one.off_percent) <= 5 for one in rows),
        "within_15_percent": sum(abs(one.off_percent) <= 15 for one in rows),
        "in_range": sum(one.in_range for one in rows),
        "each": [
            {
                "id": one.id,
                "logged_tokens": one.logged,
                "tokens": one.tokens,
                "tokens_low": one.low,
                "tokens_high": one.high,
            }
            for one in rows
        ],
    }

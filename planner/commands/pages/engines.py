"""How engines side by side look on the screen."""

from __future__ import annotations

from planner.answers.engines import EngineRow, EnginesAnswer
from planner.commands.pages.model_line import named
from planner.engines.base import Pool
from planner.terminal.tables import bad, dim, good, table
from planner.units import gib, human_bytes, human_tokens


def page(answer: EnginesAnswer, explain: bool = False) -> list[str]:
    """Writes a table, a row an engine; with `explain` what each prints and why it differs."""
    one = answer.estimate
    where = f" on {one.capacity.name}" if one.capacity else ""
    head = f"{where}, requests of {human_tokens(one.request.seq_tokens)} tokens, KV in {one.fmt.name}"
    cells = [_cells(row) for row in answer.engines]
    header = ["engine", "a request", "pool", "tokens", "estimated range", "at once"]
    lines = [named(one.spec) + head, _verdict(answer), "", table(header, cells), ""]
    for row in answer.engines:
        if explain or row.answer is None:
            lines += _remarks(row)
    logical = next((row.answer.logical_bytes for row in answer.engines if row.answer is not None), None)
    if logical is not None:
        lines.append(f"  logical, before any engine rounds it: {human_bytes(logical)} a request")
    return lines if explain else [*lines, dim("  what each prints, and why they differ: --explain")]


def _verdict(answer: EnginesAnswer) -> str:
    """How many of the engines hold a request, and the most that one of them does."""
    held = [row for row in answer.engines if row.answer is not None and row.answer.most_requests]
    if not held:
        return bad("NONE of these engines holds one request of this length.")
    best = max(held, key=lambda row: row.answer.most_requests or 0 if row.answer is not None else 0)
    assert best.answer is not None
    return good(
        f"{len(held)} of {len(answer.engines)} hold it; the most at once: {best.label}, {best.answer.most_requests:,}."
    )


def _cells(row: EngineRow) -> list[str]:
    answer = row.answer
    if answer is None:
        return [row.label, "-", "-", "-", "-", "-"]
    pool = answer.ranged.pool if answer.ranged else None
    ends = (answer.ranged.low.tokens, answer.ranged.high.tokens) if answer.ranged else (0, 0)
    return [
        row.label,
        human_bytes(answer.request_bytes),
        gib(pool.bytes) if pool else "-",
        f"{pool.tokens:,}" if pool else "-",
        _range(pool, *ends),
        "-" if answer.most_requests is None else f"{answer.most_requests:,}",
    ]


def _remarks(row: EngineRow) -> list[str]:
    """What the engine prints, and why it differs from the others."""
    if row.answer is None:
        return [dim(f"  {row.label}: {row.refused}")]
    lines = [f"  {row.label} prints: {line}" for line in row.answer.lines[:2]]
    return lines + ([dim(f"  {row.label}: {'; '.join(row.answer.reasons)}")] if row.answer.reasons else [])


def _range(pool: Pool | None, low: int, high: int) -> str:
    if low != high:
        return f"{low:,} to {high:,}"
    return "exact" if pool is not None and pool.bytes else "-"

"""How an engine's answer looks on the screen."""

from __future__ import annotations

from planner.answers.engine import host_bound
from planner.answers.verdict import NAMES
from planner.engines.base import EngineAnswer
from planner.memory.request import Capacity
from planner.terminal.tables import bold, command_lines
from planner.units import exact_bytes, gib, human_bytes, significant


def engine_lines(answer: EngineAnswer, command: str | None, capacity: Capacity | None = None) -> list[str]:
    """Writes what the engine does with its memory: the request, the pool, what it prints, and why it differs."""
    lines = [bold(f"In {NAMES.get(answer.name, answer.name)} {answer.version}")]
    rows = [["a request", human_bytes(answer.request_bytes), _request_words(answer)]]
    ranged = answer.ranged
    for name in ("activation", "compute_buffer", "overhead"):
        value = getattr(answer, name)
        if value is not None:
            words = f"{human_bytes(value.low)} to {human_bytes(value.high)}: {value.words}"
            rows.append([name.replace("_", " "), human_bytes(value.bytes), words])
    if ranged is not None:
        rows.append(["pool", gib(ranged.pool.bytes), _pool_words(answer)])
        if ranged.low.bytes != ranged.high.bytes:
            words = f"{ranged.low.tokens:,} to {ranged.high.tokens:,} tokens"
            rows.append(["", "estimated", f"{gib(ranged.low.bytes)} to {gib(ranged.high.bytes)}: {words}"])
    rows += _placed_rows(answer, capacity)
    if answer.most_requests is not None:
        rows.append(
            [
                "at once",
                f"{answer.most_requests:,}",
                f"{'request' if answer.most_requests == 1 else 'requests'} of {answer.request_tokens:,} tokens",
            ]
        )
    lines += aligned(rows)
    lines += [f"  prints: {line}" for line in answer.lines]
    lines += [f"  differs: {line}" for line in answer.reasons]
    if command:
        lines += ["  start it with", *command_lines(command)]
    return lines


def _placed_rows(answer: EngineAnswer, capacity: Capacity | None) -> list[list[str]]:
    """A row a card and one for the host, where there is more than one place or the host computes."""
    where = answer.placed
    if where is None or (len(where.cards) < 2 and not where.split):
        return []
    rows = []
    for number, card in enumerate(where.cards, 1):
        offered = "" if card.capacity_bytes is None else f" of {gib(card.capacity_bytes)}"
        words = f"weights {gib(card.weight_bytes)}, cache {gib(card.cache_bytes)}, buffers {gib(card.other_bytes)}"
        rows.append([f"card {number}", gib(card.bytes), words + offered])
    flags = f": {where.placement.flags}" if where.placement.flags else ""
    words = f"weights {gib(where.host_weight_bytes)}, cache {gib(where.host_cache_bytes)}{flags}"
    rows.append(["host", gib(where.host_bytes), words])
    bound = host_bound(where, capacity)
    if bound is not None:
        words = "one sequence, by reading weights alone; host memory of 40 to 80 GB/s"
        rows.append(["at most", f"{significant(bound[0])} to {significant(bound[1])} tok/s", words])
    return rows


def _request_words(answer: EngineAnswer) -> str:
    exact = f"{exact_bytes(answer.request_bytes)} for {answer.request_tokens:,} tokens"
    return (
        exact
        if answer.request_bytes == answer.logical_bytes
        else f"{exact} (logical: {human_bytes(answer.logical_bytes)})"
    )


def _pool_words(answer: EngineAnswer) -> str:
    assert answer.ranged is not None
    pool = answer.ranged.pool
    cut = f", {pool.blocks:,} blocks of {pool.block_tokens:,}" if pool.blocks is not None and pool.block_tokens else ""
    return f"{pool.tokens:,} tokens{cut}"


def aligned(rows: list[list[str]]) -> list[str]:
    """Name, figure and words in columns."""
    left, right = (max(len(row[i]) for row in rows) for i in (0, 1))
    return [f"  {name.ljust(left)}  {figure.rjust(right)}  {words}".rstrip() for name, figure, words in rows]

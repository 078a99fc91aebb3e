"""How an engine's answer looks on the screen."""

from __future__ import annotations

from planner.engines.base import EngineAnswer
from planner.terminal.tables import bad, bold, dim, good
from planner.units import exact_bytes, gib, human_bytes


def engine_lines(answer: EngineAnswer, command: str | None) -> list[str]:
    """The section that `--engine` adds to a page."""
    lines = [bold(f"In {answer.name} {answer.version}")]
    lines.append(
        f"  a request of {answer.request_tokens:,} tokens takes {exact_bytes(answer.request_bytes)} = "
        f"{human_bytes(answer.request_bytes)} (logical: {human_bytes(answer.logical_bytes)})"
    )
    ranged = answer.ranged
    if ranged is not None:
        pool = ranged.pool
        blocks = (
            f", {pool.blocks:,} blocks of {pool.block_tokens:,}"
            if pool.blocks is not None and pool.block_tokens
            else ""
        )
        lines.append(f"  pool {gib(pool.bytes)}: {pool.tokens:,} tokens{blocks}")
        if ranged.low.bytes != ranged.high.bytes:
            lines.append(
                f"    estimated, {gib(ranged.low.bytes)} to {gib(ranged.high.bytes)}: {ranged.low.tokens:,} to {ranged.high.tokens:,} tokens"
            )
    for name in ("compute_buffer", "activation", "overhead"):
        value = getattr(answer, name)
        if value is not None:
            lines.append(
                f"  {name.replace('_', ' ')} {human_bytes(value.bytes)}, {human_bytes(value.low)} to {human_bytes(value.high)}: {value.words}"
            )
    if answer.most_requests is not None:
        paint = good if answer.fits else bad
        lines.append(
            "  "
            + paint(
                f"{answer.most_requests:,} request{'' if answer.most_requests == 1 else 's'} of this length at once"
            )
        )
    lines += [f"  prints: {line}" for line in answer.lines]
    lines += [f"  differs: {line}" for line in answer.reasons]
    lines += [dim(f"  assumed: {line}") for line in answer.assumptions]
    if command:
        lines += ["  start it with", f"    {command}"]
    return lines

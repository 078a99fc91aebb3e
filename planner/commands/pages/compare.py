"""How several models side by side look on the screen."""

from __future__ import annotations

from planner.answers.compare import CompareAnswer
from planner.commands.pages.estimate import FITS
from planner.memory.estimate import Estimate
from planner.terminal.tables import table
from planner.units import gib, human_bytes, human_count, human_tokens


def page(answers: CompareAnswer) -> list[str]:
    """A row a model: bytes a token, cache, weights, and whether it fits."""
    first = answers[0]
    fitted = first.capacity is not None
    most = max(answer.kv_bytes + answer.state_bytes for answer in answers) or 1
    header = [
        "model",
        "parameters",
        "next token",
        "KV cache",
        "state",
        "",
        "weights",
        *(["total a device", "fits"] if fitted else []),
    ]
    rows = [_row(answer, most, fitted) for answer in answers]
    batch = first.request.batch
    title = (
        f"{'1 sequence' if batch == 1 else f'{batch:,} sequences'} of {human_tokens(first.request.seq_tokens)} tokens"
    )
    where = f" on {first.capacity.name} ({gib(first.capacity.bytes)})" if first.capacity else ""
    notes = [f"  {answer.spec.name}: {line}" for answer in answers for line in answer.warnings]
    return [title + where, table(header, rows), *notes]


def _row(estimate: Estimate, most: int, fitted: bool) -> list[str]:
    size = estimate.kv_bytes + estimate.state_bytes
    row = [
        estimate.spec.name,
        human_count(estimate.parameters),
        human_bytes(estimate.kv_bytes_per_token),
        human_bytes(estimate.kv_bytes),
        human_bytes(estimate.state_bytes) if estimate.state_bytes else "-",
        ("#" * max(1, round(16 * size / most)) if size else "").ljust(16),
        gib(estimate.weight_bytes),
    ]
    if fitted:
        row += [gib(estimate.per_device.total_bytes), FITS[estimate.fits]]
    return row

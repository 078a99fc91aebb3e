"""`kvplan compare-models`: several models side by side at one length."""

from __future__ import annotations

from typing import Any

import click

from planner.commands.options import tables as flags
from planner.commands.options.click_options import with_flags
from planner.commands.options.model import one_format, request_of
from planner.lookup import capacity, model_spec
from planner.memory.estimate import Estimate, estimate
from planner.terminal.output import emit, to_csv, to_json
from planner.terminal.tables import table
from planner.units import gib, human_bytes, human_count, human_tokens, parse_tokens

DOES_NOT_FIT = 3
FLAGS: tuple[flags.Flag, ...] = (
    ("--seq", "N", "Tokens of a sequence (default: 8k)."),
    *flags.BATCH,
    *flags.ASSUME,
    *flags.DTYPE,
    *flags.DEVICE,
    *flags.LAYOUT,
    *flags.RUNTIME,
    *flags.OUTPUT,
)


@click.command(
    name="compare-models", epilog="\b\nExample: kvplan compare-models llama-2-7b llama-3.1-8b deepseek-v3 --seq 32k"
)
@click.argument("models", nargs=-1, required=True)
@with_flags(FLAGS)
def command(models: tuple[str, ...], **values: Any) -> None:
    """Several models side by side: bytes a token, cache, weights, and whether each fits.

    Exit code 3 when a device is given and none of them fits.
    """
    one_format(values["as_json"], values["as_csv"])
    room = capacity(values["gpu"], values["memory"])
    seq = parse_tokens("8k" if values["seq"] is None else values["seq"], "--seq")
    answers = []
    for name in models:
        spec = model_spec(name, assume=values["assume"])
        request = request_of(values, seq)
        answers.append(estimate(spec, request, room))
    emit(_render(answers, values), values["output"])
    if room is not None and not any(answer.fits for answer in answers):
        raise SystemExit(DOES_NOT_FIT)


def _render(answers: list[Estimate], values: dict[str, Any]) -> str:
    if values["as_json"]:
        return to_json([answer.to_dict() for answer in answers])
    if values["as_csv"]:
        return to_csv(answer.to_dict() for answer in answers)
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
    return "\n".join([title + where, table(header, rows), *notes])


def _row(answer: Estimate, most: int, fitted: bool) -> list[str]:
    size = answer.kv_bytes + answer.state_bytes
    row = [
        answer.spec.name,
        human_count(answer.parameters),
        human_bytes(answer.kv_bytes_per_token),
        human_bytes(answer.kv_bytes),
        human_bytes(answer.state_bytes) if answer.state_bytes else "-",
        ("#" * max(1, round(16 * size / most)) if size else "").ljust(16),
        gib(answer.weight_bytes),
    ]
    if fitted:
        row += [gib(answer.per_device.total_bytes), "yes" if answer.fits else "no"]
    return row

"""`kvplan engines`: what each serving engine makes of the same model and device, side by side."""

from __future__ import annotations

from typing import Any

import click

from planner.commands.options import tables as flags
from planner.commands.options.click_options import with_flags
from planner.commands.options.engine import options_of
from planner.commands.options.model import one_format, request_of, spec_of
from planner.engines.base import EngineAnswer, Pool
from planner.engines.registry import TABLE, answer_of
from planner.errors import KvplanError, UsageError
from planner.lookup import capacity
from planner.memory.estimate import SCHEMA_VERSION, Estimate, estimate
from planner.terminal.output import emit, to_csv, to_json
from planner.terminal.tables import bold, dim, table
from planner.units import gib, human_bytes, human_tokens, parse_tokens

FLAGS: tuple[flags.Flag, ...] = (
    *flags.MODEL,
    ("--seq", "N", "Tokens of a request (default: --max-model-len, else the model's limit, at most 8k)."),
    *flags.BATCH,
    *flags.DTYPE,
    *flags.DEVICE,
    *flags.LAYOUT,
    *flags.RUNTIME,
    *flags.ENGINE_FLAGS,
    *flags.OUTPUT,
)


@click.command(name="engines", epilog="Example: kvplan engines gemma-3-27b --gpu h100 --max-model-len 32k")
@with_flags(FLAGS, model=True)
def command(**values: Any) -> None:
    """Engines side by side: what a request takes, the pool, its tokens, requests at once, what is printed, and why.

    Each engine reads the flags that are its own.
    """
    one_format(values["as_json"], values["as_csv"])
    spec = spec_of(values)
    room = capacity(values["gpu"], values["memory"])
    if room is None and values["kv_pool"] is None:
        raise UsageError(
            "a device is wanted: --gpu NAME (kvplan gpus lists them), --memory 24GiB, or a pool with --kv-pool"
        )
    option = "--max-model-len" if values["seq"] is None else "--seq"
    text = values[flags.parameter(option)]
    seq = min(spec.max_positions or 8192, 8192) if text is None else parse_tokens(text, option)
    found = estimate(spec, request_of(values, seq), room)
    emit(_render(found, _rows(found, values), values), values["output"])


def _rows(found: Estimate, values: dict[str, Any]) -> list[tuple[str, EngineAnswer | str]]:
    """(label, the answer, or in words why there is none) for each engine and version range."""
    rows: list[tuple[str, EngineAnswer | str]] = []
    for name, version, label in TABLE:
        try:
            rows.append((label, answer_of(name, version, found, options_of(values, name))))
        except KvplanError as error:
            rows.append((label, str(error)))
    return rows


def _render(found: Estimate, rows: list[tuple[str, EngineAnswer | str]], values: dict[str, Any]) -> str:
    blocks = [
        {"label": label} | ({"refused": row} if isinstance(row, str) else {"refused": None} | row.to_dict())
        for label, row in rows
    ]
    if values["as_csv"]:
        return to_csv(blocks)
    if values["as_json"]:
        return to_json(
            {
                "schema_version": SCHEMA_VERSION,
                "model": found.spec.name,
                "device": found.capacity.name if found.capacity else None,
                "seq_tokens": found.request.seq_tokens,
                "kv_dtype": found.fmt.name,
                "engines": blocks,
                "warnings": list(found.warnings),
            }
        )
    return "\n".join(_page(found, rows))


def _range(pool: Pool | None, low: int, high: int) -> str:
    if low != high:
        return f"{low:,} to {high:,}"
    return "exact" if pool is not None and pool.bytes else "-"


def _page(found: Estimate, rows: list[tuple[str, EngineAnswer | str]]) -> list[str]:
    where = f" on {found.capacity.name}" if found.capacity else ""
    lines = [
        bold(found.spec.name)
        + f"{where}, requests of {human_tokens(found.request.seq_tokens)} tokens, KV in {found.fmt.name}",
        "",
    ]
    cells = []
    for label, row in rows:
        if isinstance(row, str):
            cells.append([label, "-", "-", "-", "-", "-"])
            continue
        pool = row.ranged.pool if row.ranged else None
        most = row.most_requests
        ends = (row.ranged.low.tokens, row.ranged.high.tokens) if row.ranged else (0, 0)
        cells.append(
            [
                label,
                human_bytes(row.request_bytes),
                gib(pool.bytes) if pool else "-",
                f"{pool.tokens:,}" if pool else "-",
                _range(pool, *ends),
                "-" if most is None else f"{most:,}",
            ]
        )
    lines.append(table(["engine", "a request", "pool", "tokens", "estimated range", "at once"], cells))
    lines.append("")
    for label, row in rows:
        if isinstance(row, str):
            lines.append(dim(f"  {label}: {row}"))
            continue
        lines += [f"  {label} prints: {line}" for line in row.lines[:2]]
        if row.reasons:
            lines.append(dim(f"  {label}: {'; '.join(row.reasons)}"))
    logical = next((row.logical_bytes for _, row in rows if not isinstance(row, str)), None)
    if logical is not None:
        lines.append(f"  logical, before any engine rounds it: {human_bytes(logical)} a request")
    return lines

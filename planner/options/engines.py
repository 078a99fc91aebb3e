"""Reads what `kvplan engines` asks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from planner.engines.base import Options
from planner.engines.registry import TABLE
from planner.errors import UsageError
from planner.memory.request import Capacity, Request
from planner.model.spec import ModelSpec
from planner.options import tables as flags
from planner.options.engine import options_of
from planner.options.model import capacity_of, request_of, spec_of, usual_tokens, with_ranks
from planner.options.readers import switch, tokens
from planner.options.tables import Flag

FLAGS: tuple[Flag, ...] = (
    *flags.MODEL,
    Flag("--seq", "N", "Tokens of a request (default: --max-model-len, else the model's limit, at most 8k).", tokens, "Load"),
    *flags.BATCH,
    *flags.DTYPE,
    *flags.DEVICE,
    *flags.LAYOUT,
    *flags.RUNTIME,
    *flags.ENGINE_FLAGS,
    Flag("--explain", "", "What each engine prints, and why it differs.", switch, "Output"),
    *flags.OUTPUT,
)  # fmt: skip


@dataclass(frozen=True)
class EnginesAsked:
    """One request that every engine is asked; `options` are the flags of each, by its name."""

    spec: ModelSpec
    request: Request
    capacity: Capacity | None
    options: Mapping[str, Options]


def engines_asked(values: Mapping[str, Any]) -> EnginesAsked:
    """Reads the question of `engines` from its flags."""
    given = with_ranks(flags.read_values(FLAGS, values))
    spec, room = spec_of(given), capacity_of(given)
    if room is None and given["kv_pool"] is None:
        raise UsageError(
            "a device is wanted: --gpu NAME (kvplan gpus lists them), --memory 24GiB, or a pool with --kv-pool"
        )
    seq = given["seq"] or given["max_model_len"] or usual_tokens(spec)
    options = {name: options_of(given, name) for name in dict.fromkeys(name for name, _, _ in TABLE)}
    return EnginesAsked(spec, request_of(given, seq), room, options)

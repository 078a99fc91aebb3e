"""Reads what `kvplan engines` asks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from planner.engines.base import Options
from planner.engines.registry import TABLE
from planner.errors import UsageError
from planner.memory.request import Capacity, Request
from planner.model.spec import ModelSpec
from planner.options import tables as flags
from planner.options.engine import EngineAsked, options_of, started_for
from planner.options.model import capacity_of, each, request_of, spec_of, usual_tokens, with_ranks
from planner.options.readers import switch, tokens
from planner.options.tables import Flag

FLAGS: tuple[Flag, ...] = (
    *flags.MODEL,
    Flag("--seq", "N", "Tokens of a request, one or a list (default: --max-model-len, else the model's limit, at most 8k).", tokens, "Load"),
    replace(flags.BATCH[0], help="Sequences at once, one or a list (default: 1)."),
    *flags.DTYPE,
    *flags.DEVICES,
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


def engines_questions(values: Mapping[str, Any]) -> tuple[EnginesAsked, ...]:
    """Reads the questions of several devices, lengths or batches, one for each combination."""
    return tuple(engines_asked(one) for one in each(values, "gpu", "seq", "batch"))


def engines_asked(values: Mapping[str, Any]) -> EnginesAsked:
    """Reads the question of `engines` from its flags."""
    given = with_ranks(flags.read_values(FLAGS, values))
    spec, room = spec_of(given), capacity_of(given)
    if room is None and given["kv_pool"] is None:
        raise UsageError(
            "a device is wanted: --gpu NAME (kvplan gpus lists them), --memory 24GiB, or a pool with --kv-pool"
        )
    seq = given["seq"] or given["max_model_len"] or usual_tokens(spec)
    names = dict.fromkeys(name for name, _, _ in TABLE)
    options = {name: _started(options_of(given, name), name, given["seq"]) for name in names}
    return EnginesAsked(spec, request_of(given, seq), room, options)


def _started(options: Options, name: str, seq: int | None) -> Options:
    """A server that is started for the length that is asked, as in every other command."""
    return options if seq is None else started_for(EngineAsked(name, None, options), seq).options

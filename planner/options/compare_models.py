"""Reads what `kvplan compare-models` asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from planner.memory.request import Capacity, Request
from planner.model.spec import ModelSpec
from planner.options import tables as flags
from planner.options.model import USUAL_TOKENS, capacity_of, request_of, spec_of, with_ranks
from planner.options.readers import tokens
from planner.options.tables import Flag

FLAGS: tuple[Flag, ...] = (
    Flag("--seq", "N", "Tokens of a sequence (default: 8k).", tokens, "Load"),
    *flags.BATCH,
    *flags.ASSUME,
    *flags.DTYPE,
    *flags.DEVICE,
    *flags.LAYOUT,
    *flags.RUNTIME,
    *flags.OUTPUT,
)


@dataclass(frozen=True)
class CompareAsked:
    """Several models and the one request that each is asked."""

    specs: tuple[ModelSpec, ...]
    request: Request
    capacity: Capacity | None = None


def compare_asked(models: Sequence[Any], values: Mapping[str, Any]) -> CompareAsked:
    """The question that the flags ask of these models."""
    given = with_ranks(flags.read_values(FLAGS, values))
    specs = tuple(spec_of({**given, "model": model}) for model in models)
    return CompareAsked(specs, request_of(given, given["seq"] or USUAL_TOKENS), capacity_of(given))

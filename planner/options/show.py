"""Reads what `kvplan show` asks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from planner.dtypes.kinds import CacheFormat
from planner.memory.estimate import cache_format
from planner.model.spec import ModelSpec
from planner.options import tables as flags
from planner.options.model import request_of, spec_of
from planner.options.readers import kv_dtype
from planner.options.tables import Flag

FLAGS: tuple[Flag, ...] = (
    *flags.MODEL,
    Flag("--kv-dtype", "D", "How K and V are stored.", kv_dtype, "Precision"),
    *flags.OUTPUT,
)


@dataclass(frozen=True)
class ShowAsked:
    """A model, and how its K and V are stored."""

    spec: ModelSpec
    fmt: CacheFormat


def show_asked(values: Mapping[str, Any]) -> ShowAsked:
    """Reads the question of `show` from its flags."""
    given = flags.read_values(FLAGS, values)
    spec = spec_of(given)
    return ShowAsked(spec, cache_format(spec, request_of(given, seq_tokens=1)))

"""Reads the flags that say of a server what its log does not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from planner.engines.registry import ENGINES, parse_engine
from planner.lookup import capacity
from planner.model.spec import ModelSpec
from planner.options.engine import options_of
from planner.options.model import with_count
from planner.reconcile.ledger import Given


def given_of(read: Mapping[str, Any], spec: ModelSpec | None) -> Given:
    """Returns what the flags add to a log, from their values as read; a flag that is not among them adds nothing."""
    read = with_count(read)
    name = version = None
    if read["engine"] is not None:
        name, version = parse_engine(read["engine"])
    return Given(
        spec=spec,
        capacity=capacity(read["gpu"], read["memory"]),
        version=version,
        program=name if name and ENGINES[name][0] == "llamacpp" else None,
        tp=read["tp"],
        pp=read["pp"],
        dtype=read["dtype"],
        kv_dtype=read["kv_dtype"],
        max_model_len=read["max_model_len"],
        options=replace(options_of(read, None), max_model_len=None),
    )

"""Reads what `kvplan calibrate` asks: a measurement of this machine, or points of a server to store (`--from`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from planner.dtypes.names import float_dtype
from planner.errors import BadRequest, UsageError, one_line
from planner.lookup import model_spec
from planner.model.spec import ModelSpec
from planner.options.calibrated import StoreAsked, store_asked

OF_FROM = ("name", "gpu", "memory", "engine", "tp", "kv_dtype")


@dataclass(frozen=True)
class CalibrateAsked:
    """What is measured on this machine.

    spec      the model whose shapes are measured and whose steps are probed
    device    cuda, cuda:N, mps or cpu; None: the fastest that is there
    linears   plain, packed or both; None: what the device has
    """

    spec: ModelSpec
    device: str | None
    dtypes: tuple[str, ...]
    linears: tuple[str, ...] | None


def calibrate_asked(values: Mapping[str, Any]) -> CalibrateAsked:
    """Reads the question of a measurement from the flags."""
    if given := [f"--{name.replace('_', '-')}" for name in OF_FROM if values[name] is not None]:
        raise UsageError(f"{', '.join(given)} go with --from FILE, which says what was measured")
    return CalibrateAsked(
        spec=model_spec(values["model"] or "gpt2"),
        device=values["device"],
        dtypes=_dtypes(values["dtype"] or "fp32,bf16"),
        linears=None if values["linear"] is None else _linears(values["linear"]),
    )


def stored_asked(values: Mapping[str, Any]) -> StoreAsked:
    """Reads the question of `--from` from the flags."""
    if values["linear"] is not None or values["device"] is not None:
        raise UsageError("--linear and --device are of a measurement on this machine: leave them out with --from")
    return store_asked(values["files"], values)


def _dtypes(text: str) -> tuple[str, ...]:
    found = []
    for name in text.split(","):
        known = float_dtype(name)
        if known is None:
            raise BadRequest(f"--dtype {one_line(name, 30)!r} is not one the profiler runs in; choose fp32, fp16, bf16")
        found.append(known)
    return tuple(dict.fromkeys(found))


def _linears(text: str) -> tuple[str, ...]:
    found = tuple(name.strip() for name in text.split(","))
    for name in found:
        if name not in ("plain", "packed"):
            raise BadRequest(f"--linear {one_line(name, 30)!r} is not known; choose plain or packed")
    return found

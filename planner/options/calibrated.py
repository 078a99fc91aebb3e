"""Reads what `kvplan calibrate --from` asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from planner.catalogue.device import Device
from planner.catalogue.entries import known_device
from planner.catalogue.own_speeds import BadOwnSpeed, own_key
from planner.engines.registry import ENGINES
from planner.errors import BadRequest, UsageError, one_line
from planner.options.measured import MeasuredAsked, points_of
from planner.options.speed import FLAGS, SpeedAsked, speed_asked
from planner.options.tables import empty

NAME = "mine"


@dataclass(frozen=True)
class StoreAsked:
    """Points that are to be stored under a name, and the deployment that they are of."""

    name: str
    speed: SpeedAsked
    points: MeasuredAsked
    gpu: str


def store_asked(files: Sequence[str], values: Mapping[str, Any]) -> StoreAsked:
    """Reads the question that `--from` asks; `values`: gpu, memory, model, engine, tp, dtype, kv_dtype, name, None where not
    given.
    """
    if values.get("gpu") is None:
        raise UsageError("--from wants the device that was measured: --gpu NAME (kvplan gpus lists them)")
    name = checked_name(NAME if values.get("name") is None else values["name"])
    points = points_of(tuple(files))
    assert points is not None
    model = values.get("model") or _only(points.models, "model", "--model NAME")
    known = tuple(engine for engine in points.engines if engine in ENGINES)
    engine = values.get("engine") or (_only(known, "engine", "--engine NAME") if known else None)
    given = empty(FLAGS) | {key: values.get(key) for key in ("memory", "tp", "dtype", "kv_dtype")} | {
        "model": model, "gpu": (values["gpu"],), "engine": engine, "batch": "1",
    }  # fmt: skip
    asked = speed_asked(given)
    return StoreAsked(name, replace(asked, measured=points), points, values["gpu"])


def checked_name(name: str) -> str:
    """Returns a name in lower case; BadRequest for one that is no file name, or that a device has."""
    key = own_key(name)
    if key is None or key == "local" or "(" in name:
        raise BadRequest(
            f"--name {one_line(name, 40)!r}: write letters, digits, dots and dashes, a letter first, not 'local'; for example mine"
        )
    found = _shipped(key)
    if found is not None and found.own is None:
        raise BadRequest(f"--name {key}: a device is called so already; choose another, for example my-{key}")
    return key


def _shipped(key: str) -> Device | None:
    """The device of that name; a damaged file of measurements is about to be written anew."""
    try:
        return known_device(key)
    except BadOwnSpeed:
        return None


def _only(found: Sequence[str], noun: str, flag: str) -> str:
    if len(found) != 1:
        named = f"name several: {one_line(', '.join(found), 80)}" if found else "name none"
        raise BadRequest(f"--from: which {noun}? The files {named}; say it with {flag}")
    return found[0]

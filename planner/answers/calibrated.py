"""Answers `calibrate --from`: constants fitted to a user's points, to be stored under a name."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from planner.answers.speed import speed_on
from planner.catalogue.device import Device, OwnMachine, OwnSpeed
from planner.catalogue.entries import known_device
from planner.errors import BadRequest
from planner.memory.estimate import SCHEMA_VERSION
from planner.options.calibrated import StoreAsked
from planner.shown import Shown
from planner.speed.constants import Constants, constants_for
from planner.speed.measured_fit import Fitted
from planner.speed.own import own_speed
from planner.speed.work import work


@dataclass(frozen=True, eq=False, repr=False)
class StoreAnswer(Shown):
    """What is stored: the points, how they were fitted, and what the shipped constants were."""

    asked: StoreAsked
    own: OwnSpeed
    fit: Fitted
    base: Constants
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The JSON contract."""
        return {
            "schema_version": SCHEMA_VERSION,
            "name": self.own.name,
            "device": self.own.device,
            "engine": self.own.engine or None,
            "model": self.own.model,
            "measured": self.fit.to_dict(),
            "constants": dict(self.own.constants),
            "points": [asdict(point) for point in self.own.points],
            "notes": list(self.notes),
        }


def store_answer(asked: StoreAsked, date: str) -> StoreAnswer:
    """Fits constants to the points, from those shipped for the engine on the device; `date` of today."""
    device = _plain(asked.speed.devices[0])
    found = speed_on(device, asked.speed)
    if found.fitted is None:
        raise BadRequest("--from: no point says requests at once, lengths, and TTFT or TPOT")
    engine = "" if asked.speed.engine is None else asked.speed.engine.label
    base = constants_for(engine or None, device, "serving")
    own = own_speed(
        found.fitted, asked.points.points, base, name=asked.name, device=device.name, engine=engine, model=asked.speed.spec.name,
        shape=work(found.estimate).shape, date=date,
    )  # fmt: skip
    return StoreAnswer(asked, replace(own, machine=_machine(device)), found.fitted, base, asked.points.notes)


def _plain(device: Device) -> Device:
    """The device without what was stored of it before."""
    if device.own is None:
        return device
    return known_device(device.own.device) or replace(device, name=device.own.device, own=None)


def _machine(device: Device) -> OwnMachine | None:
    """The device itself, where the catalogue has none of its name."""
    if known_device(device.name) is not None:
        return None
    return OwnMachine(
        device.memory_bytes, device.bandwidth_bytes_per_s or 0, dict(device.dense_flops_per_s), device.vendor
    )

"""A device as the catalogue describes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from planner.errors import BadRequest
from planner.frozen import dataclass

SHIPPED = "shipped"
INSTALLED = "installed"  # as an entry's memory_bytes: what the user put in


@dataclass(frozen=True)
class Interconnect:
    """How a device talks to its neighbours."""

    type: str
    bytes_per_s_per_direction: int | None = None


@dataclass(frozen=True)
class Price:
    """What somebody asked for one device, and when."""

    usd_per_hour: float
    provider: str
    date: str
    source: str


@dataclass(frozen=True)
class Observed:
    """What one run measured, in seconds; None for a time that was not measured.

    batch    requests at once
    load     "static" or "serving", as `planner.speed.speed.speed` has them
    source   the file or the text it is from
    """

    batch: int
    prompt_tokens: int
    output_tokens: int
    load: str
    ttft_seconds: float | None
    tpot_seconds: float | None
    source: str


@dataclass(frozen=True)
class OwnMachine:
    """What a device offers that the catalogue does not have."""

    memory_bytes: int
    bandwidth_bytes_per_s: int
    dense_flops_per_s: Mapping[str, int]
    vendor: str | None = None


@dataclass(frozen=True)
class OwnSpeed:
    """Constants of a speed that were fitted to a user's own points on a device.

    name        under which they are stored: `--gpu NAME`
    device      the catalogue's name of the device
    engine      as `--engine` names it; "" where none was named
    model, shape   what was measured, and layers, width and format by which it is known again
    date        of the fit
    words       points and errors in a few words
    constants   figures of `planner.speed.constants.Constants` by name, those of its queue as "queue.share"
    points      what was measured
    machine     the device itself, where the catalogue has none of that name
    """

    name: str
    device: str
    engine: str
    model: str
    shape: str
    date: str
    words: str
    constants: Mapping[str, float]
    points: tuple[Observed, ...]
    machine: OwnMachine | None = None


@dataclass(frozen=True)
class Device:
    """An accelerator or a host, as a planner needs it.

    `memory_bytes` is what the driver reports; 0 where it is what the user put in, as of a processor. `own` are the
    user's own measurements of its speed.
    """

    name: str
    memory_bytes: int
    source: tuple[str, ...]
    checked: str | None
    aliases: tuple[str, ...] = ()
    vendor: str | None = None
    arch: str | None = None
    year: int | None = None
    memory_source: str | None = None
    advertised_gb: float | None = None
    bandwidth_bytes_per_s: int | None = None
    dense_flops_per_s: Mapping[str, int] = field(default_factory=dict)
    interconnect: Interconnect | None = None
    pcie_gen: int | None = None
    tdp_watts: float | None = None
    prices: tuple[Price, ...] = ()
    confidence: str | None = None
    notes: str | None = None
    origin: str = SHIPPED
    own: OwnSpeed | None = None


def from_raw(raw: Mapping[str, Any], origin: str = SHIPPED) -> Device:
    """Makes a Device of a checked entry."""
    link = raw.get("interconnect")
    return Device(
        **{
            **raw,
            "memory_bytes": 0 if raw["memory_bytes"] == INSTALLED else raw["memory_bytes"],
            "aliases": tuple(raw.get("aliases", ())),
            "source": tuple(raw["source"]),
            "interconnect": Interconnect(**link) if link else None,
            "prices": tuple(Price(**price) for price in raw.get("prices", ())),
            "origin": origin,
        }
    )


PCIE_LANES = 16


# GT/s of a lane and the share of payload after line coding; PCIe 6 sends 242 of 256 bytes of a flit.
_PCIE = {3: (8, 128, 130), 4: (16, 128, 130), 5: (32, 128, 130), 6: (64, 242, 256)}


def slot_generation(device: Device) -> int:
    """Returns the PCIe generation that a device's slot is counted as: its own within 3 to 6, 4 where it is not known."""
    return min(max(device.pcie_gen or 4, 3), 6)


def pcie_bytes_per_s(generation: int) -> int:
    """Returns the bytes a second of 16 lanes in one direction: lanes · GT/s / 8 · payload. A ceiling: packet headers are left
    out, and copies reach 80 to 90 % of it.

    Source: PCI Express base specifications 3.0 to 6.0.

    >>> pcie_bytes_per_s(3), pcie_bytes_per_s(4), pcie_bytes_per_s(5)
    (15753846153, 31507692307, 63015384615)
    """
    if generation not in _PCIE:
        raise BadRequest(f"PCIe generation {generation} is not known; write one of {', '.join(map(str, _PCIE))}")
    rate, payload, line = _PCIE[generation]
    return PCIE_LANES * rate * 10**9 * payload // (8 * line)

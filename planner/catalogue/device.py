"""A device as the catalogue describes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from planner.errors import BadRequest

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
class Device:
    """An accelerator or a host, as a planner needs it.

    `memory_bytes` is what the driver reports; 0 where it is what the user put in, as of a processor.
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

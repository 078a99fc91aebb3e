"""A device as the catalogue describes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SHIPPED = "shipped"


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
    """An accelerator or a host, as a planner needs it; `memory_bytes` is what the driver reports."""

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
    """A checked entry, as the file has it, as a Device."""
    link = raw.get("interconnect")
    return Device(
        **{
            **raw,
            "aliases": tuple(raw.get("aliases", ())),
            "source": tuple(raw["source"]),
            "interconnect": Interconnect(**link) if link else None,
            "prices": tuple(Price(**price) for price in raw.get("prices", ())),
            "origin": origin,
        }
    )

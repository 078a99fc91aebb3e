"""Energy and CO2 of output tokens, from the board power of a device.

    Wh a million tokens = devices · TDP · share / tokens a second · 10^6 / 3600
    grams = Wh / 1000 · grid

Board power alone: without host, network, cooling. While decoding a device draws less than its TDP, in prompts nearly all
of it (Splitwise, arXiv:2311.18677, figure 8; POLCA, arXiv:2308.12908): 70 % on average, 50 to 100 % as the range.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from planner.catalogue.device import Device
from planner.errors import BadRequest
from planner.speed.speed import Speed

SHARE, SHARE_LOW, SHARE_HIGH = 0.7, 0.5, 1.0
GRID_GRAMS = 473.0  # g CO2 a kWh of electricity, the world's mean of 2024: Ember, Global Electricity Review 2025


@dataclass(frozen=True)
class Energy:
    """Watt hours of a million output tokens, expected, low and high, and grams of CO2 at `grid_grams` a kWh."""

    watt_hours: float
    low: float
    high: float
    grid_grams: float

    @property
    def grams(self) -> float:
        """Grams of CO2 of a million output tokens."""
        return self.watt_hours / 1e3 * self.grid_grams


def energy_of(device: Device, found: Speed, grid_grams: float = GRID_GRAMS) -> Energy | None:
    """Computes the energy of a million output tokens at the speed found; None where the catalogue has no TDP of the
    device.

    The range holds that of the power and that of the speed. Leaves out everything but the devices.
    """
    if not device.tdp_watts:
        return None
    rate = found.decode_tokens_per_s
    joules = found.devices * device.tdp_watts * 1e6 / 3600
    ends = ((SHARE, rate.value), (SHARE_LOW, rate.high), (SHARE_HIGH, rate.low))
    value, low, high = (joules * share / per_s for share, per_s in ends)
    return Energy(value, low, high, grid_grams)


def parse_grid(text: str) -> float:
    """Reads how many grams of CO2 a kWh of the grid stands for.

    >>> parse_grid("400g/kWh"), parse_grid("56")
    (400.0, 56.0)
    """
    found = re.fullmatch(r"\s*(\d{1,4}(?:\.\d{1,3})?)\s*(?:g\s*/\s*kwh)?\s*", text, re.IGNORECASE | re.ASCII)
    if found is None:
        raise BadRequest(f"--grid {text[:40]!r} is not grams of CO2 a kWh; write for example 400g/kWh")
    return float(found[1])

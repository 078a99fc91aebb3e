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
    return energy(found.devices * device.tdp_watts, (rate.value, rate.low, rate.high), grid_grams)


def energy(watts: float, tokens_per_s: tuple[float, float, float], grid_grams: float = GRID_GRAMS) -> Energy:
    """Computes the energy of a million output tokens of devices whose TDPs together are `watts`, at tokens a second
    (expected, low, high).

    >>> found = energy(700, (1000, 800, 1250), 400)      # 1000 s of 490 W; 800 s of 350 W; 1250 s of 700 W
    >>> [round(value, 1) for value in (found.watt_hours, found.low, found.high, found.grams)]
    [136.1, 77.8, 243.1, 54.4]
    """
    expected, slow, fast = tokens_per_s
    ends = ((SHARE, expected), (SHARE_LOW, fast), (SHARE_HIGH, slow))
    value, low, high = (watt_hours_per_million_tokens(watts * share, per_s) for share, per_s in ends)
    return Energy(value, low, high, grid_grams)


def watt_hours_per_million_tokens(watts: float, tokens_per_s: float) -> float:
    """Returns the watt hours of a million tokens made at so many a second while devices draw so many watts.

    >>> watt_hours_per_million_tokens(700, 1000)      # 1000 s of 700 W
    194.44444444444446
    """
    return watts * 1e6 / tokens_per_s / 3600


def parse_grid(text: str) -> float:
    """Reads how many grams of CO2 a kWh of the grid stands for.

    >>> parse_grid("400g/kWh"), parse_grid("56")
    (400.0, 56.0)
    """
    found = re.fullmatch(r"\s*(\d{1,4}(?:\.\d{1,3})?)\s*(?:g\s*/\s*kwh)?\s*", text, re.IGNORECASE | re.ASCII)
    if found is None:
        raise BadRequest(f"--grid {text[:40]!r} is not grams of CO2 a kWh; write for example 400g/kWh")
    return float(found[1])

"""Reads `--grid`: how much CO2 a kWh of electricity stands for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from planner.options.readers import grid
from planner.options.tables import Flag
from planner.speed.energy import GRID_GRAMS

GRID = Flag("--grid", "G/KWH", "Grams of CO2 of a kWh of electricity, for CO2 a million tokens (default: 473g/kWh, the world's mean of 2024).", grid, "Load")  # fmt: skip


def grid_grams_of(given: Mapping[str, Any]) -> float:
    """Returns the grams of CO2 of a kWh: as given, else the world's mean."""
    return GRID_GRAMS if given["grid"] is None else float(given["grid"])

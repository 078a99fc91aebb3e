"""Watt hours and CO2 of output tokens in words."""

from __future__ import annotations

from planner.speed.energy import Energy
from planner.units import significant


def energy_words(energy: Energy) -> str:
    """Says the watt hours of a million output tokens with their range, and the grams of CO2."""
    return (
        f"{significant(energy.watt_hours)} Wh a million output tokens ({significant(energy.low)} to "
        f"{significant(energy.high)}; devices alone, at 50 to 100 % of TDP), {significant(energy.grams)} g CO2 at "
        f"{energy.grid_grams:g} g/kWh"
    )

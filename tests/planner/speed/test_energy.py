"""Energy and CO2 of output tokens by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from planner.errors import BadRequest
from planner.lookup import device, model_spec
from planner.memory.estimate import estimate
from planner.memory.request import Request
from planner.memory.sharding import Sharding
from planner.speed.constants import DEFAULT
from planner.speed.energy import energy_of, parse_grid, watt_hours_per_million_tokens
from planner.speed.speed import speed


def test_energy_is_power_over_rate() -> None:
    h100 = device("h100-sxm")
    one = estimate(model_spec("llama-3.1-8b"), Request(1024, sharding=Sharding(tp=2)))
    found = speed(one, h100, prompt_tokens=1000, output_tokens=100, batch=16, constants=DEFAULT)
    energy = energy_of(h100, found, 400)
    assert energy is not None and h100.tdp_watts == 700
    tokens_per_s = 16 / found.tpot_seconds.value
    assert energy.watt_hours == pytest.approx(2 * 700 * 0.7 / tokens_per_s * 1e6 / 3600)
    assert energy.low < energy.watt_hours < energy.high
    assert energy.grams == pytest.approx(energy.watt_hours * 0.4)
    assert energy_of(replace(h100, tdp_watts=None), found) is None


def test_watt_hours_are_power_for_the_time_that_a_million_tokens_take() -> None:
    assert watt_hours_per_million_tokens(3600, 10**6) == 1.0


@pytest.mark.parametrize("text", ["", "-1", "nan", "1e9", "400 kg", "99999"])
def test_a_grid_that_is_no_grams_is_refused(text: str) -> None:
    with pytest.raises(BadRequest, match="--grid"):
        parse_grid(text)

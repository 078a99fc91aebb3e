"""Prices, and what a million tokens come to."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.catalogue.device import Price
from planner.catalogue.entries import find_device
from planner.deployment.cost import (
    parse_prices,
    parse_usd_per_hour,
    price_of,
    token_costs,
)
from planner.errors import BadRequest

AMOUNT = st.floats(1e-3, 1e5)
SHARE = st.integers(0, 99 * 10**7).map(lambda n: n / 10**9)  # as --prefix-share takes them: nine decimals


@given(AMOUNT, AMOUNT, st.floats(1, 1e5), SHARE, st.floats(2, 1e5), AMOUNT, st.floats(0, 10), AMOUNT)
def test_the_parts_of_a_request_cost_the_hour_that_it_takes(
    usd: float, rate: float, prompt: float, hit: float, output: float, fresh: float, cached: float, decode: float
) -> None:
    found = token_costs(
        usd_per_hour=usd,
        requests_per_s=rate,
        prompt_tokens=prompt,
        cached_tokens=hit * prompt,
        output_tokens=output,
        prompt_seconds=fresh,
        cached_seconds=cached if hit else 0.0,
        decode_seconds=decode,
    )
    parts = found.prompt * (1 - hit) * prompt + found.output * output + (found.cached or 0.0) * hit * prompt
    assert parts == pytest.approx(found.blended * (prompt + output), rel=1e-6)
    assert found.blended * (prompt + output) * rate * 3600 / 1e6 == pytest.approx(usd, rel=1e-6)


def test_the_lowest_price_is_taken_with_its_provider_and_date() -> None:
    device = replace(find_device("l4"), prices=(Price(2.0, "A", "2026-01", ""), Price(1.0, "B", "2025", "")))
    found = price_of(device)
    assert found is not None and (found.usd_per_hour, found.words) == (1.0, "B, 2025")
    assert price_of(replace(device, prices=())) is None


@pytest.mark.parametrize("name", ["h100-sxm", "NVIDIA H100 80GB HBM3", "H100-SXM5-80GB"])
def test_a_price_is_given_under_any_name_of_the_device(name: str) -> None:
    found = price_of(find_device("h100-sxm"), parse_prices([f"{name}=2.1/h"]))
    assert found is not None and found.usd_per_hour == 2.1 and "--price" in found.words


@pytest.mark.parametrize("text", ["", "free", "-1/h", "0", "1e3", "nan", "inf/h", "1/min", "9" * 12, "1.2.3"])
def test_what_is_no_price_is_refused(text: str) -> None:
    with pytest.raises(BadRequest, match="US dollars an hour"):
        parse_usd_per_hour(text, "--budget")


@pytest.mark.parametrize("text", ["", "h100", "=2", "h100=2,l4"])
def test_a_price_without_a_device_or_an_amount_is_refused(text: str) -> None:
    with pytest.raises(BadRequest, match="--price"):
        parse_prices([text])

"""Waiting in a line: against closed forms, against the recursion played with random numbers, and by its laws."""

from __future__ import annotations

import math
import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.serving.waiting import Waits, moments, sojourn_quantile, waiting_chance, waiting_seconds

TAIL = ((0.05, 0.9), (0.4, 0.08), (6.0, 0.02))  # few long services among short ones


def one_line(served: tuple[tuple[float, float], ...], busy: float) -> Waits:
    """M/G/1 with so much of the time at work."""
    rate = busy / moments(served)[0]
    return Waits(waiting_seconds(rate, served, busy, ranks=1), busy, served, busy)


def erlang(seconds: float, busy: float) -> float:
    """P(W > t) of services of one second each: Erlang (1909)."""
    terms = (
        (-busy * (seconds - k)) ** k / math.factorial(k) * math.exp(busy * (seconds - k))
        for k in range(int(seconds) + 1)
    )
    return 1 - (1 - busy) * sum(terms)


@pytest.mark.parametrize("busy", [0.2, 0.5, 0.8])
@pytest.mark.parametrize("seconds", [0.1, 0.5, 1.5, 2.7])
def test_services_of_one_length_wait_as_erlang_found(busy: float, seconds: float) -> None:
    waits = one_line(((1.0, 1.0),), busy)
    assert busy * waits.longer(seconds) == pytest.approx(erlang(seconds, busy), abs=2e-3)


@pytest.mark.parametrize("seconds", [0.5, 1.0, 3.0, 6.0])
def test_exponential_services_wait_exponentially(seconds: float) -> None:
    pieces = 400
    served = tuple((-math.log(1 - (i + 0.5) / pieces), 1 / pieces) for i in range(pieces))
    assert one_line(served, 0.5).longer(seconds) == pytest.approx(math.exp(-seconds / 2), abs=3e-3)


def test_few_long_services_wait_as_lindley_played_them() -> None:
    busy, draw = 0.5, random.Random(1)
    gap = moments(TAIL)[0] / busy
    waited, found = 0.0, []
    for service in draw.choices([s for s, _ in TAIL], [p for _, p in TAIL], k=200_000):
        found.append(waited)
        waited = max(0.0, waited + service - draw.expovariate(1 / gap))
    waits = one_line(TAIL, busy)
    for seconds in (0.5, 2.0, 5.0):
        assert busy * waits.longer(seconds) == pytest.approx(sum(w > seconds for w in found) / len(found), rel=0.1)
    late = sorted(found)[int(0.95 * len(found))]
    assert sojourn_quantile([(0.0, 0.0, 1.0)], waits, 0.95) == pytest.approx(late, rel=0.1)


SERVICES = st.lists(st.tuples(st.floats(1e-3, 100), st.floats(0.01, 1)), min_size=1, max_size=5)


@given(SERVICES, st.floats(0.01, 0.98), st.integers(1, 20))
def test_fewer_wait_the_longer_it_is(services: list[tuple[float, float]], busy: float, ranks: int) -> None:
    total = sum(part for _, part in services)
    served = tuple((seconds, part / total) for seconds, part in services)
    rate = busy / moments(served)[0]
    wait = waiting_seconds(rate, served, busy, ranks=ranks)
    waits = Waits(wait, waiting_chance(served, busy, ranks=ranks), served, busy)
    if not wait:
        return
    mean = wait / waits.chance
    tails = [waits.longer(mean * place / 4) for place in range(60)]
    assert tails[0] == 1 and all(0 <= b <= a + 1e-9 for a, b in pairwise(tails))
    quantiles = [sojourn_quantile([(1.0, 0.5, 1.0)], waits, share) for share in (0.1, 0.5, 0.9, 0.95, 0.99)]
    assert quantiles == sorted(quantiles) and quantiles[0] >= 1


def test_without_waiting_the_quantile_is_that_of_what_follows() -> None:
    nothing = Waits(0.0, 0.0, ((1.0, 1.0),), 0.3)
    assert sojourn_quantile([(1.0, 9.0, 0.9), (5.0, 9.0, 0.1)], nothing, 0.95) == pytest.approx(5.0)
    assert sojourn_quantile([(1.0, 9.0, 0.9), (5.0, 9.0, 0.1)], nothing, 0.5) == 1.0

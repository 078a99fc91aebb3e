"""How long requests wait in a line of their own, to which those that come at random are dealt out in turn.

    mean and chance   Kraemer and Langenbach-Belz (1976), from the first two moments of service and the evenness of the gaps
    distribution      Beneš' series for M/G/1 (Pollaczek and Khinchine): a wait is a geometric number of rests of services,

        P(W <= t) = Σ (1 - ρ)·ρⁿ·Rⁿ(t),    R(x) = ∫₀ˣ P(S > u) du / E[S]

summed on a grid by Panjer's recursion (1981). A wait that follows long requests among short ones is nothing like
exponential: there are few that are long, and those are as long as what is left of a long request.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from operator import mul

from planner.frozen import dataclass
from planner.serving.steady_state import root

Served = Sequence[tuple[float, float]]
"""Seconds of service, and the share of the requests that take them."""

POINTS = 256
REACH = 6.0  # of mean waits beyond the longest service: what the grid spans


def moments(served: Served) -> tuple[float, float]:
    """Computes (mean, Cs²) of services.

    >>> moments([(1.0, 0.5), (3.0, 0.5)])
    (2.0, 0.25)
    """
    mean = sum(seconds * share for seconds, share in served)
    return mean, sum(seconds**2 * share for seconds, share in served) / mean**2 - 1 if mean else 0.0


def waiting_seconds(rate_per_s: float, served: Served, busy: float, *, ranks: int) -> float:
    """Computes the mean wait in a line of its own on each of `ranks`, to which requests that come at random are dealt out in
    turn: the variation of their gaps is Ca² = 1 / ranks, that of the (seconds, share) of service is Cs².

        W = λ·S² / (1 - ρ) · (Ca² + Cs²) / 2 · g,     g = exp(-2·(1 - ρ)·(1 - Ca²)² / (3·ρ·(Ca² + Cs²)))

    Kraemer and Langenbach-Belz (1976); with one rank it is M/G/1's λ·E[S²] / (2·(1 - ρ)), exact.

    >>> round(waiting_seconds(0.5, [(1.0, 1.0)], 0.5, ranks=1), 4), round(waiting_seconds(0.5, [(1.0, 1.0)], 0.5, ranks=4), 4)
    (0.5, 0.0279)
    """
    mean, spread = moments(served)
    if not mean or not busy:
        return 0.0
    gaps = 1 / ranks
    both = gaps + spread
    calmer = math.exp(-2 * (1 - busy) * (1 - gaps) ** 2 / (3 * busy * both)) if both > 0 else 0.0
    return rate_per_s * mean**2 / (1 - busy) * both / 2 * calmer


def waiting_chance(served: Served, busy: float, *, ranks: int) -> float:
    """Computes how likely it is that a request waits in the line of `waiting_seconds`: fewer do than find a rank at work that
    is busy the share ρ of the time, for requests that are dealt out in turn come more evenly.

        P(W > 0) = ρ - (1 - Ca²)·ρ·(1 - ρ)·(1 + Ca² + ρ·Cs²) / (1 + ρ·(Cs² - 1) + ρ²·(4·Ca² + Cs²))

    Kraemer and Langenbach-Belz (1976), for Ca² up to 1; with one rank it is M/G/1's ρ, exact.

    >>> waiting_chance([(1.0, 1.0)], 0.5, ranks=1), round(waiting_chance([(1.0, 1.0)], 0.64, ranks=4), 3)
    (0.5, 0.359)
    """
    mean, spread = moments(served)
    if not mean or not busy:
        return 0.0
    gaps = 1 / ranks
    below = 1 + busy * (spread - 1) + busy**2 * (4 * gaps + spread)
    return busy - (1 - gaps) * busy * (1 - busy) * (1 + gaps + busy * spread) / below


@dataclass(frozen=True)
class Waits:
    """The waits of a line: none with probability 1 - chance, else `wait_seconds / chance` on average.

    served, busy   what shapes them: seconds of service by share, and the share of the time that a rank works
    """

    wait_seconds: float
    chance: float
    served: tuple[tuple[float, float], ...]
    busy: float

    def longer(self, seconds: float) -> float:
        """Computes P(W > seconds | W > 0): M/G/1's, stretched to the mean that requests wait here who wait.

        Services of a second, half of the time: of all requests 1 - √e / 2 wait longer than one (M/D/1).

        >>> waits = Waits(0.5, 0.5, ((1.0, 1.0),), 0.5)
        >>> waits.longer(0.0), round(0.5 * waits.longer(1.0), 3), round(1 - math.exp(0.5) / 2, 3)
        (1.0, 0.176, 0.176)
        """
        if seconds <= 0:
            return 1.0
        step, mean, tail = self._grid
        at = (
            seconds * mean * self.chance / self.wait_seconds / step + 0.5
        )  # tail[i] is at (i - 1/2) steps, tail[0] at 0
        low = int(at)
        if low + 1 >= len(tail):
            return tail[-1] * math.exp(-(at - len(tail) + 1) * step / mean)
        if low == 0:
            return 1 - 2 * (at - 0.5) * (1 - tail[1])
        return tail[low] + (at - low) * (tail[low + 1] - tail[low])

    @cached_property
    def _grid(self) -> tuple[float, float, list[float]]:
        """(step, mean wait of those that wait, P(W > 0 | W > 0), P(W > step / 2 | W > 0), P(W > 3·step / 2 | W > 0), ...)."""
        service, spread = moments(self.served)
        mean = service * (1 + spread) / (2 * (1 - self.busy))
        step = (max(seconds for seconds, _ in self.served) + REACH * mean) / POINTS
        ends = [(i + 0.5) * step for i in range(POINTS)]
        rests = [sum(share * min(own, x) for own, share in self.served) / service for x in ends]  # R(x)
        parts = [rests[0], *(b - a for a, b in pairwise(rests))]
        scale = self.busy / (1 - self.busy * parts[0])
        waits = [(1 - self.busy) / (1 - self.busy * parts[0])]
        for i in range(1, POINTS):
            waits.append(scale * sum(map(mul, parts[1 : i + 1], reversed(waits))))
        tail, over = [1.0], 1.0
        for part in waits:
            over -= part
            tail.append(min(tail[-1], max(0.0, over / self.busy)))
        return step, mean, tail


def sojourn_quantile(own: Sequence[tuple[float, float, float]], waits: Waits, share: float) -> float:
    """Finds the `share` quantile of a wait and what follows: (seconds, seconds more of one that waited, share of requests).

    >>> sojourn_quantile([(1.0, 0.5, 1.0)], Waits(0.0, 0.0, ((1.0, 1.0),), 0.5), 0.95)
    1.0
    """
    chance = waits.chance if waits.wait_seconds > 0 else 0.0

    def reached(t: float) -> float:
        return sum(part * _shorter(waits, chance, left=t - seconds, more=more) for seconds, more, part in own)

    low, high = 0.0, max(seconds + more for seconds, more, _ in own)
    if chance:
        high += waits.wait_seconds / chance * (3 + math.log(1 / (1 - share)))
    while reached(high) < share - 1e-9:
        low, high = high, 2 * high
    shortest = min(seconds for seconds, _, _ in own)
    if reached(shortest) >= share - 1e-9:
        return shortest
    return root(lambda t: reached(t) - share + 1e-9, low, high)


def _shorter(waits: Waits, chance: float, *, left: float, more: float) -> float:
    """How likely it is that nothing was waited for, or no longer than what is left of it after `more`."""
    if left < 0:
        return 0.0
    waited = chance * (1 - waits.longer(left - more)) if chance and left >= more else 0.0
    return 1 - chance + waited

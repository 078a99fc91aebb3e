"""Timing: warm-up, synchronise, repeat; the median, and the middle half of the repeats as its spread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from profiler.device import Device
from profiler.results import Reading

UNSTABLE = 0.15  # the middle half of the repeats lies further apart than this share of the median


@dataclass(frozen=True)
class Times:
    """Seconds of each repeat, in the order they were taken."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return median(self.seconds)

    @property
    def low(self) -> float:
        return quantile(self.seconds, 0.25)

    @property
    def high(self) -> float:
        return quantile(self.seconds, 0.75)

    @property
    def spread(self) -> float:
        """Width of the middle half as a share of the median."""
        return (self.high - self.low) / self.median if self.median else 0.0

    def reading(self, kind: str = "measured", note: str = "") -> Reading:
        return Reading(self.median, kind, self.low, self.high, len(self.seconds), note)

    def rate(self, amount: float, kind: str = "measured", note: str = "") -> Reading:
        """`amount` a second: tokens, bytes or operations."""
        if not self.median:
            return Reading(0.0, kind, repeats=len(self.seconds), note="too short to time")
        high = amount / self.low if self.low else None
        return Reading(amount / self.median, kind, amount / self.high, high, len(self.seconds), note)


def quantile(values: Sequence[float], share: float) -> float:
    """Computes a quantile, linear between the two nearest values.

    >>> quantile([1.0, 2.0, 3.0, 4.0], 0.25), quantile([5.0], 0.75)
    (1.75, 5.0)
    """
    ranked = sorted(values)
    place = share * (len(ranked) - 1)
    low = int(place)
    high = min(low + 1, len(ranked) - 1)
    return ranked[low] + (ranked[high] - ranked[low]) * (place - low)


def measure(
    action: Callable[[], object],
    device: Device,
    *,
    repeats: int = 5,
    warmup: int = 1,
    budget_seconds: float | None = None,
    before: Callable[[], object] | None = None,
) -> Times:
    """Measures the seconds of `action`, the queue emptied before and after each.

    budget_seconds   no repeat is begun after this much time; there is always one
    before           done before each, not timed
    """
    for _ in range(warmup):
        if before is not None:
            before()
        action()
    device.synchronise()
    found: list[float] = []
    start = device.clock()
    for _ in range(max(1, repeats)):
        if found and budget_seconds is not None and device.clock() - start > budget_seconds:
            break
        if before is not None:
            before()
        device.synchronise()
        first = device.mark()
        action()
        last = device.mark()
        device.synchronise()
        found.append(device.between(first, last))
    return Times(tuple(found))


def laps(
    step: Callable[[], object], device: Device, count: int, *, warmup: int = 2, budget_seconds: float | None = None
) -> Times:
    """Measures the seconds of each of `count` steps in a row, without stopping the queue between them.

    budget_seconds: after three steps, none is begun later than this.
    """
    for _ in range(warmup):
        step()
    device.synchronise()
    marks, start = [device.mark()], device.clock()
    for number in range(count):
        if number >= 3 and budget_seconds is not None and device.clock() - start > budget_seconds:
            break
        step()
        marks.append(device.mark())
    device.synchronise()
    return Times(tuple(device.between(a, b) for a, b in pairwise(marks)))


def unstable(name: str, times: Times) -> str | None:
    """Returns a warning in words when the repeats disagree.

    >>> unstable("decode", Times((1.0, 1.0, 1.5, 2.0)))
    'decode: the middle half of 4 repeats lies 50 % apart; close other programs and repeat'
    """
    if len(times.seconds) < 3 or times.spread <= UNSTABLE:
        return None
    return (
        f"{name}: the middle half of {len(times.seconds)} repeats lies {100 * times.spread:.0f} % apart; "
        "close other programs and repeat"
    )

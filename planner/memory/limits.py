"""The inverse questions, each by search on the same byte curve: how many, how long, how few devices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from planner.errors import BadRequest
from planner.frozen import dataclass
from planner.memory.estimate import Estimate, estimate
from planner.memory.request import Capacity, Request
from planner.memory.sharding import Sharding
from planner.model.spec import ModelSpec
from planner.units import MAX_COUNT, MAX_TOKENS

MAX_DEVICES = 4096


TP_SIZES = (8, 4, 2, 1)


def largest(fits: Callable[[int], bool], high: int, near: int = 1) -> int:
    """Finds the largest n in 1..high with fits(n), 0 when there is none (or `high` is below 1); `fits` must not come back once lost.

    near   where to begin; a good guess asks `fits` less often

    >>> largest(lambda n: n * n <= 50, 10**9), largest(lambda n: n * n <= 50, 10**9, 100), largest(lambda n: False, 9)
    (7, 7, 0)
    """
    if high < 1:
        return 0
    low, top = 0, min(near, high) - 1
    if fits(top + 1):
        low = top + 1
        while low < high and fits(min(2 * low, high)):
            low = min(2 * low, high)
        top = min(2 * low, high)
    while low < top:
        middle = (low + top + 1) // 2
        if fits(middle):
            low = middle
        else:
            top = middle - 1
    return low


def smallest(meets: Callable[[int], bool], high: int, low: int = 1) -> int | None:
    """Finds the smallest n in low..high with meets(n), None when there is none; `meets` must not be lost once it holds.

    >>> smallest(lambda n: n * n >= 50, 10**9), smallest(lambda n: n > 3, 3)
    (8, None)
    """
    if not meets(high):
        return None
    below = low - 1
    while not meets(low):
        below, low = low, min(2 * low, high)
    while low - below > 1:
        middle = (below + low) // 2
        below, low = (below, middle) if meets(middle) else (middle, low)
    return low


def most_sequences(spec: ModelSpec, request: Request, capacity: Capacity) -> int:
    """Finds the most sequences of `request.seq_tokens` that fit at once; 0 when not one does."""
    return largest(lambda n: bool(estimate(spec, replace(request, batch=n), capacity).fits), MAX_COUNT)


def longest_context(spec: ModelSpec, request: Request, capacity: Capacity) -> int:
    """Finds the longest length at `request.batch` that fits, not beyond the model's positions; 0 when none does.

    A model without growing cache (pure state) is bounded by its positions or kvplan's own ceiling alone.
    """
    ceiling = spec.max_positions or MAX_TOKENS
    return largest(lambda n: bool(estimate(spec, replace(request, seq_tokens=n), capacity).fits), ceiling)


@dataclass(frozen=True)
class Layout:
    """A number of devices and how the model lies on them."""

    devices: int
    sharding: Sharding


def fewest_devices(spec: ModelSpec, request: Request, capacity: Capacity, *, limit: int = MAX_DEVICES) -> Layout | None:
    """Finds the fewest equal devices that hold the request, as TP of 1, 2, 4 or 8 times pipeline stages.

    None when even `limit` devices do not help (a single layer, or a copied latent, is too large). Of equal
    counts the one with more tensor parallelism: it also shortens a step.
    """
    found: Layout | None = None
    for tp in TP_SIZES:
        for pp in range(1, min(len(spec.layers), limit // tp) + 1):
            layout = replace(request.sharding, tp=tp, pp=pp, ep=1, dcp=1)
            if found is not None and layout.devices >= found.devices:
                break
            if estimate(spec, replace(request, sharding=layout), capacity).fits:
                found = Layout(layout.devices, layout)
                break
    return found


def tensor_parallel_devices(
    spec: ModelSpec, request: Request, capacity: Capacity, *, limit: int = MAX_DEVICES
) -> Layout | None:
    """Finds, as servers are started, the smallest TP of 1, 2, 4, 8 that holds it, then whole nodes of TP 8 as stages."""
    for tp, pp in [(1, 1), (2, 1), (4, 1), *((8, pp) for pp in range(1, min(len(spec.layers), limit // 8) + 1))]:
        layout = replace(request.sharding, tp=tp, pp=pp, ep=1, dcp=1)
        if estimate(spec, replace(request, sharding=layout), capacity).fits:
            return Layout(layout.devices, layout)
    return None


def pool_bytes(estimate: Estimate) -> int:
    """Returns what is left for cache on the fullest device once weights, activations and overhead are in."""
    if estimate.capacity is None:
        raise BadRequest("a device is wanted: --gpu or --memory")
    device = estimate.per_device
    return estimate.capacity.bytes - (device.total_bytes - device.sequence_bytes)

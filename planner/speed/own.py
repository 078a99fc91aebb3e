"""Makes what is stored beside a device of constants that were fitted to a user's own points."""

from __future__ import annotations

from dataclasses import replace

from planner.catalogue.device import Observed, OwnSpeed
from planner.speed.constants import NUMBERS, QUEUE_NUMBERS, QUEUES, RANGE_ENDS, Constants, Queue
from planner.speed.measured_fit import Fitted


def own_speed(  # parameters: what the file says of itself
    fit: Fitted, points: tuple[Observed, ...], base: Constants, *, name: str, device: str, engine: str, model: str, shape: str, date: str
) -> OwnSpeed:  # fmt: skip
    """Builds what is stored of a fit: figures that turn the constants of any model on this device into the user's, from
    those in `base`.
    """
    constants = fit.applied(base)
    ends = {end: getattr(fit.constants, end) for end in RANGE_ENDS}
    figures = {number: getattr(constants, number) for number in NUMBERS} | ends
    for queue in QUEUES:
        kept: Queue = replace(getattr(constants, queue), low=fit.constants.queue.low, high=fit.constants.queue.high)
        figures |= {f"{queue}.{number}": getattr(kept, number) for number in QUEUE_NUMBERS}
    return OwnSpeed(name, device, engine, model, shape, date, fit.words, figures, points)

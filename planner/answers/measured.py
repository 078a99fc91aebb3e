"""The constants of a speed answer: as shipped, or made from what was measured."""

from __future__ import annotations

from planner.catalogue.device import Device
from planner.memory.estimate import Estimate
from planner.options.measured import MeasuredAsked
from planner.speed.constants import Constants, constants_for
from planner.speed.measured_fit import Fitted, fitted
from planner.speed.measured_point import with_measured_point


def constants_from(  # parameters: what a speed is asked for
    asked: MeasuredAsked | None, estimate: Estimate, device: Device, *, load: str = "serving", engine: str | None = None,
    prompt_tokens: int | None = None, output_tokens: int | None = None,
) -> tuple[Constants, Fitted | None]:  # fmt: skip
    """Returns the constants for `estimate` on `device`, and how they were fitted where several points were given.

    The lengths are those of a single point by hand that names none.
    """
    base = constants_for(engine, device, load)
    if asked is None:
        return base, None
    if asked.text is not None:
        return with_measured_point(
            asked.text, estimate, device, load=load, engine=engine, prompt_tokens=prompt_tokens,
            output_tokens=output_tokens,
        ), None  # fmt: skip
    found = fitted(asked.points, estimate, device, base=base)
    return found.constants, found

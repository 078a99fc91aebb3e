"""Measured points beside what kvplan expects at the same load."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from planner.answers.speed import speed_on
from planner.errors import KvplanError, UsageError
from planner.measured.points import MeasuredPoint
from planner.options.running import Load, Running, speed_of
from planner.options.speed import SpeedAsked
from planner.speed.speed import Figure, Speed

OWN_CONSTANTS = ("dynamo", "tgi")  # engines that --engine does not know


@dataclass(frozen=True)
class Beside:
    """A measured point and what is expected there, without having seen it.

    expected   None where the file does not say the load, or kvplan refuses the question; `why_not` says which
    asked      the question that it answers
    """

    point: MeasuredPoint
    expected: Speed | None = None
    why_not: str | None = None
    asked: SpeedAsked | None = None

    def pairs(self) -> tuple[tuple[str, float, Figure], ...]:
        """(name, measured seconds, expected) of the times that both sides have."""
        if self.expected is None:
            return ()
        both = (
            ("TTFT", self.point.ttft_seconds, self.expected.ttft_seconds),
            ("TPOT", self.point.tpot_seconds, self.expected.tpot_seconds),
        )
        return tuple((name, seconds, figure) for name, seconds, figure in both if seconds is not None)

    def to_dict(self) -> dict[str, Any]:
        """The JSON contract: base units, keys that stay."""
        inside = {name.lower(): place(seconds, figure) for name, seconds, figure in self.pairs()}
        return {
            "measured": self.point.to_dict(),
            "expected": None if self.expected is None else self.expected.to_dict(),
            "place": inside,
            "why_not": self.why_not,
        }


def place(seconds: float, figure: Figure) -> str:
    """Tells where a measured time lies: "inside" the range, "above" or "below" it, or "beyond" the bound of the device."""
    if seconds < figure.bound:
        return "beyond"
    return "above" if seconds > figure.high else "below" if seconds < figure.low else "inside"


def beside(points: Sequence[MeasuredPoint], running: Running, model: str | None) -> tuple[Beside, ...]:
    """Puts what is expected of a server beside each of its points; `model` is what a log names.

    A device is wanted: UsageError without one.
    """
    if running.gpu is None:
        raise UsageError("a benchmark's figures are held against a device: --gpu NAME (kvplan gpus lists them)")
    return tuple(
        _one(point, running, model) for point in sorted(points, key=lambda p: (p.prompt_tokens or 0, p.sequences or 0))
    )


def _one(point: MeasuredPoint, running: Running, model: str | None) -> Beside:
    observed = point.observed()
    if observed is None:
        return Beside(point, why_not="the file does not say requests at once, lengths and a time")
    name = running.model or (None if running.config else model or point.model)
    if name is None and not running.config:
        return Beside(point, why_not="the file does not name the model: --model NAME")
    engine = running.engine or (None if point.engine in OWN_CONSTANTS else point.engine)
    # The point was reached, so no limit of the server stands in its way.
    server = replace(running, model=name, engine=engine, max_model_len=None, share=None)
    try:
        question = speed_of(server, Load(observed.batch, observed.prompt_tokens, observed.output_tokens), point.load)
        return Beside(point, speed_on(question.devices[0], question).speeds[0], asked=question)
    except KvplanError as refused:
        return Beside(point, why_not=str(refused))

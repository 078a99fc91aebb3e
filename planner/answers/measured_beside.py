"""Measured points beside what kvplan expects at the same load."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from planner.answers.speed import speed_on
from planner.errors import KvplanError, UsageError
from planner.measured.points import MeasuredPoint
from planner.options.speed import FLAGS, SpeedAsked, speed_asked
from planner.options.tables import empty
from planner.speed.speed import Figure, Speed

TAKEN = ("config", "assume", "tp", "pp", "dtype", "kv_dtype", "memory")  # flags that reconcile and speed share
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


def beside(points: Sequence[MeasuredPoint], values: Mapping[str, Any], model: str | None) -> tuple[Beside, ...]:
    """Puts what is expected beside each point; `values` are the flags that were given, `model` what a log names.

    A device is wanted: UsageError without one.
    """
    if values.get("gpu") is None:
        raise UsageError("a benchmark's figures are held against a device: --gpu NAME (kvplan gpus lists them)")
    return tuple(
        _one(point, values, model) for point in sorted(points, key=lambda p: (p.prompt_tokens or 0, p.sequences or 0))
    )


def _one(point: MeasuredPoint, values: Mapping[str, Any], model: str | None) -> Beside:
    observed = point.observed()
    if observed is None:
        return Beside(point, why_not="the file does not say requests at once, lengths and a time")
    name = values.get("model") or (None if values.get("config") else model or point.model)
    if name is None and not values.get("config"):
        return Beside(point, why_not="the file does not name the model: --model NAME")
    engine = values.get("engine") or (None if point.engine in OWN_CONSTANTS else point.engine)
    asked = empty(FLAGS) | {key: values.get(key) for key in TAKEN} | {
        "model": name, "gpu": (values["gpu"],), "engine": engine, "prompt": str(observed.prompt_tokens),
        "answer": str(observed.output_tokens), "batch": str(observed.batch), "load": point.load,
    }  # fmt: skip
    try:
        question = speed_asked(asked)
        return Beside(point, speed_on(question.devices[0], question).speeds[0], asked=question)
    except KvplanError as refused:
        return Beside(point, why_not=str(refused))

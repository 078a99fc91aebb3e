"""Answers `watch`: what a server does, beside what kvplan expects at that load."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from planner.answers.speed import speed_on
from planner.answers.users import UsersAsked, most_users
from planner.errors import KvplanError
from planner.measured.metrics import Served, to_dict
from planner.memory.estimate import SCHEMA_VERSION
from planner.options.speed import FLAGS, speed_asked
from planner.options.tables import empty
from planner.options.watch import WatchAsked
from planner.shown import NO, Shown
from planner.speed.measured_fit import fitted
from planner.speed.speed import Speed

ENGINES = {"tgi": None, "dynamo": None}


@dataclass(frozen=True, eq=False, repr=False)
class WatchAnswer(Shown):
    """One look at a server.

    expected       what kvplan says of the same load, without having seen this server; None without model and device
    most_users     requests at once until a target fails or memory is full, by this server's own times where it says them
    by             what ends there: "TTFT", "TPOT", "memory"
    why_not        why nothing is expected
    """

    asked: WatchAsked
    served: Served
    expected: Speed | None = None
    most_users: int | None = None
    by: str | None = None
    why_not: str | None = None

    @property
    def missed(self) -> tuple[str, ...]:
        """The targets that the server misses by its own means."""
        targets = self.asked.targets
        pairs = (
            ("TTFT", self.served.ttft_seconds, targets.ttft_seconds),
            ("TPOT", self.served.tpot_seconds, targets.tpot_seconds),
        )
        return tuple(
            name for name, found, wanted in pairs if found is not None and wanted is not None and found > wanted
        )

    @property
    def exit_code(self) -> int:
        """0, or 3 where the server misses a target that was given."""
        return NO if self.missed and not self.asked.targets.assumed else 0

    def to_dict(self) -> dict[str, Any]:
        """The JSON contract: base units, keys that stay."""
        return {
            "schema_version": SCHEMA_VERSION,
            **to_dict(self.served),
            "misses": list(self.missed),
            "expected": None if self.expected is None else self.expected.to_dict(),
            "most_users": self.most_users,
            "bound_by": self.by,
            "why_not": self.why_not,
        }  # fmt: skip


def watch_answer(asked: WatchAsked, found: Served) -> WatchAnswer:
    """What the server does, with what is expected where model, device and load are known."""
    name = asked.model or found.model
    if asked.gpu is None or name is None:
        lacks = "the device: --gpu NAME" if asked.gpu is None else "the model: --model NAME"
        return WatchAnswer(asked, found, why_not=f"to say what is expected, kvplan wants {lacks}")
    point = found.point("/metrics")
    prompt, output = round(found.prompt_tokens or 0), round(found.output_tokens or 0)
    users = round(found.in_flight or 0)
    if not prompt or output < 2 or not users:
        return WatchAnswer(asked, found, why_not="no request ended between the reads: their lengths are not known")
    values = empty(FLAGS) | {
        "model": name, "gpu": (asked.gpu,), "engine": ENGINES.get(found.engine, found.engine), "prompt": str(prompt),
        "answer": str(output), "batch": str(users), "tp": asked.tp, "dtype": asked.dtype, "kv_dtype": asked.kv_dtype,
    }  # fmt: skip
    try:
        question = speed_asked(values)
        answer = speed_on(question.devices[0], question)
    except KvplanError as refused:
        return WatchAnswer(asked, found, why_not=str(refused))
    observed, constants = point.observed(), answer.constants
    if observed is not None and constants is not None:
        try:
            constants = fitted([observed], answer.estimate, answer.device, constants).constants
        except KvplanError as refused:
            return WatchAnswer(asked, found, expected=answer.speeds[0], why_not=str(refused))
    most, by = (
        (None, None)
        if constants is None
        else most_users(
            UsersAsked(answer.estimate, answer.device, question.engine, question.prompt_tokens, question.output_tokens),
            constants,
            asked.targets,
        )
    )
    return WatchAnswer(asked, found, answer.speeds[0], most, by)

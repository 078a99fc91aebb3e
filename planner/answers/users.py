"""How many requests at once a deployment serves until a target fails or memory is full."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import Any

from planner.answers.speed import admission
from planner.catalogue.device import Device
from planner.memory.estimate import Estimate
from planner.memory.limits import largest
from planner.options.engine import EngineAsked
from planner.options.fit import FitAsked
from planner.speed.constants import Constants, constants_for
from planner.speed.drafting import Drafts
from planner.speed.speed import Speed, speed
from planner.workloads.targets import Targets

MOST_USERS = 4096


@dataclass(frozen=True)
class UsersAsked:
    """A deployment and the lengths of its requests; `estimate` is of one sequence; `drafts`: speculative decoding."""

    estimate: Estimate
    device: Device
    engine: EngineAsked | None
    prompt_tokens: int
    output_tokens: int
    drafts: Drafts | None = None

    def speed(self, batch: int, constants: Constants) -> Speed:
        """Computes how fast so many users are served at once."""
        return speed(
            self.estimate, self.device, prompt_tokens=self.prompt_tokens, output_tokens=self.output_tokens, batch=batch,
            constants=constants, drafts=self.drafts,
        )  # fmt: skip


@dataclass(frozen=True)
class Users:
    """The most users at once that meet the targets, what ends there, and their speed; None where not one does."""

    asked: UsersAsked
    targets: Targets
    most: int
    by: str
    speed: Speed | None

    def to_dict(self) -> dict[str, Any]:
        """The JSON contract."""
        return {
            "most_users": self.most,
            "bound_by": self.by,
            "target_ttft_seconds": self.targets.ttft_seconds,
            "target_tpot_seconds": self.targets.tpot_seconds,
            "prompt_tokens": self.asked.prompt_tokens,
            "output_tokens": self.asked.output_tokens,
            "speed": None if self.speed is None else self.speed.to_dict(),
        }


def most_users(asked: UsersAsked, constants: Constants, targets: Targets) -> tuple[int, str]:
    """Finds (requests at once until something fails, what that is: "TTFT", "TPOT" or "memory"); expectations against
    targets.
    """
    admits = admission(asked.estimate, asked.engine)

    def fails(batch: int) -> str | None:
        if not admits(batch):
            return "memory"
        made = asked.speed(batch, constants)
        if targets.tpot_seconds is not None and made.tpot_seconds.value > targets.tpot_seconds:
            return "TPOT"
        late = targets.ttft_seconds is not None and made.ttft_seconds.value > targets.ttft_seconds
        return "TTFT" if late else None

    most = largest(lambda batch: fails(batch) is None, MOST_USERS)
    return most, fails(most + 1) or f"no target up to {MOST_USERS:,}"


def users_of(asked: FitAsked, estimate: Estimate) -> Users:
    """Counts the users of a device that was measured: an answer is as long as those of its points, the rest of a
    request is prompt.
    """
    assert asked.own is not None and asked.own.own is not None
    outputs = [point.output_tokens for point in asked.own.own.points if point.output_tokens > 1]
    tokens = asked.request.seq_tokens
    output = max(1, min(round(median(outputs)) if outputs else 256, tokens - 1))
    question = UsersAsked(estimate, asked.own, asked.engine, max(1, tokens - output), output)
    engine = None if asked.engine is None else asked.engine.label
    constants = constants_for(engine, asked.own)
    most, by = most_users(question, constants, asked.targets)
    return Users(question, asked.targets, most, by, question.speed(most, constants) if most else None)

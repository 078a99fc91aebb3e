"""Answers `estimate`: the memory of a model at each length asked, and what an engine makes of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from planner.memory.estimate import Estimate, estimate
from planner.options.estimate import EstimateAsked
from planner.shown import NO, Shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from planner.answers.several import Answers
    from planner.answers.verdict import Verdict
    from planner.engines.base import EngineAnswer
    from planner.options.engine import EngineAsked

COLUMNS = (
    "model", "seq_tokens", "batch", "kv_dtype", "kv_bytes", "state_bytes", "kv_bytes_per_token", "weight_dtype",
    "weight_bytes", "device", "fits",
)  # fmt: skip


@dataclass(frozen=True, eq=False, repr=False)
class EstimateAnswer(Shown, Estimate):  # a notebook reads its figures as those of an Estimate
    """An Estimate, with what the engine that was asked makes of it.

    asked   the engine, its version and flags; None: answered in kvplan's own terms
    emit    the form in which the engine's start command is wanted too
    """

    asked: EngineAsked | None = None
    emit: str | None = None

    @cached_property
    def engine(self) -> EngineAnswer | None:
        """What the engine makes of it; None where none was asked."""
        if self.asked is None:
            return None
        from planner.answers.engine import engine_answer, with_own_length

        return with_own_length(self.asked, self, engine_answer(self.asked, self))

    @cached_property
    def command(self) -> str | None:
        """The engine's start command, where it was asked for."""
        if self.engine is None or self.asked is None or not self.emit:
            return None
        from planner.engines.emit import command

        return command(self.engine, self, self.asked.options)

    @cached_property
    def start_file(self) -> str | None:
        """The compose file or Kubernetes manifest that starts it, where one was asked for."""
        if self.command is None or self.engine is None or self.asked is None or self.emit not in ("compose", "k8s"):
            return None
        from planner.engines.emit_files import start_file

        devices = self.request.sharding.devices
        return start_file(self.command, self.engine.name, self.asked.version, devices, str(self.emit))

    @cached_property
    def verdict(self) -> Verdict | None:
        """The one verdict of text, JSON and exit code: the engine's where one is named; None without a device."""
        if self.engine is None and self.capacity is None:
            return None
        from planner.answers import verdict as judge  # only where something has to hold it

        if self.engine is not None:
            return judge.engine_verdict(self.engine, self)
        return judge.within(self, judge.memory_verdict(self))

    @property
    def too_long(self) -> Verdict | None:
        """That the length is more than the model's positions; without a device it is said, and nothing is judged."""
        if self.beyond_note is None:
            return None
        from planner.answers.verdict import within

        return within(self, None)

    @property
    def held(self) -> bool | None:
        """Whether it fits, as the verdict has it; None where no device is named or it is not known."""
        fits = self.fits if self.engine is None else self.engine.fits
        return False if fits and self.verdict is not None and not self.verdict.ok else fits

    @property
    def exit_code(self) -> int:
        """0, or 3 where the verdict is no."""
        return NO if self.verdict is not None and not self.verdict.ok else 0

    def __repr__(self) -> str:
        return Shown.__repr__(self)

    def to_dict(self) -> dict[str, Any]:
        """The JSON contract: base units, keys that stay; `engine` where one was asked."""
        found = Estimate.to_dict(self)
        found["verdict"] = None if self.verdict is None else self.verdict.word
        found["fits"] = self.held
        if self.engine is not None:
            from planner.answers.engine import host_bound, kv_name

            found["kv_dtype"] = kv_name(self, self.engine.name)
            bound = host_bound(self.engine.placed, self.capacity)
            found["engine"] = self.engine.to_dict() | ({"command": self.command} if self.command else {})
            found["engine"] |= {"file": self.start_file} if self.start_file else {}
            found["engine"] |= {"tokens_per_s_most_low": bound[0], "tokens_per_s_most_high": bound[1]} if bound else {}
        return found


def estimate_answers(asked: EstimateAsked) -> tuple[EstimateAnswer, ...]:
    """Returns an answer for each length asked; an engine's refusal is raised here."""
    answers = []
    for request in asked.requests:
        found = _stored(asked, estimate(asked.spec, request, asked.capacity))
        answer = EstimateAnswer(
            found.spec,
            found.request,
            found.fmt,
            found.plan,
            found.source_tokens,
            found.capacity,
            asked.engine,
            asked.emit,
        )
        _ = answer.command if asked.emit else answer.engine
        answers.append(answer)
    return tuple(answers)


def _stored(asked: EstimateAsked, estimate: Estimate) -> Estimate:
    if asked.engine is None:
        return estimate
    from planner.answers.engine import as_stored  # only where an engine is named

    return as_stored(asked.engine, estimate)


def estimate_answer(asked: EstimateAsked) -> EstimateAnswer | Answers[EstimateAnswer]:
    """Returns the answer, or several of them where several lengths are asked."""
    answers = estimate_answers(asked)
    if len(answers) == 1:
        return answers[0]
    return several(answers)


def compared_answer(questions: Sequence[EstimateAsked]) -> Answers[EstimateAnswer]:
    """Puts the answers of several questions side by side; the verdict is no where none of them fits."""
    return several([answer for asked in questions for answer in estimate_answers(asked)], all_must=False)


def several(answers: Sequence[EstimateAnswer], *, all_must: bool = True) -> Answers[EstimateAnswer]:
    """Estimates in one table."""
    from planner.answers.several import Answers  # typing; most ask for one length

    return Answers(tuple(answers), COLUMNS, all_must)

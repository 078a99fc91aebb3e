"""Steps of a replica that drafts, as the formulas and the simulator of a load read them: a token at a time.

    a token     = (a step that runs 1 + k tokens of each sequence + k steps of the drafter) / tokens a step
    with prompts  = that + what the prompts add to a step, whole: they come by requests, not by drafted tokens

Left out: that tokens come in bursts of 1 to 1 + k, which stretches single pauses and leaves their mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from planner.frozen import dataclass
from planner.speed.constants import Constants
from planner.speed.drafting import Drafts
from planner.speed.step import StepTerms
from planner.speed.step_model import LinearSteps, linear_steps
from planner.speed.work import Work
from planner.units import PS_PER_SECOND


@dataclass(frozen=True)
class DraftedSteps:
    """A replica's steps as `planner.speed.step.StepModel`, each divided by the tokens that it gives.

    plain   steps of the model without drafts
    """

    plain: LinearSteps
    drafts: Drafts

    @property
    def sums(self) -> Work:
        """The work of the model that is served."""
        return self.plain.sums

    @property
    def constants(self) -> Constants:
        """Those of the model that is served."""
        return self.plain.constants

    @property
    def reaches(self) -> tuple[int | None, ...]:
        """The windows of the model that is served."""
        return self.plain.reaches

    @cached_property
    def drafter(self) -> LinearSteps | None:
        """One step of the drafter, which runs by the constants of its target; None where nothing runs."""
        sums = self.drafts.sums
        return None if sums is None else linear_steps(sums, self.plain.rates, self.plain.constants)

    @cached_property
    def kv_ps(self) -> tuple[int, ...]:
        """Time to read one cached token, the drafter's at the reach that is longest."""
        own = list(self.plain.kv_ps)
        if self.drafter is not None and own:
            longest = max(range(len(own)), key=lambda i: self.reaches[i] or float("inf"))
            own[longest] += self.drafts.tokens * sum(self.drafter.kv_ps)
        return tuple(round(ps / self.drafts.tokens_a_step) for ps in own)

    @cached_property
    def score_ps(self) -> tuple[int, ...]:
        """Time to compute with one cached token, for all that a step verifies."""
        verified = 1 + self.drafts.tokens
        return tuple(round(ps * verified / self.drafts.tokens_a_step) for ps in self.plain.score_ps)

    def terms(self, sequences: int, chunks: Sequence[tuple[int, int]]) -> StepTerms:
        """The terms of a step for each token that it gives, and what chunks add to it."""
        found = self._decoding(sequences) if sequences else StepTerms(0, 0, 0)
        if not chunks:
            return found
        bare, whole = self.plain.terms(sequences, ()), self.plain.terms(sequences, chunks)
        if not sequences:
            return whole
        return StepTerms(
            found.fixed_ps + whole.fixed_ps - bare.fixed_ps,
            found.memory_ps + whole.memory_ps - bare.memory_ps,
            found.compute_ps + whole.compute_ps - bare.compute_ps,
        )

    def _decoding(self, sequences: int) -> StepTerms:
        """A step without prompts."""
        tokens, c = self.drafts.tokens, self.constants
        step = self.plain.terms(sequences * (1 + tokens), ())
        once = sequences * tokens * c.sequence_seconds * c.fixed_scale * c.tpot_scale * PS_PER_SECOND  # scheduled once
        fixed = step.fixed_ps - once + tokens * self._draft_ps(sequences)
        return StepTerms(
            round(fixed / self.drafts.tokens_a_step),
            round(step.memory_ps / self.drafts.tokens_a_step),
            round(step.compute_ps / self.drafts.tokens_a_step),
        )

    def _draft_ps(self, sequences: int) -> float:
        """One step of the drafter beside its cache: no scheduling of its own."""
        if self.drafter is None:
            return 0.0
        c, terms = self.drafter.constants, self.drafter.terms(sequences, ())
        scheduled = (c.step_seconds + sequences * c.sequence_seconds) * c.fixed_scale * c.tpot_scale * PS_PER_SECOND
        return terms.fixed_ps - scheduled + max(terms.memory_ps, terms.compute_ps)

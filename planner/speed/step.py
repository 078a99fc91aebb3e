"""One forward step of a serving replica as a sum that is linear in the cached tokens, in whole picoseconds.

    step_ps = fixed_ps + max(memory_ps + Σ kv_ps[i]·R_i,  compute_ps + Σ score_ps[i]·R_i)

R_i is the sum over the decoding sequences of min(context, reach_i): the tokens that layers of kind i read. Integers
and straight lines, so that the time of many steps between two events has a closed form and equals the time of the
same steps one by one, exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol


class StepTerms(NamedTuple):
    """What a step takes besides reading and scoring the decoding sequences' caches."""

    fixed_ps: int
    memory_ps: int
    compute_ps: int


class StepModel(Protocol):
    """How long a replica's steps take; everything it holds is constant between two events of a simulation."""

    @property
    def reaches(self) -> tuple[int | None, ...]:
        """The window of each kind of attention layer; None reads the whole context."""

    @property
    def kv_ps(self) -> tuple[int, ...]:
        """Time to read one cached token, by kind of layer."""

    @property
    def score_ps(self) -> tuple[int, ...]:
        """Time to compute with one cached token, by kind of layer."""

    def terms(self, sequences: int, chunks: Sequence[tuple[int, int]]) -> StepTerms:
        """A step that decodes `sequences` and prefills chunks of (tokens, tokens already cached before them)."""


@dataclass(frozen=True)
class Linear:
    """A StepModel of constants alone: what tests, benchmarks and examples by hand need.

    fixed_ps, sequence_ps, token_ps   a step, each decoding sequence (memory), each token of a chunk (compute)
    """

    fixed_ps: int = 0
    sequence_ps: int = 0
    token_ps: int = 0
    pair_ps: int = 0
    reaches: tuple[int | None, ...] = (None,)
    kv_ps: tuple[int, ...] = (0,)
    score_ps: tuple[int, ...] = (0,)

    def terms(self, sequences: int, chunks: Sequence[tuple[int, int]]) -> StepTerms:
        """A chunk of n tokens after m cached ones scores n·m + n·(n + 1)/2 pairs.

        >>> Linear(fixed_ps=5, sequence_ps=2, token_ps=3, pair_ps=1).terms(4, [(2, 10)])
        StepTerms(fixed_ps=5, memory_ps=8, compute_ps=29)
        """
        compute = sum(self.token_ps * n + self.pair_ps * (n * m + n * (n + 1) // 2) for n, m in chunks)
        return StepTerms(self.fixed_ps, self.sequence_ps * sequences, compute)


def step_ps(model: StepModel, sequences: int, reached: Sequence[int], *, chunks: Sequence[tuple[int, int]] = ()) -> int:
    """Computes the picoseconds of one step. `reached[i]` tokens are read by the layers of kind i, all sequences
    together.
    """
    terms = model.terms(sequences, chunks)
    return terms.fixed_ps + max(sides_ps(model, terms, reached))


def sides_ps(model: StepModel, terms: StepTerms, reached: Sequence[int]) -> tuple[int, int]:
    """Returns the two sides of a step, reading and computing, in picoseconds: the step takes the larger of them, and
    `fixed_ps` besides.
    """
    memory, compute = terms.memory_ps, terms.compute_ps
    for read, score, tokens in zip(model.kv_ps, model.score_ps, reached, strict=True):
        memory += read * tokens
        compute += score * tokens
    return memory, compute

"""Prefill and decode in pools of their own (xPyD): x ranks read prompts, a link carries their caches, y ranks decode.

    TTFT = way in + waiting for prompts before it + the prompt's own steps + waiting for the link + the transfer
           + the step of the decoding pool that it joins
    TPOT = d(n), a step of the decoding pool; no prompt of others is in it

Requests are dealt out to the prefill ranks in turn (`planner.serving.waiting`), and so are transfers to the lanes of the
link: as many as the smaller pool has ranks. A prompt that waited is read in a step with those that came while it did, as many
as the step has tokens for, and gives its token when all of them are done. The decoding pool is `planner.serving.steady_state` with prompts that
are cached but for what is left behind whole blocks of 16 tokens, computed as one more row of a step (vLLM computes a
prompt's last token where it decodes). Left out: prefix hits of the decoding pool, layers sent while others are computed,
memory that a prompt holds in the prefill pool until it was sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from planner.serving.steady_state import NEARLY_FULL, Replica, State, pieces, root
from planner.serving.waiting import Waits, sojourn_quantile, waiting_chance, waiting_seconds
from planner.speed.step import StepModel, StepTerms, step_ps
from planner.units import PS_PER_SECOND
from planner.workloads.arrivals import BLOCK_TOKENS, cached_tokens
from planner.workloads.load import Load

OVERLOADED = 1e3  # as many users more than there are ask where a pool cannot carry the rate
NEARLY = 0.01  # of the users: what a search for their rate may leave over


@dataclass(frozen=True)
class JoinedSteps:
    """Steps of a decoding pool: a prompt whose cache has come is one more sequence of the step."""

    plain: StepModel

    @property
    def reaches(self) -> tuple[int | None, ...]:
        """The windows of the model that is served."""
        return self.plain.reaches

    @property
    def kv_ps(self) -> tuple[int, ...]:
        """Time to read one cached token."""
        return self.plain.kv_ps

    @property
    def score_ps(self) -> tuple[int, ...]:
        """Time to compute with one cached token."""
        return self.plain.score_ps

    def terms(self, sequences: int, chunks: Sequence[tuple[int, int]]) -> StepTerms:
        """The terms of a step with those that join as sequences, and whole prompts (after a preemption) as chunks.

        >>> from planner.speed.step import Linear
        >>> steps = JoinedSteps(Linear(fixed_ps=5, sequence_ps=2, token_ps=100, kv_ps=(3,)))
        >>> steps.terms(4, [(1, 10)])            # five sequences, the fifth reads 11 tokens
        StepTerms(fixed_ps=5, memory_ps=43, compute_ps=0)
        """
        joining = [(tokens, before) for tokens, before in chunks if before and tokens <= BLOCK_TOKENS]
        found = self.plain.terms(sequences + len(joining), [chunk for chunk in chunks if chunk not in joining])
        memory, compute = found.memory_ps, found.compute_ps
        for reach, read, score in zip(self.reaches, self.kv_ps, self.score_ps, strict=True):
            tokens = sum(min(new + before, reach or new + before) for new, before in joining)
            memory += read * tokens
            compute += score * tokens
        return StepTerms(found.fixed_ps, memory, compute)


def decoding_load(load: Load) -> Load:
    """Returns the load as a decoding pool sees it: each prompt's cache has come, in whole blocks."""
    return replace(load, prefix_share=1.0)


class Prefills:
    """One rank that reads prompts and does nothing else.

    own            (seconds, share) of each bin of prompts, alone on the rank
    full_seconds   of one prompt where each is read in steps that are filled with its like
    """

    def __init__(self, model: StepModel, load: Load, *, chunk_tokens: int, slower: float = 1.0) -> None:
        self.model, self.load, self.chunk_tokens, self.slower = model, load, chunk_tokens, slower
        self.own = [(self._alone(item.tokens), item.share) for item in load.prompts]

    def _step(self, chunks: Sequence[tuple[int, int]]) -> float:
        nothing = [0] * len(self.model.reaches)
        return self.slower * step_ps(self.model, 0, nothing, chunks=chunks) / PS_PER_SECOND

    def _alone(self, tokens: int) -> float:
        whole, rest = pieces(tokens, cached_tokens(tokens, self.load.prefix_share), self.chunk_tokens)
        seconds = sum((count * self._step([piece]) for count, piece in whole), 0.0)
        return seconds + (self._step([rest]) if rest is not None else 0.0)

    @cached_property
    def own_seconds(self) -> float:
        """Returns the mean seconds of a prompt that is prefilled alone."""
        return sum(seconds * share for seconds, share in self.own)

    @cached_property
    def full_seconds(self) -> float:
        """Returns the mean seconds of a prompt in steps that are filled."""
        return sum(
            self._filled(item.tokens, alone) * share
            for item, (alone, share) in zip(self.load.prompts, self.own, strict=True)
        )

    def _filled(self, tokens: int, alone: float) -> float:
        """Seconds of a prompt in a step with as many others of its length as there is room for."""
        hit = cached_tokens(tokens, self.load.prefix_share)
        together = self.chunk_tokens // (tokens - hit)
        return alone if together < 2 else min(alone, self._step([(tokens - hit, hit)] * together) / together)

    def shared_seconds(self, tokens: int, come: float) -> float:
        """Computes what the last step of a prompt takes longer for `come` new tokens of others that came while it waited; of
        what the step has room for they fill half on average, the other half being those before it.
        """
        hit = cached_tokens(tokens, self.load.prefix_share)
        _, rest = pieces(tokens, hit, self.chunk_tokens)
        if rest is None:
            return 0.0
        beside = round(min(come, (self.chunk_tokens - rest[0]) / 2))
        return self._step([rest, (beside, 0)]) - self._step([rest]) if beside else 0.0

    def utilisation(self, rate_per_s: float) -> float:
        """Returns the share of the rate at which it is full."""
        return rate_per_s * self.full_seconds

    def wait_seconds(self, rate_per_s: float, ranks: int = 1) -> float:
        """Computes the mean wait for prompts before one on a rank that gets every `ranks`-th request, `rate_per_s` of them.

        >>> from planner.speed.step import Linear
        >>> from planner.workloads.lengths import LengthMix
        >>> from planner.workloads.load import load
        >>> asked = load(LengthMix({1000: 1}, ""), LengthMix({9: 1}, ""), rate_per_s=1)
        >>> one = Prefills(Linear(token_ps=10**8), asked, chunk_tokens=1000)        # 0.1 s a prompt
        >>> round(one.wait_seconds(5.0), 9), one.utilisation(5.0)                  # 5 · 0.01 / (2 · 0.5)
        (0.05, 0.5)
        """
        return waiting_seconds(rate_per_s, self.own, self.utilisation(rate_per_s), ranks=ranks)


@dataclass(frozen=True)
class FirstToken:
    """The time to the first token: what always comes, what each bin of prompts takes, and the wait for those before it.

    own     (seconds, seconds more where it waited, share of the requests)
    share   of the requests that its quantile is for
    """

    always_seconds: float
    own: tuple[tuple[float, float, float], ...]
    waits: Waits
    share: float

    @property
    def mean_seconds(self) -> float:
        """Its mean."""
        own = sum((seconds + self.waits.chance * more) * share for seconds, more, share in self.own)
        return self.always_seconds + self.waits.wait_seconds + own

    @property
    def quantile_seconds(self) -> float:
        """Its quantile."""
        return self.always_seconds + sojourn_quantile(self.own, self.waits, self.share)


@dataclass(frozen=True)
class PoolsState:
    """Two pools under a load. Times are means but for `ttft_seconds`, that of the share asked for."""

    rate_per_s: float
    prefill_seconds: float
    prefill_wait_seconds: float
    prefill_utilisation: float
    transfer_seconds: float
    link_wait_seconds: float
    link_utilisation: float
    join_seconds: float
    decode: State
    first: FirstToken

    @property
    def ttft_mean_seconds(self) -> float:
        """Mean time to the first token."""
        return self.first.mean_seconds

    @cached_property
    def ttft_seconds(self) -> float:
        """Time to the first token of the share asked for."""
        return self.first.quantile_seconds

    @property
    def tpot_seconds(self) -> float:
        """Mean time between two tokens."""
        return self.decode.tpot_seconds


@dataclass(frozen=True)
class TwoPools:
    """`prefill_ranks` of one layout and `decode_ranks` of another.

    transfer_seconds   of each bin of the load's prompts
    before_seconds     a request's way in
    """

    prefills: Prefills
    decode: Replica
    prefill_ranks: int
    decode_ranks: int
    transfer_seconds: tuple[float, ...]
    before_seconds: float = 0.0

    @property
    def lanes(self) -> int:
        """Links that are busy at once: those of the smaller pool."""
        return min(self.prefill_ranks, self.decode_ranks)

    def at_rate(self, rate_per_s: float) -> PoolsState | None:
        """Returns the state with requests that arrive at random; None where a pool or the link cannot carry them."""
        each = rate_per_s / self.prefill_ranks
        busy = self.prefills.utilisation(each)
        sent = [
            (seconds, item.share)
            for seconds, item in zip(self.transfer_seconds, self.prefills.load.prompts, strict=True)
        ]
        transfer = sum(seconds * share for seconds, share in sent)
        link = rate_per_s / self.lanes * transfer
        if max(busy, link) >= NEARLY_FULL:
            return None
        decode = self.decode.at_rate(rate_per_s / self.decode_ranks)
        if decode is None:
            return None
        read = self._line(self.prefills.own, each, busy, ranks=self.prefill_ranks)
        lane = self._line(sent, rate_per_s / self.lanes, link, ranks=self.lanes)
        first = FirstToken(
            self.before_seconds + decode.ttft_mean_seconds, self._own(each, read), _both(read, lane), self.decode.share
        )
        return PoolsState(
            rate_per_s, self.prefills.own_seconds, read.wait_seconds, busy, transfer, lane.wait_seconds, link,
            decode.ttft_mean_seconds, decode, first,
        )  # fmt: skip

    @staticmethod
    def _line(served: Sequence[tuple[float, float]], rate_per_s: float, busy: float, *, ranks: int) -> Waits:
        wait = waiting_seconds(rate_per_s, served, busy, ranks=ranks)
        return Waits(wait, waiting_chance(served, busy, ranks=ranks), tuple(served), busy)

    def _own(self, rate_per_s: float, waits: Waits) -> tuple[tuple[float, float, float], ...]:
        """Of each bin of prompts: its steps and its transfer, what it takes longer where it waited, its share."""
        load = self.prefills.load
        come = (
            rate_per_s * waits.wait_seconds / waits.chance * (load.prompt_tokens - load.cached_tokens)
            if waits.chance
            else 0.0
        )
        return tuple(
            (seconds + sent, self.prefills.shared_seconds(item.tokens, come), share)
            for (seconds, share), sent, item in zip(
                self.prefills.own, self.transfer_seconds, self.prefills.load.prompts, strict=True
            )
        )

    def at_users(self, users: int) -> PoolsState | None:
        """Returns the state at the rate at which so many users ask who each wait for their answer and pause: Little's law,
        users = rate · (TTFT + steps · TPOT + pause). None where that rate is more than can be carried.
        """
        load = self.prefills.load

        def beyond(rate_per_s: float) -> float:
            state = self.at_rate(rate_per_s)
            if state is None:
                return OVERLOADED
            took = state.ttft_mean_seconds + load.decode_steps * state.tpot_seconds + load.think_seconds
            return rate_per_s * took / users - 1

        most = self._most_per_s(users)
        rate = root(beyond, 0.0, most)
        if beyond(rate) < -NEARLY:  # the last rate that can be carried leaves users over
            return None
        return self.at_rate(min(rate, most))

    def _most_per_s(self, users: int) -> float:
        """More than users can ask: nothing waits, and steps hold one sequence."""
        load, own = self.prefills.load, self.prefills.own_seconds
        return users / (own + load.decode_steps * self.decode.decode_seconds(1) + load.think_seconds)


def _both(read: Waits, lane: Waits) -> Waits:
    """The waits of two lines together, in the shape of the longer one."""
    longer = max(read, lane, key=lambda line: line.wait_seconds)
    return replace(longer, wait_seconds=read.wait_seconds + lane.wait_seconds, chance=max(read.chance, lane.chance))

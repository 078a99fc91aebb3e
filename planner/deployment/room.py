"""How many sequences of a load a replica admits: the pool that is left beside weights, and what one request takes.

The pool is what the fullest device has left once weights, activations of the largest step and overhead are in. It is
filled by sequences in the middle of their lives, of the lengths that a decoding sequence is found at, so that 99 of
100 moments fit (`planner.workloads.lengths.concurrency`); and the longest request must fit alone.

A prefix common to all requests is held once, in layers whose cache grows with every token. Windows and recurrent
states are each sequence's own, whatever is shared.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from planner.engines.base import EngineAnswer
from planner.frozen import dataclass
from planner.memory.estimate import Estimate, caches_on_rank, estimate, rank_kv_bytes
from planner.memory.request import Capacity, Request
from planner.memory.sharding import stages
from planner.model.cache import Cache, Full
from planner.model.latent_attention import Latent
from planner.model.spec import ModelSpec
from planner.workloads.arrivals import cached_tokens
from planner.workloads.lengths import LengthMix, concurrency
from planner.workloads.load import Load

MOST_SEQUENCES = 1024  # decoding at once on one rank: more is no engine's default


WEIGHTS_OF_SHARES = 10**6


@dataclass(frozen=True)
class Room:
    """What one rank of a replica (one of its `dp`) holds.

    pool_bytes     for cache, on the fullest device; `prefix_bytes` of it hold the common prefix
    request_bytes  one decoding sequence, on average, with its share of activations and allocator
    admitted       sequences of the load at once, in 99 of 100 moments; 0 where not even the longest fits alone
    average        sequences at once if all were average
    short_bytes    what is missing for the longest request alone
    held           bytes of decoding sequences, with their shares
    session_bytes  an idle session of a mean prompt and output; `idle_bytes` are kept for such
    """

    found: Estimate
    pool_bytes: int
    prefix_bytes: int
    request_bytes: int
    longest_bytes: int
    admitted: int
    average: int
    held: tuple[tuple[int, float], ...] = ()
    session_bytes: int = 0
    idle_bytes: int = 0

    def keeping(self, sessions: int) -> Room:
        """Returns the room with the cache of so many idle sessions in the pool, in place of those it keeps now."""
        idle = sessions * self.session_bytes
        left = self.pool_bytes + self.idle_bytes - idle
        less = _room(self.found, left, self.prefix_bytes, longest=self.longest_bytes, held=self.held)
        return replace(less, session_bytes=self.session_bytes, idle_bytes=idle)

    @property
    def short_bytes(self) -> int:
        return max(0, self.longest_bytes + self.prefix_bytes - self.pool_bytes)


def room(spec: ModelSpec, request: Request, capacity: Capacity, *, load: Load) -> Room:
    """Returns the room of a layout and its formats for a load; `request` says all but length and batch.

    Raises BadRequest for formats and layouts that this model cannot have.
    """
    one, two = (
        estimate(spec, replace(request, seq_tokens=load.longest_tokens, batch=n * request.sharding.dp), capacity)
        for n in (1, 2)
    )
    device = one.per_device
    own = device.sequence_bytes
    beside = two.per_device.total_bytes - device.total_bytes - own  # logits and allocator of one more sequence
    pool = capacity.bytes - (device.total_bytes - own - beside)
    sizes = Sizes(one)

    def taken(tokens: int, own_tokens: int) -> int:
        size = sizes.own(tokens, own_tokens)
        return size + (beside * size // own if own else beside)

    common = cached_tokens(load.longest_prompt_tokens, load.prefix_share) if load.prefix_common else 0
    prefix = sizes.growing(common)
    longest = taken(load.longest_tokens, load.longest_tokens - common)
    held = tuple((taken(r.tokens, r.own_tokens), r.share) for r in load.held_sequences)
    session = round(load.prompt_tokens + load.output_tokens)
    found = _room(one, pool, prefix, longest=longest, held=held)
    return replace(found, session_bytes=taken(session, session - round(load.cached_tokens) * load.prefix_common))


def _room(estimate: Estimate, pool: int, prefix: int, *, longest: int, held: tuple[tuple[int, float], ...]) -> Room:
    mix = LengthMix({i: round(share * WEIGHTS_OF_SHARES) for i, (_, share) in enumerate(held)}, "")
    counted = concurrency(mix, pool - prefix, {i: size for i, (size, _) in enumerate(held)})
    fits = pool - prefix >= longest
    return Room(
        found=estimate,
        pool_bytes=pool,
        prefix_bytes=prefix,
        request_bytes=counted.mean_request_bytes,
        longest_bytes=longest,
        admitted=min(MOST_SEQUENCES, max(1, counted.safe)) if fits else 0,
        average=counted.average,
        held=held,
    )


def engine_room(mine: Room, points: list[tuple[int, int]], longest_answer: EngineAnswer, *, load: Load) -> Room:
    """Returns the room in an engine's terms: its pool, and its bytes of a request, on lines between the lengths answered.

    `points`: the engine's bytes of requests of so many tokens, the longest request last, whose whole answer is
    `longest_answer`. An engine without a pool
    (transformers) keeps ours; one that reserves a slot of the longest request each (llama.cpp) fills it with those.
    """
    ranged = longest_answer.ranged
    if ranged is None:
        return mine
    sizes = Sizes(mine.found)
    common = cached_tokens(load.longest_prompt_tokens, load.prefix_share) if load.prefix_common else 0
    if "slots" in ranged.pool.extra:
        slot = longest_answer.request_bytes
        count = max(0, mine.pool_bytes // slot) if slot else MOST_SEQUENCES
        return replace(
            mine,
            request_bytes=slot,
            longest_bytes=slot,
            prefix_bytes=0,
            admitted=min(count, MOST_SEQUENCES),
            average=count,
        )
    held = tuple(
        (_between(points, r.tokens) - sizes.growing(r.tokens - r.own_tokens), r.share) for r in load.held_sequences
    )
    longest = points[-1][1] - sizes.growing(common)
    found = _room(mine.found, ranged.pool.bytes, sizes.growing(common), longest=longest, held=held)
    return replace(found, session_bytes=mine.session_bytes)


def _between(points: list[tuple[int, int]], tokens: int) -> int:
    """On a line between the points around `tokens`; below the first in proportion.

    >>> _between([(10, 100), (20, 300)], 15), _between([(10, 100), (20, 300)], 5)
    (200, 50)
    """
    low, size = points[0]
    if tokens <= low:
        return size * tokens // low
    for (t0, b0), (t1, b1) in pairwise(points):
        if tokens <= t1:
            return b0 + (b1 - b0) * (tokens - t0) // max(1, t1 - t0)
    return points[-1][1]


class Sizes:
    """Bytes of one sequence on the fullest device of an estimate, its growing caches apart from the others."""

    def __init__(self, estimate: Estimate) -> None:
        sharding, stage = estimate.request.sharding, estimate.per_device
        caches = caches_on_rank(stages(estimate.spec, sharding.pp)[stage.stage], sharding)
        self.found, self.sharding, self.caches, self.stage = estimate, sharding, caches, stage.stage
        self.grow: dict[Cache, int] = {c: n for c, n in caches.items() if type(c) in (Full, Latent)}
        self.others: dict[Cache, int] = {c: n for c, n in caches.items() if c not in self.grow}
        self.state = sum(n * cache.state_bytes(estimate.fmt) for cache, n in caches.items())
        self.follows = estimate.request.source_tokens is None and estimate.spec.source_tokens is None

    def _source(self, tokens: int) -> int:
        return tokens if self.follows else self.found.source_tokens

    def growing(self, tokens: int) -> int:
        """Layers that keep every token."""
        if tokens <= 0:
            return 0
        return rank_kv_bytes(self.grow, self.sharding, tokens, source_tokens=self._source(tokens), fmt=self.found.fmt)

    def own(self, tokens: int, own_tokens: int) -> int:
        """Counts the bytes of a sequence of `tokens`, of which `own_tokens` lie behind the common prefix; a drafter's
        cache is counted.
        """
        others = 0
        if self.others:
            source = self._source(tokens)
            others = rank_kv_bytes(self.others, self.sharding, tokens, source_tokens=source, fmt=self.found.fmt)
        extras = self.found.request.extras
        beside = 0 if extras is None else extras.sequence_bytes(self.found, self.stage, self.caches, tokens=tokens)
        return self.state + others + self.growing(own_tokens) + beside

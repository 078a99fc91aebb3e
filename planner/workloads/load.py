"""What a deployment has to carry: prompts, outputs, how many at once, and the targets it must meet.

Lengths come as mixes of thousands of values. A search asks them thousands of times, so they are cut here into a
few bins that keep the mean; the bins are narrow around the percentiles that targets name.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import pairwise

from planner.errors import BadRequest
from planner.frozen import dataclass
from planner.workloads.arrivals import cached_tokens
from planner.workloads.lengths import LengthMix
from planner.workloads.traces import HASH_TOKENS, Trace

EDGES = (0.0, 0.2, 0.45, 0.55, 0.7, 0.88, 0.92, 0.94, 0.96, 0.98, 1.0)


# Waits grow with the square of a prompt's time, of which a mix with a tail has most in its last hundredth.
PROMPT_EDGES = (*EDGES[:-1], 0.99, 0.995, 0.998, 0.9995, 1.0)


HELD_EDGES = tuple(i / 64 for i in range(65))


HELD_POINTS = 4  # of each sequence's life


@dataclass(frozen=True)
class Bin:
    """A share of the requests, and their mean length."""

    tokens: int
    share: float


@dataclass(frozen=True)
class HeldSequence:
    """A share of the decoding sequences: tokens held, and how many of them lie behind the common prefix."""

    tokens: int
    own_tokens: int
    share: float


def _cut(rows: Iterable[tuple[int, int, float]], edges: Sequence[float]) -> list[tuple[int, int, float]]:
    """(a, b, weight) rows, ordered by a and cut at shares of the weight: (mean a, mean b, share) of each piece."""
    ordered = sorted(row for row in rows if row[2] > 0)
    total = sum(weight for _, _, weight in ordered)
    pieces: list[tuple[int, int, float]] = []
    place, rest = 0, ordered[0][2]
    for low, high in pairwise(edges):
        wanted = (high - low) * total
        taken = first = second = 0.0
        while wanted - taken > 1e-9 * total and place < len(ordered):
            step = min(rest, wanted - taken)
            first, second, taken, rest = (
                first + step * ordered[place][0],
                second + step * ordered[place][1],
                taken + step,
                rest - step,
            )
            if rest <= 1e-9 * total:
                place += 1
                rest = ordered[place][2] if place < len(ordered) else 0.0
        if taken:
            pieces.append((max(1, round(first / taken)), max(1, round(second / taken)), taken / total))
    return pieces


def binned(counts: Iterable[tuple[int, float]], edges: Sequence[float] = EDGES) -> tuple[Bin, ...]:
    """Cuts lengths with weights at these shares of the weight into bins of their mean.

    The mean of all stays, to the rounding of each bin to a whole token.

    >>> binned([(10, 1), (20, 1), (90, 2)], (0, 0.5, 1))
    (Bin(tokens=15, share=0.5), Bin(tokens=90, share=0.5))
    """
    found: list[Bin] = []
    for tokens, _, share in _cut(((tokens, tokens, weight) for tokens, weight in counts), edges):
        if found and found[-1].tokens == tokens:
            found[-1] = Bin(tokens, found[-1].share + share)
        else:
            found.append(Bin(tokens, share))
    return tuple(found)


def held_sequences(requests: Iterable[tuple[int, int, int, float]]) -> tuple[HeldSequence, ...]:
    """Counts what sequences hold that are found decoding, from (prompt, output, common prefix, weight) of requests.

    A long answer is found more often than a short one, in proportion to its length, and somewhere between its
    prompt and its end: P(held = p + k) is the same for each k below the output. Four points of each life stand
    for all of them, in 64 pieces of equal weight.

    >>> {(held.tokens, held.own_tokens) for held in held_sequences([(100, 80, 60, 1.0)])} == {
    ...     (110, 50), (130, 70), (150, 90), (170, 110)}
    True
    """
    rows: dict[tuple[int, int], float] = {}
    for prompt, output, common, weight in requests:
        for point in range(HELD_POINTS):
            tokens = prompt + round(output * (point + 0.5) / HELD_POINTS)
            key = (tokens, tokens - common)
            rows[key] = rows.get(key, 0.0) + weight * output
    merged: dict[tuple[int, int], float] = {}
    for tokens, own, share in _cut(((*key, weight) for key, weight in rows.items()), HELD_EDGES):
        merged[tokens, own] = merged.get((tokens, own), 0.0) + share
    return tuple(HeldSequence(tokens, own, share) for (tokens, own), share in merged.items())


@dataclass(frozen=True)
class Load:
    """Requests and how they come: `users` that each have one request running, or `rate_per_s` that arrive unasked.

    prompts, outputs   lengths in tokens by share
    held_sequences     what decoding sequences hold
    longest_tokens     of one request, prompt and output
    think_seconds      a user's pause between an answer and the next request
    prefix_share       share of each prompt that is found in the cache
    prefix_common      that share is one prefix of all requests, and is held once; else each has its own
    mixes              prompts and outputs as they were given, uncut
    trace              the requests themselves, where they were recorded
    """

    prompts: tuple[Bin, ...]
    outputs: tuple[Bin, ...]
    held_sequences: tuple[HeldSequence, ...]
    longest_prompt_tokens: int
    longest_tokens: int
    users: int | None = None
    rate_per_s: float | None = None
    think_seconds: float = 0.0
    prefix_share: float = 0.0
    prefix_common: bool = True
    mixes: tuple[LengthMix, LengthMix] = (LengthMix({}, ""), LengthMix({}, ""))
    trace: Trace | None = None

    @property
    def words(self) -> str:
        return f"prompts {self.mixes[0].words}; outputs {self.mixes[1].words}"

    @cached_property
    def prompt_tokens(self) -> float:
        """Mean prompt."""
        return sum(item.tokens * item.share for item in self.prompts)

    @cached_property
    def output_tokens(self) -> float:
        """Mean output."""
        return sum(item.tokens * item.share for item in self.outputs)

    @cached_property
    def decode_steps(self) -> float:
        """Steps after the first token, which prefill makes: output - 1."""
        return self.output_tokens - 1

    @cached_property
    def output_spread(self) -> float:
        """Squared coefficient of variation of the output length."""
        square = sum(item.tokens**2 * item.share for item in self.outputs)
        return float(square / self.output_tokens**2 - 1)

    @cached_property
    def cached_tokens(self) -> float:
        """Prompt tokens that a request finds in the cache, on average."""
        return sum(cached_tokens(item.tokens, self.prefix_share) * item.share for item in self.prompts)


def load(
    prompts: LengthMix,
    outputs: LengthMix,
    *,
    users: int | None = None,
    rate_per_s: float | None = None,
    think_seconds: float = 0.0,
    prefix_share: float = 0.0,
    prefix_common: bool = True,
    pairs: Iterable[tuple[int, int]] | None = None,
    trace: Trace | None = None,
) -> Load:  # parameters: what it makes is made of, each by name
    """Makes a Load from two mixes, independent of each other unless `pairs` (prompt, output) says who has which.

    Raises BadRequest where neither or both of users and rate are given, and where no request has a second token.

    >>> answer = load(LengthMix({1000: 1}, ""), LengthMix({201: 1}, ""), users=8)
    >>> answer.prompt_tokens, answer.decode_steps, answer.longest_tokens
    (1000.0, 200.0, 1201)
    """
    if (users is None) == (rate_per_s is None):
        raise BadRequest("how much is asked at once? --users 200, or --rate 5/s, or --trace FILE; give one of them")
    cut_prompts, cut_outputs = binned(prompts.counts.items(), PROMPT_EDGES), binned(outputs.counts.items())
    if pairs is None:
        weighted = [(p.tokens, o.tokens, p.share * o.share) for p in cut_prompts for o in cut_outputs]
        longest = prompts.longest + outputs.longest
    else:
        weighted = [(min(p, prompts.longest), min(o, outputs.longest), 1.0) for p, o in pairs]
        longest = max(prompt + output for prompt, output, _ in weighted)
    common = prefix_share if prefix_common else 0.0
    found = Load(
        cut_prompts,
        cut_outputs,
        held_sequences((p, o, cached_tokens(p, common), weight) for p, o, weight in weighted),
        prompts.longest,
        longest,
        users,
        rate_per_s,
        think_seconds,
        prefix_share,
        prefix_common,
        (prompts, outputs),
        trace,
    )
    if found.decode_steps <= 0:
        raise BadRequest("--answer of 1 token: no token is decoded after the first; write at least 2")
    return found


def trace_hit_share(trace: Trace) -> float:
    """Counts the share of a trace's prompt tokens whose block of 512 came before: what a cache that forgets nothing would find.

    An upper figure; the simulator keeps only what the pool has room for.

    >>> from array import array
    >>> column = lambda *values: array("q", values)
    >>> trace_hit_share(Trace("", "Mooncake", column(0, 1), column(1024, 1024), column(9, 9), column(1, 2, 1, 3), column(2, 4)))
    0.25
    """
    seen: set[int] = set()
    found = 0
    for row, prompt in enumerate(trace.prompt_tokens):
        ids = trace.hash_ids(row)
        known = next((place for place, block in enumerate(ids) if block not in seen), len(ids))
        found += min(known * HASH_TOKENS, prompt - 1)
        seen.update(ids)
    return found / sum(trace.prompt_tokens)

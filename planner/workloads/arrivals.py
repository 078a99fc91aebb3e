"""Requests as they reach a server: replayed from a trace, or drawn from mixes of lengths at a rate.

All that is drawn comes from `random.Random` with a seed of its own for lengths, times and pauses, so that the same
seed gives the same requests, and another rate the same lengths. Prompts and outputs of two mixes are drawn
independently of each other.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator
from fractions import Fraction
from itertools import accumulate, count, islice
from random import Random
from typing import NamedTuple

from planner.errors import BadRequest
from planner.units import PS_PER_SECOND
from planner.workloads.lengths import LengthMix
from planner.workloads.traces import Trace

BLOCK_TOKENS = 16


class Arrival(NamedTuple):
    """One request: when it comes and how long it is.

    cached_tokens   prompt tokens that a prefix cache is stated to hold already (`--prefix-share`)
    hash_ids        the prompt's blocks of 512 tokens by the hash of their prefix; equal ones can be shared
    """

    time_ps: int
    prompt_tokens: int
    output_tokens: int
    cached_tokens: int = 0
    hash_ids: tuple[int, ...] = ()


def cached_tokens(prompt_tokens: int, prefix_share: float) -> int:
    """Counts what a stated share of a prompt comes to in whole blocks of 16; at least one token is left to compute.

    >>> cached_tokens(1000, 0.6), cached_tokens(32, 1.0)
    (592, 16)
    """
    return min(int(prefix_share * prompt_tokens + 1e-9), prompt_tokens - 1) // BLOCK_TOKENS * BLOCK_TOKENS


def exponential_ps(mean_seconds: float, seed: int, what: str) -> Iterator[int]:
    """Draws exponential times with this mean; all 0 for a mean of 0."""
    draw = Random(f"{what} {seed}").random
    while True:
        yield round(-math.log(1.0 - draw()) * mean_seconds * PS_PER_SECOND)


def poisson_ps(rate_per_s: float, seed: int) -> Iterator[int]:
    """Draws the times of a Poisson process."""
    return accumulate(exponential_ps(1 / rate_per_s, seed, "gaps"))


def drawn(mix: LengthMix, seed: int, what: str) -> Iterator[int]:
    """Draws the lengths of a mix, each as often as it says, in the long run.

    >>> list(islice(drawn(LengthMix({7: 1}, ""), 1, "prompts"), 3))
    [7, 7, 7]
    """
    lengths = sorted(mix.counts)
    until = list(accumulate(mix.counts[length] for length in lengths))
    randrange = Random(f"{what} {seed}").randrange
    while True:
        yield lengths[bisect_right(until, randrange(until[-1]))]


def synthetic(
    prompts: LengthMix,
    outputs: LengthMix,
    requests: int,
    *,
    rate_per_s: float | None = None,
    prefix_share: float = 0.0,
    seed: int = 1,
) -> Iterator[Arrival]:
    """Draws requests with lengths of two mixes, at Poisson times; all at 0 without a rate (a closed loop needs none)."""
    times = poisson_ps(rate_per_s, seed) if rate_per_s else (0 for _ in count())
    rows = zip(times, drawn(prompts, seed, "prompts"), drawn(outputs, seed, "outputs"), strict=False)
    for time, prompt, output in islice(rows, requests):
        yield Arrival(time, prompt, output, cached_tokens(prompt, prefix_share) if prefix_share else 0)


def replayed(
    trace: Trace,
    requests: int | None = None,
    *,
    speed_up: Fraction = Fraction(1),
    rate_per_s: float | None = None,
    prefix_share: float = 0.0,
    seed: int = 1,
    timed: bool = True,
) -> Iterator[Arrival]:  # parameters: what it makes is made of, each by name
    """Replays a trace at its own times divided by `speed_up`, or at Poisson times where it has none and a rate is given.

    Not `timed`, all come at 0: users of a closed loop make their own times.
    More `requests` than the trace has repeat it from its start, one mean gap after its end.

    Raises BadRequest where times are needed and the trace has none.
    """
    size = len(trace)
    total = size if requests is None else requests
    drawn_times = poisson_ps(rate_per_s, seed) if rate_per_s and not trace.has_times else None
    if timed and drawn_times is None and not trace.has_times:
        raise BadRequest(f"{trace.words} has no times; give --rate 5/s, or --users 200")
    period = trace.span_ps + (trace.span_ps // (size - 1) if size > 1 else PS_PER_SECOND)
    up, down = speed_up.numerator, speed_up.denominator
    for number in range(total):
        turn, row = divmod(number, size)
        if not timed:
            time = 0
        elif drawn_times:
            time = next(drawn_times)
        else:
            time = (turn * period + trace.time_ps[row]) * down // up
        prompt = trace.prompt_tokens[row]
        cached = cached_tokens(prompt, prefix_share) if prefix_share else 0
        yield Arrival(time, prompt, trace.output_tokens[row], cached, trace.hash_ids(row))


def speed_up_to(trace: Trace, rate_per_s: float) -> Fraction:
    """Tells by how much a trace is sped up so that its mean rate is `rate_per_s`."""
    own = trace.rate_per_s
    if own is None:
        raise BadRequest(f"{trace.words}: all requests come at one time, so no rate can be made of them")
    return Fraction(rate_per_s).limit_denominator(10**6) / Fraction(own).limit_denominator(10**9)

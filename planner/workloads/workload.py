"""The requests of a simulation: where they come from, how often, and by whom."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from planner.errors import BadRequest, UsageError
from planner.workloads.arrivals import Arrival, exponential_ps, replayed, speed_up_to, synthetic
from planner.workloads.lengths import LengthMix
from planner.workloads.traces import Trace

DEFAULT_REQUESTS = 5000


REQUESTS_A_USER = 20


MOST_BY_DEFAULT = 200_000


MAX_REQUESTS = 10**7


SAMPLED_PAIRS = 20_000


@dataclass(frozen=True)
class Workload:
    """A trace, or two mixes of lengths, at its own times, at a rate, or asked by users in a closed loop.

    rate_per_s      requests a second: Poisson for mixes and for a trace without times, else the trace sped up to it
    speed_up        a trace's own times divided by this
    users           that many ask, wait for the answer, think (exponential, mean `think_seconds`) and ask again
    prefix_share    of each prompt is found in the cache
    """

    trace: Trace | None = None
    prompts: LengthMix | None = None
    outputs: LengthMix | None = None
    rate_per_s: float | None = None
    speed_up: Fraction = Fraction(1)
    users: int = 0
    think_seconds: float = 0.0
    wanted: int | None = None
    prefix_share: float = 0.0
    seed: int = 1

    def __post_init__(self) -> None:
        timed = self.trace is not None and self.trace.has_times
        if self.rate_per_s and self.users:
            raise UsageError("--rate and --users exclude each other: requests come at a rate, or when users ask")
        if not self.rate_per_s and not self.users and not timed:
            raise UsageError(
                "how often? --rate 5/s, or --users 200" + (": this trace has no times" if self.trace else "")
            )
        if self.speed_up != 1 and (self.rate_per_s or self.users or not timed):
            raise UsageError("--speed-up is for the times of a trace, without --rate and --users")
        if self.think_seconds and not self.users:
            raise UsageError("--think is a pause of --users; leave it out with --rate and --trace")

    @cached_property
    def requests(self) -> int:
        if self.wanted is not None:
            return self.wanted
        if self.trace is not None:
            return len(self.trace)
        return max(DEFAULT_REQUESTS, min(MOST_BY_DEFAULT, REQUESTS_A_USER * self.users), self.users)

    @cached_property
    def pace(self) -> Fraction:
        """Returns by what the times of a trace are divided."""
        if self.trace is not None and self.trace.has_times and self.rate_per_s:
            return speed_up_to(self.trace, self.rate_per_s)
        return self.speed_up

    @cached_property
    def offered_per_s(self) -> float | None:
        """Mean rate of arrivals; None in a closed loop, and where all come at once."""
        if self.users:
            return None
        own = self.trace.rate_per_s if self.trace is not None else None
        return self.rate_per_s or (None if own is None else own * float(self.pace))

    @cached_property
    def mixes(self) -> tuple[LengthMix, LengthMix]:
        if self.trace is not None:
            return self.trace.prompts, self.trace.outputs
        assert self.prompts is not None and self.outputs is not None
        return self.prompts, self.outputs

    @cached_property
    def longest_tokens(self) -> int:
        """Prompt and output of the longest request that can come."""
        if self.trace is not None:
            return max(prompt + output for prompt, output in self.trace.pairs())
        return sum(mix.longest for mix in self.mixes)

    def pairs(self) -> list[tuple[int, int]] | None:
        """(prompt, output) of a trace's requests, evenly thinned out; None where the two are independent."""
        if self.trace is None:
            return None
        pairs = list(self.trace.pairs())
        return pairs[:: max(1, len(pairs) // SAMPLED_PAIRS)]

    def arrivals(self) -> Iterator[Arrival]:
        if self.trace is None:
            prompts, outputs = self.mixes
            return synthetic(
                prompts, outputs, self.requests, rate_per_s=self.rate_per_s, prefix_share=self.prefix_share, seed=self.seed
            )  # fmt: skip
        return replayed(
            self.trace, self.requests, speed_up=self.pace, rate_per_s=self.rate_per_s, prefix_share=self.prefix_share,
            seed=self.seed, timed=not self.users,
        )  # fmt: skip

    def think_ps(self) -> Iterator[int]:
        return exponential_ps(self.think_seconds, self.seed, "pauses")

    @cached_property
    def words(self) -> tuple[str, ...]:
        """What was taken as given, for people."""
        lines = []
        if self.trace is None:
            lines.append(f"prompts {self.mixes[0].words}; outputs {self.mixes[1].words}; independent of each other")
        else:
            lines.append(f"{len(self.trace):,} requests of {self.trace.words} ({self.trace.format})")
            if self.requests > len(self.trace):
                lines.append(f"the trace is repeated until {self.requests:,} requests have come")
            if self.pace != 1:
                lines.append(f"its times divided by {float(self.pace):.4g}")
        if self.users:
            pause = f"a pause of {self.think_seconds:g} s on the mean" if self.think_seconds else "no pause"
            lines.append(f"{self.users:,} users, {pause} between an answer and the next request")
        elif self.trace is None or not self.trace.has_times:
            lines.append(f"Poisson arrivals, seed {self.seed}")
        if self.prefix_share:
            lines.append(
                f"{self.prefix_share:.0%} of each prompt is found in the cache: not computed again, its memory counted "
                "for each sequence"
            )
        return tuple(lines)


def checked_requests(count: int | None) -> int | None:
    if count is not None and count > MAX_REQUESTS:
        raise BadRequest(f"--requests {count:,} is more than {MAX_REQUESTS:,}; fewer show the same percentiles")
    return count

"""A cache brought back from host memory or disk against computing it again.

pays    bytes of the cache / rate + latency < prefill of the same tokens
rate from which it pays = bytes / (prefill - latency)
"""

from __future__ import annotations

from dataclasses import dataclass

from planner.memory.estimate import Estimate
from planner.memory.limits import smallest
from planner.speed.constants import Constants
from planner.speed.passes import Prompt, Rates, prefill_pass, prefill_seconds
from planner.speed.transfer import Tier, cache_bytes
from planner.speed.work import Work

SHORTEST, LONGEST = 16, 1 << 20  # a block; where a model says no positions


@dataclass(frozen=True)
class BroughtBack:
    """What bringing back the cache of `tokens` takes, and what computing it takes, on an idle device.

    pays_from             the shortest length from which on it is faster at each longer one; None: at no length
    break_even_bytes_per_s   rate of the way above which it pays at `tokens`; None where its latency alone is longer
    """

    tokens: int
    cache_bytes: int
    words: str
    seconds: float
    seconds_low: float
    seconds_high: float
    prefill_seconds: float
    pays_from: int | None
    break_even_bytes_per_s: float | None

    @property
    def pays(self) -> bool:
        """Whether bringing back is faster at this length."""
        return self.seconds < self.prefill_seconds

    def line(self) -> str:
        """Says it in a line."""
        from planner.units import human_bytes, human_seconds

        ratio = self.prefill_seconds / self.seconds if self.pays else self.seconds / self.prefill_seconds
        said = f"{ratio:,.3g} times {'faster' if self.pays else 'slower'} than computing it, {human_seconds(self.prefill_seconds)}"
        pays = f"; pays from {self.pays_from:,} tokens on" if self.pays_from is not None else "; pays at no length"
        rate = self.break_even_bytes_per_s
        even = "" if rate is None else f", here above {rate / 1e9:,.3g} GB/s"
        return (
            f"a prompt of {self.tokens:,} tokens, {human_bytes(self.cache_bytes)} of cache a rank, is back over {self.words} in "
            f"{human_seconds(self.seconds)} ({human_seconds(self.seconds_low)} to {human_seconds(self.seconds_high)}): {said}{pays}{even}"
        )


def brought_back(
    estimate: Estimate, tier: Tier, tokens: int, *, sums: Work, rates: Rates, constants: Constants
) -> BroughtBack:
    """Compares bringing back the cache of `tokens` with a prefill of one prompt alone on the device.

    Left out: other requests, which a prefill delays and a copy hardly does, and the last token, which is always computed.
    """

    def computing(length: int) -> float:
        found = prefill_pass(sums, rates, 1, prompt=Prompt(length), ubatch=constants.ubatch_tokens)
        return float(prefill_seconds(found, constants))

    def wins_from(length: int) -> bool:  # at each length from here to the longest, in steps of an eighth
        while length <= most:
            if tier.seconds(estimate, length) >= computing(length):
                return False
            length = max(length + 1, length * 9 // 8)
        return True

    most = max(tokens, estimate.spec.max_positions or LONGEST)
    seconds, prefill = tier.seconds(estimate, tokens), computing(tokens)
    link, left = tier.link, prefill - tier.link.latency_seconds
    sent = link.bytes_per_s * link.reached * (seconds - link.latency_seconds)
    return BroughtBack(
        tokens, cache_bytes(estimate, tokens), link.words, seconds,
        tier.seconds(estimate, tokens, link.high), tier.seconds(estimate, tokens, link.low), prefill,
        smallest(wins_from, most, min(SHORTEST, most)), sent / left if left > 0 else None,
    )  # fmt: skip

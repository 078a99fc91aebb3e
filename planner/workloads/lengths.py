"""A mix of request lengths, from percentiles or from a file, and how many such requests are held at once."""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from statistics import NormalDist

from planner.errors import BadConfig, BadRequest, one_line
from planner.frozen import dataclass
from planner.units import MAX_TOKENS, parse_tokens
from planner.workloads.rows import PAIR_KEYS, BadRow, RowReader, whole_tokens

QUANTILES = 2000


SAFE_SHARE = 0.99


TOTAL_KEYS = ("tokens", "total_tokens", "length", "seq_tokens")


@dataclass(frozen=True)
class LengthMix:
    """Lengths in tokens with how often each occurs."""

    counts: Mapping[int, int]
    words: str

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    @property
    def longest(self) -> int:
        return max(self.counts)

    @property
    def mean(self) -> float:
        return sum(length * count for length, count in self.counts.items()) / self.total

    def percentile(self, share: float) -> int:
        """
        >>> LengthMix({10: 1, 20: 1, 30: 2}, "").percentile(0.5)
        20
        """
        wanted, seen = share * self.total, 0
        for length in sorted(self.counts):
            seen += self.counts[length]
            if seen >= wanted:
                return length
        return self.longest

    def clipped(self, longest: int) -> LengthMix:
        """Counts longer requests as `longest` tokens, and says so.

        >>> LengthMix({10: 1, 20: 3}, "mine").clipped(15).words
        'mine; 3 of 4 are longer than 15 tokens and counted as that'
        """
        counts: Counter[int] = Counter()
        for length, count in self.counts.items():
            counts[min(length, longest)] += count
        over = sum(count for length, count in self.counts.items() if length > longest)
        if not over:
            return self
        words = f"{self.words}; {over:,} of {self.total:,} are longer than {longest:,} tokens and counted as that"
        return LengthMix(counts, words)

    def within(self, longest: int | None) -> tuple[LengthMix, float]:
        """Leaves out requests longer than `longest` tokens, as a server rejects them: (the others, their share); all where
        none is left.

        >>> mix, share = LengthMix({10: 1, 20: 3}, "").within(15)
        >>> mix.counts, share
        ({10: 1}, 0.25)
        """
        if longest is None or self.longest <= longest or min(self.counts) > longest:
            return self, 1.0
        kept = {length: count for length, count in self.counts.items() if length <= longest}
        return LengthMix(kept, self.words), sum(kept.values()) / self.total


def parse_mix(text: str, option: str = "--lengths") -> LengthMix:
    """Reads `p50=800,p95=6000`, or the path of a CSV or JSONL file of lengths; `option` is where it was given."""
    if "=" in text and not os.path.exists(text):
        return from_percentiles(text, option)
    return from_file(text, option)


def from_percentiles(text: str, option: str = "--lengths") -> LengthMix:
    """Draws a log-normal mix through two percentiles (or a fixed length through one), as 2,000 equal quantiles.

    ln L = mu + sigma·z; two percentiles give mu and sigma exactly.

    >>> mix = from_percentiles("p50=800,p95=6000")
    >>> mix.percentile(0.5), mix.percentile(0.95)
    (799, 5982)
    """
    points: dict[float, int] = {}
    for item in text.split(","):
        name, _, value = item.partition("=")
        name = name.strip().lower()
        share = float(name[1:]) / 100 if re.fullmatch(r"p\d{1,2}(\.\d{1,6})?", name, re.ASCII) else 0.0
        if not 0 < share < 1:
            raise BadRequest(f"{option} {one_line(item, 40)!r} is not a percentile; write for example p50=800,p95=6000")
        points[share] = parse_tokens(value, option)
    shares = sorted(points)
    if len(shares) > 2 or len(shares) < 1 or len(shares) != len(text.split(",")):
        raise BadRequest(
            f"{option} takes one or two different percentiles, or a file; write for example p50=800,p95=6000"
        )
    if len(shares) == 1:
        return LengthMix({points[shares[0]]: 1}, f"every request {points[shares[0]]:,} tokens")
    low, high = shares
    if points[high] < points[low]:
        raise BadRequest(f"{option} {one_line(text, 60)!r}: the higher percentile is the shorter length")
    normal = NormalDist()
    z_low, z_high = normal.inv_cdf(low), normal.inv_cdf(high)
    sigma = (math.log(points[high]) - math.log(points[low])) / (z_high - z_low)
    mu = math.log(points[low]) - sigma * z_low
    counts: Counter[int] = Counter()
    for i in range(QUANTILES):
        exponent = mu + sigma * normal.inv_cdf((i + 0.5) / QUANTILES)
        counts[max(1, min(MAX_TOKENS, round(math.exp(min(exponent, 30)))))] += 1
    return LengthMix(counts, f"log-normal through {one_line(text, 60)}")


def from_file(path: str, option: str = "--lengths") -> LengthMix:
    """Reads the lengths from CSV (with a header), JSON lines, or one number a line; read line by line."""
    shown = one_line(path, 80)
    reader = RowReader(option, shown, _of_keys, {1: ("tokens",)})
    counts = Counter(_of_row(row, f"{option} {shown} line {number}") for number, row in reader.rows(path))
    if not counts:
        raise BadConfig(f"{option} {shown} holds no lengths; one request a line is wanted")
    return LengthMix(counts, f"{sum(counts.values()):,} requests of {shown}")


def _of_keys(keys: Iterable[str]) -> tuple[str, ...]:
    have = set(keys)
    for key in TOTAL_KEYS:
        if key in have:
            return (key,)
    for pair in PAIR_KEYS:
        if set(pair) <= have:
            return pair
    raise BadConfig(
        f" has no column of lengths; wanted is one of {', '.join(TOTAL_KEYS)}, or a pair such as "
        "prompt_tokens and output_tokens"
    )


def _of_row(row: Mapping[str, object], where: str) -> int:
    total = sum(whole_tokens(row[key], where) for key in _of_keys(row))
    if total < 1:
        raise BadRow(f"{where}: a request of 0 tokens; at least 1 is wanted")
    return total


@dataclass(frozen=True)
class Concurrency:
    """Requests of a mix held at once in a pool: on average, and so that 99 of 100 moments fit."""

    mean_request_bytes: int
    average: int
    safe: int
    at_longest: int


def concurrency(mix: LengthMix, pool: int, request_bytes: Mapping[int, int]) -> Concurrency:
    """Counts how many fit: n requests need n·mean on average, with a spread of z·sqrt(n)·deviation (independent lengths).

    `request_bytes`: bytes of one request by its length, each at its full length (the end of its life).

    >>> concurrency(LengthMix({1: 1, 3: 1}, ""), 100, {1: 10, 3: 30})
    Concurrency(mean_request_bytes=20, average=5, safe=3, at_longest=3)
    """
    total = mix.total
    mean = sum(request_bytes[length] * count for length, count in mix.counts.items()) / total
    variance = sum((request_bytes[length] - mean) ** 2 * count for length, count in mix.counts.items()) / total
    largest = request_bytes[mix.longest]
    if pool <= 0 or mean <= 0:
        return Concurrency(round(mean), 0, 0, 0)
    # n·mean + z·dev·sqrt(n) = pool, solved for sqrt(n)
    z = NormalDist().inv_cdf(SAFE_SHARE) * math.sqrt(variance)
    root = (-z + math.sqrt(z * z + 4 * mean * pool)) / (2 * mean)
    safe = max(math.floor(root * root + 1e-9), pool // largest if largest else 0)
    return Concurrency(round(mean), int(pool // mean), min(safe, int(pool // mean)), pool // largest if largest else 0)

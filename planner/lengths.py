"""A mix of request lengths, from percentiles or from a file, and how many such requests are held at once."""

from __future__ import annotations

import csv
import json
import math
import os
import re
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from statistics import NormalDist

from planner.errors import BadConfig, BadRequest, one_line
from planner.units import MAX_TOKENS, parse_tokens

MAX_FILE_BYTES = 2 << 30
MAX_LINE = 1 << 20
QUANTILES = 2000
SAFE_SHARE = 0.99
_WANTED = "a CSV or JSONL file, or p50=800,p95=6000"

TOTAL_KEYS = ("tokens", "total_tokens", "length", "seq_tokens")
PAIR_KEYS = (
    ("prompt_tokens", "completion_tokens"),
    ("prompt_tokens", "output_tokens"),
    ("input_tokens", "output_tokens"),
    ("input_length", "output_length"),
    ("contexttokens", "generatedtokens"),
    ("prompt_len", "output_len"),
)


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
        """Longer requests counted as `longest` tokens, and said so.

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


def parse_mix(text: str) -> LengthMix:
    """`p50=800,p95=6000`, or the path of a CSV or JSONL file of lengths."""
    if "=" in text and not os.path.exists(text):
        return from_percentiles(text)
    return from_file(text)


def from_percentiles(text: str) -> LengthMix:
    """A log-normal mix through two percentiles (or a fixed length through one), as 2,000 equal quantiles.

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
            raise BadRequest(
                f"--lengths {one_line(item, 40)!r} is not a percentile; write for example p50=800,p95=6000"
            )
        points[share] = parse_tokens(value, "--lengths")
    shares = sorted(points)
    if len(shares) > 2 or len(shares) < 1 or len(shares) != len(text.split(",")):
        raise BadRequest(
            "--lengths takes one or two different percentiles, or a file; write for example p50=800,p95=6000"
        )
    if len(shares) == 1:
        return LengthMix({points[shares[0]]: 1}, f"every request {points[shares[0]]:,} tokens")
    low, high = shares
    if points[high] < points[low]:
        raise BadRequest(f"--lengths {one_line(text, 60)!r}: the higher percentile is the shorter length")
    normal = NormalDist()
    z_low, z_high = normal.inv_cdf(low), normal.inv_cdf(high)
    sigma = (math.log(points[high]) - math.log(points[low])) / (z_high - z_low)
    mu = math.log(points[low]) - sigma * z_low
    counts: Counter[int] = Counter()
    for i in range(QUANTILES):
        exponent = mu + sigma * normal.inv_cdf((i + 0.5) / QUANTILES)
        counts[max(1, min(MAX_TOKENS, round(math.exp(min(exponent, 30)))))] += 1
    return LengthMix(counts, f"log-normal through {one_line(text, 60)}")


def from_file(path: str) -> LengthMix:
    """Lengths from CSV (with a header), JSON lines, or one number a line; read line by line."""
    shown = one_line(path, 80)
    path = os.path.expanduser(path)
    try:
        info = os.stat(path)
        if not stat.S_ISREG(info.st_mode):
            raise BadConfig(f"--lengths {shown} is not a regular file; {_WANTED} is wanted")
        if info.st_size > MAX_FILE_BYTES:
            raise BadConfig(f"--lengths {shown} is over 2 GiB; a sample of it will do")
        with open(path, encoding="utf-8-sig") as file:
            counts = Counter(_lengths(iter(lambda: file.readline(MAX_LINE + 1), ""), shown))
    except FileNotFoundError:
        raise BadConfig(f"--lengths {shown!r} does not exist; {_WANTED} is wanted") from None
    except OSError as error:
        raise BadConfig(f"--lengths {shown} cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error):
        raise BadConfig(f"--lengths {shown} is not text; a CSV or JSONL file of lengths is wanted") from None
    except ValueError as error:  # a NUL in the name
        raise BadConfig(f"--lengths {shown} cannot be read: {one_line(str(error), 80)}") from None
    if not counts:
        raise BadConfig(f"--lengths {shown} holds no lengths; one request a line is wanted")
    return LengthMix(counts, f"{sum(counts.values()):,} requests of {shown}")


def _lengths(lines: Iterable[str], shown: str) -> Iterator[int]:
    header: list[str] | None = None
    for number, line in enumerate(lines, 1):
        if len(line) > MAX_LINE:
            raise BadConfig(f"--lengths {shown} line {number} is too long for a request; one request a line is wanted")
        text = line.strip()
        if not text:
            continue
        if text.startswith("{"):
            yield _of_row(_json_row(text, shown, number), shown, number)
            continue
        cells = next(csv.reader([text]))
        if header is None and not cells[0].strip().lstrip("-").isdigit():
            header = [cell.strip().lower() for cell in cells]
            for key in _of_keys(header, shown):
                if header.count(key) > 1:
                    raise BadConfig(f"--lengths {shown} has two columns {key!r}; keep one")
            continue
        if header is None:
            if len(cells) != 1:
                raise BadConfig(
                    f"--lengths {shown} has {len(cells)} columns and no header; name them, for example tokens"
                )
            yield _whole(cells[0], shown, number)
        elif len(cells) != len(header):
            raise BadConfig(
                f"--lengths {shown} line {number} has {len(cells)} columns, its header {len(header)}; make them equal"
            )
        else:
            yield _of_row(dict(zip(header, cells, strict=True)), shown, number)


def _json_row(text: str, shown: str, number: int) -> Mapping[str, object]:
    try:
        row = json.loads(text)
    except (ValueError, RecursionError):
        raise BadConfig(f"--lengths {shown} line {number} is not JSON") from None
    if not isinstance(row, dict):
        raise BadConfig(f"--lengths {shown} line {number} is not a JSON object")
    return {key.lower(): value for key, value in row.items()}


def _of_keys(keys: Iterable[str], shown: str) -> tuple[str, ...]:
    have = set(keys)
    for key in TOTAL_KEYS:
        if key in have:
            return (key,)
    for pair in PAIR_KEYS:
        if set(pair) <= have:
            return pair
    raise BadConfig(
        f"--lengths {shown} has no column of lengths; wanted is one of {', '.join(TOTAL_KEYS)}, or a pair such as "
        "prompt_tokens and output_tokens"
    )


def _of_row(row: Mapping[str, object], shown: str, number: int) -> int:
    total = sum(_whole(row[key], shown, number, low=0) for key in _of_keys(row, shown))
    if total < 1:
        raise BadConfig(f"--lengths {shown} line {number}: a request of 0 tokens; at least 1 is wanted")
    return total


def _whole(value: object, shown: str, number: int, low: int = 1) -> int:
    text = str(value).strip()
    whole = not isinstance(value, bool) and text.isascii() and text.isdigit() and len(text) <= 11
    if not whole or not low <= int(text) <= MAX_TOKENS:
        raise BadConfig(
            f"--lengths {shown} line {number}: {one_line(text, 30)!r} is not a length in tokens; a whole number "
            f"up to {MAX_TOKENS} is wanted"
        )
    return int(text)


@dataclass(frozen=True)
class Concurrency:
    """Requests of a mix held at once in a pool: on average, and so that 99 of 100 moments fit."""

    mean_request_bytes: int
    average: int
    safe: int
    at_longest: int


def concurrency(mix: LengthMix, pool: int, request_bytes: Mapping[int, int]) -> Concurrency:
    """n requests need n·mean on average, with a spread of z·sqrt(n)·deviation (independent lengths).

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

"""A mix of request lengths, from percentiles or from a file, and how many such requests are held at once."""

from __future__ import annotations

import csv
import json
import math
import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from statistics import NormalDist

from planner.errors import BadConfig, BadRequest, one_line
from planner.units import MAX_TOKENS, parse_tokens

MAX_FILE_BYTES = 2 << 30
MAX_LINE = 1 << 20
QUANTILES = 2000
SAFE_SHARE = 0.99
_WANTED = "a CSV or JSONL file, or p50=800,p95=6000"
_EXAMPLE = "prompt_tokens,output_tokens"

TOTAL_KEYS = ("tokens", "total_tokens", "length", "seq_tokens")
PAIR_KEYS = (
    ("prompt_tokens", "completion_tokens"),
    ("prompt_tokens", "output_tokens"),
    ("input_tokens", "output_tokens"),
    ("input_length", "output_length"),
    ("contexttokens", "generatedtokens"),
    ("prompt_len", "output_len"),
    ("prompt", "output"),
    ("num_prefill_tokens", "num_decode_tokens"),
    ("request tokens", "response tokens"),
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


def parse_mix(text: str, option: str = "--lengths") -> LengthMix:
    """`p50=800,p95=6000`, or the path of a CSV or JSONL file of lengths; `option` is where it was given."""
    if "=" in text and not os.path.exists(text):
        return from_percentiles(text, option)
    return from_file(text, option)


def from_percentiles(text: str, option: str = "--lengths") -> LengthMix:
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


class BadRow(BadConfig):
    """A line of a file of requests that is none; the lines around it may be good."""


def from_file(path: str, option: str = "--lengths") -> LengthMix:
    """Lengths from CSV (with a header), JSON lines, or one number a line; read line by line."""
    shown = one_line(path, 80)
    reader = RowReader(option, shown, _of_keys, {1: ("tokens",)})
    counts = Counter(_of_row(row, f"{option} {shown} line {number}") for number, row in reader.rows(path))
    if not counts:
        raise BadConfig(f"{option} {shown} holds no lengths; one request a line is wanted")
    return LengthMix(counts, f"{sum(counts.values()):,} requests of {shown}")


def lines_of(path: str, option: str, wanted: str) -> Iterator[str]:
    """The lines of a text file; longer ones than MAX_LINE in pieces. BadConfig for what is no regular text file."""
    shown = one_line(path, 80)
    path = os.path.expanduser(path)
    try:
        info = os.stat(path)
        if not stat.S_ISREG(info.st_mode):
            raise BadConfig(f"{option} {shown} is not a regular file; {wanted} is wanted")
        if info.st_size > MAX_FILE_BYTES:
            raise BadConfig(f"{option} {shown} is over 2 GiB; a sample of it will do")
        with open(path, encoding="utf-8-sig") as file:
            yield from iter(lambda: file.readline(MAX_LINE + 1), "")
    except FileNotFoundError:
        raise BadConfig(f"{option} {shown!r} does not exist; {wanted} is wanted") from None
    except OSError as error:
        raise BadConfig(f"{option} {shown} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BadConfig(f"{option} {shown} is not text; a CSV or JSONL file of lengths is wanted") from None
    except ValueError as error:  # a NUL in the name
        raise BadConfig(f"{option} {shown} cannot be read: {one_line(str(error), 80)}") from None


@dataclass
class RowReader:
    """Requests of a CSV file (with a header, or without one where `unnamed` says what so many columns are) or JSON lines.

    columns_of   the columns that are read, of those that are there; raises BadConfig where they do not do
    """

    option: str
    shown: str
    columns_of: Callable[[Iterable[str]], tuple[str, ...]]
    unnamed: Mapping[int, tuple[str, ...]]
    wanted: str = _WANTED
    header: list[str] | None = None

    def rows(
        self, path: str, bad: Callable[[BadRow], None] | None = None
    ) -> Iterator[tuple[int, Mapping[str, object]]]:
        """(number of the line, its cells by column); a line that is no row goes to `bad`, or stops it all."""
        for number, line in enumerate(lines_of(path, self.option, self.wanted), 1):
            try:
                row = self.row(line, number)
            except BadRow as error:
                if bad is None:
                    raise
                bad(error)
                continue
            if row is not None:
                yield number, row

    def row(self, line: str, number: int) -> Mapping[str, object] | None:
        """The cells of one line; None for a header or nothing."""
        where = f"{self.option} {self.shown}"
        if len(line) > MAX_LINE:
            raise BadConfig(f"{where} line {number} is too long for a request; one request a line is wanted")
        text = line.strip()
        if not text:
            return None
        if text.startswith("{"):
            row = _json_row(text, f"{where} line {number}")
            try:
                self.columns_of(row)
            except BadConfig as error:
                raise BadRow(f"{where} line {number}{error}") from None
            return row
        try:
            cells = next(csv.reader([text]))
        except csv.Error:
            raise BadConfig(f"{where} is not text; a CSV or JSONL file of lengths is wanted") from None
        if self.header is None and not cells[0].strip().lstrip("-").isdigit():
            self.header = [cell.strip().lower() for cell in cells]
            self._check_header(where)
            return None
        names = self.unnamed.get(len(cells)) if self.header is None else self.header
        if names is None:
            raise BadConfig(f"{where} has {len(cells)} columns and no header; name them, for example {_EXAMPLE}")
        if len(cells) != len(names):
            raise BadRow(f"{where} line {number} has {len(cells)} columns, its header {len(names)}; make them equal")
        return dict(zip(names, cells, strict=True))

    def _check_header(self, where: str) -> None:
        assert self.header is not None
        try:
            columns = self.columns_of(self.header)
        except BadConfig as error:
            raise BadConfig(f"{where}{error}") from None
        for name in columns:
            if self.header.count(name) > 1:
                raise BadConfig(f"{where} has two columns {name!r}; keep one")


def _json_row(text: str, where: str) -> Mapping[str, object]:
    try:
        row = json.loads(text)
    except (ValueError, RecursionError):
        raise BadRow(f"{where} is not JSON") from None
    if not isinstance(row, dict):
        raise BadRow(f"{where} is not a JSON object")
    return {key.lower(): value for key, value in row.items()}


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


def whole_tokens(value: object, where: str) -> int:
    """A cell as a number of tokens, 0 included."""
    text = str(value).strip()
    whole = not isinstance(value, bool) and text.isascii() and text.isdigit() and len(text) <= 11
    if not whole or int(text) > MAX_TOKENS:
        raise BadRow(
            f"{where}: {one_line(text, 30)!r} is not a length in tokens; a whole number up to {MAX_TOKENS} is wanted"
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

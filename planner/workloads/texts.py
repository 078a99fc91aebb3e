"""Reads times, rates, shares and lengths as a person writes them."""

from __future__ import annotations

import math
import re

from planner.errors import BadRequest, one_line
from planner.units import parse_tokens
from planner.workloads.lengths import LengthMix, parse_mix

MAX_SECONDS = 86_400.0
MAX_RATE = 1e6
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_PER = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


def parse_seconds(text: str, what: str) -> float:
    """Reads a time: `40ms`, `1.5s`, `2m`; a unit is wanted.

    >>> parse_seconds("40ms", "--tpot"), parse_seconds("1.5 s", "--ttft")
    (0.04, 1.5)
    """
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)\s*(us|ms|s|min|m|h)", text.strip(), re.ASCII)
    seconds = float(match.group(1)) * _UNITS[match.group(2)] if match else math.nan
    if not 0 < seconds <= MAX_SECONDS:
        raise BadRequest(f"{what} {one_line(text, 40)!r} is not a time; write for example 40ms or 1.5s")
    return seconds


def parse_rate(text: str) -> float:
    """Reads requests a second: `5/s`, `300/min`, `1000/h`.

    >>> parse_rate("5/s"), parse_rate("300/min")
    (5.0, 5.0)
    """
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)\s*(?:/\s*(s|m|min|h))?", text.strip(), re.ASCII)
    rate = float(match.group(1)) / _PER[match.group(2) or ""] if match else math.nan
    if not 0 < rate <= MAX_RATE:
        raise BadRequest(f"--rate {one_line(text, 40)!r} is not a number of requests a second; write for example 5/s")
    return rate


def parse_share(text: str, what: str) -> float:
    """Reads a share: `0.6` or `60%`.

    >>> parse_share("0.6", "--prefix-share"), parse_share("90 %", "--prefix-share")
    (0.6, 0.9)
    """
    match = re.fullmatch(r"(\d{0,3}(?:\.\d{1,9})?)\s*(%?)", text.strip(), re.ASCII)
    value = float(match.group(1)) / (100 if match.group(2) else 1) if match and match.group(1) else math.nan
    if not 0 <= value <= 1:
        raise BadRequest(f"{what} {one_line(text, 40)!r} is not a share; write for example 0.6 or 60%")
    return value


def parse_ttft(text: str, what: str = "--ttft") -> tuple[float, float]:
    """Reads (seconds, share of the requests): `1s` is for 95 of 100, `p99=2s` says another share.

    >>> parse_ttft("1s"), parse_ttft("p99=2s")
    ((1.0, 0.95), (2.0, 0.99))
    """
    match = re.fullmatch(r"p(\d{1,2}(?:\.\d{1,3})?)=(.{1,40})", text.strip(), re.ASCII)
    if match is None:
        return parse_seconds(text, what), 0.95
    share = float(match.group(1)) / 100
    if not 0 < share < 1:
        raise BadRequest(f"{what} {one_line(text, 40)!r}: write a percentile from p1 to p99.9, for example p99=2s")
    return parse_seconds(match.group(2), what), share


def mix_of(text: str, what: str) -> LengthMix:
    """Reads lengths: `p50=800,p95=6000`, `1k`, or a file of lengths.

    >>> mix_of("1k", "--prompt").mean
    1024.0
    """
    if re.fullmatch(r"[\d_.]+[kKmM]?", text.strip(), re.ASCII):
        tokens = parse_tokens(text, what)
        return LengthMix({tokens: 1}, f"of {tokens:,} tokens")
    return parse_mix(text, what)

"""What a benchmark measured: a frozen point for each load that it played."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from planner.errors import KvplanError, one_line
from planner.files.read import visible
from planner.frozen import dataclass
from planner.speed.observed import Observed


class BadMeasured(KvplanError):
    """A file that no reader of benchmarks knows, or that is damaged."""


@dataclass(frozen=True)
class MeasuredPoint:
    """One run of a benchmark at one load; seconds, tokens, tokens a second; None where the file does not say.

    tool, version         the benchmark and its version
    engine, model         the server, as far as the file names it
    load                  "static": one batch and nothing else; "serving": requests come while others decode
    sequences             requests at once: as asked, else the mean that was reached
    rate_per_s            requests that were sent in a second; None where as many as `sequences` were kept in flight
    prompt_tokens, output_tokens   means of a request
    ttft_seconds, tpot_seconds, request_seconds   means
    output_tokens_per_s   of all sequences together, prompts' time included where the benchmark includes it
    prefill_tokens_per_s  of prompts alone
    requests              that were measured
    percentiles           ("ttft", 95, seconds)
    """

    tool: str
    source: str
    load: str = "serving"
    version: str | None = None
    engine: str | None = None
    model: str | None = None
    sequences: float | None = None
    rate_per_s: float | None = None
    prompt_tokens: float | None = None
    output_tokens: float | None = None
    ttft_seconds: float | None = None
    tpot_seconds: float | None = None
    request_seconds: float | None = None
    output_tokens_per_s: float | None = None
    prefill_tokens_per_s: float | None = None
    requests: int | None = None
    percentiles: tuple[tuple[str, float, float], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The JSON contract: base units; percentiles as {"ttft_p95_seconds": ...}."""
        found = asdict(self)
        found["percentiles"] = {f"{name}_p{share:g}_seconds": value for name, share, value in self.percentiles}
        return found

    def observed(self) -> Observed | None:
        """The point as `planner.speed.measured_fit` takes it; None where it does not say load, lengths or a time."""
        if self.sequences is None or self.prompt_tokens is None or not (self.tpot_seconds or self.ttft_seconds):
            return None
        output = self.output_tokens or 1
        return Observed(
            batch=max(1, round(self.sequences)),
            prompt_tokens=max(1, round(self.prompt_tokens)),
            output_tokens=max(1, round(output)),
            load=self.load,
            ttft_seconds=self.ttft_seconds,
            tpot_seconds=self.tpot_seconds if output > 1 else None,
            source=self.source,
        )


@dataclass(frozen=True)
class MeasuredFile:
    """The points of a file, and what of it was not understood.

    notes   a sentence each: keys that no version of the tool is known to write, rows without a point
    """

    tool: str
    points: tuple[MeasuredPoint, ...]
    notes: tuple[str, ...] = ()

    def of(self, source: str) -> MeasuredFile:
        """Returns the same points, each saying which file it is from."""
        named = one_line(source, 120)
        return replace(self, points=tuple(replace(point, source=named) for point in self.points))


LARGEST = 1e12


def number(raw: Any, *, low: float = 0.0) -> float | None:
    """Reads a number above `low`, from a number or a text; None for anything else, NaN and infinity too.

    >>> number("12.5"), number(None), number(True), number(-1), number("inf")
    (12.5, None, None, None, None)
    """
    if isinstance(raw, bool) or not isinstance(raw, (int, float, str)):
        return None
    try:
        value = float(raw[:40].replace(",", "") if isinstance(raw, str) else raw)
    except (ValueError, OverflowError):
        return None
    return value if low < value < LARGEST else None


def milli(raw: Any) -> float | None:
    """Turns milliseconds into seconds; None where there is no number."""
    value = number(raw)
    return None if value is None else value / 1e3


def count(raw: Any) -> int | None:
    """Reads a number of requests; None where there is none."""
    value = number(raw)
    return None if value is None else round(value)


def words(raw: Any) -> str | None:
    """Reads a name on one line, without control characters; None where there is none."""
    return one_line(visible(raw), 120).strip() or None if isinstance(raw, str) else None


def at(raw: Any, *path: str) -> Any:
    """Finds what lies under keys of keys; None where one is missing.

    >>> at({"a": {"b": 1}}, "a", "b"), at({"a": 1}, "a", "b")
    (1, None)
    """
    for key in path:
        if not isinstance(raw, Mapping):
            return None
        raw = raw.get(key)
    return raw


def mean(raw: Any) -> float | None:
    """Computes the mean of a list, leaving out what is no number; None where there is no number."""
    values = [value for item in raw[:1_000_000] if (value := number(item)) is not None] if isinstance(raw, list) else []
    return sum(values) / len(values) if values else None


def strange(raw: Mapping[str, Any], known: frozenset[str], tool: str) -> tuple[str, ...]:
    """Returns a note that names keys which no version of the tool is known to write."""
    found = sorted(one_line(visible(str(key)), 40) for key in raw if key not in known)
    if not found:
        return ()
    more = f" and {len(found) - 5} more" if len(found) > 5 else ""
    return (f"keys that no version of {tool} known here writes are not read: {', '.join(found[:5])}{more}",)

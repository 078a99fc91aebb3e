"""Measurement: what a profile found, as data that is read without torch.

The unit is the last word of every key. Each figure says whether it is exact, estimated or measured; each
prediction that was checked stands beside what was found. JSON both ways, with a schema version.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from planner.errors import KvplanError, one_line
from planner.files.read import check_kind, decode, figure, parse_json
from planner.files.read import read_text as read_file

SCHEMA_VERSION = 1
KIND = "kvplan measurement"
KINDS = ("exact", "estimated", "measured")
CLOSE = 0.02
MAX_FILE_BYTES = 256 << 20
# What a point that is done has, by what it is: figures and pictures are drawn of them.
WANTED = {
    "prefill": ("ttft_seconds", "tokens_per_s"),
    "decode": ("step_seconds", "tokens_per_s"),
    "uncached_step": ("step_seconds", "tokens_per_s"),
    "generate": ("total_seconds", "tokens_per_s"),
    "generate_uncached": ("total_seconds", "tokens_per_s"),
    "speedup": ("speedup",),
}
LONGEST_SECONDS = 1e9


class BadResult(KvplanError):
    """A result file that cannot be read, or that is not one."""


@dataclass(frozen=True)
class Reading:
    """One figure; its unit is the last word of the key it stands under.

    low, high   the middle half of the repeats (measured), or the range expected (estimated)
    """

    value: float
    kind: str = "measured"
    low: float | None = None
    high: float | None = None
    repeats: int = 1
    note: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise BadResult(f"a figure is {', '.join(KINDS)}, not {one_line(str(self.kind), 30)!r}")


@dataclass(frozen=True)
class Check:
    """A prediction beside what was measured.

    name      what is compared, its unit last ("kv_bytes")
    where     the place: strategy, batch, tokens, dtype, rank
    expect    "exact": anything else fails the run; "close": within 2 %; "estimated": inside low..high;
              "shown": a figure that proves nothing
    measured  None where this device cannot say; `reason` then says why
    reason    why the two differ, or may
    """

    name: str
    where: str
    predicted: float
    measured: float | None
    expect: str = "exact"
    low: float | None = None
    high: float | None = None
    reason: str = ""

    @property
    def error(self) -> float | None:
        """measured / predicted - 1; None where there is nothing to divide."""
        if self.measured is None or not self.predicted:
            return 0.0 if self.measured == self.predicted else None
        return self.measured / self.predicted - 1

    @property
    def verdict(self) -> str:
        """exact, within 2 %, in range, off, no proof or not measured.

        >>> Check("kv_bytes", "static", 100, 100).verdict, Check("kv_bytes", "static", 100, 101).verdict
        ('exact', 'within 2 %')
        >>> Check("peak_bytes", "prefill", 100, 150, "estimated", 50, 200).verdict
        'in range'
        """
        if self.measured is None:
            return "not measured"
        if self.expect == "shown":
            return "no proof"
        if self.measured == self.predicted:
            return "exact"
        error = self.error
        if error is not None and abs(error) <= CLOSE:
            return "within 2 %"
        if self.low is not None and self.high is not None and self.low <= self.measured <= self.high:
            return "in range"
        return "off"

    @property
    def failed(self) -> bool:
        """An exact prediction that was measured and did not come true."""
        return self.expect == "exact" and self.verdict not in ("exact", "not measured")


@dataclass(frozen=True)
class Point:
    """One place on a curve, and what was found there.

    what     prefill, decode, uncached_step, generate, generate_uncached
    status   done, skipped, out_of_memory, failed; `note` says why
    """

    what: str
    batch: int = 1
    context_tokens: int = 0
    new_tokens: int = 0
    cache: str = ""
    dtype: str = ""
    linear: str = "plain"
    mode: str = "eager"
    status: str = "done"
    note: str = ""
    readings: Mapping[str, Reading] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, int, int, int, str, str, str, str]:
        """What makes it the same point in another run."""
        return (
            self.what,
            self.batch,
            self.context_tokens,
            self.new_tokens,
            self.cache,
            self.dtype,
            self.linear,
            self.mode,
        )


@dataclass(frozen=True)
class Environment:
    """Where and when it was measured."""

    device: str
    device_kind: str
    driver: str
    torch: str
    python: str
    platform: str
    threads: int
    memory_bytes: int | None
    kvplan: str
    commit: str
    date: str


@dataclass(frozen=True)
class Measurement:
    """One run of `kvplan profile`.

    layers_run     fewer than `layers` with --layers and --extrapolate
    weights        "random", or the file they came from
    figures        what belongs to no point: crossing_tokens, read_bytes_per_s, ...
    complete       False when it was interrupted: what is here was done before
    """

    model: str
    model_type: str
    parameters: int
    layers: int
    layers_run: int
    dtype: str
    linear: str
    weights: str
    environment: Environment
    checks: tuple[Check, ...] = ()
    points: tuple[Point, ...] = ()
    figures: Mapping[str, Reading] = field(default_factory=dict)
    text: str = ""
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    complete: bool = True
    schema_version: int = SCHEMA_VERSION
    kind: str = KIND

    @property
    def failed(self) -> tuple[Check, ...]:
        """Checks that should be exact and are not."""
        return tuple(check for check in self.checks if check.failed)

    def of(self, what: str) -> tuple[Point, ...]:
        """The points of one kind that were measured."""
        return tuple(point for point in self.points if point.what == what and point.status == "done")

    def to_dict(self) -> dict[str, Any]:
        """Plain data, with the verdict and error of each check added for readers of the JSON."""
        found = asdict(self)
        for raw, check in zip(found["checks"], self.checks, strict=True):
            raw["error"], raw["verdict"] = check.error, check.verdict
        return found

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=1, ensure_ascii=False, allow_nan=False)

    @staticmethod
    def from_dict(raw: Any, where: str = "the result") -> Measurement:
        """Raises BadResult, in one line, for what is damaged, foreign or newer than this kvplan."""
        raw = check_kind(raw, KIND, SCHEMA_VERSION, where=where, what="a result of `kvplan profile`", error=BadResult)
        checks = raw.get("checks")
        if isinstance(checks, (list, tuple)):
            bare = [
                {k: v for k, v in c.items() if k not in ("error", "verdict")} if isinstance(c, Mapping) else c
                for c in checks
            ]
            raw = {**raw, "checks": bare}
        found = decode(Measurement, raw, where, error=BadResult)
        assert isinstance(found, Measurement)
        _refuse_absurd(found, where)
        return found

    @staticmethod
    def from_json(text: str, where: str = "the result") -> Measurement:
        return Measurement.from_dict(parse(text, where), where)


def _refuse_absurd(found: Measurement, where: str) -> None:
    """Raises BadResult for figures that nothing can have: below zero, of nothing, missing where they are drawn."""
    for name, least in (("parameters", 0), ("layers", 1), ("layers_run", 1)):
        figure(getattr(found, name), f"{where}.{name}", low=least, high=1e18, error=BadResult)
    for key, reading in found.figures.items():
        _check_reading(key, reading, f"{where}.figures.{one_line(key, 40)}")
    for index, point in enumerate(found.points):
        place = f"{where}.points[{index}]"
        figure(point.batch, f"{place}.batch", low=1, high=1e9, error=BadResult)
        for name in ("context_tokens", "new_tokens"):
            figure(getattr(point, name), f"{place}.{name}", low=0, high=1e12, error=BadResult)
        for key, reading in point.readings.items():
            _check_reading(key, reading, f"{place}.readings.{one_line(key, 40)}")
        if point.status == "done" and (lacks := [k for k in WANTED.get(point.what, ()) if k not in point.readings]):
            raise BadResult(f"{place}: lacks readings.{lacks[0]}, which a {point.what} that is done has")
    for index, check in enumerate(found.checks):
        for name in ("predicted", "measured", "low", "high"):
            value = getattr(check, name)
            if value is not None:
                figure(value, f"{where}.checks[{index}].{name}", low=0, error=BadResult)


def _check_reading(key: str, reading: Reading, where: str) -> None:
    """A time or a rate that was measured is above zero; any other figure is not below it."""
    rate = key.endswith("_per_s")
    high = LONGEST_SECONDS if key.endswith("_seconds") else 1e24
    for name in ("value", "low", "high"):
        value = getattr(reading, name)
        if value is None:
            continue
        figure(value, f"{where}.{name}", low=0, high=high, error=BadResult)
        if name == "value" and not value and (rate or key.endswith("_seconds") or key == "speedup"):
            raise BadResult(f"{where}.value: is zero; a time or a rate that was measured is above it")
    figure(reading.repeats, f"{where}.repeats", low=0, high=1e9, error=BadResult)


def load(path: str) -> Measurement:
    """Reads the result in the file at `path`."""
    return Measurement.from_json(read_text(path), one_line(path, 120))


def read_text(path: str) -> str:
    """Return the text of a file that should hold a result."""
    return read_file(path, most_bytes=MAX_FILE_BYTES, what="a result of kvplan profile", error=BadResult)


def parse(text: str, where: str) -> Any:
    """Return the JSON value in `text`: no NaN, no infinity, no number that is none."""
    return parse_json(text, where, error=BadResult)

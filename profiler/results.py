"""Measurement: what a profile found, as data that is read without torch.

The unit is the last word of every key. Each figure says whether it is exact, estimated or measured; each
prediction that was checked stands beside what was found. JSON both ways, with a schema version.
"""

from __future__ import annotations

import json
import math
import os
import types
import typing
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any

from planner.errors import KvplanError, one_line

SCHEMA_VERSION = 1
KIND = "kvplan measurement"
KINDS = ("exact", "estimated", "measured")
CLOSE = 0.02
MAX_FILE_BYTES = 256 << 20


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
        if not isinstance(raw, Mapping) or raw.get("kind") != KIND:
            raise BadResult(f"{where}: is not a result of `kvplan profile` (no key kind = {KIND!r})")
        check_version(raw, SCHEMA_VERSION, where)
        checks = raw.get("checks")
        if isinstance(checks, (list, tuple)):
            bare = [
                {k: v for k, v in c.items() if k not in ("error", "verdict")} if isinstance(c, Mapping) else c
                for c in checks
            ]
            raw = {**raw, "checks": bare}
        found = decode(Measurement, raw, where)
        assert isinstance(found, Measurement)
        return found

    @staticmethod
    def from_json(text: str, where: str = "the result") -> Measurement:
        return Measurement.from_dict(parse(text, where), where)


def load(path: str) -> Measurement:
    """The result in the file at `path`."""
    return Measurement.from_json(read_text(path), one_line(path, 120))


def read_text(path: str) -> str:
    """The text of a file that should hold JSON."""
    shown = one_line(path, 120)
    try:
        if os.path.getsize(path) > MAX_FILE_BYTES:
            raise BadResult(f"{shown}: larger than {MAX_FILE_BYTES >> 20} MiB, which no result is")
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError as error:
        raise BadResult(f"{shown}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise BadResult(f"{shown}: is not UTF-8 text") from None


def parse(text: str, where: str) -> Any:
    """JSON, without NaN and infinity."""

    def refuse(name: str) -> None:
        raise ValueError(f"{name} is not a figure")

    try:
        return json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise BadResult(f"{where}: is damaged or not JSON ({one_line(str(error), 80)})") from None


def check_version(raw: Mapping[str, Any], newest: int, where: str) -> None:
    """Refuses a schema that this kvplan does not know."""
    version = raw.get("schema_version")
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise BadResult(f"{where}: has no schema_version; it is damaged or was not written by kvplan")
    if version > newest:
        raise BadResult(f"{where}: schema_version {version} is newer than this kvplan reads ({newest}); update kvplan")


def decode(wanted: Any, raw: Any, where: str) -> Any:
    """`raw` as the type `wanted`: dataclasses, tuples, mappings from text, unions with None and plain values."""
    if is_dataclass(wanted):
        return _dataclass(wanted, raw, where)
    origin, arguments = typing.get_origin(wanted), typing.get_args(wanted)
    if origin in (typing.Union, types.UnionType):
        if raw is None:
            return None
        return decode(next(kind for kind in arguments if kind is not type(None)), raw, where)
    if origin is tuple:
        if not isinstance(raw, (list, tuple)):
            raise BadResult(f"{where}: wants a list")
        return tuple(decode(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(raw))
    if origin is not None:
        if not isinstance(raw, Mapping) or not all(isinstance(key, str) for key in raw):
            raise BadResult(f"{where}: wants an object")
        return {key: decode(arguments[1], value, f"{where}.{one_line(key, 40)}") for key, value in raw.items()}
    if wanted is float and isinstance(raw, int) and not isinstance(raw, bool):
        return raw  # bytes are whole numbers and stay so
    if type(raw) is not wanted or (isinstance(raw, float) and not math.isfinite(raw)):
        raise BadResult(f"{where}: wants {_article(wanted)}, found {one_line(repr(raw), 40)}")
    return raw


def _dataclass(wanted: Any, raw: Any, where: str) -> Any:
    if not isinstance(raw, Mapping):
        raise BadResult(f"{where}: wants an object, found {one_line(repr(raw), 40)}")
    hints = typing.get_type_hints(wanted)
    known = {item.name for item in fields(wanted)}
    if strange := sorted(str(key) for key in raw if key not in known):
        raise BadResult(f"{where}: the key {one_line(strange[0], 40)!r} is not known in this schema")
    values = {name: decode(hints[name], raw[name], f"{where}.{name}") for name in known if name in raw}
    try:
        return wanted(**values)
    except TypeError:
        missing = sorted(name for name in known if name not in raw)
        raise BadResult(f"{where}: lacks {', '.join(missing[:5])}; it is damaged") from None


def _article(kind: type) -> str:
    return {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}.get(kind, kind.__name__)

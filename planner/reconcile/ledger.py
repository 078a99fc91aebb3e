"""A ledger: where every GiB of a server went, logged beside predicted, and what would give more room."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from planner.engines.base import Options
from planner.memory.activations import Estimated
from planner.memory.request import Capacity
from planner.model.spec import ModelSpec
from planner.reconcile.facts import Run
from planner.reconcile.pattern import SHOWN
from planner.reconcile.stopped import Stopped
from planner.units import GIB, MIB

HALF_GIB = GIB // 200  # half of the last digit of "x.xx GiB"
HALF_MIB = MIB // 200 + 1
CLOSES_WITHIN = GIB // 10


@dataclass(frozen=True)
class Given:
    """What the user adds to a log: a model, a card, and what else it does not say."""

    spec: ModelSpec | None = None
    capacity: Capacity | None = None
    version: str | None = None
    program: str | None = None
    tp: int | None = None
    pp: int | None = None
    dtype: str | None = None
    kv_dtype: str | None = None
    max_model_len: int | None = None
    options: Options = field(default_factory=Options)

    def overlaid(self, options: Options) -> Options:
        """What the log says, with the flags that the user adds in its place."""
        plain = Options()
        own = {f.name: getattr(self.options, f.name) for f in fields(Options)}
        return replace(options, **{name: value for name, value in own.items() if value != getattr(plain, name)})


@dataclass(frozen=True)
class Entry:
    """One line of the ledger, in bytes of one device."""

    name: str
    logged: int | None
    predicted: Estimated | None = None
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        found = self.predicted
        difference = None if found is None or self.logged is None else self.logged - found.bytes
        return {
            "name": self.name,
            "logged_bytes": self.logged,
            "predicted_bytes": found.bytes if found else None,
            "predicted_bytes_low": found.low if found else None,
            "predicted_bytes_high": found.high if found else None,
            "difference_bytes": difference,
            "reason": self.reason,
        }


@dataclass(frozen=True)
class Figure:
    """One count that the log prints, and ours at both ends of the budget's rounding."""

    name: str
    logged: float
    low: float
    high: float
    reason: str = ""

    @property
    def agrees(self) -> bool:
        return self.low <= self.logged <= self.high

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "logged": self.logged,
            "predicted_low": self.low,
            "predicted_high": self.high,
            "agrees": self.agrees,
            "reason": self.reason,
        }


@dataclass(frozen=True)
class Room:
    """A change that would give more room: its flag and what it gains on one device."""

    flags: str
    gain_bytes: int
    gain_tokens: int | None


@dataclass(frozen=True)
class Ledger:
    """All of one server. `unexplained`: what the entries do not account for, None where it cannot be told."""

    engine: str
    version: str | None
    model: str | None
    taken_as: str | None = None
    tp: int = 1
    pp: int = 1
    kv_dtype: str | None = None
    weight_dtype: str | None = None
    workers: tuple[str, ...] = ()
    entries: tuple[Entry, ...] = ()
    figures: tuple[Figure, ...] = ()
    unexplained: int | None = None
    missing: tuple[str, ...] = ()
    more_room: tuple[Room, ...] = ()
    notes: tuple[str, ...] = ()
    run: Run | None = None
    stopped: Stopped | None = None
    readings: Mapping[str, float] = field(default_factory=dict)

    def logged_bytes(self, name: str) -> int | None:
        """What the log says of one entry."""
        return next((entry.logged for entry in self.entries if entry.name == name), None)

    @property
    def closes(self) -> bool | None:
        return None if self.unexplained is None else abs(self.unexplained) <= CLOSES_WITHIN

    def to_dict(self) -> dict[str, Any]:
        return {
            "engine": self.engine,
            "version": self.version,
            "model": self.model,
            "taken_as": self.taken_as,
            "stopped": self.stopped.text if self.stopped else None,
            "mends": list(self.stopped.mends) if self.stopped else [],
            "tp": self.tp,
            "pp": self.pp,
            "kv_dtype": self.kv_dtype,
            "weight_dtype": self.weight_dtype,
            "workers": list(self.workers),
            "entries": [entry.to_dict() for entry in self.entries],
            "figures": [figure.to_dict() for figure in self.figures],
            "readings": dict(self.readings),
            "unexplained_bytes": self.unexplained,
            "closes": self.closes,
            "missing": list(self.missing),
            "more_room": [vars(room) for room in self.more_room],
            "notes": list(self.notes),
        }


class Draft:
    """A ledger that an engine's reader adds to, line by line; `ledger` is what there is of it so far."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def change(self, **fields: Any) -> None:
        """Sets fields of the ledger, by their names there."""
        self.ledger = replace(self.ledger, **fields)

    def add(self, *entries: Entry) -> None:
        """Adds lines of bytes."""
        self.change(entries=(*self.ledger.entries, *entries))

    def add_figures(self, *figures: Figure) -> None:
        """Adds counts that the log prints."""
        self.change(figures=(*self.ledger.figures, *figures))

    def add_room(self, room: Room) -> None:
        """Adds a change that would give more room."""
        self.change(more_room=(*self.ledger.more_room, room))

    def miss(self, words: str) -> None:
        """Says what the log does not hold, and the flag that would say it."""
        self.change(missing=(*self.ledger.missing, words))

    def note(self, words: str) -> None:
        """Adds a remark, once."""
        if words not in self.ledger.notes:
            self.change(notes=(*self.ledger.notes, words))


def exact(size: int, words: str = "counted") -> Estimated:
    """Makes an estimate without a range."""
    return Estimated(size, size, size, words)


def why(figure: Figure, ledger: Ledger) -> str:
    """Gives one reason for a count that is not ours."""
    if figure.agrees:
        return "within the rounding of the printed budget"
    off = figure.logged / figure.high - 1 if figure.high else 0.0
    if abs(off) <= 0.003:
        return "one block and the rounding of the log"
    if figure.name in ("blocks", "tokens", "concurrency"):
        ratio = figure.high / figure.logged if figure.logged else 0.0
        if ledger.tp > 1 and abs(ratio - ledger.tp) < 0.01 * ledger.tp:
            return f"the printed budget is the sum over {ledger.tp} devices"
        if ledger.tp * ledger.pp > 1 and off < 0:
            return "minimum over ranks: another worker than the printed one had less"
        if off < 0 and abs(off) <= 0.12:
            return "more layers in the pool than the model's own: a drafter (EAGLE, MTP) would explain it"
    return "not explained by the model, version and flags found"


# What a log says in numbers, shown whether or not a model is known: fact -> its name on the page, and which of several.
READINGS = (
    ("free_gib", "free at the start, GiB", min), ("available_gib", "cache there, GiB", min), ("needed_gib", "cache needed for the longest request, GiB", max),
    ("tokens", "tokens in the pool", min), ("stored_tokens", "tokens in the pool", min), ("pool_tokens", "tokens in the pool", min), ("swa_tokens", "tokens of the window pool", min),
    ("blocks", "blocks", min), ("concurrency", "longest requests at once", min), ("max_model_len", "longest request, tokens", max),
    ("estimated_max_len", "longest that would fit, tokens", min), ("running_requests", "most running requests", min),
    ("sequences", "most sequences of a step", min), ("state_blocks", "blocks of states", min), ("n_ctx", "context, tokens", max),
    ("cells_older", "context, tokens", max),
    ("asked_ctx", "context asked for, tokens", max), ("fitted_ctx", "context that was fitted, tokens", min),
    ("asked_model_len", "longest request asked for, tokens", max), ("asked_requests", "running requests asked for", max),
    ("layers_on", "layers on devices", max), ("layers_all", "layers and head", max), ("file_gib", "the file, GiB", max), ("file_mib", "the file, MiB", max),
    ("free_mib", "free on the device, MiB", min), ("projected_mib", "wanted of devices, MiB", max), ("device_free_mib", "free on devices, MiB", max),
    ("host_blocks", "blocks in host memory", min), ("token_bytes", "bytes of a token", max), ("peak_gb", "most memory held, GB", max),
    ("whole_gib", "in all, GiB", max), ("peak_gib", "most held while profiling, GiB", max), ("outside_gib", "outside PyTorch, GiB", max),
    ("n_ctx_seq", "context of a slot, tokens", max), ("n_seq_max", "slots", max), ("n_rs_seq", "snapshots of the state", max),
    ("cache_size", "tokens in the pool", min), ("profiled_tokens", "tokens by its own profile", min), ("state_slots", "slots of states", min), ("block_tokens", "tokens of a block", min),
)  # fmt: skip


def readings_of(run: Run) -> dict[str, float]:
    """Collects the numbers of a log by name, and how many whole contexts its pool holds."""
    found: dict[str, float] = {}
    for fact, name, choose in READINGS:
        numbers = run.numbers(fact)
        if numbers and name not in found:
            found[name] = float(choose(numbers))
    for fact in dict.fromkeys(name for name, _ in run.values if name.startswith(SHOWN)):
        numbers, name = run.numbers(fact), fact.removeprefix(SHOWN)
        if numbers and name not in found:
            found[name] = float(max(numbers))
    tokens, longest = found.get("tokens in the pool"), found.get("longest request, tokens")
    if tokens and longest and "longest requests at once" not in found:
        found["whole contexts in the pool"] = float(tokens // longest)
    return found


def eight_bit_room(made: Draft, pool: int | None, tokens: int | None) -> None:
    """Adds an 8-bit cache to what would give more room, where the cache is of 16 bit."""
    if pool and tokens and made.ledger.kv_dtype in ("bf16", "fp16"):
        made.add_room(Room("--kv-cache-dtype fp8", 0, tokens))


def gain(made: Draft, flags: str, size: int, *, pool: int | None, tokens: int | None) -> None:
    """Adds a change that frees bytes to what would give more room; in tokens by what a token took in this log."""
    if size > 0:
        made.add_room(Room(flags, size, size * tokens // pool if pool and tokens else None))

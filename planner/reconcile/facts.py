"""What a log says, collected: runs of servers, and in each the facts by worker."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction

from planner.errors import one_line
from planner.reconcile.known import about
from planner.reconcile.pattern import LLAMA, OLLAMA, SHOWN, TORCH, TRT, Pattern
from planner.reconcile.patterns import ARGUMENTS, PATTERNS, rank_of
from planner.reconcile.refusals import REFUSAL, SEPARATOR
from planner.units import GIB, MIB

MAX_VALUES = 4096
MAX_RUNS = 16
MAX_UNREAD = 1000
SAID_ONCE = ("tokens", "blocks", "cpu_blocks", "card_gib", "model", "name", "n_layer", "n_ctx")
# A run with one of these says something about a cache.
POOL_FACTS = (
    "tokens", "blocks", "available_gib", "pool_tokens", "kv_mib", "kv_self_mib", "kv_gib", "kv_device_mib", "needed_gib",
    "state_mib", "state_blocks", "cache_size", "no_room", "not_free", "stored_tokens", "kv_bytes", "peak_gb",
)  # fmt: skip
# What is worth a ledger even where nothing is said of a cache.
TOLD_FACTS = (
    "weights_gib",
    "weights_mib",
    "after_gib",
    "graphs_gib",
    "graphs_estimated_gib",
    "free_gib",
    "own_mib",
    "execution_gib",
    "execution_mib",
    "runtime_gib",
    "decoder_gib",
    "projected_mib",
    "not_loaded",
    "oom_gib",
    "oom_mib",
    "oom_bytes",
    "whole_gib",
    "outside_gib",
    "peak_gib",
    "kobold",
    "card_mib",
    "weights_gb",
    "kv_gb",
    "card_gib",
    "consumed_gib",
    "profiled_tokens",
)
REPEATED = ("kv_device_mib", "kv_mib")
SHAPES, LONGEST_SHAPE = 1 << 15, 512
_DIGITS = str.maketrans("123456789", "0" * 9)
_ID = re.compile(r"-(?<=\w-)(?=\d{0,64}[a-f])[0-9a-f]{4,64}")  # cmpl-3f9a..., sha256-77bc...
STAMP = re.compile(r"\b(\d\d-\d\d[ T]\d\d:\d\d:\d\d)\b", re.ASCII)


@dataclass
class Run:
    """One server: (fact, worker or device) -> value as printed. A repeated line changes nothing.

    `section`: which of llama.cpp's two caches the lines that follow are about. `mixed`: facts that a server says
    once and that came twice and differ: the lines of two servers lie between one another. `unread`: lines that hold
    something else where a number should stand, the first MAX_UNREAD of them.
    """

    engine: str
    values: dict[tuple[str, str], str] = field(default_factory=dict)
    section: str = ""
    mixed: dict[str, str] = field(default_factory=dict)
    pool_stamp: str = ""
    unread: list[str] = field(default_factory=list)

    def put(self, name: str, key: str, value: str) -> None:
        before = self.values.get((name, key))
        if (
            before is not None
            and before != value
            and name in SAID_ONCE
            and self.engine != TRT  # a cache for profiling, and then the true one
            and as_number(before) != (as_number(value) or -1)
        ):
            self.mixed[name] = f"{before} and {value}"
        if len(self.values) < MAX_VALUES or (name, key) in self.values:
            self.values[name, key] = value

    def all(self, name: str) -> list[str]:
        return [value for (found, _), value in self.values.items() if found == name]

    def by_key(self, name: str) -> dict[str, str]:
        return {key: value for (found, key), value in self.values.items() if found == name}

    def text(self, name: str) -> str | None:
        found = self.all(name)
        return found[-1] if found else None

    def numbers(self, name: str) -> list[Fraction]:
        return [number for value in self.all(name) if (number := as_number(value)) is not None]

    def smallest(self, name: str) -> Fraction | None:
        """Returns the value of the worker that has least."""
        return min(self.numbers(name), default=None)

    def largest(self, name: str) -> Fraction | None:
        return max(self.numbers(name), default=None)

    def bytes(self, name: str, poorest: bool = False) -> int | None:
        """Returns a size in bytes; its unit is the end of its name."""
        value = self.smallest(name) if poorest else self.largest(name)
        return None if value is None else int(value * unit_of(name))

    def total_bytes(self, name: str) -> int | None:
        """Sums a size over all devices or buffers."""
        found = self.numbers(name)
        return int(sum(found) * unit_of(name)) if found else None

    def whole(self, name: str) -> int | None:
        value = self.smallest(name)
        return None if value is None else int(value)

    def positive(self, name: str) -> int | None:
        """Returns a count of at least 1; None where the log says none, or something that is no such count."""
        value = self.whole(name)
        return value if value is not None and 0 < value <= 10**9 else None

    def ranks(self, name: str) -> int | None:
        value = self.whole(name)
        return value if value is not None and 1 <= value <= 4096 else None

    def share(self) -> Fraction | None:
        """The fraction of a card that the server may take."""
        value = self.largest("fraction")
        return value if value is not None and 0 < value <= 1 else None

    @property
    def unread_words(self) -> str:
        """Says in one line what was skipped because its number cannot be read; empty where nothing was."""
        if not self.unread:
            return ""
        many = "a line was" if len(self.unread) == 1 else f"{len(self.unread):,} lines were"
        first = one_line(self.unread[0].strip(), 120)
        return f"{many} skipped, where a number should stand and none does: {first}"

    @property
    def has_pool(self) -> bool:
        return any(name in POOL_FACTS for name, _ in self.values)

    @property
    def tells(self) -> bool:
        """Tells whether the log holds anything that a ledger can show."""
        return self.has_pool or any(name in TOLD_FACTS or name.startswith((SHOWN, REFUSAL)) for name, _ in self.values)

    def says(self, name: str) -> bool | None:
        """Returns whether a switch is on among the arguments; None where the log does not say it."""
        return {"true": True, "false": False}.get((self.text(name) or "").lower())

    @property
    def workers(self) -> list[str]:
        return sorted(
            {key for (name, key) in self.values if name in ("available_gib", "weights_gib", "tokens") and key}
        )


def shape_of(line: str) -> str:
    """Returns a line with its digits and the ids of its requests made alike.

    >>> shape_of("request cmpl-3f9a01 of 17"), shape_of("2026-11-30")
    ('request cmpl-xxxxxx of 00', '0000-00-00')
    """
    return _ID.sub(lambda found: "-" + "x" * (len(found.group()) - 1), line).translate(_DIGITS)


def unit_of(name: str) -> int:
    """Returns the bytes of the unit that ends a fact's name, such as GiB of `needed_gib`."""
    return GIB if name.endswith("_gib") else MIB if name.endswith("_mib") else 10**9 if name.endswith("_gb") else 1


def as_number(text: str) -> Fraction | None:
    """Reads a number as logs write it, with thousands marks; None for a word.

    >>> as_number("563,744"), as_number("23.46"), as_number("auto")
    (Fraction(563744, 1), Fraction(1173, 50), None)
    """
    clean = text.replace(",", "").strip()
    digits = clean.lstrip("-").replace(".", "", 1)
    if not digits.isascii() or not digits.isdigit() or len(clean) > 24:
        return None
    return Fraction(clean)


@dataclass
class Log:
    """All servers of a file that said something: the last run of each engine and model.

    `starts` counts the runs of each, `lines` the lines that meant something, `known` those that are known and say
    nothing of memory, by what they are about.
    """

    current: dict[str, Run] = field(default_factory=dict)
    complete: dict[tuple[str, str | None], Run] = field(default_factory=dict)
    starts: dict[tuple[str, str | None], int] = field(default_factory=dict)
    lines: int = 0
    known: dict[str, int] = field(default_factory=dict)
    _stamp: str = ""
    _last: str = TORCH
    _silent: dict[str, str] = field(default_factory=dict)

    def read(self, lines: Iterable[str]) -> Log:
        for line in lines:
            self._line(line)
        for run in self.current.values():
            if run.tells:
                self._close(run)
        for run in self.current.values():  # arguments alone are better than nothing
            if not self.complete and run.text("model") and run.text("max_model_len"):
                self._close(run)
        return self

    def _close(self, run: Run) -> None:
        key = identity(run)
        before = self.complete.pop(key, None)
        keep = run if before is None or 2 * len(run.values) >= len(before.values) else before  # not a scrap
        self.complete[key] = keep
        self.starts[key] = self.starts.get(key, 0) + 1
        while len(self.complete) > MAX_RUNS:
            del self.complete[next(iter(self.complete))]

    def _line(self, line: str) -> None:
        """Read a line, unless one that differs from it in digits alone (or an id) said nothing: no pattern asks for a digit of its own."""
        shape = shape_of(line) if len(line) <= LONGEST_SHAPE else ""
        what = self._silent.get(shape)
        if what is None:
            if self._says(line):
                return
            what = about(line)
            if shape:
                if len(self._silent) >= SHAPES:
                    self._silent.clear()
                self._silent[shape] = what
        if what:
            self.known[what] = self.known.get(what, 0) + 1

    def _says(self, line: str) -> bool:
        """Take the facts of a line; says whether it holds any, or something else where a number should stand."""
        stamp = STAMP.search(line[:200])
        self._stamp = stamp.group(1) if stamp else ""
        used = unreadable = False
        for pattern in [pattern for pattern in PATTERNS if pattern.fixed in line]:
            match = pattern.search(line)
            if match:
                used = True
                self._found(pattern, match.groups(), rank_of(line))
            elif pattern.engine != TORCH and pattern.is_unreadable(line):
                unreadable = True
                unread = self._run(pattern.engine).unread
                if len(unread) < MAX_UNREAD and line[:200] not in unread[-1:]:
                    unread.append(line[:200])
        for engine, phrase, arguments in ARGUMENTS:
            if phrase.search(line):
                used = True
                run, self._last = self._run(engine), engine
                for name, regex in arguments:
                    value = regex.search(line)
                    if value and value.group(1) not in ("None", "null"):
                        run.put(name, "", value.group(1))
        self.lines += used
        return used or unreadable

    def _found(self, pattern: Pattern, groups: tuple[str | None, ...], rank: str) -> None:
        if pattern.engine == TORCH:
            run = self._run(self._last)
        else:
            run, self._last = self._run(pattern.engine), pattern.engine
        # lines pasted in another order: the start of this very server
        earlier = run.text("version") is None and self._stamp and run.pool_stamp and self._stamp <= run.pool_stamp
        if pattern.start and run.has_pool and not earlier:
            self._close(run)
            del self.current[pattern.engine]
            run = self._run(pattern.engine)
        if pattern.facts[0].startswith(REFUSAL):
            run.put(pattern.facts[0], "", SEPARATOR.join(group or "" for group in groups))
            return
        if pattern.facts == ("section",):
            run.section = groups[0] or ""
            return
        key = rank
        if pattern.key is not None:
            key = f"{rank}/{groups[pattern.key]}" if rank else str(groups[pattern.key])
        if run.section and (pattern.facts[0].startswith("kv_") or pattern.facts[-1] == "kv_device_mib"):
            key += f"/{run.section}"
        if pattern.facts[0] in POOL_FACTS and self._stamp and not run.pool_stamp:
            run.pool_stamp = self._stamp
        key = _unlike(run, pattern, groups, key=key)
        for name, value in zip(pattern.facts, groups, strict=True):
            if value is not None and not (pattern.key is not None and name == "device"):
                run.put(name, key, value)

    def _run(self, engine: str) -> Run:
        if engine not in self.current:
            run = self.current[engine] = Run(engine)
            around = self.current.get(OLLAMA)
            if engine == LLAMA and around is not None:
                for (name, key), value in around.values.items():
                    run.put(f"ollama_{name}", key, value)
        return self.current[engine]


def _unlike(run: Run, pattern: Pattern, groups: tuple[str | None, ...], *, key: str) -> str:
    """The key of a buffer; a second one of another size on the same device, or of as many cells, counts by itself."""
    for name, value in zip(pattern.facts, groups, strict=True):
        if name in REPEATED and value is not None:
            for number in range(2, 18):
                if run.values.get((name, key)) in (None, value):
                    return key
                key = f"{key.split('#')[0]}#{number}"
    return key


def identity(run: Run) -> tuple[str, str | None]:
    """Returns what makes two runs one server: the engine and the model that it names."""
    return run.engine, run.text("model") or run.text("name")


def engines_of(log: Log) -> list[Run]:
    """Lists the runs, each with a cache to speak of; ollama's own lines count only without the llama.cpp inside it."""
    runs = list(log.complete.values())
    inside = any(run.engine == LLAMA and any(name.startswith("ollama_") for name, _ in run.values) for run in runs)
    return [run for run in runs if not (run.engine == OLLAMA and inside)]

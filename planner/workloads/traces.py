"""Recorded traffic: CSV and JSON lines of requests in the public formats, read line by line into columns of integers.

    Azure      TIMESTAMP,ContextTokens,GeneratedTokens              github.com/Azure/AzurePublicDataset
    Mooncake   timestamp (ms), input_length, output_length, hash_ids (of 512-token prefix blocks)
                                                                    github.com/kvcache-ai/Mooncake
    BurstGPT   Timestamp (s), Request tokens, Response tokens       github.com/HPMLL/BurstGPT
    Vidur      arrived_at (s), num_prefill_tokens, num_decode_tokens  github.com/microsoft/vidur
    plain      prompt,output[,time (s)], with a header or without; prompt_tokens, completion_tokens, ... too

A row that is none (a failed request of 0 output tokens, a cut line) is left out, counted, and the first few are named.
"""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import field
from datetime import date
from decimal import Decimal

from planner.errors import BadConfig, one_line
from planner.frozen import dataclass
from planner.units import PS_PER_SECOND
from planner.workloads.lengths import LengthMix
from planner.workloads.rows import PAIR_KEYS, BadRow, RowReader, whole_tokens

HASH_TOKENS = 512  # tokens behind one hash id of a trace (Mooncake)


OPTION = "--trace"


MAX_NAMED = 3  # bad rows that are shown


MAX_SECONDS = 9 * 10**6  # 104 days: a run counts picoseconds in 64 bits


UNNAMED = {2: ("prompt", "output"), 3: ("prompt", "output", "time")}


TIME_KEYS = ("timestamp", "time", "arrival_time", "arrival", "arrived_at")


_NUMBER = re.compile(r"\d{1,15}(\.\d{1,18})?([eE][+-]?\d{1,2})?", re.ASCII)


_DATE = re.compile(r"(\d{4})-(\d\d)-(\d\d)[ T](\d\d):(\d\d):(\d\d)(?:\.(\d{1,12}))?\s*(Z|[+-]\d\d:?\d\d)?", re.ASCII)


@dataclass(frozen=True)
class Format:
    """The columns of a file, in small letters; time_ps is what 1 stands for where times are numbers."""

    name: str
    prompt: str
    output: str
    time: str | None
    time_ps: int = PS_PER_SECOND


def format_of(keys: Iterable[str]) -> Format:
    """Tells which columns hold what.

    >>> format_of(["timestamp", "input_length", "output_length", "hash_ids"]).name
    'Mooncake'
    >>> format_of(["prompt", "output"])
    Format(name='plain', prompt='prompt', output='output', time=None, time_ps=1000000000000)
    """
    have = set(keys)
    pair = next((pair for pair in PAIR_KEYS if set(pair) <= have), None)
    if pair is None:
        raise BadConfig(
            " has no columns of prompts and outputs; wanted is TIMESTAMP,ContextTokens,GeneratedTokens (Azure), "
            "timestamp,input_length,output_length (Mooncake) or prompt,output,time"
        )
    time = next((key for key in TIME_KEYS if key in have), None)
    known = {"contexttokens": "Azure", "request tokens": "BurstGPT", "num_prefill_tokens": "Vidur"}
    if pair[0] == "input_length" and time == "timestamp":
        return Format("Mooncake", *pair, time, PS_PER_SECOND // 1000)
    return Format(known.get(pair[0], "plain"), *pair, time)


def _used(keys: Iterable[str]) -> tuple[str, ...]:
    found = format_of(keys)
    return (found.prompt, found.output, *([found.time] if found.time else []))


@dataclass(frozen=True)
class Trace:
    """Requests in the order of the file; times in picoseconds from the first one, none where the file has none.

    ids, ids_until   all hash ids one after the other, and where those of each request end; empty without any
    """

    words: str
    format: str
    time_ps: array[int]
    prompt_tokens: array[int]
    output_tokens: array[int]
    ids: array[int] = field(default_factory=lambda: array("q"))
    ids_until: array[int] = field(default_factory=lambda: array("q"))
    bad_rows: int = 0
    bad_words: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.prompt_tokens)

    @property
    def has_times(self) -> bool:
        return len(self.time_ps) > 0

    @property
    def span_ps(self) -> int:
        return self.time_ps[-1] if self.has_times else 0

    @property
    def rate_per_s(self) -> float | None:
        """Mean rate: the gaps between requests over the time from the first to the last; None without times."""
        return (len(self) - 1) * PS_PER_SECOND / self.span_ps if self.span_ps else None

    def hash_ids(self, row: int) -> tuple[int, ...]:
        if not self.ids_until:
            return ()
        return tuple(self.ids[self.ids_until[row - 1] if row else 0 : self.ids_until[row]])

    def pairs(self) -> Iterator[tuple[int, int]]:
        return zip(self.prompt_tokens, self.output_tokens, strict=True)

    @property
    def prompts(self) -> LengthMix:
        return LengthMix(Counter(self.prompt_tokens), f"{len(self):,} prompts of {self.words}")

    @property
    def outputs(self) -> LengthMix:
        return LengthMix(Counter(self.output_tokens), f"{len(self):,} outputs of {self.words}")


class _Columns:
    """Rows as they are read: good ones into columns, bad ones counted."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.format = Format("", "", "", None)
        self.keys: frozenset[str] = frozenset()
        self.prompts, self.outputs, self.times = array("q"), array("q"), array("q")
        self.ids, self.ids_until = array("q"), array("q")
        self.first_ps = 0
        self.bad_rows = 0
        self.bad_words: list[str] = []

    def bad(self, error: BadRow) -> None:
        self.bad_rows += 1
        if self.bad_rows <= MAX_NAMED:
            self.bad_words.append(str(error).removeprefix(f"{self.where} "))

    def add(self, row: Mapping[str, object], number: int) -> None:
        """Raises BadRow, and then adds nothing; BadConfig for a time before that of the row before."""
        where = f"{self.where} line {number}"
        if row.keys() != self.keys:  # JSON lines may differ; a CSV file has one set
            self.format, self.keys = format_of(row), frozenset(row)
        known = self.format
        prompt, output = whole_tokens(row[known.prompt], where), whole_tokens(row[known.output], where)
        if not prompt or not output:
            raise BadRow(f"{where}: {prompt} prompt and {output} output tokens; a request has at least one of each")
        if (known.time is None) != (not self.times) and self.prompts:
            raise BadRow(f"{where} {'has a' if known.time else 'has no'} time, unlike the first row")
        time = None if known.time is None else parse_time_ps(row[known.time], known.time_ps, where)
        hashes = _hash_ids(row.get("hash_ids"), prompt, where)
        if time is not None:
            self._add_time(time, where)
        self.prompts.append(prompt)
        self.outputs.append(output)
        self.ids.extend(hashes)
        self.ids_until.append(len(self.ids))

    def _add_time(self, time_ps: int, where: str) -> None:
        if not self.times:
            self.first_ps = time_ps
        since = time_ps - self.first_ps
        if self.times and since < self.times[-1]:
            raise BadConfig(f"{where} is earlier than the row before it; sort the file by its times")
        if since > MAX_SECONDS * PS_PER_SECOND:
            raise BadConfig(f"{where} is over {MAX_SECONDS // 86_400} days after the first row; give a shorter piece")
        self.times.append(since)

    def trace(self, words: str) -> Trace:
        return Trace(
            words=words,
            format=self.format.name,
            time_ps=self.times,
            prompt_tokens=self.prompts,
            output_tokens=self.outputs,
            ids=self.ids,
            ids_until=self.ids_until if self.ids else array("q"),
            bad_rows=self.bad_rows,
            bad_words=tuple(self.bad_words),
        )


def read_trace(path: str, limit: int | None = None) -> Trace:
    """Reads the first `limit` good rows of a file, all without; archives are to be unpacked first.

    Raises BadConfig for what is no such file, rows out of the order of time, and a file without one good row.
    """
    shown = one_line(path, 80)
    columns = _Columns(f"{OPTION} {shown}")
    reader = RowReader(OPTION, shown, _used, UNNAMED, "a CSV or JSONL file of requests")
    for number, row in reader.rows(path, columns.bad):
        try:
            columns.add(row, number)
        except BadRow as error:
            columns.bad(error)
        if limit is not None and len(columns.prompts) >= limit:
            break
    if not columns.prompts:
        why = f": {columns.bad_words[0]}" if columns.bad_words else "; one a line is wanted: prompt,output,time"
        raise BadConfig(f"{OPTION} {shown} holds no requests{why}")
    return columns.trace(shown)


def parse_time_ps(value: object, unit_ps: int, where: str) -> int:
    """Reads a number of `unit_ps`, or a date with a time of day (UTC where it names no zone), in picoseconds.

    >>> parse_time_ps("1.5", 10**12, ""), parse_time_ps(27, 10**9, "")
    (1500000000000, 27000000000)
    >>> parse_time_ps("2023-11-16 18:15:46.6805900", 0, "") - parse_time_ps("2023-11-16T18:15:46Z", 0, "")
    680590000000
    """
    text = str(value).strip()
    if not isinstance(value, bool):
        if len(text) <= 40 and _NUMBER.fullmatch(text):
            return int(Decimal(text) * unit_ps)
        day = _DATE.fullmatch(text)
        if day is not None:
            return _date_ps(day, text, where)
    raise BadRow(f"{where}: {one_line(text, 40)!r} is not a time; write seconds, or 2023-11-16 18:15:46.68")


def _date_ps(found: re.Match[str], text: str, where: str) -> int:
    year, month, day, hour, minute, second = (int(part) for part in found.groups()[:6])
    try:
        days = date(year, month, day).toordinal()
    except ValueError:
        raise BadRow(f"{where}: {one_line(text, 40)!r} is not a date") from None
    if hour > 23 or minute > 59 or second > 60:
        raise BadRow(f"{where}: {one_line(text, 40)!r} is not a time of day")
    zone = found.group(8)
    offset = 0
    if zone and zone != "Z":
        digits = zone[1:].replace(":", "")
        offset = (int(digits[:2]) * 60 + int(digits[2:])) * (60 if zone[0] == "+" else -60)
    seconds = days * 86_400 + hour * 3600 + minute * 60 + second - offset
    return seconds * PS_PER_SECOND + int((found.group(7) or "0").ljust(12, "0"))


def _hash_ids(value: object, prompt: int, where: str) -> list[int]:
    if value is None:
        return []
    most = -(-prompt // HASH_TOKENS)
    if (
        not isinstance(value, list)
        or len(value) > most
        or any(type(item) is not int or not 0 <= item < 1 << 62 for item in value)
    ):
        raise BadRow(
            f"{where}: hash_ids is not a list of at most {most} whole numbers, one for {HASH_TOKENS} tokens of the prompt"
        )
    return value

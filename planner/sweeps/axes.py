"""The axes of a sweep as texts: `model=a,b seq=1k..128k batch=1,8 gpu=h100-sxm,l40s`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from planner.errors import BadRequest, one_line
from planner.units import MAX_COUNT, parse_tokens
from planner.units import product as times

Value = str | int | None
MAX_POINTS = 1_000_000
QUESTIONS = ("estimate", "fit", "speed")
NAMES = ("model", "gpu", "memory", "engine", "dtype", "kv_dtype", "load")
COUNTS = ("tp", "pp", "ep", "dp", "dcp", "batch")
LENGTHS = ("seq", "prompt", "answer")
NEEDED = {"estimate": ("model", "seq"), "fit": ("model",), "speed": ("model", "gpu", "prompt", "answer")}
_LAYOUT = ("dtype", "kv_dtype", "tp", "pp", "ep", "dp", "dcp", "batch")
OF_QUESTION = {
    "estimate": ("model", "gpu", "memory", "engine", *_LAYOUT, "seq"),
    "fit": ("model", "gpu", "memory", "engine", *_LAYOUT, "seq"),
    "speed": ("model", "gpu", "engine", *_LAYOUT, "prompt", "answer", "load"),
}
DEFAULTS: dict[str, Value] = dict.fromkeys(COUNTS, 1)
EXAMPLE = "model=llama-7b,gpt2 seq=1k..128k batch=1,8"


@dataclass(frozen=True)
class Grid:
    """A question and the values of each axis it has; every combination is a point, the last axis given varies fastest."""

    question: str
    given: Mapping[str, tuple[Value, ...]]

    @property
    def axes(self) -> tuple[str, ...]:
        return OF_QUESTION[self.question]

    def __len__(self) -> int:
        return times(len(values) for values in self.given.values())

    def points(self) -> list[tuple[Value, ...]]:
        """The points in order, each a value for every axis of the question.

        >>> parse_grid("estimate", ["model=gpt2 seq=1k,2k batch=1,8"]).points()[1][0], len(parse_grid("estimate", ["model=gpt2 seq=1k,2k batch=1,8"]))
        ('gpt2', 4)
        """
        names = tuple(self.given)
        places = [names.index(axis) if axis in self.given else None for axis in self.axes]
        defaults = [DEFAULTS.get(axis) for axis in self.axes]
        return [
            tuple(defaults[i] if place is None else values[place] for i, place in enumerate(places))
            for values in product(*self.given.values())
        ]


def parse_grid(question: str, items: Iterable[str]) -> Grid:
    """Reads a grid: `seq=1k..8k` doubles, `seq=1k..8k:x4` multiplies by 4, `seq=1k..8k:+1k` adds; an axis not named has
    one value.

    >>> grid = parse_grid("estimate", ["model=llama-7b,gpt2", "seq=1k..8k:x4 tp=1,2"])
    >>> grid.given["seq"], grid.given["tp"], len(grid)
    ((1024, 4096, 8192), (1, 2), 12)

    Raises BadRequest for a word that is not an axis, an axis given twice or without what the question needs.
    """
    if question not in QUESTIONS:
        raise BadRequest(f"{one_line(question, 40)!r} is not a question; write one of {', '.join(QUESTIONS)}")
    given: dict[str, tuple[Value, ...]] = {}
    for item in (word for text in items for word in text.split()):
        name, equals, texts = item.partition("=")
        if not equals or name not in OF_QUESTION[question] or name in given:
            raise BadRequest(
                f"{one_line(item, 60)!r} is not an axis of {question}; write each once, as in {EXAMPLE}: "
                f"{', '.join(OF_QUESTION[question])}"
            )
        if any("\ud800" <= letter <= "\udfff" for letter in texts):
            raise BadRequest(f"{name}= holds bytes that are not UTF-8, which no table can hold; name it in UTF-8")
        given[name] = _values(name, texts)
    missing = [name for name in NEEDED[question] if name not in given]
    if missing:
        raise BadRequest(
            f"kvplan sweep {question} needs {', '.join(f'{name}=...' for name in missing)}, as in {EXAMPLE}"
        )
    if "gpu" in given and "memory" in given:
        raise BadRequest("gpu= and memory= both say how much there is; give one of them")
    if question == "fit" and not {"gpu", "memory"} & set(given):
        raise BadRequest("kvplan sweep fit needs a device: gpu=NAME,... or memory=24GiB,...")
    grid = Grid(question, given)
    if len(grid) > MAX_POINTS:
        raise BadRequest(f"the sweep is {len(grid):,} points; {MAX_POINTS:,} at most")
    return grid


def _values(name: str, texts: str) -> tuple[Value, ...]:
    items = [item for item in texts.split(",") if item]
    if not items:
        raise BadRequest(f"{name}= names no value; write for example {EXAMPLE}")
    if name in NAMES:
        return tuple(dict.fromkeys(items))
    read = _count if name in COUNTS else parse_tokens
    return tuple(dict.fromkeys(number for item in items for number in _range(item, name, read)))


def _count(text: str, what: str) -> int:
    if not re.fullmatch(r"\d{1,10}", text, re.ASCII) or not 1 <= int(text) <= MAX_COUNT:
        raise BadRequest(f"{what} {one_line(text, 40)!r} is not a whole number; write 1 to {MAX_COUNT}")
    return int(text)


def _range(item: str, name: str, read: Callable[[str, str], int]) -> Sequence[int]:
    """One value, or low..high with its step: doubling, `:xN` or `:+N`; the high end is always there."""
    low_text, dots, rest = item.partition("..")
    if not dots:
        return [read(item, name)]
    high_text, colon, step = rest.partition(":")
    low, high = read(low_text, name), read(high_text, name)
    factor, add = 2, 0
    if step[:1] == "x":
        factor = read(step[1:], name)
    elif step[:1] == "+":
        factor, add = 1, read(step[1:], name)
    elif colon:
        factor = 0
    if high < low or factor < 1 or (factor == 1 and not add):
        raise BadRequest(
            f"{name} {one_line(item, 40)!r} is not a range; write low..high, low..high:x4 or low..high:+1k"
        )
    if add and (high - low) // add >= MAX_POINTS:
        raise BadRequest(f"{name} {one_line(item, 40)!r} is more than {MAX_POINTS:,} values; take a larger step")
    values = []
    while low < high:
        values.append(low)
        low = low * factor + add
    return [*values, high]

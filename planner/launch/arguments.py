"""The words after a program -> flags with their values, as that program's own parser takes them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from planner.errors import BadRequest
from planner.launch.secrets import shown
from planner.launch.table import Flag, Table

_NUMBER = re.compile(r"-(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
_SWITCH_WORDS = frozenset("on off auto 0 1 true false enabled disabled".split())


@dataclass(frozen=True)
class Given:
    """One flag of a command line.

    name    as it was written, without the value
    flag    what the table knows of it, None for a name that it does not have
    values  its words
    off     it switches the flag off (--no-x)
    key     the key of a JSON value that was passed alone: `method` of --speculative-config.method
    """

    name: str
    flag: Flag | None
    values: tuple[str, ...] = ()
    off: bool = False
    key: str = ""


def read_arguments(words: Sequence[str], table: Table) -> tuple[list[Given], list[str]]:
    """Splits words into (flags in order, words that are no flags).

    >>> from planner.launch.vllm import TABLE
    >>> given, rest = read_arguments(["m", "--max_model_len=4k", "-tp", "2", "--speculative-config.method", "mtp"], TABLE)
    >>> [(one.name, one.values, one.key) for one in given], rest
    ([('--max_model_len', ('4k',), ''), ('-tp', ('2',), ''), ('--speculative-config', ('mtp',), 'method')], ['m'])
    """
    given: list[Given] = []
    rest: list[str] = []
    place = 0
    while place < len(words):
        word = words[place]
        place += 1
        if word == "--":
            rest += words[place:]
            break
        if not word.startswith("-") or word == "-" or _NUMBER.fullmatch(word):
            rest.append(word)
            continue
        name, equals, value = _parts(word, table)
        flag, off, key = _find(name, table)
        if equals:
            given.append(Given(name, flag, (value,), off, key))
            continue
        name = name.partition(".")[0] if key else name
        taken = _values(flag, key, words[place:], table=table)
        if flag is not None and flag.takes in ("1", "2") and not taken:
            raise BadRequest(f"{shown(name, 60)} wants a value; paste the whole command")
        given.append(Given(name, flag, tuple(taken), off, key))
        place += len(taken)
    return given, rest


def _parts(word: str, table: Table) -> tuple[str, str, str]:
    """(name, "=" or "", value) of one word; -O3 is -O 3 in vLLM."""
    level = re.fullmatch(r"-O=?(\w+)", word)
    if level and table.engine == "vllm":
        return "-O", "=", level.group(1)
    name, equals, value = word.partition("=")
    return name, equals, value


def _find(name: str, table: Table) -> tuple[Flag | None, bool, str]:
    flag, off = table.find(name)
    if flag is not None or "." not in name:
        return flag, off, ""
    base, _, key = name.partition(".")
    flag, off = table.find(base)
    return (flag, off, key.rstrip("+")) if flag is not None and flag.takes == "1" else (None, False, "")


def _values(flag: Flag | None, key: str, following: Sequence[str], *, table: Table) -> list[str]:
    """The words that belong to a flag without `=`."""
    if flag is None:
        return _unknown_value(following)
    if key:
        return list(following[:1])
    if flag.takes == "0":
        return []
    if flag.takes == "?":
        first = following[0] if following else "-"
        if flag.reader in ("switch_auto", "switch"):
            return [first] if first.lower() in _SWITCH_WORDS else []
        return [] if first.startswith("-") else [first]
    if flag.takes == "+":
        taken: list[str] = []
        for word in following:
            if word.startswith("-") and not _NUMBER.fullmatch(word):
                break
            taken.append(word)
        return taken
    return list(following[: int(flag.takes)])


def _unknown_value(following: Sequence[str]) -> list[str]:
    """A name that is not known takes the next word where that is no flag: its value then is not read as the model."""
    first = following[0] if following else "-"
    return [first] if not first.startswith("-") or _NUMBER.fullmatch(first) else []

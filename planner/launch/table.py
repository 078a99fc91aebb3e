"""An engine's flags as one table: what each takes, and whether it is used, changes what is not counted, or neither."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

USED, MATTERS, QUIET, UNKNOWN = "used", "matters", "no effect", "not known"
_ENDS = (("=?", "?"), ("=+", "+"), ("=2", "2"), ("=", "1"))


@dataclass(frozen=True)
class Flag:
    """One flag under all its names.

    takes    0 nothing, 1 a value, 2 two values, ? perhaps one, + one or more
    kind     used, matters (changes what the answer does not count), or no effect
    field    where a used flag's value goes, and `reader` how its text is read
    effect   what a flag that matters changes
    """

    names: tuple[str, ...]
    takes: str
    kind: str
    field: str = ""
    reader: str = ""
    effect: str = ""


@dataclass(frozen=True)
class Table:
    """The flags of one program, and the habits of its parser.

    opposites      a switch has --no-NAME, and of vLLM --disable-X beside --enable-X: "", "no" or "disable"
    abbreviations  the start of a name will do where no other name starts so (argparse)
    underscores    --max_model_len is --max-model-len
    equals         --name=value is --name value
    """

    engine: str
    read_from: str
    flags: tuple[Flag, ...]
    opposites: str = ""
    abbreviations: bool = False
    underscores: bool = False
    equals: bool = False

    @cached_property
    def by_name(self) -> dict[str, Flag]:
        """Every spelling, long names with dashes, to its flag."""
        found: dict[str, Flag] = {}
        for flag in self.flags:
            for name in flag.names:
                found.setdefault(name, flag)
        return found

    @cached_property
    def negative(self) -> dict[str, Flag]:
        """The names that switch a switch off, where the parser makes them itself."""
        if not self.opposites:
            return {}
        found: dict[str, Flag] = {}
        for flag in self.flags:
            if flag.takes == "0" or (flag.takes == "?" and flag.reader == "switch"):
                for name in opposite_names(flag.names, self.opposites):
                    if name not in self.by_name:
                        found.setdefault(name, flag)
        return found

    def find(self, word: str) -> tuple[Flag | None, bool]:
        """(the flag that `word` names, None where it is none of this program's; whether it switches it off).

        >>> from planner.launch.vllm import TABLE
        >>> TABLE.find("--max_model_len")[0].field, TABLE.find("--no-enable-expert-parallel")[1]
        ('max_model_len', True)
        """
        name = word
        if word.startswith("--") and self.underscores:
            name = word.replace("_", "-")
        if name in self.by_name:
            return self.by_name[name], False
        if name in self.negative:
            return self.negative[name], True
        if self.abbreviations and name.startswith("--") and len(name) > 3:
            return self._short(name)
        return None, False

    def _short(self, name: str) -> tuple[Flag | None, bool]:
        flags = {id(flag): flag for known, flag in self.by_name.items() if known.startswith(name)}
        if not flags:
            off = {id(flag): flag for known, flag in self.negative.items() if known.startswith(name)}
            return (next(iter(off.values())), True) if len(off) == 1 else (None, False)
        used = [flag for flag in flags.values() if flag.kind == USED]
        if len(flags) == 1:
            return next(iter(flags.values())), False
        return (used[0], False) if len(used) == 1 else (None, False)


def opposite_names(names: Iterable[str], rule: str = "disable") -> list[str]:
    """Lists the names that a parser adds to a switch, to switch it off.

    >>> opposite_names(("--enable-lora", "-el")), opposite_names(("--enable-lora",), "no")
    (['--no-enable-lora', '--disable-lora'], ['--no-enable-lora'])
    """
    found = []
    for name in names:
        if not name.startswith("--"):
            continue
        found.append("--no-" + name[2:])
        for one, other in (("--enable-", "--disable-"), ("--disable-", "--enable-")):
            if rule == "disable" and name.startswith(one):
                found.append(other + name.removeprefix(one))
    return found


def table(
    engine: str,
    read_from: str,
    used: str,
    *,
    matters: str,
    quiet: str,
    opposites: str = "",
    abbreviations: bool = False,
    underscores: bool = False,
    equals: bool = False,
) -> Table:  # parameters: what it makes is made of, each by name
    """Builds a table from its three texts: lines `names field reader`, lines `names : effect`, and words.

    Names are joined by `|`; one without a dash is a long one; a name ends in = (takes a value), =? (perhaps),
    =+ (one or more), =2 (two).
    """
    flags = [
        _flag(words[0], USED, field=words[1], reader=words[2]) for words in map(str.split, used.splitlines()) if words
    ]
    for line in matters.splitlines():
        names, colon, effect = line.partition(" : ")
        if colon:
            flags.append(_flag(names.strip(), MATTERS, effect=effect.strip()))
    flags += [_flag(word, QUIET) for word in quiet.split()]
    return Table(engine, read_from, tuple(flags), opposites, abbreviations, underscores, equals)


def _flag(word: str, kind: str, field: str = "", *, reader: str = "", effect: str = "") -> Flag:
    takes = "0"
    for end, meaning in _ENDS:
        if word.endswith(end):
            word, takes = word[: -len(end)], meaning
            break
    names = tuple(name if name.startswith("-") else "--" + name for name in word.split("|"))
    return Flag(names, takes, kind, field, reader, effect)

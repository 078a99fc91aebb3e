"""Reads text and JSON that may come from anywhere: bounded in size, depth and digits, one line for what is wrong.

`decode` turns plain data into dataclasses and names the key that is missing, foreign or of another kind.
"""

from __future__ import annotations

import json
import math
import os
import re
import stat

from planner.errors import KvplanError, one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

MOST_DIGITS = 40
"""Digits of a whole number; 2**63 has 19, and a product of two such has 38."""
LARGEST = 1e30
"""The largest magnitude of a figure: 10**30 bytes, FLOPs or tokens are none that a machine has."""
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


class BadFile(KvplanError):
    """A file that cannot be read, or that does not hold what is wanted."""


def read_text(path: str, *, most_bytes: int, what: str, option: str = "", error: type[KvplanError] = BadFile) -> str:
    """Return the UTF-8 text of the file at `path`, of which never more than `most_bytes` + 1 are read.

    what    the kind of file that is wanted, for the message: "a result of kvplan profile"
    option  the flag that named the file
    error   the class that is raised for a folder, an endless device, a file too large, no permission, other bytes
    """
    shown = f"{option} {one_line(path, 120)}".strip()
    try:
        with open(path, "rb", buffering=0, opener=_opener) as file:
            mode = os.fstat(file.fileno()).st_mode
            if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
                raise error(f"{shown}: is a pipe, not a file; name {what}")
            data = bytearray()
            while len(data) <= most_bytes and (piece := file.read(min(1 << 20, most_bytes + 1 - len(data)))):
                data += piece
    except ValueError:
        raise error(f"{shown}: holds a zero byte; name {what}") from None
    except OSError as failed:
        raise error(f"{shown}: cannot be read ({failed.strerror}); name {what}") from None
    if len(data) > most_bytes:
        raise error(f"{shown}: is larger than {most_bytes >> 20} MiB, which {what} is not")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise error(f"{shown}: is not UTF-8 text; name {what}") from None


def _opener(path: str, flags: int) -> int:
    """Open without waiting: a pipe that nobody writes to would wait for ever."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def parse_json(text: str, where: str, *, error: type[KvplanError] = BadFile, again: str = "") -> Any:
    """Return the JSON value in `text`: no NaN, no infinity, no number of thousands of digits, no half characters.

    where  what the message names first
    again  what to do about it, after a semicolon
    """
    try:
        found = json.loads(text, parse_constant=_no_constant, parse_int=_whole, parse_float=_finite)
        if _SURROGATE.search(text):
            json.dumps(found, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as wrong:
        reason = "a character that is half of one" if isinstance(wrong, UnicodeError) else one_line(str(wrong), 80)
        if isinstance(wrong, RecursionError):
            reason = "nested too deep"
        raise error(f"{where}: is damaged or not JSON ({reason}){again}") from None
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a figure")


def _whole(text: str) -> int:
    if len(text) > MOST_DIGITS:
        raise ValueError(f"a whole number of {len(text):,} digits is no figure")
    return int(text)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{one_line(text, 20)} is no figure")
    return value


def check_kind(
    raw: Any, kind: str, newest: int, *, where: str, what: str, error: type[KvplanError] = BadFile
) -> Mapping[str, Any]:
    """Return the object `raw`, whose keys say that it is of this kind and of a schema that is known."""
    if not isinstance(raw, dict) or raw.get("kind") != kind:
        raise error(f"{where}: is not {what} (no key kind = {kind!r})")
    version = raw.get("schema_version")
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise error(f"{where}: has no schema_version; it is damaged or was not written by kvplan")
    if version > newest:
        raise error(f"{where}: schema_version {version} is newer than this kvplan reads ({newest}); update kvplan")
    return raw


def figure(
    raw: Any, where: str, *, low: float = -LARGEST, high: float = LARGEST, error: type[KvplanError] = BadFile
) -> float:
    """Return the number `raw`, which lies between `low` and `high`."""
    if isinstance(raw, bool) or not isinstance(raw, (int, float)):
        raise error(f"{where}: wants a number, found {one_line(repr(raw), 40)}")
    if not low <= raw <= high:
        raise error(f"{where}: {one_line(repr(raw), 30)} is out of range; wants {low:g} to {high:g}")
    return raw


def decode(wanted: Any, raw: Any, where: str, *, error: type[KvplanError] = BadFile) -> Any:
    """Return `raw` as the type `wanted`: dataclasses, tuples, mappings from text, unions with None, plain values.

    Numbers are at most `LARGEST` in magnitude. Raises `error` with the path to the key that is wrong.
    """
    import types
    import typing
    from dataclasses import is_dataclass

    if wanted is typing.Any:
        return raw
    if is_dataclass(wanted):
        return _dataclass(wanted, raw, where, error=error)
    origin, arguments = typing.get_origin(wanted), typing.get_args(wanted)
    if origin in (typing.Union, types.UnionType):
        if raw is None:
            return None
        return decode(next(kind for kind in arguments if kind is not type(None)), raw, where, error=error)
    if origin is tuple:
        if not isinstance(raw, (list, tuple)):
            raise error(f"{where}: wants a list, found {one_line(repr(raw), 40)}")
        return tuple(decode(arguments[0], item, f"{where}[{i}]", error=error) for i, item in enumerate(raw))
    if origin is not None:
        if not isinstance(raw, dict) or not all(isinstance(key, str) for key in raw):
            raise error(f"{where}: wants an object, found {one_line(repr(raw), 40)}")
        return {
            key: decode(arguments[1], value, f"{where}.{one_line(key, 40)}", error=error) for key, value in raw.items()
        }
    return _plain(wanted, raw, where, error=error)


def _plain(wanted: Any, raw: Any, where: str, *, error: type[KvplanError]) -> Any:
    if wanted is float and isinstance(raw, int) and not isinstance(raw, bool):
        return figure(raw, where, error=error)  # bytes are whole numbers and stay so
    if type(raw) is not wanted:
        raise error(f"{where}: wants {_article(wanted)}, found {one_line(repr(raw), 40)}")
    if wanted in (int, float):
        return figure(raw, where, error=error)
    return visible(raw) if isinstance(raw, str) else raw


def visible(text: str) -> str:
    """Return `text` with control characters written out, so that none reaches a terminal or a page; lines stay.

    >>> visible("a\\x1b[31mb\\n")
    'a\\\\x1b[31mb\\n'
    """
    if text.isprintable():
        return text
    return _CONTROL.sub(lambda found: f"\\x{ord(found.group()):02x}", text)


def _dataclass(wanted: Any, raw: Any, where: str, *, error: type[KvplanError]) -> Any:
    import typing
    from dataclasses import MISSING, fields

    if not isinstance(raw, dict):
        raise error(f"{where}: wants an object, found {one_line(repr(raw), 40)}")
    known = {item.name for item in fields(wanted)}
    if strange := sorted(str(key) for key in raw if key not in known):
        raise error(f"{where}: the key {one_line(strange[0], 40)!r} is not known in this schema")
    kinds: dict[str, Any] = typing.get_type_hints(wanted)
    values = {name: decode(kinds[name], raw[name], f"{where}.{name}", error=error) for name in known if name in raw}
    optional = {
        item.name for item in fields(wanted) if item.default is not MISSING or item.default_factory is not MISSING
    }
    if missing := sorted(known - optional - set(values)):
        raise error(f"{where}: lacks {', '.join(missing[:5])}; it is damaged")
    return wanted(**values)


def _article(kind: type) -> str:
    return {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}.get(kind, kind.__name__)


def csv_rows(text: str, most: int) -> list[list[str]] | None:
    """Returns the first `most` rows of a CSV text; None where it is none, as Python's reader finds.

    >>> csv_rows("a,b\\n1,2\\n", 10), csv_rows("a\\r~", 10)
    ([['a', 'b'], ['1', '2']], None)
    """
    import csv
    from io import StringIO
    from itertools import islice

    try:
        return list(islice(csv.reader(StringIO(text)), most))
    except csv.Error:
        return None

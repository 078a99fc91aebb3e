"""A flag's text -> its value, by the rule of the engine that reads it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

from planner.errors import BadRequest, KvplanError
from planner.files.read import parse_json
from planner.launch.secrets import shown
from planner.units import GIB, MAX_BYTES, MAX_TOKENS, checked_ratio, checked_share, parse_tokens

_DECIMAL = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BINARY = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_ON = frozenset("on 1 true yes enabled".split())
_OFF = frozenset("off 0 false no disabled".split())


def _bad(text: str, name: str, wanted: str) -> BadRequest:
    if "$" in text:
        return BadRequest(f"{name} is {shown(text, 40)!r}, a variable that the text does not set; write its value")
    return BadRequest(f"{name} {shown(text, 40)!r} is not {wanted}")


def whole(text: str, name: str, *, least: int = -(10**9), most: int = MAX_TOKENS) -> int:
    """Reads a whole number in decimal digits, with the separators that Python takes."""
    clean = text.strip()
    if not re.fullmatch(r"[+-]?[0-9](_?[0-9]){0,17}", clean, re.ASCII):
        hint = " (its k is not read: write 32768 for 32k)" if re.fullmatch(r"\d+[kK]", clean) else ""
        raise _bad(text, name, f"a whole number{hint}")
    value = int(clean)
    if not least <= value <= most:
        raise BadRequest(f"{name} {value} is out of range; write {max(least, 1)} to {most:,}")
    return value


def count(text: str, name: str) -> int:
    """Reads a whole number of at least 1."""
    return whole(text, name, least=1)


def vllm_whole(text: str, name: str, most: int) -> int | None:
    """Reads a number by vLLM's own rule: k is 1,000, K is 1,024 and takes no decimals; -1 and auto are None.

    >>> vllm_whole("64k", "x", 10**9), vllm_whole("64K", "x", 10**9), vllm_whole("25.6k", "x", 10**9)
    (64000, 65536, 25600)

    Source: vllm/utils/argparse_utils.py, human_readable_int.
    """
    clean = text.strip()
    if clean == "-1" or clean.lower() == "auto":
        return None
    found = re.fullmatch(r"([0-9]{1,18}(?:\.[0-9]{1,9})?)([kKmMgGtT])", clean, re.ASCII)
    if not found:
        return whole(text, name, least=1, most=most)
    number, suffix = found.groups()
    if suffix in _BINARY and "." in number:
        raise BadRequest(
            f"{name} {shown(text, 40)!r}: vLLM takes no decimals before {suffix}; write {number}{suffix.lower()} (thousands)"
        )
    value = int(Fraction(number) * (_BINARY.get(suffix) or _DECIMAL[suffix]))
    if not 1 <= value <= most:
        raise BadRequest(f"{name} {shown(text, 40)} is out of range; write 1 to {most:,}")
    return value


def number(text: str, name: str) -> Fraction:
    """Reads a decimal number that is not negative."""
    if not re.fullmatch(
        r"\+?([0-9]{1,9}(\.[0-9]{0,18})?|\.[0-9]{1,18})(e-?[0-9]{1,2})?", text.strip().lower(), re.ASCII
    ):
        raise _bad(text, name, "a number")
    return Fraction(text.strip().lower())


def share(text: str, name: str) -> Fraction:
    """Reads a share above 0 and up to 1."""
    return checked_share(number(text, name), f"{name} {shown(text, 40)}")


def ratio(text: str, name: str) -> Fraction:
    """Reads a ratio above 0 and up to 100."""
    return checked_ratio(number(text, name), f"{name} {shown(text, 40)}")


def gib(text: str, name: str) -> int:
    """Reads GiB as a plain number, and returns bytes."""
    value = int(number(text, name) * GIB)
    if value > MAX_BYTES:
        raise BadRequest(f"{name} {shown(text, 40)} GiB is out of range")
    return value


def switch(text: str, name: str) -> bool | None:
    """Reads on, off, or None for auto."""
    clean = text.strip().lower()
    if clean == "auto" or clean == "-1":
        return None
    if clean in _ON or clean in _OFF:
        return clean in _ON
    raise _bad(text, name, "on, off or auto")


def json_value(text: str, name: str) -> dict[str, Any]:
    """Reads a JSON object."""
    try:
        value = parse_json(text, name)
    except KvplanError:
        raise _bad(text, name, 'JSON; in a shell it stands in single quotes: \'{"method": "mtp"}\'') from None
    if not isinstance(value, dict):
        raise _bad(text, name, "a JSON object")
    return value


def limits(text: str, name: str) -> dict[str, Any]:
    """Reads how many images and videos a prompt may hold: a JSON object, or image=2,video=0 as before 0.10.

    >>> limits('{"image": 2}', "x"), limits("image=2,video=0", "x")
    ({'image': 2}, {'image': 2, 'video': 0})
    """
    if re.fullmatch(r"\s*\w+=\d{1,6}(\s*,\s*\w+=\d{1,6})*\s*", text, re.ASCII):
        return {key.strip(): int(value) for key, value in (one.split("=") for one in text.split(","))}
    return json_value(text, name)


def text_value(text: str, name: str) -> str:
    """Returns the text itself; a variable that nothing sets is refused."""
    if re.search(r"\$\{?\w+|\$\(", text) and "\\" not in text:
        raise _bad(text, name, "")
    return text


READERS: Mapping[str, Callable[[str, str], Any]] = {
    "count": count,
    "signed": lambda text, name: whole(text, name),
    "tokens": lambda text, name: parse_tokens(text, name),
    "vllm_tokens": lambda text, name: vllm_whole(text, name, MAX_TOKENS),
    "vllm_bytes": lambda text, name: vllm_whole(text, name, MAX_BYTES),
    "share": share,
    "ratio": ratio,
    "gib": gib,
    "switch_auto": switch,
    "switch": lambda text, name: bool(switch(text, name)),
    "json": json_value,
    "limits": limits,
    "text": text_value,
    "texts": text_value,
    "counts": text_value,
}

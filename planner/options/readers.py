"""Readers of flags: what came, as text or as a Python value, becomes the value that is meant, or a line that names the flag.

A reader takes (what came, the flag's name). Modules that only some flags need load when such a flag is given.
"""

from __future__ import annotations

import re

from planner.dtypes.names import float_dtype, kv_format, weight_format
from planner.errors import BadRequest, UnknownName, one_line
from planner.units import GIB, MAX_COUNT, checked_ratio, checked_share, parse_bytes, parse_lengths, parse_tokens

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from fractions import Fraction
    from typing import Any

    from planner.workloads.lengths import LengthMix

MAX_ITEMS = 1000  # of a list


def text(value: Any, name: str) -> str:
    """Reads a text as it came."""
    if not isinstance(value, str):
        raise BadRequest(f"{name} {_shown(value)} is not a text")
    return value


def switch(value: Any, name: str) -> bool:
    """Reads a switch: on or off."""
    if not isinstance(value, bool):
        raise BadRequest(f"{name} {_shown(value)} is a switch; write True or False")
    return value


def count(value: Any, name: str) -> int:
    """Reads a whole number of at least 1.

    >>> count("8", "--tp"), count(8, "--tp")
    (8, 8)
    """
    clean = str(value).strip() if isinstance(value, (str, int)) and not isinstance(value, bool) else ""
    if not re.fullmatch(r"\d{1,12}(?:_\d{1,12})?", clean, re.ASCII) or not 1 <= int(clean) <= MAX_COUNT:
        wrong = "out of range" if re.fullmatch(r"-?\d+", clean, re.ASCII) else "not a whole number"
        raise BadRequest(f"{name} {_shown(value)} is {wrong}; write 1 to {MAX_COUNT} without commas")
    return int(clean)


def emit_form(value: Any, name: str) -> str | None:
    """Reads the form of a start command, `command`, `compose` or `k8s`; True is the command, False none.

    >>> emit_form(True, "--emit"), emit_form("compose", "--emit"), emit_form(False, "--emit")
    ('command', 'compose', None)
    """
    if isinstance(value, bool):
        return "command" if value else None
    return choice("command", "compose", "k8s")(value, name)


def count_or_zero(value: Any, name: str) -> int:
    """Reads a whole number of at least 0."""
    return 0 if str(value).strip() == "0" else count(value, name)


def shares(value: Any, name: str) -> tuple[float, ...]:
    """Reads shares of devices: `3,1`, or a Python list of numbers.

    >>> shares("3,1", "--tensor-split"), shares([0.5, 0.5], "--tensor-split")
    ((3.0, 1.0), (0.5, 0.5))
    """
    from planner.engines.placement import parse_shares

    return parse_shares(",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value), name)


def override_tensor(value: Any, name: str) -> str:
    """Reads a pattern of tensors and where they lie: `exps=CPU`."""
    from planner.engines.placement import patterns_of

    written = text(value, name)
    patterns_of((written,))  # refuses what is no pattern
    return written


def tokens(value: Any, name: str) -> int:
    """Reads a number of tokens, at least 1: 8192, `8k`.

    >>> tokens("8k", "--seq"), tokens(8192, "--seq")
    (8192, 8192)
    """
    return parse_tokens(_number_text(value, name, "a whole number of tokens", whole=True), name)


def tokens_or_zero(value: Any, name: str) -> int:
    """Reads a number of tokens, or none."""
    return 0 if str(value).strip() == "0" else tokens(value, name)


def lengths(value: Any, name: str) -> tuple[int, ...]:
    """Reads lengths in tokens: one, a list `1k,8k`, a range `1k..128k`, or a Python list of them.

    >>> lengths("1k..4k", "--seq"), lengths([1024, "8k"], "--seq")
    ((1024, 2048, 4096), (1024, 8192))
    """
    if isinstance(value, (list, tuple, range)):
        found = [item for part in value for item in lengths(part, name)]
        if not found:
            raise BadRequest(f"{name} names no length; write for example 8192 or 8k")
        return tuple(dict.fromkeys(found))
    return tuple(parse_lengths(_number_text(value, name, "a whole number of tokens", whole=True)))


def size(value: Any, name: str) -> int:
    """Reads a number of bytes: `24GiB`, `80GB`; a Python int counts bytes.

    >>> size("24GiB", "--memory"), size(1000, "--memory")
    (25769803776, 1000)
    """
    clean = _number_text(value, name, "a size; write for example 24GiB", whole=True)
    return parse_bytes(clean if isinstance(value, str) else f"{value}B", name)


def size_or_zero(value: Any, name: str) -> int:
    """Reads a number of bytes, or none."""
    return 0 if str(value).strip() in ("0", "0B") else size(value, name)


def size_a_second(value: Any, name: str) -> int:
    """Reads bytes a second: `25GB`, `25GB/s`."""
    return size(value.removesuffix("/s") if isinstance(value, str) else value, name)


def gib_or_size(value: Any, name: str) -> int:
    """Reads a number of bytes; a bare number counts GiB, as vLLM's --swap-space and --cpu-offload-gb do."""
    from fractions import Fraction

    clean = _number_text(value, name, "a number of GiB").strip()
    return int(Fraction(clean) * GIB) if re.fullmatch(r"\d{1,6}(\.\d{1,6})?", clean, re.ASCII) else size(clean, name)


def overhead(value: Any, name: str) -> tuple[str, int]:
    """Reads a line of overhead: `context=300MiB`, or the pair of both."""
    pair = value.split("=", 1) if isinstance(value, str) else value
    line, much = pair if isinstance(pair, (list, tuple)) and len(pair) == 2 else (None, "")
    if not isinstance(line, str) or not line.strip().isidentifier() or much == "":
        raise BadRequest(f"{name} {_shown(value)} is not NAME=SIZE; write for example context=300MiB")
    return line.strip(), size_or_zero(much, f"{name} {line.strip()}")


def share_above_zero(value: Any, name: str) -> Fraction:
    """Reads a share of a whole, above 0 and up to 1."""
    return checked_share(_fraction(value, name), f"{name} {one_line(str(value), 40)}")


def ratio(value: Any, name: str) -> Fraction:
    """Reads a ratio above 0, up to 100."""
    return checked_ratio(_fraction(value, name), f"{name} {one_line(str(value), 40)}")


def choice(*names: str) -> Callable[[Any, str], str]:
    """Makes a reader of one of these words."""

    def read(value: Any, name: str) -> str:
        if value not in names:
            raise BadRequest(f"{name} {_shown(value)} is not known; write {', '.join(names[:-1])} or {names[-1]}")
        return str(value)

    return read


def weight_dtype(value: Any, name: str) -> str:
    """Reads the name of a weight format that is known, or what published models are named for: 4bit, UD-Q4_K_XL,
    4.0bpw.
    """
    try:
        weight_format(text(value, name))
    except UnknownName:
        if not is_named_format(value):
            raise
    return str(value)


def is_named_format(value: str) -> bool:
    """Tells whether a text is no weight format of its own, and is one as the end of a model's name.

    >>> is_named_format("UD-Q4_K_XL"), is_named_format("fp8"), is_named_format("nonesuch")
    (True, False, False)
    """
    try:
        weight_format(value)
    except UnknownName:
        from planner.lookup.formats import format_of  # only of what is not known otherwise
        from planner.lookup.parts import parts_of

        return format_of(parts_of(f"x-{value}")) is not None
    return False


def kv_dtype(value: Any, name: str) -> str:
    """Reads the name of a KV format that is known."""
    kv_format(text(value, name))
    return str(value)


def float_type(value: Any, name: str) -> str | None:
    """Reads a float type by its usual names; None for `auto`."""
    if value == "auto":
        return None
    found = float_dtype(text(value, name))
    if found is None:
        raise BadRequest(f"{name} {_shown(value)} is not known; write float32, bfloat16 or float16")
    return found


_SWITCHES = {"on": True, "1": True, "true": True, "enabled": True, "off": False, "0": False, "false": False, "disabled": False}  # fmt: skip


def on_off(value: Any, name: str) -> bool | None:
    """Reads `on`, `off`, or `auto` as None, as llama.cpp writes it."""
    word = str(value).strip().lower()
    if word == "auto":
        return None
    if word not in _SWITCHES:
        raise BadRequest(f"{name} {_shown(value)} is not known; write on, off or auto")
    return _SWITCHES[word]


def mla_mode(value: Any, name: str) -> int:
    """Reads ik_llama.cpp's -mla, 0 to 3."""
    return int(choice("0", "1", "2", "3")(str(value).strip(), name))


def seconds(value: Any, name: str) -> float:
    """Reads a time with its unit: `40ms`, `1.5s`."""
    from planner.workloads.texts import parse_seconds

    return parse_seconds(text(value, name), name)


def rate(value: Any, name: str) -> float:
    """Reads requests a second: `5/s`, `300/min`, or a plain number."""
    from planner.workloads.texts import parse_rate

    return parse_rate(_number_text(value, name, "a number of requests a second"))


def grid(value: Any, name: str) -> float:
    """Reads grams of CO2 a kWh: `400g/kWh`, or a plain number."""
    from planner.speed.energy import parse_grid

    return parse_grid(_number_text(value, name, "grams of CO2 a kWh"))


def share(value: Any, name: str) -> float:
    """Reads a share from 0 to 1: 0.6, `60%`."""
    from planner.workloads.texts import parse_share

    return parse_share(_number_text(value, name, "a share"), name)


def ttft(value: Any, name: str) -> tuple[float, float]:
    """Reads a target as (seconds, share of the requests): `1s` is for 95 of 100, `p99=2s` says another share."""
    from planner.workloads.texts import parse_ttft

    return parse_ttft(text(value, name), name)


def mix(value: Any, name: str) -> LengthMix:
    """Reads lengths and how often each comes: one length, percentiles `p50=800,p95=6000`, or a file."""
    from planner.workloads.texts import mix_of

    return mix_of(_number_text(value, name, "a length; write for example p50=800,p95=6000", whole=True), name)


def length_mix(value: Any, name: str) -> LengthMix:
    """Reads percentiles of lengths, `p50=800,p95=6000`, or a file of lengths."""
    from planner.workloads.lengths import parse_mix

    return parse_mix(text(value, name), name)


def usd_per_hour(value: Any, name: str) -> float:
    """Reads US dollars an hour: `20/h`, 20."""
    from planner.deployment.cost import parse_usd_per_hour

    return parse_usd_per_hour(_number_text(value, name, "a price in US dollars an hour"), name)


def factor(value: Any, name: str) -> Fraction:
    """Reads a factor above 0: 2, `0.5x`."""
    from fractions import Fraction

    clean = _number_text(value, name, "a factor").strip()
    match = re.fullmatch(r"(\d{1,6}(?:\.\d{1,6})?)\s*x?", clean, re.ASCII)
    if match is None or not Fraction(match.group(1)):
        raise BadRequest(f"{name} {_shown(value)} is not a factor; write for example 2 or 0.5")
    return Fraction(match.group(1))


def rope_factor(value: Any, name: str) -> float:
    """Reads how many times its own positions a model is served with: 4, `2.5`, or a rope_scaling object that holds a
    factor.

    >>> rope_factor("4", "--rope-scaling"), rope_factor('{"rope_type": "yarn", "factor": 2.5}', "--rope-scaling")
    (4.0, 2.5)
    """
    inside = re.search(r"""["']?factor["']?\s*:\s*([0-9.]{1,12})""", value) if isinstance(value, str) else None
    found = float(factor(inside.group(1) if inside else value, name))
    if not 1 < found <= 128:
        raise BadRequest(f"{name} {_shown(value)} is not a factor above 1, 128 at most; write for example 4")
    return found


def count_up_to(most: int, reason: str = "") -> Callable[[Any, str], int]:
    """Return a reader of a whole number from 1 to `most`; `reason` says why no more.

    >>> count_up_to(64, "no drafter has more layers")("8", "--draft-layers")
    8
    """

    def read(value: Any, name: str) -> int:
        found = count(value, name)
        if found > most:
            raise BadRequest(f"{name} {found:,} is more than {most:,}" + f": {reason}" * bool(reason))
        return found

    return read


def counts(value: Any, name: str) -> tuple[int, ...]:
    """Reads whole numbers, in order and without repeats: `1,8,32`, 8, or a Python list.

    >>> counts("1,8, 32", "--batch"), counts([1, 8], "--batch")
    ((1, 8, 32), (1, 8))
    """
    items = (
        value if isinstance(value, (list, tuple, range)) else value.split(",") if isinstance(value, str) else (value,)
    )
    if not items:
        raise BadRequest(f"{name} names no number; write one or several, for example 1,8,32")
    if len(items) > MAX_ITEMS:
        raise BadRequest(f"{name} names {len(items):,} numbers; {MAX_ITEMS:,} at most")
    return tuple(dict.fromkeys(count(item, name) for item in items))


def names(value: Any, name: str) -> tuple[str, ...]:
    """Names in order and without repeats: `h100-sxm,l40s`, or a Python list."""
    items = list(value) if isinstance(value, (list, tuple)) else text(value, name).split(",")
    found = [text(item, name).strip() for item in items]
    if not found or not all(found):
        raise BadRequest(f"{name} {_shown(value)} names an empty device; write for example h100-sxm,l40s")
    return tuple(dict.fromkeys(found))


def _fraction(value: Any, name: str) -> Fraction:
    from fractions import Fraction

    clean = _number_text(value, name, "a number").strip()
    if not re.fullmatch(r"\d{0,4}\.?\d{1,18}", clean, re.ASCII):
        raise BadRequest(f"{name} {one_line(str(value), 40)!r} is not a number; write for example 0.9")
    return Fraction(clean)


def _number_text(value: Any, name: str, what: str, *, whole: bool = False) -> str:
    """The text of a number that came as text or as a number; True is not one."""
    kinds = (str, int) if whole else (str, int, float)
    if isinstance(value, bool) or not isinstance(value, kinds):
        raise BadRequest(f"{name} {_shown(value)} is not {what}")
    return str(value)


def _shown(value: Any) -> str:
    return repr(one_line(value, 40)) if isinstance(value, str) else one_line(repr(value), 40)

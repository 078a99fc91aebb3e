"""What an entry of the catalogue must look like: one set of rules for the shipped files and for a user's own.

Written by hand, so that nothing but the standard library is needed at run time. Each function returns the
problems it found, in words; an empty list means that the entry is sound.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from planner.catalogue.device import INSTALLED

MODEL_CONFIDENCE = (
    "verified-file",  # the keys were read from a copy of the published file
    "embedded-config",  # ... from a published config that a package or a test carries
    "package-table",  # ... from the table of a package
    "package-default",  # ... from the defaults of the model class in transformers
    "paper-table",  # ... from the table of the paper
    "memory+params",  # recalled, but the parameter count that follows equals the published one
    "memory",  # recalled, not checked
)


DEVICE_CONFIDENCE = (
    "cited",  # memory size, bandwidth and the 16-bit rate have a source
    "partly-cited",  # some of them have; `notes` says which
    "memory",  # recalled, not checked
)


FLOP_DTYPES = ("fp32", "tf32", "fp16", "bf16", "fp8", "int8", "fp4")


MAX_TEXT = 2000


MAX_NODES = 20_000  # the largest published config here has about 1,500


MAX_DEPTH = 12


Check = Callable[[Any], "str | None"]


def text(value: Any) -> str | None:
    """Accepts a string with something in it, that prints on one line."""
    if not isinstance(value, str) or not value.strip():
        return "wants a text"
    if len(value) > MAX_TEXT:
        return f"is longer than {MAX_TEXT} characters"
    return None if value.isprintable() else "holds unprintable characters"


def text_list(value: Any) -> str | None:
    """Accepts a list of texts; an empty one is fine."""
    if not isinstance(value, list):
        return "wants a list of texts"
    return next((f"item {i + 1} {why}" for i, item in enumerate(value) if (why := text(item))), None)


def whole(low: int, high: int) -> Check:
    """Accepts an integer from `low` to `high`; true and false are no integers here."""

    def check(value: Any) -> str | None:
        if isinstance(value, bool) or not isinstance(value, int):
            return "wants a whole number"
        return None if low <= value <= high else f"must lie between {low} and {high}"

    return check


def positions(value: Any) -> str | None:
    """Accepts the positions of names: each an alias or the Hugging Face id, with a whole number."""
    if not isinstance(value, dict) or not value:
        return "wants a number of positions for a name, one a line"
    check = whole(1, 10**9)
    return next((f"{name!r} {why}" for name, tokens in value.items() if (why := check(tokens))), None)


def number(low: float, high: float) -> Check:
    """Accepts an integer or a float from `low` to `high`; nan and infinity lie nowhere."""

    def check(value: Any) -> str | None:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return "wants a number"
        return None if low <= value <= high else f"must lie between {low:g} and {high:g}"

    return check


def one_of(choices: tuple[str, ...]) -> Check:
    """Accepts one of a few words."""

    def check(value: Any) -> str | None:
        return None if value in choices else "must be one of " + ", ".join(choices)

    return check


def day(value: Any) -> str | None:
    """Accepts a date as YYYY-MM-DD."""
    from datetime import date

    try:
        good = isinstance(value, str) and date.fromisoformat(value).isoformat() == value
    except ValueError:
        good = False
    return None if good else "wants a date as YYYY-MM-DD"


def day_or_month(value: Any) -> str | None:
    """Accepts a date as YYYY, YYYY-MM or YYYY-MM-DD: price lists are often dated by the month."""
    rest = {4: "-01-01", 7: "-01", 10: ""}.get(len(value)) if isinstance(value, str) else None
    if rest is not None and day(value + rest) is None:
        return None
    return "wants a date as YYYY, YYYY-MM or YYYY-MM-DD"


def model_config(value: Any) -> str | None:
    """Accepts published config keys: plain JSON values, not too many, and a model_type."""
    if not isinstance(value, dict):
        return "wants the config keys, one a line"
    if text(value.get("model_type")):
        return "needs a model_type"
    return _plain_json(value)


def _plain_json(value: Any) -> str | None:
    """Walks without recursion and with a limit, so that no file can make it run long."""
    stack: list[tuple[Any, int]] = [(value, 0)]
    seen = 0
    while stack:
        item, depth = stack.pop()
        seen += 1
        if seen > MAX_NODES or depth > MAX_DEPTH:
            return f"is larger than {MAX_NODES} values or deeper than {MAX_DEPTH} levels"
        if isinstance(item, dict):
            if not all(isinstance(key, str) for key in item):
                return "has a key that is no text"
            stack.extend((child, depth + 1) for child in item.values())
        elif isinstance(item, list):
            stack.extend((child, depth + 1) for child in item)
        elif isinstance(item, float):
            if item != item or item in (float("inf"), float("-inf")):
                return "holds nan or infinity"
        elif isinstance(item, int):
            if abs(item) > 1 << 63:
                return "holds a number beyond 64 bits"
        elif item is not None and not isinstance(item, str):
            return f"holds a {type(item).__name__}, which JSON has not"
    return None


def flops(value: Any) -> str | None:
    """Accepts dense FLOP/s by dtype."""
    if not isinstance(value, dict):
        return "wants dtype: FLOP/s"
    rate = whole(10**9, 10**18)
    for dtype, flops_per_s in value.items():
        if dtype not in FLOP_DTYPES:
            return f"knows no dtype {dtype!r}: " + ", ".join(FLOP_DTYPES)
        if why := rate(flops_per_s):
            return f"{dtype} {why}"
    return None


def device_memory(value: Any) -> str | None:
    """Accepts the bytes that a driver reports, or the word `installed`."""
    if value == INSTALLED:
        return None
    why = whole(1 << 20, 1 << 50)(value)
    return why and f"{why}, or the word {INSTALLED}"


def nested(required: Mapping[str, Check], optional: Mapping[str, Check]) -> Check:
    """Accepts a mapping with its own keys."""

    def check(value: Any) -> str | None:
        found = problems(value, required, optional)
        return found[0] if found else None

    return check


def list_of(check_item: Check) -> Check:
    """Accepts a list whose items all pass."""

    def check(value: Any) -> str | None:
        if not isinstance(value, list):
            return "wants a list"
        return next((f"item {i + 1}: {why}" for i, item in enumerate(value) if (why := check_item(item))), None)

    return check


MODEL_REQUIRED: Mapping[str, Check] = {"name": text, "config": model_config, "source": text, "checked": day}


MODEL_OPTIONAL: Mapping[str, Check] = {
    "aliases": text_list,
    "positions": positions,
    "hf_id": text,
    "year": whole(1990, 2100),
    "parameters": whole(1, 10**15),
    "parameters_source": text,
    "confidence": one_of(MODEL_CONFIDENCE),
    "notes": text,
}


DEVICE_REQUIRED: Mapping[str, Check] = {
    "name": text,
    "memory_bytes": device_memory,
    "source": text_list,
    "checked": day,
}


DEVICE_OPTIONAL: Mapping[str, Check] = {
    "aliases": text_list,
    "vendor": text,
    "arch": text,
    "year": whole(1990, 2100),
    "memory_source": text,
    "advertised_gb": number(0.1, 10**6),
    "bandwidth_bytes_per_s": whole(10**6, 10**15),
    "dense_flops_per_s": flops,
    "interconnect": nested({"type": text}, {"bytes_per_s_per_direction": whole(10**6, 10**14)}),
    "pcie_gen": whole(1, 12),
    "tdp_watts": number(0.5, 10**5),
    "prices": list_of(
        nested(
            {"usd_per_hour": number(0.0001, 10**5), "provider": text, "date": day_or_month, "source": text},
            {},
        )
    ),
    "confidence": one_of(DEVICE_CONFIDENCE),
    "notes": text,
}


def problems(entry: Any, required: Mapping[str, Check], optional: Mapping[str, Check]) -> list[str]:
    """Returns what is wrong with `entry`, held against the keys it must and may have."""
    if not isinstance(entry, dict):
        return ["is no mapping of keys to values"]
    found = [f"has no {key!r}" for key in required if key not in entry]
    for key, value in entry.items():
        check = required.get(key) or optional.get(key) if isinstance(key, str) else None
        if check is None:
            found.append(f"has an unknown key {key!r}")
        elif why := check(value):
            found.append(f"{key} {why}")
    return found


def model_problems(entry: Any) -> list[str]:
    """Returns what is wrong with one model's entry."""
    return problems(entry, MODEL_REQUIRED, MODEL_OPTIONAL)


def device_problems(entry: Any) -> list[str]:
    """Returns what is wrong with one device's entry."""
    found = problems(entry, DEVICE_REQUIRED, DEVICE_OPTIONAL)
    if not found and not entry["source"]:
        found.append("source is empty")
    return found


def shared_name(entries: Iterable[tuple[str, Iterable[str]]]) -> str | None:
    """Returns the first look-up key that two entries share, in words; `entries` are pairs of name and keys."""
    owner: dict[str, str] = {}
    for name, keys in entries:
        for key in keys:
            if key in owner:
                return f"{name!r} and {owner[key]!r} share the name {key!r}"
        owner.update((key, name) for key in keys)
    return None

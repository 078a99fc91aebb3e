"""The texts of a command line -> ModelSpec, Request, numbers. No click here: the quick way shares it."""

from __future__ import annotations

import re

from planner.commands.options.tables import HAND, parameter
from planner.dtypes.names import kv_format, weight_format
from planner.errors import BadRequest, UsageError, one_line
from planner.lookup import model_spec
from planner.memory.request import Request
from planner.memory.sharding import Sharding
from planner.model.spec import ModelSpec
from planner.readers.by_hand import by_hand
from planner.units import MAX_COUNT, parse_bytes, parse_tokens

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

RANKS = ("tp", "pp", "ep", "dp", "dcp")


def one_format(as_json: bool, as_csv: bool) -> None:
    if as_json and as_csv:
        raise UsageError("--json and --csv exclude each other; give one of them")


def spec_of(values: dict[str, Any]) -> ModelSpec:
    """The model that the options name; by hand when dimensions are given."""
    dimensions = {parameter(option): maybe_count(values.pop(parameter(option)), option) for option, _, _ in HAND}
    model, config, assume = values.pop("model"), values.pop("config"), values.pop("assume")
    online = values.pop("online", False)
    if any(size is not None for size in dimensions.values()):
        if model is not None or config is not None:
            raise UsageError("a MODEL and dimensions by hand (--layers ...) exclude each other")
        return by_hand(dimensions)
    if model is None and config is None:
        raise UsageError("which MODEL? A name of `kvplan models`, a config.json, or --layers --kv-heads --head-dim")
    if model is not None and config is not None:
        raise UsageError("MODEL and --config both name a model; give one of them")
    return model_spec(model, config=config, assume=assume, online=online)


def request_of(values: dict[str, Any], seq_tokens: int) -> Request:
    """The Request that the options describe, at one length; leaves `values` as they are."""
    kv = values.get("kv_dtype")
    k, v = values.get("k_dtype"), values.get("v_dtype")
    if kv is not None and (k is not None or v is not None):
        raise UsageError("--kv-dtype sets both; give --k-dtype and --v-dtype without it")
    for name in (kv, k, v):
        if name is not None:
            kv_format(name)
    if values.get("dtype") is not None:
        weight_format(values["dtype"])
    activation = values.get("activation")
    return Request(
        seq_tokens=seq_tokens,
        batch=maybe_count(values.get("batch"), "--batch") or 1,
        dtype=values.get("dtype"),
        k_dtype=kv or k,
        v_dtype=kv or v,
        source_tokens=_tokens_or_zero(values.get("source_tokens")),
        sharding=Sharding(**{name: maybe_count(values.get(name), f"--{name}") or 1 for name in RANKS}),
        prefill_tokens=_tokens(values.get("prefill_tokens"), "--prefill-tokens"),
        fused_attention=_fused(values.get("attention")),
        activation_override=None if activation is None else _size_or_zero(activation, "--activation"),
        overhead_override=_overheads(values.get("overhead") or ()),
    )


def _fused(text: str | None) -> bool:
    if text not in (None, "fused", "eager"):
        raise BadRequest(f"--attention {one_line(str(text), 40)!r} is not known; write fused or eager")
    return text != "eager"


def maybe_count(text: str | None, what: str) -> int | None:
    """A whole number of at least 1, None where nothing was given."""
    if text is None:
        return None
    clean = text.strip()
    if not re.fullmatch(r"\d{1,12}(?:_\d{1,12})?", clean, re.ASCII) or not 1 <= int(clean) <= MAX_COUNT:
        raise BadRequest(f"{what} {one_line(text, 40)!r} is not a whole number; write 1 to {MAX_COUNT} without commas")
    return int(clean)


def _tokens_or_zero(text: str | None) -> int | None:
    if text is None:
        return None
    return 0 if text.strip() == "0" else parse_tokens(text, "--source-tokens")


def _tokens(text: str | None, what: str) -> int | None:
    return None if text is None else parse_tokens(text, what)


def _size_or_zero(text: str, what: str) -> int:
    return 0 if text.strip() in ("0", "0B") else parse_bytes(text, what)


def _overheads(items: tuple[str, ...]) -> dict[str, int]:
    lines: dict[str, int] = {}
    for item in items:
        name, equals, size = item.partition("=")
        if not equals or not name.strip().isidentifier():
            raise BadRequest(f"--overhead {one_line(item, 40)!r} is not NAME=SIZE; write for example context=300MiB")
        if name.strip() in lines:
            raise BadRequest(f"--overhead {one_line(name, 40)} is set twice; set it once")
        lines[name.strip()] = _size_or_zero(size, f"--overhead {name.strip()}")
    return lines

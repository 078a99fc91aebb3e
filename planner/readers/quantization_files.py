"""Finds the quantisation config of a checkpoint: in config.json under one of its keys, or in a file beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from planner.errors import BadConfig, one_line
from planner.model.spec import TEXT_ONLY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Files beside config.json, in the order in which vLLM asks for them, and the method that writes each.
BESIDE = {"hf_quant_config.json": "modelopt", "quantize_config.json": "gptq", "quant_config.json": "awq"}


# A part that holds what a quantisation config of its own says in the files of that method.
_SECTION = {"hf_quant_config.json": "quantization"}


def quantization_in(raw: Mapping[str, Any], shown: str) -> Mapping[str, Any] | None:
    """Finds the quantisation that a config states: `quantization_config`, `compression_config` (compressed-tensors),
    `quantization` (MLX).

    `expert_dtype` (DeepSeek-V4) stands beside it at the top and is put with it.
    """
    for key in ("quantization_config", "compression_config", "quantization"):
        value = raw.get(key)
        if value is None:
            continue
        if not isinstance(value, Mapping):
            raise BadConfig(f"{shown}: key {key!r} is {one_line(repr(value), 40)}; an object is wanted")
        if not value:
            continue
        found = dict(value)
        if key == "compression_config":
            found.setdefault("quant_method", "compressed-tensors")
        if "expert_dtype" in raw and "expert_dtype" not in found:
            found["expert_dtype"] = raw["expert_dtype"]
        return found
    return None


def quantization_of_part(text: Mapping[str, Any], shown: str) -> Mapping[str, Any] | None:
    """Finds the quantisation that the text model's section states, which says nothing of the towers beside it (Kimi
    K2.5).
    """
    found = quantization_in(text, shown)
    return None if found is None else {**found, TEXT_ONLY: True}


def quantization_beside(read: Callable[[str], Mapping[str, Any] | None]) -> tuple[Mapping[str, Any], str] | None:
    """Returns (config, file name) from the first file beside config.json that is there; `read` gives its object or
    None.
    """
    for name, method in BESIDE.items():
        raw = read(name)
        if raw is None:
            continue
        inner = raw.get(_SECTION.get(name, ""), raw)
        if not isinstance(inner, Mapping):
            raise BadConfig(f"{name}: key 'quantization' is {one_line(repr(inner), 40)}; an object is wanted")
        return {"quant_method": method, **inner}, name
    return None

"""Reads which weights of a checkpoint have which format from its quantisation config."""

from __future__ import annotations

import re
from collections.abc import Mapping

from planner.dtypes.kinds import WeightFormat
from planner.dtypes.names import canonical, float_dtype, weight_format
from planner.errors import one_line
from planner.memory.weight_formats import UNTOUCHED, WeightPlan
from planner.model.spec import ModelSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# A name in `modules_to_not_convert` / `ignore` / `exclude_modules` that spares a whole part.
_PART_NAMES = (
    (r"shared_expert", "shared_experts"),
    (r"experts", "experts"),
    (r"self_attn|attention|\battn\b|mixer", "attention"),
    (r"\bmlp$|\.mlp\.\*|feed_forward|mlp\\\.\([a-z_|]+\)_proj", "mlp"),
    (r"linear_attn|mamba|conv", "mixer"),
)


_NEVER_QUANTISED = r"norm|router|(^|\.)gate$|embed|lm_head"


_PART_OF_A_PART = r"layers\.\d+|[a-z]_proj\b|\bfc\d"  # one layer, or one matrix of each


def weight_plan(spec: ModelSpec, dtype: str | None = None) -> WeightPlan:
    """The plan for `dtype`, or what the checkpoint's headers say, or its config, or 16 bit where it says nothing."""
    if dtype is None and spec.stored is not None:
        from planner.memory.stored_plan import stored_plan  # only where there is a checkpoint

        return stored_plan(spec, spec.stored)
    float_name = spec.dtype or "bf16"
    if dtype is not None:
        fmt = weight_format(dtype)
        if float_dtype(dtype):
            return WeightPlan(fmt, fmt, words=f"weights in {fmt.name}")
        exactness = "estimated" if fmt.estimated else "exact"
        kept = "" if fmt.everywhere else f"; embedding, head, norms and router stay {float_name}"
        return WeightPlan(fmt, weight_format(float_name), exactness=exactness, words=f"weights in {fmt.name}{kept}")
    if spec.quantization:
        return _from_config(spec.quantization, float_name)
    if spec.dtype:
        return WeightPlan(
            weight_format(spec.dtype), weight_format(spec.dtype), words=f"weights in {spec.dtype}, as the config says"
        )
    fmt = weight_format("bf16")
    return WeightPlan(fmt, fmt, words="weights in 16 bit (bf16): the config names no dtype")


def _from_config(config: Mapping[str, Any], float_name: str) -> WeightPlan:
    method = str(config.get("quant_method") or config.get("quant_algo") or "").lower()
    fmt = _READERS.get(method, lambda _: None)(config)
    float_fmt = weight_format(float_name)
    if fmt is None:
        shown = one_line(method or "without a quant_method", 40)
        warning = (
            f"quantization_config {shown!r} is not read: weights counted in {float_name}, an upper bound; "
            "give --dtype to say what they are stored in"
        )
        return WeightPlan(
            float_fmt, float_fmt, exactness="upper bound", words=f"weights in {float_name}", warnings=(warning,)
        )
    spared, partial = _spared(config)
    warnings = (
        () if not partial else ("some single layers or matrices stay unquantised; they are counted as quantised",)
    )
    return WeightPlan(
        fmt, float_fmt, UNTOUCHED | spared, "estimated" if partial or fmt.estimated else "exact",
        f"weights in {fmt.name} as quantization_config says; embedding, head, norms, router{_also(spared)} stay {float_name}",
        warnings,
    )  # fmt: skip


def _also(spared: frozenset[str]) -> str:
    return "".join(f", {part}" for part in sorted(spared))


def _spared(config: Mapping[str, Any]) -> tuple[frozenset[str], bool]:
    """(parts that stay float, whether single layers do too)."""
    names: list[str] = []
    for key in ("modules_to_not_convert", "ignore", "exclude_modules", "ignored_layers", "llm_int8_skip_modules"):
        value = config.get(key)
        if isinstance(value, (list, tuple)):
            names += [name for name in value if isinstance(name, str)]
    parts, partial = set(), False
    for name in names:
        if re.search(_NEVER_QUANTISED, name):
            continue
        found = {part for pattern, part in _PART_NAMES if re.search(pattern, name.removeprefix("re:"))}
        if "experts" in found and "shared_experts" in found:
            found.discard("experts")
        if re.search(_PART_OF_A_PART, name):
            partial = True
        else:
            parts |= found
    return frozenset(parts), partial


def _fp8(config: Mapping[str, Any]) -> WeightFormat:
    block = config.get("weight_block_size")
    if isinstance(block, str):  # compressed-tensors writes "128x128", too
        block = [int(side) if side.isascii() and side.isdigit() and len(side) < 7 else 0 for side in block.split("x")]
    if isinstance(block, (list, tuple)) and len(block) == 2 and all(type(n) is int and 0 < n < 10**6 for n in block):
        return WeightFormat("fp8_block", (8, 1), block[0], block[1], 32)
    return weight_format("fp8")


def _grouped(name: str, config: Mapping[str, Any], zero: bool) -> WeightFormat | None:
    """Integer codes with an fp16 scale a group, and a packed zero point when `zero`."""
    bits = config.get("bits", config.get("w_bit", config.get("num_bits", 4)))
    group = config.get("group_size", config.get("q_group_size", 128))
    if type(bits) is not int or bits not in (2, 3, 4, 8) or type(group) is not int or not -1 <= group <= 10**6:
        return None
    return WeightFormat(f"{name}_int{bits}", (bits, 1), 1, max(0, group), 16 + (bits if zero else 0))


def _awq(config: Mapping[str, Any]) -> WeightFormat | None:
    return _grouped("awq", config, zero=config.get("zero_point", True) is not False)


def _gptq(config: Mapping[str, Any]) -> WeightFormat | None:
    return _grouped("gptq", config, zero=True)  # the packed layout holds zeros even when symmetric


def _bitsandbytes(config: Mapping[str, Any]) -> WeightFormat:
    if config.get("load_in_8bit") or config.get("_load_in_8bit"):
        return weight_format("int8")
    return weight_format("nf4_dq" if config.get("bnb_4bit_use_double_quant") else "nf4")


def _compressed_tensors(config: Mapping[str, Any]) -> WeightFormat | None:
    groups = config.get("config_groups")
    each = groups.values() if isinstance(groups, Mapping) else ()
    found = [group.get("weights") if isinstance(group, Mapping) else None for group in each]
    weights = found[0] if found else None
    if not isinstance(weights, Mapping):
        return None
    keys = ("num_bits", "type", "group_size", "strategy", "block_structure", "symmetric")
    if any(
        not isinstance(other, Mapping) or any(other.get(key) != weights.get(key) for key in keys) for other in found
    ):
        return None  # several formats in one checkpoint: which matrix has which is not read
    bits, kind, group = weights.get("num_bits"), weights.get("type"), weights.get("group_size")
    if kind == "float":
        if bits == 4:
            return weight_format("nvfp4" if group == 16 else "mxfp4")
        block = weights.get("block_structure")
        return (
            _fp8({"weight_block_size": block})
            if block
            else weight_format("fp8_channel" if weights.get("strategy") == "channel" else "fp8")
        )
    if bits == 8 and not group:
        return weight_format("int8")
    return _grouped("int", {"bits": bits, "group_size": group or 0}, zero=weights.get("symmetric") is False)


def _modelopt(config: Mapping[str, Any]) -> WeightFormat | None:
    algo = str(config.get("quant_algo") or "").upper()
    if "NVFP4" in algo or "FP4" in algo:
        return weight_format("nvfp4")
    if algo.startswith("FP8"):
        return weight_format("fp8")
    return _compressed_tensors(config)


_READERS = {
    "fp8": _fp8,
    "fbgemm_fp8": lambda config: weight_format("fp8_channel"),
    "finegrained_fp8": _fp8,
    "awq": _awq,
    "gptq": _gptq,
    "auto-round": _gptq,
    "bitsandbytes": _bitsandbytes,
    "mxfp4": lambda config: weight_format("mxfp4"),
    "nvfp4": lambda config: weight_format("nvfp4"),
    "modelopt": _modelopt,
    "modelopt_fp4": lambda config: weight_format("nvfp4"),
    "compressed-tensors": _compressed_tensors,
}


def format_of_kv(config: Mapping[str, Any] | None) -> str | None:
    """What a quantised checkpoint says of its KV cache; kvplan only repeats it, and never applies it unasked."""
    if not config:
        return None
    for key in ("kv_cache_scheme", "kv_cache_quant_algo"):
        value = config.get(key)
        if isinstance(value, Mapping) and value.get("num_bits") == 8:
            return "fp8" if value.get("type") == "float" else "int8"
        if isinstance(value, str) and canonical(value) in ("fp8", "int8", "nvfp4"):
            return canonical(value)
    return None

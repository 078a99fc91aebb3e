"""Reads the configs of compressed-tensors and of NVIDIA ModelOpt: groups of modules with a format each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from planner.dtypes.kinds import WeightFormat
from planner.dtypes.names import weight_format
from planner.errors import one_line
from planner.memory.module_names import matcher
from planner.memory.recipes import (
    Recipe,
    Rule,
    block_fp8,
    by_format,
    few,
    integers,
    unread_all,
)
from planner.memory.weight_formats import UNTOUCHED
from planner.model.weights import TOWERS


def compressed_format(weights: object, layout: str = "", *, version: str = "") -> WeightFormat | None:
    """Reads the `weights` of one config group; `layout` is its `format` (sparse ones store half the codes and where they lie),
    `version` that of the writer."""
    if not isinstance(weights, Mapping):
        return None
    bits, kind, group = weights.get("num_bits"), weights.get("type"), weights.get("group_size")
    fmt: WeightFormat | None
    if kind == "float" and bits == 4:
        fmt = weight_format("nvfp4" if group == 16 else "mxfp4")
    elif kind == "float" and bits == 8:
        if group == 32:
            fmt = weight_format("mxfp8")
        elif weights.get("block_structure") or weights.get("strategy") == "block":
            fmt = block_fp8({"weight_block_size": weights.get("block_structure") or [128, 128]})
        else:
            fmt = weight_format("fp8_channel" if weights.get("strategy") == "channel" else "fp8")
    elif kind == "int" and bits == 8 and not group:
        fmt = weight_format("int8")
    elif kind == "int" and isinstance(bits, int):
        fmt = _integer(bits, group, zeros=weights.get("symmetric") is False, layout=layout, version=version)
    else:
        return None
    return _sparse(fmt, layout) if fmt is not None else None


def _integer(bits: int, group: object, *, zeros: bool, layout: str, version: str) -> WeightFormat | None:
    """Codes packed into int32; `int-quantized` and `naive-quantized` keep a byte a code.

    Source: compressed_tensors 0.17 compressors/format.py: integers beside quantised activations (W4A8) are not packed. Codes of
    3, 5, 6 and 7 bits went whole into an int32 until 0.17, and lie across two from 0.18 (pull request 732).
    """
    fmt = integers("int", bits, group or 0, group_bits=16 + (bits if zeros else 0))
    if fmt is None or bits > 8:
        return fmt
    if layout in ("int-quantized", "naive-quantized"):
        return replace(fmt, bits=(8, 1))
    return replace(fmt, bits=(32, 32 // bits)) if 32 % bits and not _dense(version) else fmt


def _dense(version: str) -> bool:
    """Whether a version of compressed-tensors, 0.18 and later, leaves no bit of an int32 free."""
    numbers = version.split(".")[:2]
    return (
        len(numbers) == 2
        and all(n.isascii() and n.isdigit() and len(n) < 5 for n in numbers)
        and [int(n) for n in numbers] >= [0, 18]
    )


def _sparse(fmt: WeightFormat, layout: str) -> WeightFormat:
    """2:4 sparsity: half the codes, and 2 bits for each kept one (Marlin) or 1 for each place (bitmask)."""
    numerator, denominator = fmt.bits
    if layout in ("marlin-24", "sparse-24", "sparse-24-bitmask"):
        # half of the codes, and one bit a place: as two bits for each of the two kept of four, or as a mask
        return replace(fmt, name=f"{fmt.name}_2:4", bits=(numerator + 2 * denominator, 2 * denominator))
    return fmt


def compressed_tensors(config: Mapping[str, Any]) -> Recipe:
    """Reads compressed-tensors: each group's `targets` (Linear, a name, `re:`) have its `weights`; a name goes before
    an expression before a class.
    """
    groups = config.get("config_groups")
    if not isinstance(groups, Mapping) or not groups:
        sparse = config.get("sparsity_config")
        return (
            _sparse_only(sparse) if isinstance(sparse, Mapping) else unread_all("compressed-tensors: no config_groups")
        )
    default: WeightFormat | None = None
    exact, wide, unread = [], [], []
    for name, group in groups.items():
        if not isinstance(group, Mapping):
            return unread_all(f"compressed-tensors: group {one_line(str(name), 40)!r} is no object")
        layout = str(group.get("format") or config.get("format") or "")
        fmt = compressed_format(
            group.get("weights"), _sparse_layout(config, layout), version=str(config.get("version"))
        )
        if group.get("weights") is None or layout == "dense":
            continue  # activations or cache only; weights that were not compressed
        if fmt is None:
            unread.append(f"compressed-tensors: the weights of group {one_line(str(name), 40)!r}")
        targets = group.get("targets")
        for target in targets if isinstance(targets, (list, tuple)) else ["Linear"]:
            if target in _CLASSES and default is not None and fmt is not None and not _same(default, fmt):
                return unread_all("compressed-tensors: two groups have a format for every linear layer")
            elif target in _CLASSES:
                default = default or fmt
            elif target in ("Embedding", "VocabParallelEmbedding"):
                exact.append(("embed_tokens", fmt))
            elif isinstance(target, str) and target.isidentifier() and target[0].isupper():
                unread.append(f"compressed-tensors: modules of class {one_line(target, 40)!r}")
            elif isinstance(target, str) and not target.startswith("re:"):
                exact.append((target, fmt))
            else:
                wide.append(Rule(matcher([target]), fmt))
    if default is None and not exact and not wide and not unread and config.get("format") != "dense":
        unread.append("compressed-tensors: no group has weights")
    # a head that a list of `ignore` does not name is a linear layer as all others
    listed = default is not None and isinstance(config.get("ignore"), list)
    reached = TOWERS | {"lm_head"} if listed else TOWERS
    return Recipe(default, (*by_format(exact), *few(wide)), UNTOUCHED - reached, unread=tuple(unread[:2]))


_CLASSES = ("Linear", "LinearBase", "FusedMoE", "Conv1D")


def _same(one: WeightFormat, other: WeightFormat) -> bool:
    return (one.name, one.bits, one.group_rows, one.group_cols) == (
        other.name,
        other.bits,
        other.group_rows,
        other.group_cols,
    )


def _sparse_layout(config: Mapping[str, Any], layout: str) -> str:
    sparse = config.get("sparsity_config")
    if isinstance(sparse, Mapping) and str(sparse.get("sparsity_structure")) == "2:4":
        named = str(sparse.get("format") or "")
        if named not in ("", "dense"):
            return named
    return layout


def _sparse_only(sparse: Mapping[str, Any]) -> Recipe:
    """Sparse and not quantised: 2:4 files hold half of the 16-bit weights and a bit a place; dense ones all of them."""
    if str(sparse.get("format")) == "dense":
        return Recipe(None)
    if str(sparse.get("format")) in ("sparse-24-bitmask", "sparse-24"):
        return Recipe(WeightFormat("bf16_2:4", (9, 1)))
    return unread_all("compressed-tensors: sparsity alone")


_ALGORITHMS = {
    "FP8": "fp8", "FP8_PER_TENSOR": "fp8", "FP8_PER_CHANNEL_PER_TOKEN": "fp8_channel", "FP8_PB_WO": "fp8_block",
    "FP8_PB_REAL": "fp8_block", "NVFP4": "nvfp4", "NVFP4_AWQ": "nvfp4", "NVFP4_SVD": "nvfp4", "W4A16_NVFP4": "nvfp4",
    "NVFP4_W4A16": "nvfp4", "W4A8_NVFP4_FP8": "nvfp4", "MXFP4": "mxfp4", "W4A8_MXFP4_FP8": "mxfp4", "MXFP8": "mxfp8",
    "INT8_SQ": "int8", "W8A8_SQ_PER_CHANNEL": "int8", "W8A16": "int8",
}  # fmt: skip


def _algorithm(config: Mapping[str, Any]) -> WeightFormat | None:
    """The format of one ModelOpt algorithm; W4A16_AWQ and W4A8_AWQ are int4 in groups, their scales written in fp32."""
    algorithm = str(config.get("quant_algo") or "").upper()
    if algorithm in _ALGORITHMS:
        fmt = weight_format(_ALGORITHMS[algorithm])
        wide = config.get("group_size") == 32 or algorithm == "W4A8_NVFP4_FP8"  # its groups, where none are said
        return replace(fmt, group_cols=32) if fmt.name == "nvfp4" and wide else fmt
    if algorithm.startswith(("W4A16", "W4A8", "INT4")):
        return integers("int", 4, config.get("group_size"), group_bits=32)
    return None


_NO_LIST = "hf_quant_config.json has no exclude_modules, the list of what stays in 16 bit that ModelOpt writes"


def _without_list(config: Mapping[str, Any]) -> bool:
    """Whether a file (its section names the cache's format, too) says a format and not which modules have it."""
    return "kv_cache_quant_algo" in config and not any(key in config for key in ("exclude_modules", "ignore"))


def modelopt(config: Mapping[str, Any]) -> Recipe:
    """Reads NVIDIA ModelOpt: one algorithm, or MIXED_PRECISION with the layers that have each in `quantized_layers`."""
    algorithm = str(config.get("quant_algo") or "").upper()
    if algorithm != "MIXED_PRECISION":
        fmt = _algorithm(config)
        if fmt is None and "config_groups" in config:
            return compressed_tensors(config)
        if fmt is None:
            return unread_all(f"ModelOpt {one_line(algorithm, 40)!r}")
        return Recipe(fmt, untouched=UNTOUCHED - TOWERS, least=_NO_LIST if _without_list(config) else "")
    layers = config.get("quantized_layers")
    named, unread = [], []
    for name, given in layers.items() if isinstance(layers, Mapping) else ():
        fmt = _algorithm(given) if isinstance(given, Mapping) else None
        if fmt is None:
            unread.append(f"ModelOpt: the format of {one_line(str(name), 40)!r}")
        else:
            named.append((str(name), fmt))
    found = list(by_format(named))
    experts = _algorithm({"quant_algo": config.get("moe_quant_algo"), "group_size": config.get("group_size")})
    if experts is not None and not found:
        found.append(Rule(matcher(["experts"]), experts))
    if not found and not unread:
        if isinstance(config.get("config_groups"), Mapping):
            return compressed_tensors(config)
        unread.append("ModelOpt MIXED_PRECISION without quantized_layers")
    return Recipe(None, tuple(found), UNTOUCHED - TOWERS, unread=tuple(unread[:1]))

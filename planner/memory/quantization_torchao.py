"""Reads the configs of torchao and of AMD Quark: a format for all, others by module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from planner.dtypes.kinds import WeightFormat
from planner.dtypes.names import weight_format
from planner.errors import one_line
from planner.memory.module_names import matcher
from planner.memory.recipes import (
    Recipe,
    Rule,
    by_format,
    few,
    first,
    integers,
    unread_all,
    whole,
)
from planner.memory.weight_formats import UNTOUCHED
from planner.model.weights import TOWERS


def torchao(config: Mapping[str, Any]) -> Recipe:
    """Reads torchao's serialised config: {"default": {"_type": "Int4WeightOnlyConfig", "_data": {...}}}, or one a
    module.
    """
    given = config.get("quant_type")
    inner = given.get("default") if isinstance(given, Mapping) and "default" in given else given
    kind, data = _torchao_named(inner, config)
    untouched = UNTOUCHED - TOWERS
    if config.get("include_input_output_embeddings") is True:
        untouched -= {"embedding", "lm_head"}
    if kind in ("ModuleFqnToConfig", "FqnToConfig"):
        table = first(data, "module_fqn_to_config", "fqn_to_config")
        return _torchao_by_module(table, config, untouched)
    fmt = _torchao_format(kind, data)
    return Recipe(fmt, untouched=untouched) if fmt else unread_all(f"torchao {one_line(kind, 40)!r}")


def _torchao_named(inner: object, config: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    if isinstance(inner, Mapping):
        data = inner.get("_data")
        return str(inner.get("_type") or ""), data if isinstance(data, Mapping) else {}
    more = config.get("quant_type_kwargs")
    return str(inner or ""), more if isinstance(more, Mapping) else {}


def _torchao_by_module(table: object, config: Mapping[str, Any], untouched: frozenset[str]) -> Recipe:
    """Names and `re:` expressions with a config each; `_default` for the rest."""
    if not isinstance(table, Mapping):
        return unread_all("torchao ModuleFqnToConfig without a table")
    default, rules = None, []
    for name, given in table.items():
        kind, data = _torchao_named(given, {})
        fmt = None if given is None else _torchao_format(kind, data)
        if given is not None and fmt is None:
            return unread_all(f"torchao {one_line(kind, 40)!r} for {one_line(str(name), 40)!r}")
        if name == "_default":
            default = fmt
        else:
            rules.append((str(name), fmt))
    expressions = [Rule(matcher([name]), fmt) for name, fmt in rules if name.startswith("re:")]
    names = by_format(pair for pair in rules if not pair[0].startswith("re:"))
    return Recipe(default, (*names, *few(expressions)), untouched)


def _torchao_format(kind: str, data: Mapping[str, Any]) -> WeightFormat | None:
    """int4: scale and zero in bf16 a group (128); int8 and fp8: an fp32 scale a row, int8 a zero of a byte, too; intx lies unpacked in a byte a weight."""
    name = kind.replace("_", "").lower()
    if name.startswith(("intxweightonly", "int8dynamicactivationint4weight", "int8dynamicactivationintxweight")):
        return _unpacked(data, 32 if "dynamic" in name else 0)
    if name.startswith("fpx"):
        exponent, mantissa = whole(data.get("ebits"), 3, 1, high=8), whole(data.get("mbits"), 2, 0, high=8)
        if exponent is None or mantissa is None:
            return None
        return WeightFormat(f"fp{1 + exponent + mantissa}", (1 + exponent + mantissa, 1), 1, 0, 16)
    if name.startswith("float8dynamicactivationint4weight"):
        return WeightFormat("torchao_int4", (4, 1), 1, 128, 16)
    group = whole(data.get("group_size"), 128)
    if name.startswith("int4weightonly"):
        return None if group is None else WeightFormat("torchao_int4", (4, 1), 1, group, 32)
    if name.startswith(("int8weightonly", "int8dynamicactivationint8weight")):
        return WeightFormat("int8", (8, 1), 1, 0, 40)
    if name.startswith(("float8weightonly", "float8dynamicactivationfloat8weight", "float8staticactivation")):
        return weight_format("fp8_channel")
    if name.startswith(("nvfp4",)):
        return weight_format("nvfp4")
    if name.startswith("mxfp8") or name.startswith("mxfpinference"):
        return weight_format("mxfp8")
    return None


def _unpacked(data: Mapping[str, Any], usual: int) -> WeightFormat | None:
    """Any intx a byte (IntxUnpackedToInt8Tensor), with a bf16 scale and an int8 zero point a group or row.

    Packed layouts, for phones, are their kernels' own and not read.
    """
    packing = data.get("intx_packing_format") or "unpacked"
    if isinstance(packing, Mapping):  # an enumeration: its member's name
        packing = packing.get("_data")
    if not str(packing).lower().startswith("unpacked"):
        return None
    granularity = first(data, "weight_granularity", "granularity")
    inner = granularity.get("_data") if isinstance(granularity, Mapping) else None
    per_row = isinstance(granularity, Mapping) and "Axis" in str(granularity.get("_type"))
    given = inner.get("group_size") if isinstance(inner, Mapping) else data.get("group_size")
    group = 0 if per_row else whole(given, usual, 0)
    return None if group is None else WeightFormat("torchao_intx", (8, 1), 1, group, 24)


def quark(config: Mapping[str, Any]) -> Recipe:
    """Reads AMD Quark: a global format, formats of layers by pattern, and `exclude`."""
    top = config.get("global_quant_config")
    default = _quark_format(top.get("weight") if isinstance(top, Mapping) else None)
    if default is None:
        return unread_all("quark: the weight format of global_quant_config")
    rules = []
    layers = config.get("layer_quant_config")
    for pattern, given in layers.items() if isinstance(layers, Mapping) else ():
        weight = given.get("weight") if isinstance(given, Mapping) else None
        fmt = _quark_format(weight)
        if fmt is None and weight is not None:
            return unread_all(f"quark: the weight format of {one_line(str(pattern), 40)!r}")
        rules.append(Rule(matcher([str(pattern)]), fmt))
    return Recipe(default, tuple(few(rules)), UNTOUCHED - TOWERS)


def _quark_format(weight: object) -> WeightFormat | None:
    """One tensor's `dtype`, `qscheme` and `group_size` (as Quark 0.13 writes them); of a list of two, int4 inside fp8, what is stored is the int4."""
    if isinstance(weight, (list, tuple)) and weight:
        fours = [one for one in weight if isinstance(one, Mapping) and str(one.get("dtype")).endswith("int4")]
        weight = fours[0] if fours else weight[0]
    if not isinstance(weight, Mapping):
        return None
    dtype, scheme = str(weight.get("dtype") or "").lower(), str(weight.get("qscheme") or "")
    grouped = weight.get("group_size")
    if dtype.startswith("fp8"):
        return weight_format("mxfp8" if grouped == 32 else "fp8_channel" if "channel" in scheme else "fp8")
    if dtype in ("fp4", "mxfp4"):
        return weight_format("nvfp4" if grouped == 16 else "mxfp4")
    if dtype in ("fp6_e2m3", "fp6_e3m2", "mxfp6_e2m3", "mxfp6_e3m2"):
        return WeightFormat("mxfp6", (6, 1), 1, 32, 8)
    if dtype in ("int8", "uint8"):
        return WeightFormat("int8", (8, 1), 0, 0, 32) if "tensor" in scheme else weight_format("int8")
    if dtype in ("int4", "uint4"):  # symmetric ones hold zero points, too
        group = whole(grouped, 0, -1)
        return None if group is None else integers("quark", 4, group, group_bits=20)
    return None

"""Reads the configs of MLX: a format for all matrices that can have it, and others by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from planner.dtypes.kinds import WeightFormat
from planner.dtypes.names import weight_format
from planner.errors import one_line
from planner.memory.module_names import matcher
from planner.memory.recipes import MODEL_TYPE, Recipe, Rule, by_format, or_unread, unread_all, whole
from planner.model.weights import TOWERS

# Their router is a bare array in mlx-lm, which quantises modules alone. Source: mlx-lm 0.32.2 models/, `class MoEGate`
_BARE_ROUTER = frozenset((
    "deepseek", "deepseek_v2", "deepseek_v3", "deepseek_v32", "deepseek_v41", "glm_moe_dsa", "kimi_k2", "kimi_k25", "kimi_vl",
    "mistral4", "solar_open", "dots1", "exaone_moe", "glm4_moe", "glm4_moe_lite", "mimo_v2_flash", "muse_spark", "nemotron_h",
    "bailing_moe_v3",
))  # fmt: skip


def affine(bits: object, group: object, mode: str = "affine") -> WeightFormat | None:
    """Builds MLX's formats: codes with a scale and a bias in the float type a group (64); mxfp4, mxfp8, nvfp4 with
    their own.
    """
    if mode in ("mxfp4", "mxfp8", "nvfp4"):
        return weight_format(mode)
    width, columns = whole(bits, 4, 1, high=8), whole(group, 64)
    if width is None or columns is None or mode != "affine":
        return None
    return WeightFormat(f"mlx_int{width}", (width, 1), 1, columns, 32)


def metal(config: Mapping[str, Any]) -> Recipe:
    """Reads transformers' `metal`: MLX's affine codes in the linear layers."""
    if config.get("dequantize") is True:
        return unread_all("metal asks to dequantise at load")
    return or_unread(affine(config.get("bits"), config.get("group_size")), "metal")


def mlx(config: Mapping[str, Any]) -> Recipe:
    """Reads mlx-lm: every linear layer, the embedding and the head; entries by module override or leave out (false).

    A matrix whose columns are no multiple of the group stays in the float type (`quantize_model` of mlx-lm 0.32.2).
    """
    default = affine(config.get("bits"), config.get("group_size"), str(config.get("mode") or "affine"))
    if default is None:
        return unread_all("mlx: bits, group_size or mode not understood")
    named: list[tuple[str, WeightFormat | None]] = []
    unread = []
    for name, given in config.items():
        if given is False and name not in ("bits", "group_size", "mode"):
            named.append((name, None))
        elif isinstance(given, Mapping):
            fmt = affine(given.get("bits"), given.get("group_size"), str(given.get("mode") or "affine"))
            named.append((str(name), fmt))
            unread += [] if fmt else [f"mlx: the format of {one_line(str(name), 40)!r}"]
    rules = by_format(named)
    if config.get(MODEL_TYPE) in _BARE_ROUTER:
        rules += (Rule(matcher(["mlp.gate", "mixer.gate"]), None),)
    return Recipe(default, rules, frozenset({"norm", *TOWERS}), unread=tuple(unread[:1]), columns=default.group_cols)

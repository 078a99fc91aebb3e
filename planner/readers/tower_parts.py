"""Pieces of vision and audio towers, as weights: sections of a config, tables, patches, a plain transformer, a projector."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from planner.errors import BadConfig
from planner.model.attention import Attention
from planner.model.mlp import Mlp
from planner.model.weights import Weight, linear, vector
from planner.readers.fields import MAX_LAYERS, Fields
from planner.units import product

Weights = tuple[Weight, ...]
VISION, AUDIO, PROJECTOR = "vision", "audio", "projector"


Renames = Mapping[str, "str | tuple[str, ...]"]


def section(f: Fields, key: str, defaults: Mapping[str, Any], *, renames: Renames | None = None) -> Fields | None:
    """Reads one tower's keys with its class defaults; None where the file has no such tower."""
    raw = f.section(key)
    if raw is None:
        return None
    return Fields(raw, where=f"{f.where}: {key}", defaults=defaults, renames=renames)


def placed(part: str, weights: Weights, count: int = 1) -> Weights:
    """Moves weights to `part`, `count` copies of them."""
    return tuple(replace(weight, part=part, count=weight.count * count) for weight in weights)


def table(part: str, rows: int, cols: int, *, count: int = 1) -> Weight:
    """Builds a learned table (positions, tiles): it is looked up, never quantised."""
    return Weight(part, rows, cols, count, linear=False)


def both_sides(f: Fields, key: str) -> tuple[int, int]:
    """Reads height and width: one number stands for both."""
    value = f.get(key)
    if isinstance(value, (list, tuple)):
        sides = f.int_list(key, low=1) or []
        if len(sides) != 2:
            raise f.wrong(key, value, "a number or two")
        return sides[0], sides[1]
    side = f.int(key)
    return side, side


def patch_elements(f: Fields, channels: str = "num_channels") -> int:
    """Counts the inputs of the patch embedding: channels x height x width of one patch."""
    return f.int(channels, 3) * product(both_sides(f, "patch_size"))


def patch_count(f: Fields) -> int:
    """Counts the patches of one image."""
    (high, wide), (patch_high, patch_wide) = both_sides(f, "image_size"), both_sides(f, "patch_size")
    if high < patch_high or wide < patch_wide:
        raise BadConfig(f"{f.where}: image_size {high} x {wide} is smaller than one patch")
    return (high // patch_high) * (wide // patch_wide)


def transformer(
    f: Fields,
    width: int,
    *,
    layers: str = "num_hidden_layers",
    heads: str = "num_attention_heads",
    ffn: int | None = None,
    attention: Mapping[str, Any] | None = None,
    gated: bool = False,
    mlp_bias: bool = True,
    norm_vectors: int = 4,
    more: Weights = (),
) -> Weights:  # parameters: what it makes is made of, each by name
    """Lists the weights of the equal layers of an encoder: attention (biased unless told), MLP, norms, `more`."""
    heads_count = f.int(heads)
    if width % heads_count:
        raise BadConfig(f"{f.where}: width {width} is not a multiple of {heads_count} heads")
    options: dict[str, Any] = {
        "kv_heads": heads_count, "head_dim": width // heads_count, "qkv_bias": True, "out_bias": True
    }  # fmt: skip
    mixer = Attention(width, heads_count, **{**options, **(attention or {})})
    mlp = Mlp(width, f.int("intermediate_size") if ffn is None else ffn, gated, mlp_bias)
    one = (*mixer.weights(), *mlp.weights(), vector(VISION, width, norm_vectors), *more)
    return placed(VISION, one, f.int(layers, high=MAX_LAYERS))


def two_layers(width_in: int, width: int, width_out: int, *, bias: bool, part: str = PROJECTOR) -> Weights:
    """Lists the weights of an MLP of two linear layers that joins a tower to the text model."""
    return linear(part, width, width_in, bias=bias) + linear(part, width_out, width, bias=bias)


def video_patch(v: Fields, width: int, *, bias: bool) -> Weights:
    """Lists the weights of a convolution over frames and pixels: [width, channels x frames x height x width]."""
    elements = patch_elements(v, "in_channels") * v.int("temporal_patch_size")
    return linear(VISION, width, elements, bias=bias)

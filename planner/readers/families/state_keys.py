"""What the families of recurrent layers share: kinds, keys and small rules of their plans."""

from __future__ import annotations

from typing import Any

from planner.errors import BadConfig, UnsupportedModel
from planner.readers.fields import Fields
from planner.readers.layer_kinds import FULL, NONE, all_of, layer_count, listed, periodic
from planner.readers.model_types import LayerKinds

LINEAR, CONV, HYBRID, TIED = "linear_attention", "conv", "hybrid", "hybrid_tied"

# Keys that only the layers of one kind read; a file holds them also where it has no such layer.
ATTENTION_KEYS = ("num_key_value_heads", "head_dim")
MAMBA_KEYS = ("mamba_d_conv", "mamba_d_state", "mamba_expand", "mamba_n_heads")
DELTA_KEYS = (
    "linear_conv_kernel_dim",
    "linear_key_head_dim",
    "linear_num_key_heads",
    "linear_num_value_heads",
    "linear_value_head_dim",
)

# Old and new names of the same layers; transformers maps the first pair of names to the second.
NAMES = {"mamba": LINEAR, "attention": FULL, LINEAR: LINEAR, FULL: FULL}
# One norm and one mixer a layer, no MLP.
MIXER_ONLY: dict[str, Any] = {"kinds": all_of(LINEAR), "mlp_kinds": all_of(NONE)}


def by_index(key: str, at: str, otherwise: str) -> LayerKinds:
    """Layers listed under `key` are `at` (Bamba: attn_layer_indices); an absent list is empty."""

    def kinds(f: Fields) -> list[str]:
        count = layer_count(f)
        chosen = set(layer_indices(f, key, f.int_list(key) or [], count))
        return [at if i in chosen else otherwise for i in range(count)]

    return kinds


def layer_indices(f: Fields, key: str, values: list[int], count: int) -> list[int]:
    for value in values:
        if value >= count:
            raise BadConfig(f"{f.where}: key {f.file_key(key)!r} names layer {value} of {count}")
    return values


def inside_period(period_key: str, offset_key: str, at: str, otherwise: str) -> LayerKinds:
    """As `periodic`; an offset outside the period would never be met, so it is refused."""
    inner = periodic(period_key, offset_key, at, otherwise)

    def kinds(f: Fields) -> list[str]:
        period, offset = f.int(period_key), f.int(offset_key, low=0)
        if offset >= period:
            raise BadConfig(f"{f.where}: key {f.file_key(offset_key)!r} is {offset} in a period of {period}")
        return inner(f)

    return kinds


def auto_width(f: Fields, key: str, derived: int) -> int:
    """A number, or "auto" / null / absent: what the type derives."""
    value = f.get(key)
    return derived if value is None or value == "auto" else f.int(key)


def check_multiple(f: Fields, key: str, count: int, of: str, base: int) -> None:
    if count % base:
        raise BadConfig(
            f"{f.where}: key {f.file_key(key)!r} is {count}; a multiple of {f.file_key(of)} {base} is wanted"
        )


def warn_once(f: Fields, words: str) -> None:
    if words not in f.warnings:
        f.warnings.append(words)


def required_list(key: str, names: dict[str, str]) -> LayerKinds:
    """A type whose file must list its layers."""

    def missing(f: Fields) -> list[str]:
        raise UnsupportedModel(f"{f.where}: key {f.file_key(key)!r} is missing; it says what each layer is")

    return listed(key, names, missing)

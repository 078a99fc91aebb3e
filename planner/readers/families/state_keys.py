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
    """Makes a rule of layer kinds: those listed under `key` are `at` (Bamba: attn_layer_indices), the others
    `otherwise`; an absent list is empty.
    """

    def kinds(f: Fields) -> list[str]:
        count = layer_count(f)
        chosen = set(layer_indices(f, key, f.int_list(key) or [], count=count))
        return [at if i in chosen else otherwise for i in range(count)]

    return kinds


def layer_indices(f: Fields, key: str, values: list[int], *, count: int) -> list[int]:
    """Checks a list of layer numbers, and returns it; BadConfig for one that the model does not have."""
    for value in values:
        if value >= count:
            raise BadConfig(f"{f.where}: key {f.file_key(key)!r} names layer {value} of {count}")
    return values


def inside_period(period_key: str, offset_key: str, at: str, *, otherwise: str) -> LayerKinds:
    """Makes the rule of `periodic`, and refuses an offset outside the period, which would never be met."""
    inner = periodic(period_key, offset_key, at, otherwise=otherwise)

    def kinds(f: Fields) -> list[str]:
        period, offset = f.int(period_key), f.int(offset_key, low=0)
        if offset >= period:
            raise BadConfig(f"{f.where}: key {f.file_key(offset_key)!r} is {offset} in a period of {period}")
        return inner(f)

    return kinds


def auto_width(f: Fields, key: str, derived: int) -> int:
    """Reads a width: a number, or "auto" / null / absent for what the type derives."""
    value = f.get(key)
    return derived if value is None or value == "auto" else f.int(key)


def check_multiple(f: Fields, key: str, count: int, *, of: str, base: int) -> None:
    """Refuses a size that is no multiple of another."""
    if count % base:
        raise BadConfig(
            f"{f.where}: key {f.file_key(key)!r} is {count}; a multiple of {f.file_key(of)} {base} is wanted"
        )


def warn_once(f: Fields, words: str) -> None:
    """Adds a warning to the model that is read, unless it is there already."""
    if words not in f.warnings:
        f.warnings.append(words)


def required_list(key: str, names: dict[str, str]) -> LayerKinds:
    """Makes a rule of layer kinds for a type whose file must list its layers."""

    def missing(f: Fields) -> list[str]:
        raise UnsupportedModel(f"{f.where}: key {f.file_key(key)!r} is missing; it says what each layer is")

    return listed(key, names, missing)

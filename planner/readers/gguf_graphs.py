"""Layers of GGUF files that no tensor shows: T5's two halves, and stacks that run several times (HRM-Text)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol

from planner.errors import BadConfig, UnsupportedModel
from planner.model.attention import Mixer
from planner.model.spec import Layer
from planner.model.stored import part_of
from planner.model.weights import Weight
from planner.readers.gguf import GgufTensor
from planner.readers.gguf_keys import Keys
from planner.readers.gguf_stored import StoredAttention, StoredCross, StoredEncoderAttention, StoredMlp, StoredMoe

_T5 = re.compile(r"(enc|dec)\.blk\.(\d{1,5})\.(.+)", re.ASCII)


class Model(Protocol):
    """What is asked of a file on its way to a spec (`planner.readers.gguf_models`)."""

    keys: Keys
    count: int
    hidden: int
    top: list[GgufTensor]

    @property
    def heads(self) -> list[int]:
        """Heads of each layer."""

    @property
    def kv_heads(self) -> list[int]:
        """KV heads of each layer."""

    def held(self, tensors: Mapping[str, GgufTensor], names: set[str]) -> tuple[Weight, ...]:
        """The weights of those tensors that are named."""

    def mlps(self, block: Mapping[str, GgufTensor]) -> tuple[StoredMlp | StoredMoe, ...]:
        """The tensors that feed forward."""


def stacks(keys: Keys, count: int) -> list[int]:
    """Lists which block holds the weights of each of `count` layers of HRM-Text.

    A pass runs one stack of `hrm.layers_per_stack`: l_cycles passes of the low one (the first blocks), one of the high
    one, h_cycles times over; each pass has layers of cache of its own. Source: llama.cpp models/hrm-text.cpp, b11739.
    """
    size, high, low = (keys.number(f"hrm.{key}") for key in ("layers_per_stack", "h_cycles", "l_cycles"))
    if size * high * (low + 1) != count:
        raise BadConfig(
            f"{keys.shown}: {keys.arch}.block_count is {count}; {high} cycles of {low} and 1 passes over {size} layers are "
            f"{size * high * (low + 1)}"
        )
    return [slot % size + (0 if slot // size % (low + 1) < low else size) for slot in range(count)]


def again(layer: Layer) -> Layer:
    """A layer that runs once more: a cache of its own, the weights of the first time."""
    stored: Any = (*layer.mixers, *layer.mlps)
    pieces = [replace(piece, held=()) for piece in stored]
    return Layer(tuple(pieces[: len(layer.mixers)]), tuple(pieces[len(layer.mixers) :]), (), layer.config_fields)


def t5_halves(model: Model) -> tuple[tuple[Layer, ...], tuple[Layer, ...]]:
    """(encoder's layers, decoder's); both have block_count of them unless decoder_block_count says otherwise."""
    keys, count = model.keys, model.count
    sides: dict[str, list[dict[str, GgufTensor]]] = {
        "enc": [{} for _ in range(count)],
        "dec": [{} for _ in range(keys.number("decoder_block_count", count, high=10_000))],
    }
    for tensor in model.top:
        found = _T5.fullmatch(tensor.name)
        if found and int(found[2]) < len(sides[found[1]]):
            sides[found[1]][int(found[2])][found[3]] = tensor
    if len(sides["dec"]) > count:
        raise UnsupportedModel(
            f"{keys.shown}: {len(sides['dec'])} decoder layers for {count} of the encoder; llama.cpp keeps cells for as "
            "many as the encoder has, and aborts where the decoder has more"
        )
    for side, blocks in sides.items():
        if not all(blocks):
            raise BadConfig(f"{keys.shown}: a layer of {side}.blk has no tensors; is a part of the file missing?")
    return tuple(_t5_layer(model, block, 0) for block in sides["enc"]), tuple(
        _t5_layer(model, block, 1) for block in sides["dec"]
    )


def in_t5(tensor: GgufTensor) -> str:
    """Which half a tensor belongs to: "layer" of one of its layers, "enc" beside the encoder's, "" of neither."""
    return "layer" if _T5.fullmatch(tensor.name) else "enc" if tensor.name.startswith("enc.") else ""


def _t5_layer(model: Model, block: Mapping[str, GgufTensor], decodes: int) -> Layer:
    """One layer: attention (of a decoder also to the encoder's output), an MLP, norms and the bias of distances."""
    keys = model.keys
    heads, kv_heads = model.heads[0], model.kv_heads[0]
    if not 0 < kv_heads <= heads:
        raise BadConfig(f"{keys.shown}: the metadata gives its layers {heads} heads and {kv_heads} KV heads")
    width = keys.number("attention.key_length", max(1, model.hidden // heads))
    sizes: dict[str, Any] = {
        "hidden": model.hidden, "heads": heads, "kv_heads": kv_heads, "head_dim": width,
        "v_dim": keys.number("attention.value_length", width),
    }  # fmt: skip
    parts = {name: part_of(f"blk.0.{name}", len(tensor.shape)) for name, tensor in block.items()}

    def held(part: str) -> Any:
        return model.held(block, {name for name, found in parts.items() if found == part})

    mixers: tuple[Mixer, ...] = (StoredEncoderAttention(**sizes, held=held("attention")),)
    if decodes:
        cross = StoredCross(**sizes, source_width=model.hidden, held=held("cross_attention"))
        mixers = StoredAttention(**sizes, held=held("attention")), cross
    feeding = {name: block[name] for name, part in parts.items() if part == "mlp"}
    used = {name for name, part in parts.items() if part in ("attention", "cross_attention", "mlp")}
    return Layer(mixers, model.mlps(feeding), model.held(block, set(block) - used), ("block_count", "head_count"))

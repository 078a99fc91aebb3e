"""Towers of Phi-4-multimodal, and the LoRA adapters that its checkpoint holds beside them.

Source: transformers 5.24.0 Phi4MultimodalConfig and modeling_phi4_multimodal.py; the repository's own file (type phi4mm)
says no sizes of the towers, and its index counts 5,574,460,384 parameters.
"""

from __future__ import annotations

from typing import Any

from planner.model.weights import linear, vector
from planner.readers import towers
from planner.readers.fields import MAX_LAYERS, Fields
from planner.readers.tower_parts import AUDIO, PROJECTOR, VISION, Weights, placed, section, table, two_layers

_SIGHT = {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16, "image_size": 448,
          "patch_size": 14}  # fmt: skip
_HEARING = {"hidden_size": 1024, "intermediate_size": 1536, "num_blocks": 24, "num_attention_heads": 16, "kernel_size": 3,
            "ext_pw_out_channel": 1024, "depthwise_separable_out_channel": 1024, "depthwise_multiplier": 1, "input_size": 80,
            "time_reduction": 8, "bias_max_distance": 1000, "nemo_conv_channels": 1024, "nemo_final_size": 10}  # fmt: skip


def phi4_multimodal(f: Fields, hidden: int) -> Weights:
    """Lists the weights of SigLIP with its head, of a Conformer, and of a pair of biased layers for sight and two for sound."""
    v, a = section(f, "vision_config", _SIGHT), section(f, "audio_config", _HEARING)
    return (() if v is None else _sight(v, hidden)) + (() if a is None else _hearing(a, hidden))


def phi4mm(f: Fields, hidden: int) -> Weights:
    """Lists the same towers at the sizes of the checkpoint, and its adapters: r · (in + out) of each matrix of the text."""
    for key in ("img_processor", "audio_processor", "embd_layer"):
        f.get(key)
    towers_of = _sight(Fields({}, where=f.where, defaults=_SIGHT), hidden)
    # Its tables of distances have 500 rows a side; a mean and a spread of each band are stored beside.
    hearing: dict[str, Any] = {**_HEARING, "bias_max_distance": 500}
    towers_of += (*_hearing(Fields({}, where=f.where, defaults=hearing), hidden), vector(AUDIO, 80, 2))
    return towers_of + _adapters(f, hidden)


def _sight(v: Fields, hidden: int) -> Weights:
    width = v.int("hidden_size")
    joined = two_layers(width, hidden, hidden, bias=True)
    return (*towers.siglip(v, head=True), vector(VISION, width, 2), *joined)


def _hearing(a: Fields, hidden: int) -> Weights:
    """Convolutions that halve time, a table of biases by distance, layers; two pairs of layers into the text.

    Layer: two gated MLPs, attention with biases, a gated convolution: norm, two vectors, [2c, w], a depthwise filter and
    [d, w] behind it, [c, d].
    """
    width, ffn, channels = a.int("hidden_size"), a.int("intermediate_size"), a.int("nemo_conv_channels")
    gate, deep = a.int("ext_pw_out_channel"), a.int("depthwise_separable_out_channel")
    filters, halvings = width * a.int("depthwise_multiplier"), a.int("time_reduction").bit_length() - 1
    stem = (table(AUDIO, channels, 9), vector(AUDIO, channels))
    again = (table(AUDIO, channels, 9), vector(AUDIO, channels), *linear(AUDIO, channels, channels, bias=True))
    mlp = (*linear(AUDIO, 2 * ffn, width, bias=True), *linear(AUDIO, width, ffn, bias=True))
    one = (
        *mlp * 2,
        *linear(AUDIO, width, width, bias=True) * 4,
        *linear(AUDIO, 2 * gate, width, bias=True),
        vector(AUDIO, gate, 2),
        table(AUDIO, filters, a.int("kernel_size")),
        vector(AUDIO, filters),
        *linear(AUDIO, deep, filters, bias=True),
        *linear(AUDIO, gate, deep, bias=True),
        vector(AUDIO, width, 10),
    )
    joined = placed(PROJECTOR, two_layers(width, hidden, hidden, bias=True), 2)
    return (
        *stem,
        *(placed(AUDIO, again, halvings - 1) if halvings > 1 else ()),
        *linear(AUDIO, width, channels * a.int("nemo_final_size"), bias=True),
        table(AUDIO, 2 * a.int("bias_max_distance"), a.int("num_attention_heads")),
        *placed(AUDIO, one, a.int("num_blocks", high=MAX_LAYERS)),
        *joined,
    )


def _adapters(f: Fields, hidden: int) -> Weights:
    """Two adapters, of `vision_lora` and `speech_lora`, on q k v, o, gate and up, down of every layer."""
    heads, layers = f.int("num_attention_heads"), f.int("num_hidden_layers", high=MAX_LAYERS)
    head, inner = hidden // heads, f.int("intermediate_size")
    rows = (heads + 2 * f.int("num_key_value_heads", heads)) * head
    if f.section("vision_lora") or f.section("speech_lora"):
        f.notes.append(
            "its adapters are counted, as the checkpoint holds them; vLLM loads them where it is told (--enable-lora)"
        )
    ranks = [f.sub(f.section(key) or {}, key).int("r", 0, low=0) for key in ("vision_lora", "speech_lora")]
    sizes = ((rows, hidden), (hidden, heads * head), (2 * inner, hidden), (hidden, inner))
    return tuple(
        weight
        for rank in ranks if rank
        for out, read in sizes
        for weight in placed("adapter", (*linear("adapter", rank, read), *linear("adapter", out, rank)), layers)
    )  # fmt: skip

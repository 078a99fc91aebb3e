"""Vision and audio towers of Gemma 3n and 4, as those of `towers`."""

from __future__ import annotations

from planner.errors import BadConfig
from planner.model.mlp import Mlp
from planner.model.weights import Weight, linear, vector
from planner.readers.fields import MAX_LAYERS, Fields
from planner.readers.tower_parts import (
    AUDIO,
    PROJECTOR,
    VISION,
    Weights,
    placed,
    section,
    table,
    transformer,
)
from planner.units import product

_GEMMA4 = {
    "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 16, "num_attention_heads": 12,
    "patch_size": 16, "position_embedding_size": 10240,
}  # fmt: skip


def gemma4(f: Fields, hidden: int) -> Weights:
    """Lists the weights of a vision and an audio tower, each with one projection."""
    return (*_gemma4_vision(f, hidden), *_gemma4_audio(f, hidden))


def _gemma4_vision(f: Fields, hidden: int) -> Weights:
    """Gemma layers (four norms, norms of each head's q and k), a table of positions for height and for width.

    A file without head_dim or num_key_value_heads means hidden / heads and as many as heads: with the class
    default sizes that gives the class defaults (64 and 12), with the larger tower the published 72 and 16.
    """
    v = section(f, "vision_config", _GEMMA4)
    if v is None:
        return ()
    width, heads = v.int("hidden_size"), v.int("num_attention_heads")
    attention = {
        "kv_heads": v.int("num_key_value_heads", heads), "head_dim": v.int("head_dim", width // heads),
        "qkv_bias": False, "out_bias": False, "qk_norm": "head",
    }  # fmt: skip
    return (
        *linear(VISION, width, 3 * v.int("patch_size") ** 2),
        table(VISION, 2 * v.int("position_embedding_size"), width),
        *transformer(v, width, attention=attention, gated=True, mlp_bias=False),
        *linear(PROJECTOR, hidden, width),
    )


_GEMMA4_AUDIO = {
    "hidden_size": 1024, "num_hidden_layers": 12, "num_attention_heads": 8, "conv_kernel_size": 5,
    "subsampling_conv_channels": (128, 32), "output_proj_dims": 1536,
}  # fmt: skip


def _gemma4_audio(f: Fields, hidden: int) -> Weights:
    """Two convolutions that halve the spectrogram, Conformer layers, an output layer."""
    a = section(f, "audio_config", _GEMMA4_AUDIO)
    if a is None:
        return ()
    width, out = a.int("hidden_size"), a.int("output_proj_dims")
    first, second = _pair(a, "subsampling_conv_channels")
    return (
        Weight(AUDIO, first, 9, linear=False),
        Weight(AUDIO, second, 9 * first, linear=False),
        vector(AUDIO, first + second),
        *linear(AUDIO, width, first // 4 * second),
        *_conformer(a, width, layers="num_hidden_layers", heads="num_attention_heads", kernel="conv_kernel_size"),
        *linear(AUDIO, out, width, bias=True),
        *linear(PROJECTOR, hidden, out),
    )


def _pair(f: Fields, key: str) -> tuple[int, int]:
    values = f.int_list(key, low=1) or []
    if len(values) != 2:
        raise f.wrong(key, f.get(key), "a list of two numbers")
    return values[0], values[1]


def _conformer(f: Fields, width: int, *, layers: str, heads: str, kernel: str) -> Weights:
    """Conformer layers of Gemma: attention with relative keys, two MLPs, a depthwise convolution, no biases.

    q, k, v, o and relative keys [width, width], a scale for each number of a head; twice up [4 width, width] and
    down; the convolution's in [2 width, width], filter [width, kernel] and out [width, width]; nine norms.
    """
    heads_count = f.int(heads)
    if width % heads_count:
        raise BadConfig(f"{f.where}: width {width} is not a multiple of {heads_count} heads")
    one = (
        *linear(AUDIO, width, width) * 5,
        vector(AUDIO, width // heads_count),
        *Mlp(width, 4 * width, False).weights() * 2,
        *linear(AUDIO, 2 * width, width),
        *linear(AUDIO, width, width),
        Weight(AUDIO, width, f.int(kernel), linear=False),
        vector(AUDIO, width, 9),
    )
    return placed(AUDIO, one, f.int(layers, high=MAX_LAYERS))


_GEMMA3N_AUDIO = {
    "hidden_size": 1536, "input_feat_size": 128, "vocab_size": 128, "conf_num_hidden_layers": 12,
    "conf_num_attention_heads": 8, "conf_conv_kernel_size": 5, "sscp_conv_channel_size": (128, 32),
    "sscp_conv_kernel_size": ((3, 3), (3, 3)), "sscp_conv_stride_size": ((2, 2), (2, 2)),
}  # fmt: skip
# Parameters of the image encoder by its name in timm 1.0 (timm/models/mobilenetv5.py).
_TIMM_ENCODERS = {"mobilenetv5_300m_enc": 294_126_912}


def gemma3n(f: Fields, hidden: int) -> Weights:
    """Lists the weights of a MobileNet-V5 and of Conformer layers; each joins the text model by a table of its own,
    norms and a projection.
    """
    weights: Weights = ()
    v = section(f, "vision_config", {"hidden_size": 2048, "vocab_size": 128, "architecture": "mobilenetv5_300m_enc"})
    if v is not None:
        weights += (*_mobilenet(f, v), *_gemma3n_embedder(v, hidden))
    a = section(f, "audio_config", _GEMMA3N_AUDIO)
    if a is not None:
        weights += (*_gemma3n_audio(a), *_gemma3n_embedder(a, hidden))
    return weights


def _mobilenet(f: Fields, v: Fields) -> Weights:
    """The image encoder is known by name only: its size is that of the architecture."""
    size = _TIMM_ENCODERS.get(v.text("architecture"))
    if size is None:
        f.leave_out("vision tower not counted: its architecture is not one kvplan knows")
        return ()
    return (Weight(VISION, size, 1, linear=False),)


def _gemma3n_embedder(part: Fields, hidden: int) -> Weights:
    width = part.int("hidden_size")
    rows = table(PROJECTOR, part.int("vocab_size"), width)
    return (rows, vector(PROJECTOR, width, 2), *linear(PROJECTOR, hidden, width))


def _gemma3n_audio(a: Fields) -> Weights:
    """Two convolutions over the spectrogram, a projection, Conformer layers."""
    width = a.int("hidden_size")
    first, second = _pair(a, "sscp_conv_channel_size")
    kernels, strides = _pairs(a, "sscp_conv_kernel_size"), _pairs(a, "sscp_conv_stride_size")
    bands = a.int("input_feat_size")
    for (_, wide), (_, step) in zip(kernels, strides, strict=True):
        bands = (bands + 2 - wide) // step + 1
    layers = _conformer(
        a, width, layers="conf_num_hidden_layers", heads="conf_num_attention_heads", kernel="conf_conv_kernel_size"
    )
    return (
        Weight(AUDIO, first, product(kernels[0]), linear=False),
        Weight(AUDIO, second, first * product(kernels[1]), linear=False),
        vector(AUDIO, first + second),
        *linear(AUDIO, width, second * bands),
        *layers,
    )


def _pairs(f: Fields, key: str) -> tuple[tuple[int, int], tuple[int, int]]:
    """Height and width for each of two convolutions."""
    values = f.get(key)
    ok = isinstance(values, (list, tuple)) and len(values) == 2
    if not ok or not all(isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in values):
        raise f.wrong(key, values, "two pairs of numbers")
    numbers = [number for pair in values for number in pair]
    if not all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in numbers):
        raise f.wrong(key, values, "two pairs of numbers")
    return (numbers[0], numbers[1]), (numbers[2], numbers[3])

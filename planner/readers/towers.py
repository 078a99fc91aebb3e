"""Vision and audio towers and what joins them to the text model, as weights: a small function for each.

Each takes the whole file (`f`) and the width of the text model, reads its section and its defaults, and
returns weights with part "vision", "audio" or "projector"; nothing where the file has no such section (an
extract of the text model). Shapes are written [out, in]. Defaults and structure as in the configuration and
modelling files of transformers 5.23.0, unless a function names another source.
"""

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
) -> Weights:
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


# --- SigLIP and CLIP -------------------------------------------------------------------------------------

SIGLIP = {
    "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
    "image_size": 224, "patch_size": 16,
}  # fmt: skip


def siglip(v: Fields, *, head: bool) -> Weights:
    """Lists SigLIP's weights: biased patches and layers, learned positions, a last norm; `head`: attention pooling with
    a probe.
    """
    width = v.int("hidden_size")
    weights = _siglip_body(v)
    if not v.flag("vision_use_head", head):
        return weights
    pooling = Attention(width, 1, 1, width, qkv_bias=True, out_bias=True).weights()
    mlp = Mlp(width, v.int("intermediate_size"), False, True).weights()
    return (*weights, vector(VISION, width, 3), *placed(VISION, pooling + mlp))


def _siglip_body(v: Fields) -> Weights:
    width = v.int("hidden_size")
    return (
        *linear(VISION, width, patch_elements(v), bias=True),
        table(VISION, patch_count(v), width),
        *transformer(v, width),
        vector(VISION, width, 2),
    )


def gemma3(f: Fields, hidden: int) -> Weights:
    """Lists the weights of SigLIP without its head (published files say vision_use_head false), a norm and one
    projection.
    """
    v = section(f, "vision_config", SIGLIP)
    if v is None:
        return ()
    width = v.int("hidden_size")
    projection = linear(PROJECTOR, hidden, width)
    return (*siglip(v, head=False), *projection, vector(PROJECTOR, width))


def paligemma(f: Fields, hidden: int) -> Weights:
    """Lists the weights of SigLIP without its head (as the published checkpoints are) and one biased projection of its
    `projection_dim`.
    """
    v = section(f, "vision_config", SIGLIP)
    if v is None:
        return ()
    joined = linear(PROJECTOR, v.int("projection_dim", hidden), v.int("hidden_size"), bias=True)
    return (*siglip(v, head=False), *joined)


_CLIP = {**SIGLIP, "patch_size": 32}


def clip(v: Fields) -> Weights:
    """Lists CLIP's weights: patches without bias, a class vector, positions of patches and class, norms before and
    after.
    """
    width = v.int("hidden_size")
    return (
        *linear(VISION, width, patch_elements(v)),
        vector(VISION, width, 1 + 4),
        table(VISION, patch_count(v) + 1, width),
        *transformer(v, width),
    )


def feature_layers(f: Fields) -> int:
    """Counts the layers of the tower that the projector reads, side by side."""
    value = f.get("vision_feature_layer", -1)
    return len(value) if isinstance(value, (list, tuple)) and value else 1


def _llava_tower(f: Fields) -> tuple[Weights, int] | None:
    kinds = {"clip_vision_model": _CLIP, "siglip_vision_model": SIGLIP, "pixtral": _PIXTRAL}
    raw = f.section("vision_config")
    if raw is None:
        return None
    kind = raw.get("model_type", "clip_vision_model")
    v = section(f, "vision_config", kinds.get(kind, _CLIP) if isinstance(kind, str) else _CLIP)
    assert v is not None
    if kind == "clip_vision_model":
        return clip(v), v.int("hidden_size")
    if kind == "siglip_vision_model":
        return siglip(v, head=True), v.int("hidden_size")
    if kind == "pixtral":
        return pixtral(v), v.int("hidden_size")
    f.warnings.append("vision tower not counted: its model_type is not one kvplan knows for this model")
    return None


def llava(f: Fields, hidden: int) -> Weights:
    """Lists the weights of CLIP, SigLIP or Pixtral, and an MLP of two layers (biased unless multimodal_projector_bias
    is false).
    """
    tower = _llava_tower(f)
    if tower is None:
        return ()
    weights, width = tower
    bias = f.flag("multimodal_projector_bias", True)
    return (*weights, *two_layers(width * feature_layers(f), hidden, hidden, bias=bias))


def llava_next(f: Fields, hidden: int) -> Weights:
    """Lists LLaVA's weights, and a learned vector for the end of a row of patches."""
    weights = llava(f, hidden)
    return (*weights, vector(PROJECTOR, hidden)) if weights else ()


# --- Pixtral ---------------------------------------------------------------------------------------------

_PIXTRAL = {
    "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
    "patch_size": 16,
}  # fmt: skip
_NO_BIAS = {"qkv_bias": False, "out_bias": False}


def pixtral(v: Fields) -> Weights:
    """Lists Pixtral's weights: no biases, gated MLP, two RMS norms a layer and one before them; positions are rotary."""
    width = v.int("hidden_size")
    layers = transformer(v, width, attention=_NO_BIAS, gated=True, mlp_bias=False, norm_vectors=2)
    return (*linear(VISION, width, patch_elements(v)), vector(VISION, width), *layers)


def mistral3(f: Fields, hidden: int) -> Weights:
    """Lists the weights of Pixtral and a projector that norms, merges squares of patches and has two layers."""
    v = section(f, "vision_config", _PIXTRAL)
    if v is None:
        return ()
    width, merge = v.int("hidden_size"), f.int("spatial_merge_size", 2)
    return (
        *pixtral(v),
        vector(PROJECTOR, width),
        *linear(PROJECTOR, width, width * merge**2),
        *two_layers(width * feature_layers(f), hidden, hidden, bias=f.flag("multimodal_projector_bias")),
    )


# --- Llama -----------------------------------------------------------------------------------------------

_MLLAMA = {
    "hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "attention_heads": 16,
    "num_global_layers": 8, "vision_output_dim": 7680, "image_size": 448, "patch_size": 14, "max_num_tiles": 4,
}  # fmt: skip
_MLLAMA_RATIOS = 8  # arrangements of one to four tiles


def mllama(f: Fields, hidden: int) -> Weights:
    """Lists the weights of Llama 3.2's tower: tiles of an image through local layers, then all tiles through gated
    global ones.

    Tables for each tile arrangement (`supported_aspect_ratios` and one for none): positions of every patch of
    every tile, and two of a vector a tile, each table with one gate.
    """
    v = section(f, "vision_config", _MLLAMA)
    if v is None:
        return ()
    width, tiles = v.int("hidden_size"), v.int("max_num_tiles")
    positions = patch_count(v) + 1
    ratios = v.sequence("supported_aspect_ratios")
    if ratios is None and tiles != 4:
        raise BadConfig(f"{v.where}: {tiles} tiles want supported_aspect_ratios; the default list is that of 4 tiles")
    arrangements = (_MLLAMA_RATIOS if ratios is None else len(ratios)) + 1
    options: dict[str, Any] = {"heads": "attention_heads", "attention": _NO_BIAS}
    return (
        *linear(VISION, width, patch_elements(v)),
        vector(VISION, width, 1 + 4),
        table(VISION, positions, width),
        table(VISION, arrangements, tiles * positions * width),
        table(VISION, arrangements, tiles * width, count=2),
        vector(VISION, 1, 3),
        *transformer(v, width, **options),
        *transformer(v, width, layers="num_global_layers", more=(vector(VISION, 1, 2),), **options),
        *linear(PROJECTOR, hidden, v.int("vision_output_dim"), bias=True),
    )


def mllama_source_tokens(f: Fields) -> int | None:
    """Counts the vision tokens of one image in all its tiles: tiles x (patches + 1); None where the file has no tower."""
    v = section(f, "vision_config", _MLLAMA)
    if v is None:
        return None
    tokens = v.int("max_num_tiles") * (patch_count(v) + 1)
    f.notes.append(
        f"cross-attention layers keep {tokens:,} vision tokens: one image of max_num_tiles tiles; for text alone "
        "write --source-tokens 0, for n images n times as many"
    )
    return tokens


_LLAMA4 = {
    "hidden_size": 768, "intermediate_size": 5632, "num_hidden_layers": 34, "num_attention_heads": 16,
    "image_size": 448, "patch_size": 14, "projector_input_dim": 4096, "projector_output_dim": 4096,
}  # fmt: skip


def llama4(f: Fields, hidden: int) -> Weights:
    """Lists Llama 4's weights: patches unfolded, a class vector, biased layers; pixel shuffle, two layers without bias,
    one projection.

    The projection reads `vision_output_dim`, which is what the adapter puts out (projector_output_dim): so
    where the file leaves it out, though the class default is 7680 and would not fit.
    """
    v = section(f, "vision_config", _LLAMA4)
    if v is None:
        return ()
    width, out = v.int("hidden_size"), v.int("projector_output_dim")
    adapter_in = v.int("projector_input_dim")
    return (
        *linear(VISION, width, patch_elements(v)),
        vector(VISION, width, 1 + 4),
        table(VISION, patch_count(v) + 1, width),
        *transformer(v, width),
        *linear(VISION, adapter_in, v.int("intermediate_size")),
        *linear(VISION, out, out),
        *linear(PROJECTOR, hidden, v.int("vision_output_dim", out)),
    )


# --- Qwen ------------------------------------------------------------------------------------------------

_QWEN2_VL = {
    "depth": 32, "embed_dim": 1280, "mlp_ratio": 4, "num_heads": 16, "patch_size": 14, "spatial_merge_size": 2,
    "temporal_patch_size": 2,
}  # fmt: skip


def video_patch(v: Fields, width: int, *, bias: bool) -> Weights:
    """Lists the weights of a convolution over frames and pixels: [width, channels x frames x height x width]."""
    elements = patch_elements(v, "in_channels") * v.int("temporal_patch_size")
    return linear(VISION, width, elements, bias=bias)


def _merger(width: int, merge: int, out: int, norm: int) -> Weights:  # parameters: the keys of one config
    """Squares of patches side by side through two biased layers, after a norm of `norm` numbers."""
    wide = width * merge**2
    return (vector(PROJECTOR, norm), *two_layers(wide, wide, out, bias=True))


def qwen2_vl(f: Fields, hidden: int) -> Weights:
    """Lists Qwen2-VL's weights, with layer norms and biases; `hidden_size` of the tower is the text model's width."""
    v = section(f, "vision_config", _QWEN2_VL)
    if v is None:
        return ()
    width = v.int("embed_dim")
    ffn = int(width * v.number("mlp_ratio"))
    return (
        *video_patch(v, width, bias=False),
        *transformer(v, width, layers="depth", heads="num_heads", ffn=ffn),
        *_merger(width, v.int("spatial_merge_size"), v.int("hidden_size", hidden), 2 * width),
    )


_QWEN25_VL = {
    "depth": 32, "hidden_size": 3584, "intermediate_size": 3420, "num_heads": 16, "patch_size": 14,
    "spatial_merge_size": 2, "temporal_patch_size": 2,
}  # fmt: skip


def qwen2_5_vl(f: Fields, hidden: int) -> Weights:
    """Lists Qwen2.5-VL's weights: RMS norms and a gated, biased MLP; windows in most layers change no weight."""
    v = section(f, "vision_config", _QWEN25_VL)
    if v is None:
        return ()
    width = v.int("hidden_size")
    return (
        *video_patch(v, width, bias=False),
        *transformer(v, width, layers="depth", heads="num_heads", gated=True, norm_vectors=2),
        *_merger(width, v.int("spatial_merge_size"), v.int("out_hidden_size", hidden), width),
    )


_QWEN_AUDIO = {
    "num_mel_bins": 128, "encoder_layers": 32, "encoder_attention_heads": 20, "encoder_ffn_dim": 5120, "d_model": 1280,
}  # fmt: skip


def qwen2_5_omni(f: Fields, hidden: int) -> Weights:
    """Lists the weights of Qwen2.5-VL's tower, and of Whisper's encoder without a position table, with two marks and an
    output layer.
    """
    a = section(f, "audio_config", _QWEN_AUDIO)
    if a is None:
        return qwen2_5_vl(f, hidden)
    width, out = a.int("d_model"), a.int("output_dim", hidden)
    layers = transformer(
        a,
        width,
        layers="encoder_layers",
        heads="encoder_attention_heads",
        ffn=a.int("encoder_ffn_dim"),
        attention={"k_bias": False},
    )
    return (
        *qwen2_5_vl(f, hidden),
        Weight(AUDIO, width, 3 * a.int("num_mel_bins"), linear=False),
        Weight(AUDIO, width, 3 * width, linear=False),
        vector(AUDIO, width, 2 + 2),
        *placed(AUDIO, layers),
        *linear(AUDIO, out, width, bias=True),
        table(AUDIO, 2, out),
    )


_QWEN3_VL = {
    "depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "num_heads": 16, "patch_size": 16,
    "spatial_merge_size": 2, "temporal_patch_size": 2, "num_position_embeddings": 2304,
}  # fmt: skip


def qwen3_vl(f: Fields, hidden: int, *, deepstack: int = 3) -> Weights:
    """Lists Qwen3-VL's weights: learned positions, biased layers; a merger, and one for each layer whose output enters
    deeper in the text.

    `out_hidden_size` is the text model's width, so that is taken where the file leaves it out (the class
    default 3584 would not fit); `deepstack_visual_indexes` has three layers by default.
    """
    v = section(f, "vision_config", _QWEN3_VL)
    if v is None:
        return ()
    width, merge = v.int("hidden_size"), v.int("spatial_merge_size")
    out = v.int("out_hidden_size", hidden)
    taps = v.sequence("deepstack_visual_indexes") if deepstack else []
    return (
        *video_patch(v, width, bias=True),
        table(VISION, v.int("num_position_embeddings"), width),
        *transformer(v, width, layers="depth", heads="num_heads"),
        *_merger(width, merge, out, 2 * width),
        *placed(
            PROJECTOR,
            _merger(width, merge, out, 2 * width * merge**2),
            deepstack if taps is None else len(taps),
        ),
    )


def qwen3_5(f: Fields, hidden: int) -> Weights:
    """Lists the weights of Qwen3-VL's tower without the deeper mergers."""
    return qwen3_vl(f, hidden, deepstack=0)


# --- Kimi, GLM, Muse -------------------------------------------------------------------------------------

_KIMI = {
    "patch_size": 14, "pos_emb_height": 64, "pos_emb_width": 64, "num_attention_heads": 16,
    "num_hidden_layers": 27, "hidden_size": 1152, "intermediate_size": 4304,
}  # fmt: skip
# The file that came with the checkpoint names the same sizes otherwise.
_KIMI_KEYS = {
    "hidden_size": ("hidden_size", "vt_hidden_size"),
    "num_attention_heads": ("num_attention_heads", "vt_num_attention_heads"),
    "num_hidden_layers": ("num_hidden_layers", "vt_num_hidden_layers"),
    "intermediate_size": ("intermediate_size", "vt_intermediate_size"),
    "pos_emb_height": ("pos_emb_height", "init_pos_emb_height"),
    "pos_emb_width": ("pos_emb_width", "init_pos_emb_width"),
}


def kimi_k25(f: Fields, hidden: int) -> Weights:
    """Lists Kimi K2.5's weights: biased patches and layers, a grid of positions, a last norm; norm and two biased
    layers over merged patches.
    """
    v = section(f, "vision_config", _KIMI, renames=_KIMI_KEYS)
    if v is None:
        return ()
    width = v.int("hidden_size")
    merged = width * product(v.int_list("merge_kernel_size", 2, low=1) or (2, 2))
    return (
        *linear(VISION, width, 3 * product(both_sides(v, "patch_size")), bias=True),
        table(VISION, v.int("pos_emb_height") * v.int("pos_emb_width"), width),
        *transformer(v, width),
        vector(VISION, width, 2),
        vector(PROJECTOR, f.int("projection_hidden_size", width), 2),
        *two_layers(merged, merged, hidden, bias=True),
    )


_GLM5 = {
    "depth": 24, "hidden_size": 1024, "intermediate_size": 4096, "num_heads": 16, "patch_size": 14,
    "spatial_merge_size": 2, "temporal_patch_size": 2, "projection_intermediate_size": 10240,
}  # fmt: skip


def glm5_next(f: Fields, hidden: int) -> Weights:
    """Lists the weights of a tower with RMS norms, norms of each head's q and k, gated MLP; a strided convolution and a
    gated merger.

    `out_hidden_size` is the text model's width, so that is taken where the file leaves it out (the class
    default 1536 would not fit).
    """
    v = section(f, "vision_config", _GLM5)
    if v is None:
        return ()
    width, merge = v.int("hidden_size"), v.int("spatial_merge_size")
    out = v.int("out_hidden_size", hidden)
    bias = v.flag("attention_bias", True)
    attention = {"qkv_bias": bias, "out_bias": bias, "qk_norm": "head"}
    layers = transformer(
        v, width, layers="depth", heads="num_heads", attention=attention, gated=True, mlp_bias=bias, norm_vectors=2
    )
    return (
        *video_patch(v, width, bias=True),
        *layers,
        vector(VISION, width),
        *linear(PROJECTOR, out, width * merge**2, bias=True),
        *linear(PROJECTOR, out, out),
        vector(PROJECTOR, out, 2),
        *placed(PROJECTOR, Mlp(out, v.int("projection_intermediate_size")).weights()),
    )


_MUSE = {
    "patch_size": 14, "patch_temporal": 2, "pos_emb_height": 32, "pos_emb_width": 32, "num_attention_heads": 16,
    "num_hidden_layers": 50, "hidden_size": 1536, "intermediate_size": 8960,
}  # fmt: skip


def muse_glimmer(f: Fields, hidden: int) -> Weights:
    """Lists the weights of biased layers between two norms and a grid of positions; an adapter of two layers and one
    projection.
    """
    v = section(f, "vision_config", _MUSE)
    if v is None:
        return ()
    width, middle = v.int("hidden_size"), f.int("projector_hidden_size", 4096)
    return (
        *linear(VISION, width, v.int("patch_temporal") * 3 * product(both_sides(v, "patch_size"))),
        table(VISION, v.int("pos_emb_height") * v.int("pos_emb_width"), width),
        vector(VISION, width, 4),
        *transformer(v, width),
        *two_layers(f.int("out_hidden_size", 6144), middle, middle, bias=False),
        *linear(PROJECTOR, hidden, middle),
    )


# --- Gemma 3n and 4 --------------------------------------------------------------------------------------

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
        f.warnings.append("vision tower not counted: its architecture is not one kvplan knows")
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


# --- InternVL, Idefics 3, SmolVLM ------------------------------------------------------------------------

_INTERNVL = {
    "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
    "image_size": (448, 448), "patch_size": (14, 14),
}  # fmt: skip


def internvl(f: Fields, hidden: int) -> Weights:
    """Lists InternViT's weights: biased patches, a class vector, scaled residuals; norm and two biased layers over
    shuffled patches.
    """
    v = section(f, "vision_config", _INTERNVL)
    return () if v is None else _intern_vit(f, v, hidden)


def internvl_chat(f: Fields, hidden: int) -> Weights:
    """Lists the same tower as OpenGVLab's own files name it: qkv_bias, qk_normalization; defaults of their 6B one."""
    renames = {"attention_bias": "qkv_bias", "use_qk_norm": "qk_normalization"}
    v = section(f, "vision_config", _INTERN_VIT_6B, renames=renames)
    return () if v is None else _intern_vit(f, v, hidden)


def _intern_vit(f: Fields, v: Fields, hidden: int) -> Weights:
    width = v.int("hidden_size")
    rms = v.text("norm_type", "layer_norm") == "rms_norm"
    attention = {
        "qkv_bias": v.flag("attention_bias"), "out_bias": True, "qk_norm": "full" if v.flag("use_qk_norm") else ""
    }  # fmt: skip
    layers = transformer(v, width, attention=attention, norm_vectors=(2 if rms else 4) + 2)
    vectors = 1 + (1 if v.flag("use_mask_token") else 0) + (0 if v.flag("use_mean_pooling", True) else 2)
    positions = patch_count(v) + 1 if v.flag("use_absolute_position_embeddings", True) else 0
    ratio = f.number("downsample_ratio", 0.5)
    if ratio > 1:
        raise f.wrong("downsample_ratio", ratio, "a number up to 1")
    shuffled = width * int(1 / ratio) ** 2
    return (
        *linear(VISION, width, patch_elements(v), bias=True),
        vector(VISION, width, vectors),
        *((table(VISION, positions, width),) if positions else ()),
        *layers,
        vector(PROJECTOR, shuffled, 2),
        *two_layers(shuffled, hidden, hidden, bias=True),
    )


# configuration_intern_vit.py of OpenGVLab's repositories.
_INTERN_VIT_6B = {
    "hidden_size": 3200, "intermediate_size": 12800, "num_hidden_layers": 48, "num_attention_heads": 25,
    "image_size": 224, "patch_size": 14, "attention_bias": False, "use_qk_norm": True, "norm_type": "rms_norm",
}  # fmt: skip
_IDEFICS3 = {
    "hidden_size": 1152, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 16,
    "image_size": 224, "patch_size": 32,
}  # fmt: skip


def idefics3(f: Fields, hidden: int) -> Weights:
    """Lists the weights of SigLIP without a head; one projection of shuffled patches, without bias (SmolVLM as well)."""
    v = section(f, "vision_config", _IDEFICS3)
    if v is None:
        return ()
    shuffled = v.int("hidden_size") * f.int("scale_factor", 2) ** 2
    return (*_siglip_body(v), *linear(PROJECTOR, hidden, shuffled))

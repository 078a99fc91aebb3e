"""Vision and audio towers and what joins them to the text model, as weights: a small function for each.

Each takes the whole file (`f`) and the width of the text model, reads its section and its defaults, and
returns weights with part "vision", "audio" or "projector"; nothing where the file has no such section (an
extract of the text model). Shapes are written [out, in]. Defaults and structure as in the configuration and
modelling files of transformers 5.23.0, unless a function names another source.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from planner.errors import BadConfig
from planner.model.attention import Attention
from planner.model.mlp import Mlp
from planner.model.weights import linear, vector
from planner.readers.fields import Fields
from planner.readers.tower_parts import (
    PROJECTOR,
    VISION,
    Weights,
    both_sides,
    patch_count,
    patch_elements,
    placed,
    section,
    table,
    transformer,
    two_layers,
    video_patch,
)
from planner.units import product

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
    weights = siglip_body(v)
    if not v.flag("vision_use_head", head):
        return weights
    pooling = tuple(  # Q, K and V are one bare parameter (in_proj_weight)
        weight if weight.name.startswith("o_proj") else replace(weight, linear=False)
        for weight in Attention(width, 1, 1, width, qkv_bias=True, out_bias=True).weights()
    )
    mlp = Mlp(width, v.int("intermediate_size"), False, True).weights()
    return (*weights, vector(VISION, width, 3), *placed(VISION, pooling + mlp))


def siglip_body(v: Fields) -> Weights:
    """Lists SigLIP's weights without its head."""
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
    # a bare parameter (mm_input_projection_weight), not a linear layer: quantisers leave it
    projection = [replace(weight, linear=False) for weight in linear(PROJECTOR, hidden, width)]
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


def llava_tower(f: Fields) -> tuple[Weights, int] | None:
    """Lists the weights of CLIP, SigLIP or Pixtral, and their width; None where the file has no tower or another one."""
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
    f.leave_out("vision tower not counted: its model_type is not one kvplan knows for this model")
    return None


def llava(f: Fields, hidden: int) -> Weights:
    """Lists the weights of CLIP, SigLIP or Pixtral, and an MLP of two layers (biased unless multimodal_projector_bias
    is false).
    """
    tower = llava_tower(f)
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


def glm5_next(f: Fields, hidden: int, *, out: int | None = None, middle: int | None = None) -> Weights:
    """Lists the weights of a tower with RMS norms, norms of each head's q and k, gated MLP; a strided convolution and a
    gated merger.

    `out_hidden_size` is the text model's width, so that is taken where the file leaves it out (the class
    default 1536 would not fit).
    """
    v = section(f, "vision_config", _GLM5)
    if v is None:
        return ()
    width, merge = v.int("hidden_size"), v.int("spatial_merge_size")
    out = out or v.int("out_hidden_size", hidden)
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
        *placed(PROJECTOR, Mlp(out, middle or v.int("projection_intermediate_size")).weights()),
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


# --- InternVL, Idefics 3, SmolVLM ------------------------------------------------------------------------

_INTERNVL = {
    "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
    "image_size": (448, 448), "patch_size": (14, 14),
}  # fmt: skip


def internvl(f: Fields, hidden: int, *, attention_bias: bool = False) -> Weights:
    """Lists InternViT's weights: biased patches, a class vector, scaled residuals; norm and two biased layers over
    shuffled patches.
    """
    v = section(f, "vision_config", {**_INTERNVL, "attention_bias": attention_bias})
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
IDEFICS3 = {
    "hidden_size": 1152, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 16,
    "image_size": 224, "patch_size": 32,
}  # fmt: skip


def idefics3(f: Fields, hidden: int) -> Weights:
    """Lists the weights of SigLIP without a head; one projection of shuffled patches, without bias (SmolVLM as well)."""
    v = section(f, "vision_config", IDEFICS3)
    if v is None:
        return ()
    shuffled = v.int("hidden_size") * f.int("scale_factor", 2) ** 2
    return (*siglip_body(v), *linear(PROJECTOR, hidden, shuffled))

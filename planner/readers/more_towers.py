"""Further vision and audio towers, as those of `towers`: weights of parts "vision", "audio" and "projector".

Defaults and structure as in the configuration and modelling files of transformers 5.24.0. Shapes are written
[out, in].
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from planner.model.attention import Attention
from planner.model.mlp import Mlp
from planner.model.weights import Weight, linear, vector
from planner.readers import older_towers, qwen_towers, towers
from planner.readers.fields import Fields
from planner.readers.tower_parts import (
    AUDIO,
    PROJECTOR,
    VISION,
    Weights,
    patch_count,
    patch_elements,
    placed,
    section,
    table,
    transformer,
    two_layers,
    video_patch,
)
from planner.readers.towers import SIGLIP
from planner.units import ceil_div, product

# --- SigLIP with other projectors ------------------------------------------------------------------------


def llava_onevision(f: Fields, hidden: int) -> Weights:
    """Lists the weights of SigLIP without its head, two biased layers, and a learned vector for the end of a row."""
    v = section(f, "vision_config", {**SIGLIP, "vision_use_head": False})
    if v is None:
        return ()
    joined = two_layers(v.int("hidden_size"), hidden, hidden, bias=f.flag("multimodal_projector_bias", True))
    return (*towers.siglip(v, head=False), *joined, vector(PROJECTOR, hidden))


def cohere2_vision(f: Fields, hidden: int) -> Weights:
    """Lists the weights of SigLIP, with its head unless told; squares of patches go through a gated pair of biased
    layers.

    up and gate [alignment_intermediate_size, width·factor²], down [hidden, alignment_intermediate_size / 2].
    """
    v = section(f, "vision_config", SIGLIP)
    if v is None:
        return ()
    middle, factor = f.int("alignment_intermediate_size", 36864), f.int("downsample_factor", 2)
    merged = v.int("hidden_size") * factor**2
    joined = linear(PROJECTOR, middle, merged, bias=True) + linear(PROJECTOR, hidden, middle // 2, bias=True)
    return (*towers.siglip(v, head=True), *joined)


def aya_vision(f: Fields, hidden: int) -> Weights:
    """Lists the weights of SigLIP without a head; squares of patches go through a norm and a gated pair of biased
    layers.

    up and gate [a, width·factor²], down [hidden, a / 2], a = alignment_intermediate_size, else the text's hidden size.
    """
    v = section(f, "vision_config", {**SIGLIP, "num_hidden_layers": 26})
    if v is None:
        return ()
    middle, factor = f.int("alignment_intermediate_size", hidden), f.int("downsample_factor", 2)
    merged = v.int("hidden_size") * factor**2
    joined = linear(PROJECTOR, middle, merged, bias=True) + linear(PROJECTOR, hidden, middle // 2, bias=True)
    return (*towers.siglip(v, head=False), vector(PROJECTOR, 2 * merged), *joined)


def lfm2_vl(f: Fields, hidden: int) -> Weights:
    """Lists the weights of SigLIP 2: positions of `num_patches`, a head unless told; a norm (unless told) and two
    biased layers.
    """
    v = section(f, "vision_config", {**SIGLIP, "num_patches": 256})
    if v is None:
        return ()
    patches = v.int("num_patches")
    side = v.int("patch_size")
    square = Fields({**v.raw, "image_size": [side, side * patches]}, where=v.where, defaults=v.defaults)
    merged = v.int("hidden_size") * f.int("downsample_factor", 2) ** 2
    norm = (vector(PROJECTOR, merged, 2),) if f.flag("projector_use_layernorm", True) else ()
    joined = two_layers(merged, f.int("projector_hidden_size", 2560), hidden, bias=f.flag("projector_bias", True))
    return (*towers.siglip(square, head=True), *norm, *joined)


def minicpmv4_6(f: Fields, hidden: int) -> Weights:
    """Lists the weights of MiniCPM-V 4.6: SigLIP without its head, a merger of windows inside it, and one behind it.

    The inner merger has attention of its own, norms, and two biased layers over squares of patches, four times as wide
    as the tower's MLP; each of `merger_times` behind it a norm and two biased layers over squares.
    """
    defaults = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
                "image_size": 224, "patch_size": 16}  # fmt: skip
    v = section(f, "vision_config", {**SIGLIP, **defaults})
    if v is None:
        return ()
    width, rounds = v.int("hidden_size"), f.int("merger_times", 1)
    square = product(v.int_list("window_kernel_size", 2, low=1) or (2, 2))
    inner = Attention(width, 1, 1, width, qkv_bias=True, out_bias=True).weights()
    wide = square * v.int("intermediate_size")
    merged = 4 * width
    return (
        *towers.siglip(v, head=False),
        *placed(VISION, inner),
        vector(VISION, width, 2),
        vector(VISION, square * width, 2),
        *linear(VISION, wide, square * width, bias=True),
        *linear(VISION, width, wide, bias=True),
        vector(PROJECTOR, merged, 2 * rounds),
        *(two_layers(merged, merged, width, bias=True) * (rounds - 1)),
        *two_layers(merged, merged, hidden, bias=True),
    )


def molmo2(f: Fields, hidden: int) -> Weights:
    """Lists the weights of Molmo 2: biased patches and layers, learned positions; pooling by attention over the outputs of
    several layers together, and a gated MLP.

    q, k and v of the pooling [heads x head_dim, layers x width], o [width, heads x head_dim].
    """
    sizes = {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 25, "num_attention_heads": 16,
             "image_size": 378, "patch_size": 14, "head_dim": 72}  # fmt: skip
    v = section(f, "vision_config", sizes)
    a = section(
        f,
        "adapter_config",
        {"hidden_size": 1152, "num_attention_heads": 16, "head_dim": 72, "intermediate_size": 18944},
    )
    if v is None or a is None:
        return ()
    width, inner = v.int("hidden_size"), a.int("num_attention_heads") * a.int("head_dim")
    taps, bias, middle = a.sequence("vision_feature_layer"), a.flag("attention_bias", True), a.int("intermediate_size")
    pooled = a.int("hidden_size") * len(taps or (-3, -9))
    return (
        *linear(VISION, width, patch_elements(v), bias=True),
        table(VISION, v.int("num_position_embeddings", patch_count(v)), width),
        *transformer(v, width),
        *(linear(PROJECTOR, inner, pooled, bias=bias) * 3),
        *linear(PROJECTOR, a.int("hidden_size"), inner, bias=bias),
        *(linear(PROJECTOR, middle, a.int("hidden_size"), bias=a.flag("mlp_bias")) * 2),
        *linear(PROJECTOR, a.int("text_hidden_size", hidden), middle, bias=False),
    )


# --- towers over frames ----------------------------------------------------------------------------------


def minimax_m3(f: Fields, hidden: int) -> Weights:
    """Lists the weights of CLIP's layers over two frames, with rotary positions; two layers, and two more over merged
    patches.
    """
    defaults = {
        "hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 16,
        "patch_size": 14, "temporal_patch_size": 2,
    }  # fmt: skip
    v = section(f, "vision_config", defaults)
    if v is None:
        return ()
    merging = f.sub(f.section("img_token_compression_config") or {}, "img_token_compression_config")
    width, middle = v.int("hidden_size"), f.int("projector_hidden_size", hidden)
    merged = hidden * f.int("spatial_merge_size", merging.int("spatial_merge_size", 2)) ** 2
    bias = f.flag("multimodal_projector_bias", True)
    return (
        *video_patch(v, width, bias=False),
        vector(VISION, width, 2),
        *transformer(v, width),
        *two_layers(width, middle, hidden, bias=bias),
        *two_layers(merged, middle, hidden, bias=bias),
    )


def glm4v(f: Fields, hidden: int) -> Weights:
    """Lists the weights of a tower with learned positions, RMS norms, gated MLPs as wide as the text model; a strided
    convolution and a merger.
    """
    defaults = {
        "depth": 24, "hidden_size": 1536, "num_heads": 12, "intermediate_size": 13696, "image_size": 336,
        "patch_size": 14, "temporal_patch_size": 2, "spatial_merge_size": 2,
    }  # fmt: skip
    v = section(f, "vision_config", defaults)
    if v is None:
        return ()
    width, out = v.int("hidden_size"), v.int("out_hidden_size", hidden)
    attention = {"qkv_bias": v.flag("attention_bias"), "out_bias": False}
    layers = transformer(
        v, width, layers="depth", heads="num_heads", ffn=out, attention=attention, gated=True, mlp_bias=False,
        norm_vectors=2,
    )  # fmt: skip
    return (
        *video_patch(v, width, bias=True),
        table(VISION, patch_count(v), width),
        *layers,
        vector(VISION, width, 2),
        *linear(PROJECTOR, out, width * v.int("spatial_merge_size") ** 2, bias=True),
        *linear(PROJECTOR, out, out),
        vector(PROJECTOR, out, 2),
        *placed(PROJECTOR, Mlp(out, v.int("intermediate_size")).weights()),
    )


def exaone4_5(f: Fields, hidden: int) -> Weights:
    """Lists the weights of Qwen2.5-VL's tower with grouped heads (half as many KV heads by default)."""
    defaults = {
        "depth": 32, "hidden_size": 3584, "num_heads": 16, "num_key_value_heads": 8, "intermediate_size": 3420,
        "patch_size": 14, "temporal_patch_size": 2, "spatial_merge_size": 2,
    }  # fmt: skip
    v = section(f, "vision_config", defaults)
    if v is None:
        return ()
    width = v.int("hidden_size")
    attention = {"kv_heads": v.int("num_key_value_heads")}
    layers = transformer(
        v, width, layers="depth", heads="num_heads", attention=attention, gated=True, norm_vectors=2
    )  # fmt: skip
    merged = width * v.int("spatial_merge_size") ** 2
    return (
        *video_patch(v, width, bias=False),
        *layers,
        vector(PROJECTOR, width),
        *two_layers(merged, merged, v.int("out_hidden_size", hidden), bias=True),
    )


def step3p7(f: Fields, hidden: int) -> Weights:
    """Lists the weights of a tower with scaled residuals and learned positions; two strided convolutions that double
    the width, one projection.
    """
    defaults = {
        "hidden_size": 1536, "num_hidden_layers": 47, "num_attention_heads": 16, "image_size": 728, "patch_size": 14,
    }  # fmt: skip
    renames = {
        "hidden_size": ("width", "hidden_size"),
        "num_hidden_layers": ("layers", "num_hidden_layers"),
        "num_attention_heads": ("heads", "num_attention_heads"),
    }
    v = section(f, "vision_config", defaults, renames=renames)
    if v is None:
        return ()
    width = v.int("hidden_size")
    ffn = int(width * v.number("mlp_ratio", 8960 / 1536))
    return (
        *linear(VISION, width, patch_elements(v)),
        table(VISION, patch_count(v), width),
        vector(VISION, width, 2),
        *transformer(v, width, ffn=ffn, norm_vectors=6),
        *linear(VISION, 2 * width, 9 * width, bias=True),
        *linear(VISION, 4 * width, 18 * width, bias=True),
        *linear(PROJECTOR, hidden, 4 * width, bias=f.flag("projector_bias")),
    )


def gemma4_unified(f: Fields, hidden: int) -> Weights:
    """Lists the weights that embed and project patches and sound; there is no tower.

    Vision: a norm, a biased layer [embed, patch] and a norm, positions of height and width, a norm and a
    projection; audio: one projection of `audio_embed_dim`.
    """
    weights: Weights = ()
    v = section(f, "vision_config", {"patch_size": 16, "pooling_kernel_size": 3})
    if v is not None:
        patch, embed = 3 * (v.int("patch_size") * v.int("pooling_kernel_size")) ** 2, v.int("mm_embed_dim", 3840)
        weights += (
            vector(VISION, patch, 2),
            *linear(VISION, embed, patch, bias=True),
            vector(VISION, embed, 4),
            table(VISION, 2 * v.int("mm_posemb_size", 1120), embed),
            *linear(PROJECTOR, hidden, embed),
        )
    a = section(f, "audio_config", {"audio_embed_dim": 640})
    return weights + (linear(PROJECTOR, hidden, a.int("audio_embed_dim")) if a is not None else ())


# --- sound -----------------------------------------------------------------------------------------------

WHISPER_KEYS = {
    "d_model": ("d_model", "hidden_size"),
    "encoder_layers": ("encoder_layers", "num_hidden_layers"),
    "encoder_attention_heads": ("encoder_attention_heads", "num_attention_heads"),
    "encoder_ffn_dim": ("encoder_ffn_dim", "intermediate_size"),
}
WHISPER: Mapping[str, Any] = {
    "d_model": 1280, "encoder_layers": 32, "encoder_attention_heads": 20, "encoder_ffn_dim": 5120,
    "num_mel_bins": 128, "max_source_positions": 1500,
}  # fmt: skip


def _whisper_layers(a: Fields, *, k_bias: bool) -> Weights:
    layers = transformer(
        a,
        a.int("d_model"),
        layers="encoder_layers",
        heads="encoder_attention_heads",
        ffn=a.int("encoder_ffn_dim"),
        attention={"k_bias": k_bias},
    )
    return placed(AUDIO, layers)


def whisper(a: Fields) -> Weights:
    """Lists the weights of Whisper's encoder: two convolutions, positions, layers whose key has no bias, a norm."""
    width = a.int("d_model")
    return (
        Weight(AUDIO, width, 3 * a.int("num_mel_bins"), linear=False),
        Weight(AUDIO, width, 3 * width, linear=False),
        vector(AUDIO, width, 4),
        table(AUDIO, a.int("max_source_positions"), width),
        *_whisper_layers(a, k_bias=False),
    )


def voxtral(f: Fields, hidden: int) -> Weights:
    """Lists the weights of Whisper's encoder; frames side by side, as wide as its MLP, go through two layers without
    bias.
    """
    a = section(f, "audio_config", WHISPER, renames=WHISPER_KEYS)
    if a is None:
        return ()
    return (*whisper(a), *two_layers(a.int("encoder_ffn_dim"), hidden, hidden, bias=False))


def qwen2_audio(f: Fields, hidden: int) -> Weights:
    """Lists the weights of Whisper's encoder and one biased projection."""
    a = section(f, "audio_config", WHISPER)
    if a is None:
        return ()
    return (*whisper(a), *linear(PROJECTOR, hidden, a.int("d_model"), bias=True))


def qwen3_omni(f: Fields, hidden: int) -> Weights:
    """Lists the weights of Qwen3-VL's tower and of an audio tower."""
    return qwen_towers.qwen3_vl(f, hidden) + qwen3_audio(f, WHISPER)


def qwen3_audio(f: Fields, sizes: Mapping[str, Any]) -> Weights:
    """Lists the weights of three convolutions that quarter and halve the spectrogram, layers, two biased layers."""
    sizes = {**WHISPER, "output_dim": 3584, "downsample_hidden_size": 480, **sizes}
    a = section(f, "audio_config", sizes, renames=WHISPER_KEYS)
    if a is None:
        return ()
    width, channels = a.int("d_model"), a.int("downsample_hidden_size")
    bands = a.int("num_mel_bins")
    for _ in range(3):
        bands = ceil_div(bands, 2)
    return (
        Weight(AUDIO, channels, 9, linear=False),
        Weight(AUDIO, channels, 9 * channels, 2, linear=False),
        vector(AUDIO, channels, 3),
        *linear(AUDIO, width, product((channels, bands))),
        *_whisper_layers(a, k_bias=True),
        vector(AUDIO, width, 2),
        *linear(AUDIO, width, width, bias=True),
        *linear(AUDIO, a.int("output_dim"), width, bias=True),
    )


def minicpmv(f: Fields, hidden: int) -> Weights:
    """Lists the weights of SigLIP without a head, and of a resampler: `query_num` learned queries attend to its patches.

    queries [query_num, hidden], kv [hidden, width], attention of hidden with biases, three LayerNorms, a projection.
    Source: vLLM 0.33.0 minicpmv.py; the checkpoints of MiniCPM-V 2.6, 4 and 4.5 come out to the parameter.
    """
    defaults = {**SIGLIP, "hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27,
                "num_attention_heads": 16, "image_size": 980, "patch_size": 14}  # fmt: skip
    v = section(f, "vision_config", defaults)
    if v is None:
        return older_towers.minicpmv2(f, hidden) if f.get("vision_encoder") else ()
    resampler = (
        table(PROJECTOR, f.int("query_num", 64), hidden),
        *linear(PROJECTOR, hidden, v.int("hidden_size")),
        *linear(PROJECTOR, 3 * hidden, hidden, bias=True),
        *linear(PROJECTOR, hidden, hidden, bias=True),
        vector(PROJECTOR, hidden, 6),
        *linear(PROJECTOR, hidden, hidden),
    )
    return (*towers.siglip(v, head=False), *resampler)


def minicpmo(f: Fields, hidden: int) -> Weights:
    """Lists the weights of MiniCPM-V's tower; of those that hear and speak none, which is said."""
    f.get("audio_config")
    f.leave_out("its audio tower and its speech decoder are not counted: text model and vision tower alone")
    return minicpmv(f, hidden)


def ernie4_5_vl(f: Fields, hidden: int) -> Weights:
    """Lists the weights of a tower of biased layers, and of a resampler over space and time.

    Squares of patches and pairs of pictures: two pairs of biased layers with a LayerNorm each, one to the text model's
    width, a norm. Baidu's own files call the tower's width embed_dim, and hidden_size is that of the text model.
    """
    defaults = {"hidden_size": 1280, "depth": 32, "num_heads": 16, "patch_size": 14, "spatial_merge_size": 2}
    renames = {"hidden_size": ("embed_dim", "hidden_size"), "num_channels": ("in_channels", "num_channels")}
    v = section(f, "vision_config", defaults, renames=renames)
    if v is None:
        return ()
    width = v.int("hidden_size")
    own = v.has("embed_dim")
    ffn = int(width * v.number("mlp_ratio", 4)) if own else v.int("intermediate_size", 4 * width)
    space = width * v.int("spatial_merge_size") ** 2
    time = space * (f.int("temporal_conv_size", 2) if own else v.int("temporal_merge_size", 2))
    resampler = (
        *two_layers(space, space, space, bias=True),
        *two_layers(time, space, space, bias=True),
        vector(PROJECTOR, space, 4),
        *linear(PROJECTOR, hidden, space, bias=True),
        vector(PROJECTOR, hidden),
    )
    return (
        *linear(VISION, width, patch_elements(v)),
        *transformer(v, width, layers="depth", heads="num_heads", ffn=ffn),
        vector(VISION, width, 2),
        *resampler,
    )


def deepseek_v41(f: Fields, hidden: int) -> Weights:
    """Lists the weights of a tower of gated layers without biases, and of two layers over squares of its patches.

    Source: vLLM 0.33.0 deepseek_v41/common/vision; within 0.1 % of what its checkpoint holds in bf16.
    """
    defaults = {"hidden_size": 1024, "num_hidden_layers": 32, "num_attention_heads": 16, "intermediate_size": 2816,
                "patch_size": 14, "downsample_ratio": 3}  # fmt: skip
    v = section(f, "vision_config", defaults)
    if v is None:
        return ()
    width = v.int("hidden_size")
    layers = transformer(
        v, width, attention={"qkv_bias": False, "out_bias": False}, gated=True, mlp_bias=False, norm_vectors=2
    )
    merged = width * v.int("downsample_ratio") ** 2
    return (*linear(VISION, width, patch_elements(v)), *layers, *two_layers(merged, hidden, hidden, bias=False))


def dots_ocr(f: Fields, hidden: int) -> Weights:
    """Lists the weights of dots.ocr's tower: gated layers without biases, and two layers over squares of its patches.

    Source: vLLM 0.33.0 dots_ocr.py; 1,262,091,264 parameters, which with the text model are the checkpoint's 3,039,179,264.
    """
    defaults = {
        "embed_dim": 1536, "intermediate_size": 4224, "num_hidden_layers": 42, "num_attention_heads": 12,
        "patch_size": 14, "spatial_merge_size": 2, "use_bias": False, "post_norm": True,
    }  # fmt: skip
    v = section(f, "vision_config", defaults)
    if v is None:
        return ()
    width, bias = v.int("embed_dim"), v.flag("use_bias")
    square = width * v.int("spatial_merge_size") ** 2
    plain = {"qkv_bias": bias, "out_bias": bias}
    return (
        *linear(VISION, width, patch_elements(v), bias=True),
        *transformer(v, width, attention=plain, gated=True, mlp_bias=bias, norm_vectors=2),
        vector(VISION, width, 2 if v.flag("post_norm") else 1),
        vector(PROJECTOR, width, 2),
        *two_layers(square, square, hidden, bias=True),
    )


def phi3_v(f: Fields, hidden: int) -> Weights:
    """Lists the weights of CLIP ViT-L/14 at 336 pixels, two separators of four patches, and an MLP of two layers.

    Source: vLLM 0.33.0 phi3v.py, where the tower is fixed; 325,541,888 parameters, as Phi-3.5-vision has beside its text.
    """
    f.get("img_processor")
    f.get("embd_layer")
    sizes = {
        "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
        "image_size": 336, "patch_size": 14,
    }  # fmt: skip
    square = 4 * 1024
    return (
        *towers.clip(Fields(sizes, where=f.where)),
        vector(PROJECTOR, square, 2),
        *two_layers(square, hidden, hidden, bias=True),
    )

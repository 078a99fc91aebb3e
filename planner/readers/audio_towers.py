"""Towers that hear, as those of `towers`: weights of parts "audio" and "projector".

Defaults and structure as in the configuration and modelling files of transformers 5.24.0. Shapes are written [out, in].
"""

from __future__ import annotations

from planner.model.attention import Attention
from planner.model.mlp import Mlp
from planner.model.weights import Weight, linear, vector
from planner.readers import more_towers, page_towers, towers
from planner.readers.fields import MAX_LAYERS, Fields
from planner.readers.tower_parts import AUDIO, PROJECTOR, Weights, placed, section, table, transformer, two_layers

WHISPER = {
    "hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20, "num_mel_bins": 128,
    "max_source_positions": 1500,
}  # fmt: skip


def _two_convolutions(a: Fields, width: int) -> Weights:
    """Two convolutions of three frames: [width, 3 · bands] and [width, 3 · width], with biases."""
    bands, inner = (
        Weight(AUDIO, width, 3 * a.int("num_mel_bins"), linear=False),
        Weight(AUDIO, width, 3 * width, linear=False),
    )
    return (bands, inner, vector(AUDIO, width, 2))


def audioflamingo3(f: Fields, hidden: int) -> Weights:
    """Lists the weights of Whisper's encoder and two layers, biased unless told."""
    a = section(f, "audio_config", more_towers.WHISPER, renames=more_towers.WHISPER_KEYS)
    if a is None:
        return ()
    return (*more_towers.whisper(a), *two_layers(a.int("d_model"), hidden, hidden, bias=f.flag("projector_bias", True)))


def glmasr(f: Fields, hidden: int) -> Weights:
    """Lists the weights of Whisper's encoder with rotary positions; frames side by side through two biased layers."""
    a = section(f, "audio_config", WHISPER)
    if a is None:
        return ()
    width = a.int("hidden_size")
    attention = {"k_bias": False, "kv_heads": a.int("num_key_value_heads", a.int("num_attention_heads"))}
    return (
        *_two_convolutions(a, width),
        *placed(AUDIO, transformer(a, width, attention=attention)),
        vector(AUDIO, width, 2),
        *two_layers(a.int("intermediate_size"), 2 * hidden, hidden, bias=True),
    )


def voxtral_realtime(f: Fields, hidden: int) -> Weights:
    """Lists the weights of a causal encoder: gated MLPs, RMS norms, heads of their own width; two layers without biases."""
    sizes = {**WHISPER, "num_attention_heads": 32, "head_dim": 64}
    a = section(f, "audio_config", sizes)
    if a is None:
        return ()
    width, heads, inner = a.int("hidden_size"), a.int("num_attention_heads"), a.int("intermediate_size")
    kv = a.int("num_key_value_heads", heads)
    mixer = Attention(width, heads, kv, a.int("head_dim"), qkv_bias=True, k_bias=False, out_bias=True).weights()
    one = (*mixer, *Mlp(width, inner).weights(), vector(AUDIO, width, 3))
    joined = two_layers(width * f.int("downsample_factor", 4), hidden, hidden, bias=False)
    return (
        *_two_convolutions(a, width),
        *placed(AUDIO, one, a.int("num_hidden_layers", high=MAX_LAYERS)),
        vector(AUDIO, width),
        *joined,
    )


def qwen3_asr(f: Fields, hidden: int) -> Weights:
    """Lists the weights of Qwen3-Omni's audio tower and two biased layers, each as wide as what it reads or gives."""
    sizes = {"d_model": 1024, "encoder_layers": 24, "encoder_attention_heads": 16, "encoder_ffn_dim": 4096}
    return more_towers.qwen3_audio(f, sizes)


def fun_asr_nano(f: Fields, hidden: int) -> Weights:
    """Lists the weights of layers that remember through a depthwise filter, the first over stacked frames; an adaptor.

    The adaptor: two biased layers over frames and `num_hidden_layers` of attention and a narrow MLP.
    """
    sizes = {"num_mel_bins": 80, "hidden_size": 512, "num_attention_heads": 4, "intermediate_size": 2048, "num_hidden_layers": 50,
             "num_stacked_frames": 7, "fsmn_kernel_size": 11, "num_timestamp_prediction_layers": 20}  # fmt: skip
    a = section(f, "audio_config", sizes)
    if a is None:
        return ()
    width, layers = a.int("hidden_size"), a.int("num_hidden_layers", high=MAX_LAYERS)
    stacked, inner = a.int("num_mel_bins") * a.int("num_stacked_frames"), a.int("intermediate_size")
    late = a.int("num_timestamp_prediction_layers", low=0, high=MAX_LAYERS)

    def layer(read: int) -> Weights:
        mixer = (*linear(AUDIO, width, read, bias=True) * 3, *linear(AUDIO, width, width, bias=True))
        remember = table(AUDIO, width, a.int("fsmn_kernel_size"))
        mlp = two_layers(width, inner, width, bias=True, part=AUDIO)
        return (*mixer, remember, *mlp, vector(AUDIO, read, 2), vector(AUDIO, width, 2))

    weights = layer(stacked) + (placed(AUDIO, layer(width), layers - 1) if layers > 1 else ())
    norms = vector(AUDIO, width, 4 if late and late < layers else 2)
    return (*weights, norms, *_adaptor(f, hidden, width))


def _adaptor(f: Fields, hidden: int, width: int) -> Weights:
    sizes = {"hidden_size": hidden, "num_attention_heads": 8, "intermediate_size": 256, "num_hidden_layers": 2,
             "projector_hidden_size": 2048}  # fmt: skip
    p = f.sub(f.section("adaptor_config") or {}, "adaptor_config", sizes)
    out = p.int("hidden_size")
    layers = placed(PROJECTOR, transformer(p, out))
    return (*two_layers(width, p.int("projector_hidden_size"), out, bias=True), *layers)


def granite_speech(f: Fields, hidden: int) -> Weights:
    """Lists the weights of a Conformer with a head in the middle, and of a Q-Former over windows, with one biased layer.

    A layer: two MLPs, attention with a table of [2 · max_pos_emb + 1, head width], a gated convolution with a batch norm.
    """
    sizes = {"input_dim": 160, "num_layers": 10, "hidden_dim": 1024, "feedforward_mult": 4, "num_heads": 8, "dim_head": 128,
             "output_dim": 42, "max_pos_emb": 512, "conv_kernel_size": 15, "conv_expansion_factor": 2}  # fmt: skip
    a = section(f, "encoder_config", sizes)
    if a is None:
        return ()
    width, heads, head = a.int("hidden_dim"), a.int("num_heads"), a.int("dim_head")
    inner, wide = width * a.int("conv_expansion_factor"), width * a.int("feedforward_mult")
    one = (
        *two_layers(width, wide, width, bias=True, part=AUDIO) * 2,
        *linear(AUDIO, 3 * heads * head, width),
        *linear(AUDIO, width, heads * head, bias=True),
        table(AUDIO, 2 * a.int("max_pos_emb") + 1, head),
        *linear(AUDIO, 2 * inner, width, bias=True),
        table(AUDIO, inner, a.int("conv_kernel_size")),
        *linear(AUDIO, width, inner, bias=True),
        vector(AUDIO, inner, 2),
        vector(AUDIO, width, 10),
    )
    out = a.int("output_dim")
    ends = (*linear(AUDIO, width, a.int("input_dim"), bias=True), *two_layers(width, out, width, bias=True, part=AUDIO))
    return (*ends, *placed(AUDIO, one, a.int("num_layers", high=MAX_LAYERS)), *_speech_projector(f, hidden, width))


def _speech_projector(f: Fields, hidden: int, width: int) -> Weights:
    p = f.sub(
        f.section("projector_config") or {}, "projector_config", {"hidden_size": 768, "encoder_hidden_size": width}
    )
    inner = p.int("hidden_size")
    queries = f.int("window_size", 15) // f.int("downsample_rate", 5)
    former = page_towers.q_former(p, inner, p.int("encoder_hidden_size"))
    return (table(PROJECTOR, queries, inner), *former, *linear(PROJECTOR, hidden, inner, bias=True))


def vibevoice_asr(f: Fields, hidden: int) -> Weights:
    """Lists the weights of two convolutional encoders, of sound and of meaning; for each a norm between two biased layers."""
    weights: Weights = ()
    for key, out in (("acoustic_tokenizer_encoder_config", 64), ("semantic_tokenizer_encoder_config", 128)):
        a = section(
            f, key, {"hidden_size": out, "channels": 1, "kernel_size": 7, "num_filters": 32, "ffn_expansion": 4}
        )
        if a is not None:
            weights += (
                *_frames(a),
                *two_layers(a.int("hidden_size"), hidden, hidden, bias=True),
                vector(PROJECTOR, hidden),
            )
    return weights


def _frames(a: Fields) -> Weights:
    """Stages twice as wide as the one before, each behind a strided convolution: depthwise filters and MLPs, with scales."""
    kernel, width = a.int("kernel_size"), a.int("num_filters")
    strides = [1, *(a.int_list("downsampling_ratios", low=1) or (2, 2, 4, 5, 5, 8))]
    depths = a.int_list("depths", low=1) or (3, 3, 3, 3, 3, 3, 8)
    weights: Weights = (table(AUDIO, width, a.int("channels") * kernel), vector(AUDIO, width))
    for stage, depth in enumerate(depths[: len(strides)]):
        if stage:
            weights += (table(AUDIO, 2 * width, width * 2 * strides[stage]), vector(AUDIO, 2 * width))
            width *= 2
        mlp = two_layers(width, a.int("ffn_expansion") * width, width, bias=True, part=AUDIO)
        weights += placed(AUDIO, (*mlp, table(AUDIO, width, kernel), vector(AUDIO, width, 5)), depth)
    return (*weights, table(AUDIO, a.int("hidden_size"), width * kernel), vector(AUDIO, a.int("hidden_size")))


def muse_spark(f: Fields, hidden: int) -> Weights:
    """Lists the weights of Muse Glimmer's tower for pictures, and for sound of stages of depthwise filters and MLPs.

    A stage reads `patch` frames of the stage before side by side, with a norm; at last a norm, one biased layer, a norm.
    """
    a = section(f, "audio_config", {"conv_kernel_size": 7})
    seen = towers.muse_glimmer(f, hidden)
    if a is None:
        return seen
    weights: Weights = ()
    sizes, before = a.int_list("hidden_sizes", low=1) or (256, 512, 1024, 2048), 1
    patches, depths = a.int_list("patch_sizes", low=1) or (16, 6, 5, 4), a.int_list("depths", low=1) or (2, 2, 2, 2)
    for width, patch, depth in zip(sizes, patches, depths, strict=False):
        mlp = two_layers(width, 4 * width, width, bias=True, part=AUDIO)
        block = (*mlp, table(AUDIO, width, a.int("conv_kernel_size")), vector(AUDIO, width, 2))
        weights += (
            *linear(AUDIO, width, before * patch, bias=True),
            vector(AUDIO, width),
            *placed(AUDIO, block, depth),
        )
        before = width
    out = a.int("out_hidden_size", hidden)
    return (*seen, *weights, vector(AUDIO, before), *linear(PROJECTOR, out, before, bias=True), vector(PROJECTOR, out))


# --- Dots 3 Note ------------------------------------------------------------------------------------------


def dots3_note(f: Fields, hidden: int) -> Weights:
    """Lists the weights of a vision tower whose late layers have experts, of a merger, and of an audio tower with an adapter."""
    return (*_dots3_vision(f, hidden), *_dots3_audio(f, hidden))


def _dots3_vision(f: Fields, hidden: int) -> Weights:
    """`pyramid_num_routed` experts a layer (-1: dense), each [width, moe_intermediate_size] three times, and a router."""
    sizes = {"hidden_size": 1536, "intermediate_size": 4224, "num_hidden_layers": 42, "num_attention_heads": 24, "patch_size": 14,
             "moe_intermediate_size": 2112, "spatial_merge_size": 2}  # fmt: skip
    renames = {"hidden_size": ("embed_dim", "hidden_size"), "num_attention_heads": ("num_heads", "num_attention_heads"),
               "attention_bias": ("use_bias", "attention_bias")}  # fmt: skip
    v = section(f, "vision_config", sizes, renames=renames)
    if v is None:
        return ()
    width, layers = v.int("hidden_size"), v.int("num_hidden_layers", high=MAX_LAYERS)
    bias, heads = v.flag("attention_bias"), v.int("num_attention_heads")
    mixer = Attention(width, heads, heads, width // heads, qkv_bias=bias, out_bias=bias, qk_norm="head").weights()
    experts, dense = _experts_by_layer(v, layers), 0
    dense = sum(count <= 0 for count in experts)
    total = sum(count for count in experts if count > 0)
    routed = (*Mlp(width, v.int("moe_intermediate_size")).weights(), Weight("vision", 1, width, linear=False))
    square = width * v.int("spatial_merge_size") ** 2
    return (
        *linear("vision", width, 3 * v.int("patch_size") ** 2, bias=True),
        vector("vision", width, 2),
        *placed("vision", (*mixer, vector("vision", width, 2)), layers),
        *(
            placed("vision", Mlp(width, v.int("intermediate_size"), True, v.flag("mlp_bias")).weights(), dense)
            if dense
            else ()
        ),
        *(placed("vision", routed, total) if total else ()),
        vector(PROJECTOR, width, 2),
        *two_layers(square, square, v.int("adapter_out_dim", hidden), bias=True),
    )


def _experts_by_layer(v: Fields, layers: int) -> list[int]:
    """Experts of each layer, 0 where it is dense: `pyramid_num_routed`, or `mlp_layer_types` with `per_layer_config`."""
    routed = v.sequence("pyramid_num_routed", layers)
    if routed is not None:
        return [count if isinstance(count, int) and count > 0 else 0 for count in routed]
    kinds, own = v.sequence("mlp_layer_types", layers), v.section("per_layer_config") or {}
    if kinds is None:
        return ([0] * 25 + [*range(4, 65, 4), 64])[:layers]
    by_layer = {
        int(key): v.sub(value, f"per_layer_config {key}")
        for key, value in own.items()
        if str(key).isdigit() and isinstance(value, dict)
    }
    common = v.int("num_local_experts", 64)
    return [
        (by_layer[i].int("num_local_experts", common) if i in by_layer else common) if kind == "sparse" else 0
        for i, kind in enumerate(kinds)
    ]


def _dots3_audio(f: Fields, hidden: int) -> Weights:
    """Three convolutions that halve time and bands, layers of Whisper's widths with gated MLPs and RMS norms, an adapter."""
    raw = f.section("audio_config")
    if raw is None:
        return ()
    inner = raw.get("whisper_config")
    names = {"d_model": "hidden_size", "encoder_attention_heads": "num_attention_heads", "encoder_layers": "num_hidden_layers",
             "encoder_ffn_dim": "intermediate_size", "num_mel_bins": "feature_size"}  # fmt: skip
    given = {names[key]: value for key, value in inner.items() if key in names} if isinstance(inner, dict) else {}
    sizes = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20, "feature_size": 128,
             "downsample_hidden_size": 480}  # fmt: skip
    a = Fields({**raw, **given}, where=f"{f.where}: audio_config", defaults=sizes)
    width, channels, bands = a.int("hidden_size"), a.int("downsample_hidden_size"), a.int("feature_size")
    layers = transformer(
        a, width, attention={"k_bias": False, "qkv_bias": True, "out_bias": True}, gated=True, norm_vectors=2
    )
    read = a.int("whisper_adapter_in_dim", a.int("adapter_input_size", 1280))
    out = a.int("whisper_adapter_out_dim", a.int("adapter_output_size", a.int("adapter_out_dim", hidden)))
    return (
        table(AUDIO, channels, 9),
        table(AUDIO, channels, 9 * channels, count=2),
        vector(AUDIO, channels, 3),
        *linear(AUDIO, width, channels * ((bands + 7) // 8)),
        *placed(AUDIO, layers),
        vector(AUDIO, width),
        vector(PROJECTOR, read, 2),
        *two_layers(read, out, out, bias=True),
    )

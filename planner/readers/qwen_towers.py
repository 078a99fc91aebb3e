"""Vision and audio towers of Qwen models, as those of `towers`."""

from __future__ import annotations

from planner.model.weights import Weight, linear, vector
from planner.readers.fields import Fields
from planner.readers.tower_parts import (
    AUDIO,
    PROJECTOR,
    VISION,
    Weights,
    placed,
    section,
    table,
    transformer,
    two_layers,
    video_patch,
)

_QWEN2_VL = {
    "depth": 32, "embed_dim": 1280, "mlp_ratio": 4, "num_heads": 16, "patch_size": 14, "spatial_merge_size": 2,
    "temporal_patch_size": 2,
}  # fmt: skip


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

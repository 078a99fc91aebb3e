"""Vision towers of models that read pages, and further ones, as those of `towers`: weights of parts "vision" and "projector".

Defaults and structure as in the configuration and modelling files of transformers 5.24.0. Shapes are written [out, in].
"""

from __future__ import annotations

from typing import Any

from planner.errors import BadConfig
from planner.model.attention import Attention
from planner.model.mlp import Mlp
from planner.model.weights import linear, vector
from planner.readers import more_towers, older_towers, qwen_towers, towers
from planner.readers.fields import MAX_LAYERS, Fields
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
from planner.readers.towers import IDEFICS3, SIGLIP, siglip_body

# --- SAM and what stands behind it -----------------------------------------------------------------------

SAM = {
    "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "output_channels": 256, "image_size": 1024,
    "patch_size": 16, "window_size": 14,
}  # fmt: skip


def sam(v: Fields) -> Weights:
    """Lists SAM's weights: positions of every patch, layers with two tables of relative positions, a neck.

    A table has 2s - 1 rows of a head's width, s the side of the layer's window, or of all patches where the layer is among
    `global_attn_indexes`. Neck: [out, width] and [out, out · 9] without biases, a LayerNorm behind each.
    """
    width, out, layers = v.int("hidden_size"), v.int("output_channels"), v.int("num_hidden_layers", high=MAX_LAYERS)
    side = both_sides(v, "image_size")[0] // both_sides(v, "patch_size")[0]
    whole = set(v.int_list("global_attn_indexes") or ((2, 5, 8, 11) if v.get("global_attn_indexes") is None else ()))
    head = width // v.int("num_attention_heads")
    reach = [side if index in whole else v.int("window_size") for index in range(layers)]
    bias = {"qkv_bias": v.flag("qkv_bias", True)}
    relative = tuple(table(VISION, 2 * r - 1, head, count=2) for r in reach) if v.flag("use_rel_pos", True) else ()
    return (
        *linear(VISION, width, patch_elements(v), bias=True),
        *((table(VISION, side * side, width),) if v.flag("use_abs_pos", True) else ()),
        *transformer(v, width, ffn=v.int("mlp_dim", int(width * v.number("mlp_ratio", 4.0))), attention=bias),
        *relative,
        *sam_neck(width, out),
    )


def sam_neck(width: int, out: int) -> Weights:
    """Lists a matrix and a convolution of 3 x 3 down to `out` channels, a LayerNorm behind each."""
    return (*linear(VISION, out, width), *linear(VISION, out, out * 9), vector(VISION, out, 4))


def got_ocr2(f: Fields, hidden: int) -> Weights:
    """Lists the weights of SAM, two strided convolutions [512, 256 · 9], [hidden, 512 · 9] and one biased layer."""
    v = section(f, "vision_config", SAM)
    if v is None:
        return ()
    out = v.int("output_channels")
    strided = linear(PROJECTOR, 2 * out, 9 * out) + linear(PROJECTOR, hidden, 18 * out)
    return (*sam(v), *strided, *linear(PROJECTOR, hidden, hidden, bias=True))


def _sam_of(f: Fields, vision: Fields, last: int) -> Weights:
    """SAM of `sam_config` inside a vision section, and its strided convolutions."""
    s = vision.sub(vision.section("sam_config") or {}, "sam_config", {**SAM})
    steps = s.int_list("downsample_channels", 2, low=1) or [512, last]
    out = s.int("output_channels")
    return (*sam(s), *linear(VISION, steps[0], 9 * out), *linear(VISION, steps[1], 9 * steps[0]))


def unlimited_ocr(f: Fields, hidden: int) -> Weights:
    """Lists the weights of SAM and CLIP-L, side by side through one biased layer; a vector for rows' ends, one between views.

    The published file names both towers as DeepSeek-OCR's does; transformers' has a section for each.
    """
    v = section(f, "vision_config", {})
    if v is None or v.get("width") is not None:
        return older_towers.deepseek_ocr(f, hidden)
    clip = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
            "image_size": 224, "patch_size": 14}  # fmt: skip
    c = v.sub(v.section("encoder_config") or {}, "encoder_config", clip)
    width = c.int("hidden_size")
    joined = linear(PROJECTOR, hidden, 2 * width, bias=True)
    second = (vector(VISION, width, 3), table(VISION, patch_count(c) + 1, width), *transformer(c, width))
    return (*_sam_of(f, v, 1024), *second, *joined, vector(PROJECTOR, hidden, 2))


def deepseek_ocr2(f: Fields, hidden: int) -> Weights:
    """Lists the weights of SAM, of a Qwen2 over its patches with queries for two resolutions, and one biased layer.

    queries [144, width] and [256, width]; a vector between views.
    """
    v = section(f, "vision_config", {})
    if v is None or v.get("width") is not None:
        return older_towers.deepseek_ocr(f, hidden)
    sizes = {"hidden_size": 4096, "intermediate_size": 22016, "num_hidden_layers": 32, "num_attention_heads": 32,
             "num_key_value_heads": 32}  # fmt: skip
    q = v.sub(v.section("encoder_config") or {}, "encoder_config", sizes)
    width = q.int("hidden_size")
    attention = {"kv_heads": q.int("num_key_value_heads"), "out_bias": False}
    layers = transformer(q, width, attention=attention, gated=True, mlp_bias=False, norm_vectors=2)
    queries = table(VISION, 144, width), table(VISION, 256, width)
    joined = linear(PROJECTOR, hidden, width, bias=True)
    return (*_sam_of(f, v, 896), *layers, vector(VISION, width), *queries, *joined, vector(PROJECTOR, hidden))


def deepseek_vl(f: Fields, hidden: int) -> Weights:
    """Lists the weights of SigLIP with its head and an aligner of two biased layers."""
    v = section(f, "vision_config", SIGLIP)
    if v is None:
        return ()
    return (*towers.siglip(v, head=True), *two_layers(v.int("hidden_size"), hidden, hidden, bias=True))


def deepseek_vl_hybrid(f: Fields, hidden: int) -> Weights:
    """Lists the weights of SigLIP with its head and SAM with a second neck; both into half the width, one biased layer."""
    v, s = section(f, "vision_config", SIGLIP), section(f, "high_res_vision_config", SAM)
    if v is None or s is None:
        return ()
    wide, out = s.int("hidden_size"), s.int("output_channels")
    second = (*sam_neck(wide, out), *linear(VISION, 2 * out, 9 * out), *linear(VISION, 4 * out, 18 * out))
    halves = (
        *linear(PROJECTOR, hidden // 2, v.int("hidden_size"), bias=True),
        *linear(PROJECTOR, hidden // 2, 4 * out, bias=True),
    )
    joined = (*halves, *linear(PROJECTOR, 2 * (hidden // 2), 2 * (hidden // 2), bias=True), vector(PROJECTOR, 1))
    return (*towers.siglip(v, head=True), *sam(s), *second, *joined)


# --- SigLIP and CLIP with other projectors ----------------------------------------------------------------


def paddleocr_vl(f: Fields, hidden: int) -> Weights:
    """Lists the weights of SigLIP without its head; a norm, and two biased layers over squares of patches."""
    sizes = {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16,
             "image_size": 384, "patch_size": 14}  # fmt: skip
    v = section(f, "vision_config", sizes)
    if v is None:
        return ()
    width = v.int("hidden_size")
    square = width * v.int("spatial_merge_size", 2) ** 2
    return (*siglip_body(v), vector(PROJECTOR, width, 2), *two_layers(square, square, hidden, bias=True))


def granite_docling(f: Fields, hidden: int) -> Weights:
    """Lists the weights of SigLIP without its head; a coarse and (unless told) a fine path of squares of patches.

    A path: one projection [out, s² · width] and, for each of `deepstack_visual_indexes`, a norm and two biased layers. Three
    norms and a matrix [out, out] are shared. `density_router_hidden_size` brings the small network that chooses the path.
    """
    sizes = {**SIGLIP, "image_size": 512, "scale_factor": 4, "out_hidden_size": 1024}
    v = section(f, "vision_config", sizes)
    if v is None:
        return ()
    width, out, scale = v.int("hidden_size"), v.int("out_hidden_size", hidden), v.int("scale_factor")
    taps = v.sequence("deepstack_visual_indexes")
    deeper = 3 if taps is None else len(taps)
    paths: Weights = ()
    for side in (scale, scale // 2) if v.flag("use_fine_route", True) else (scale,):
        square = width * side * side
        paths += linear(PROJECTOR, out, square)
        paths += placed(PROJECTOR, (vector(PROJECTOR, square, 2), *two_layers(square, out, out, bias=True)), deeper)
    router: Weights = ()
    inner = f.maybe_int("density_router_hidden_size")
    if inner is not None:
        router = (
            *linear(PROJECTOR, 1, width, bias=True), vector(PROJECTOR, width, 2), *two_layers(width, inner, 1, bias=True)
        )  # fmt: skip
    shared = (vector(PROJECTOR, width, 2), vector(PROJECTOR, out, 4), *linear(PROJECTOR, out, out))
    return (*siglip_body(v), *paths, *shared, *router)


def granite4_vision(f: Fields, hidden: int) -> Weights:
    """Lists the weights of its tower, and of a small Q-Former over windows for each layer it reaches and each of 4 offsets.

    `downsample_rate` "q/k": q² queries read windows of k². Each: a norm, queries [q², width], positions [k², width],
    the Q-Former, one biased layer; a vector for rows' ends.
    """
    tower = towers.llava_tower(f)
    if tower is None:
        return ()
    seen, width = tower
    rate, reached = f.text("downsample_rate").split("/"), f.sequence("deepstack_layer_map")
    if len(rate) != 2 or not all(part.isascii() and part.isdigit() and 0 < int(part) < 1000 for part in rate):
        raise f.wrong("downsample_rate", f.get("downsample_rate"), "a text such as '4/8'")
    sizes = {"num_hidden_layers": 1, "intermediate_size": 3072, "cross_attention_frequency": 1}
    q = f.sub(f.section("qformer_config") or {}, "qformer_config", sizes)
    one = (
        vector(PROJECTOR, width, 2),
        table(PROJECTOR, int(rate[0]) ** 2 + int(rate[1]) ** 2, width),
        *q_former(q, width, width),
        *linear(PROJECTOR, hidden, width, bias=True),
    )
    return (*seen, *placed(PROJECTOR, one, len(reached or ()) + 4), vector(PROJECTOR, hidden))


def q_former(q: Fields, width: int, read: int) -> Weights:
    """Lists BLIP-2's Q-Former: a norm, layers of attention over queries, over `read` numbers in every n-th, an MLP."""
    layers, each = q.int("num_hidden_layers", 12, high=MAX_LAYERS), q.int("cross_attention_frequency", 2)
    across, inner = len(range(0, layers, each)), q.int("intermediate_size", 3072)
    own = (*linear(PROJECTOR, width, width, bias=True) * 4, vector(PROJECTOR, width, 2))
    other = (
        *linear(PROJECTOR, width, width, bias=True) * 2, *linear(PROJECTOR, width, read, bias=True) * 2,
        vector(PROJECTOR, width, 2),
    )  # fmt: skip
    mlp = (*two_layers(width, inner, width, bias=True), vector(PROJECTOR, width, 2))
    return (vector(PROJECTOR, width, 2), *placed(PROJECTOR, own + mlp, layers), *placed(PROJECTOR, other, across))


def aria(f: Fields, hidden: int) -> Weights:
    """Lists the weights of SigLIP without its head, and of queries that attend to patches through two rounds of matrices.

    As many queries as the largest of `projector_patch_to_query_dict`; two layers without biases, the text's width wide.
    """
    v = section(f, "vision_config", IDEFICS3)
    if v is None:
        return ()
    width = v.int("hidden_size")
    by_patches = f.section("projector_patch_to_query_dict") or {"4900": 256}
    inner = f.sub(by_patches, "projector_patch_to_query_dict")
    queries = max(inner.int(patches) for patches in by_patches)
    projector = (
        table(PROJECTOR, queries, width),
        *linear(PROJECTOR, width, width) * 3,
        *linear(PROJECTOR, 3 * width, width, bias=True),
        *linear(PROJECTOR, width, width, bias=True) * 2,
        vector(PROJECTOR, width, 6),
        *two_layers(width, hidden, hidden, bias=False),
    )
    return (*siglip_body(v), *projector)


def video_llama_3(f: Fields, hidden: int) -> Weights:
    """Lists the weights of SigLIP's layers without positions, with a last norm; two biased layers."""
    v = section(f, "vision_config", SIGLIP)
    if v is None:
        return ()
    width = v.int("hidden_size")
    return (
        *linear(VISION, width, patch_elements(v), bias=True),
        *transformer(v, width),
        vector(VISION, width, 2),
        *two_layers(width, hidden, hidden, bias=True),
    )


def idefics2(f: Fields, hidden: int) -> Weights:
    """Lists the weights of SigLIP without its head, a gated MLP into the text's width, and a perceiver over 64 latents.

    Its layers: three norms, attention of `resampler_n_heads` heads without biases, a gated MLP four times as wide.
    """
    v = section(f, "vision_config", {**SIGLIP, "patch_size": 32})
    if v is None:
        return ()
    p = f.sub(f.section("perceiver_config") or {}, "perceiver_config", {
        "resampler_n_latents": 64, "resampler_depth": 3, "resampler_n_heads": 16, "resampler_head_dim": 96,
        "num_key_value_heads": 4})  # fmt: skip
    joined = (*linear(PROJECTOR, f_width(f), v.int("hidden_size")) * 2, *linear(PROJECTOR, hidden, f_width(f)))
    mixer = Attention(hidden, p.int("resampler_n_heads"), p.int("num_key_value_heads"), p.int("resampler_head_dim"))
    one = (*mixer.weights(), *Mlp(hidden, 4 * hidden).weights(), vector(PROJECTOR, hidden, 3))
    latents = table(PROJECTOR, p.int("resampler_n_latents"), hidden), vector(PROJECTOR, hidden)
    return (*siglip_body(v), *joined, *placed(PROJECTOR, one, p.int("resampler_depth", high=MAX_LAYERS)), *latents)


def f_width(f: Fields) -> int:
    """Reads the width of the text model's MLP, which Idefics 2's projector takes over (Mistral's 14,336 by default)."""
    text = f.sub(f.section("text_config") or {}, "text_config", {"intermediate_size": 14336})
    return text.int("intermediate_size")


def vipllava(f: Fields, hidden: int) -> Weights:
    """Lists the weights of its tower; a norm over several layers side by side, and two biased layers."""
    tower = towers.llava_tower(f)
    if tower is None:
        return ()
    taps = f.get("vision_feature_layers", f.get("vision_feature_layer", (-2, -5, -8, -11, 6)))
    wide = tower[1] * (len(taps) if isinstance(taps, (list, tuple)) and taps else 1)
    return (*tower[0], vector(PROJECTOR, wide, 2), *two_layers(wide, hidden, hidden, bias=True))


def video_llava(f: Fields, hidden: int) -> Weights:
    """Lists the weights of two towers of one shape, for pictures and for videos, and two layers."""
    tower = towers.llava_tower(f)
    if tower is None:
        return ()
    bias = f.flag("multimodal_projector_bias", True)
    return (*tower[0], *tower[0], *two_layers(tower[1], hidden, hidden, bias=bias))


# --- towers of their own ----------------------------------------------------------------------------------


def hyperclovax_vision(f: Fields, hidden: int) -> Weights:
    """Lists the weights of Qwen2.5-VL's tower and one biased projection of what it puts out."""
    v = section(f, "vision_config", {"out_hidden_size": 3584})
    if v is None:
        return ()
    return (*qwen_towers.qwen2_5_vl(f, hidden), *linear(PROJECTOR, hidden, v.int("out_hidden_size"), bias=True))


def lighton_ocr(f: Fields, hidden: int) -> Weights:
    """Lists the weights of Pixtral and a projector that norms, merges squares of patches and has two layers without biases."""
    return towers.mistral3(f, hidden)


_HUNYUAN_VL = {
    "hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16, "patch_size": 16,
}  # fmt: skip


def _hunyuan_body(v: Fields) -> Weights:
    """Biased patches and layers, a table of positions for the largest image and one more."""
    width = v.int("hidden_size")
    side = v.int("max_image_size", 2048) // both_sides(v, "patch_size")[0]
    attention = {"kv_heads": v.int("num_key_value_heads", v.int("num_attention_heads"))}
    return (
        *linear(VISION, width, patch_elements(v), bias=True),
        table(VISION, side * side + 1, width),
        *transformer(v, width, attention=attention),
        vector(PROJECTOR, width),
    )


def hunyuan_vl(f: Fields, hidden: int) -> Weights:
    """Lists Hunyuan-VL's weights: a strided convolution [2w, w · s²], [4w, 2w], one layer into the text, four vectors, norms."""
    v = section(f, "vision_config", _HUNYUAN_VL)
    if v is None:
        return ()
    width, out = v.int("hidden_size"), hidden  # transformers sets text_hidden_size to the text model's width
    return (
        *_hunyuan_body(v),
        *linear(PROJECTOR, 2 * width, width * v.int("spatial_merge_size", 2) ** 2, bias=True),
        *linear(PROJECTOR, 4 * width, 2 * width, bias=True),
        *linear(PROJECTOR, out, 4 * width, bias=True),
        vector(PROJECTOR, 4 * width),
        vector(PROJECTOR, out, 4),
    )


def hy_v4_vl(f: Fields, hidden: int) -> Weights:
    """Lists Hy4-VL's weights: Hunyuan-VL's body, a strided convolution, one layer into the text, a vector of rows' ends."""
    v = section(f, "vision_config", _HUNYUAN_VL | {"hidden_size": 1536, "intermediate_size": 6144})
    if v is None:
        return ()
    square, out = v.int("hidden_size") * v.int("spatial_merge_size", 2) ** 2, v.int("out_hidden_size", hidden)
    return (*_hunyuan_body(v), *two_layers(square, square, out, bias=True), vector(PROJECTOR, out))


def ovis2(f: Fields, hidden: int) -> Weights:
    """Lists Ovis 2's weights: a gated tower, a head over a vocabulary of visual tokens, and their table of embeddings.

    head [vocabulary - indicators, width · stride²] with a norm behind it, table [vocabulary, hidden].
    """
    sizes = {"hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 24, "num_attention_heads": 8, "image_size": 224,
             "patch_size": 14, "vocab_size": 16384, "hidden_stride": 1, "num_visual_indicator_tokens": 5}  # fmt: skip
    v = section(f, "vision_config", sizes)
    if v is None:
        return ()
    width, words = v.int("hidden_size"), v.int("vocab_size")
    rows = words - v.int("num_visual_indicator_tokens", low=0)
    if rows < 1:
        raise BadConfig(f"{v.where}: num_visual_indicator_tokens leaves no visual tokens of {words}")
    bias: dict[str, Any] = {"qkv_bias": v.flag("qkv_bias"), "out_bias": v.flag("qkv_bias")}
    return (
        *linear(VISION, width, patch_elements(v), bias=True),
        table(VISION, patch_count(v), width),
        *transformer(v, width, attention=bias, gated=True, mlp_bias=v.flag("mlp_bias"), norm_vectors=2),
        vector(VISION, width, 2),
        *linear(PROJECTOR, rows, width * v.int("hidden_stride") ** 2),
        vector(PROJECTOR, rows, 2),
        table(PROJECTOR, words, f.int("hidden_size", 1536)),
    )


def lfm3_vl(f: Fields, hidden: int) -> Weights:
    """Lists LFM3-VL's weights: gated convolutions over 3 x 3 patches and attention in turns, gated MLPs; a norm, two layers."""
    sizes = {"hidden_size": 1024, "intermediate_size": 2560, "num_hidden_layers": 14, "num_attention_heads": 16,
             "num_key_value_heads": 8, "patch_size": 16, "temporal_patch_size": 2, "spatial_merge_size": 2}  # fmt: skip
    v = section(f, "vision_config", sizes)
    if v is None:
        return ()
    width, layers = v.int("hidden_size"), v.int("num_hidden_layers", high=MAX_LAYERS)
    kinds = v.sequence("layer_types", layers) or ["conv" if i < 2 or i % 2 else "full_attention" for i in range(layers)]
    mixer = Attention(width, v.int("num_attention_heads"), v.int("num_key_value_heads"), width // v.int("num_attention_heads"),
                      qk_norm="head").weights()  # fmt: skip
    conv = (
        *linear(VISION, 3 * width, width),
        table(VISION, width, v.int("conv_kernel_size", 3) ** 2),
        *linear(VISION, width, width),
    )
    attending = sum(kind == "full_attention" for kind in kinds)
    one = (*Mlp(width, v.int("intermediate_size")).weights(), vector(VISION, width, 2))
    square, middle = width * v.int("spatial_merge_size") ** 2, f.int("projector_hidden_size", 4096)
    return (
        *video_patch(v, width, bias=False),
        vector(VISION, width),
        *placed(VISION, one, layers),
        *(placed(VISION, mixer, attending) if attending else ()),
        *(placed(VISION, conv, layers - attending) if attending < layers else ()),
        vector(PROJECTOR, width, 2),
        *two_layers(square, middle, hidden, bias=f.flag("projector_bias", True)),
    )


def glm_ocr(f: Fields, hidden: int) -> Weights:
    """Lists GLM-OCR's weights: those of GLM-5's tower, whose merger is three times as wide as what it puts out."""
    v = section(f, "vision_config", {})
    if v is None:
        return ()
    out = v.int("out_hidden_size", 1536)
    return towers.glm5_next(f, hidden, out=out, middle=out * v.int("in_channels", 3))


def qianfan_ocr(f: Fields, hidden: int) -> Weights:
    """Lists the weights of InternViT with biases unless told; a norm and two biased layers over shuffled patches."""
    return towers.internvl(f, hidden, attention_bias=True)


def radio(f: Fields, hidden: int) -> Weights:
    """Lists RADIO's weights: positions for the largest image, class and register vectors, a patch layer more for videos.

    Layers with scaled residuals; a norm over squares of patches and two layers without biases. Of sound nothing.
    """
    sizes = {"hidden_size": 1280, "num_hidden_layers": 32, "num_attention_heads": 16, "patch_size": 16, "max_img_size": 2048,
             "num_cls_tokens": 3, "num_registers": 7}  # fmt: skip
    v = section(f, "vision_config", sizes)
    if v is None:
        return ()
    if f.section("sound_config") is not None:
        f.leave_out("its sound encoder is not counted: text model and vision tower alone")
    width, patch = v.int("hidden_size"), patch_elements(v)
    frames, square = (
        v.int("video_temporal_patch_size", 2),
        f.int("vision_hidden_size", width) * int(1 / f.number("downsample_ratio", 0.5)) ** 2,
    )
    middle = f.int("projector_hidden_size", 4096)
    ffn = v.int("intermediate_size", int(width * v.number("mlp_ratio", 4.0)))
    extra = v.int("num_cls_tokens", low=0) + v.int("num_registers", low=0)
    return (
        table(VISION, (v.int("max_img_size") // v.int("patch_size")) ** 2, width),
        *((table(VISION, extra, width),) if extra else ()),
        *linear(VISION, width, patch),
        *linear(VISION, width, frames * patch),
        *transformer(v, width, ffn=ffn, norm_vectors=6),
        vector(PROJECTOR, square),
        *two_layers(square, middle, hidden, bias=False),
    )


def minicpmv4_7(f: Fields, hidden: int) -> Weights:
    """Lists the weights of MiniCPM-V 4.6's tower and mergers, which 4.7 and MiniCPM-OCR have as well."""
    return more_towers.minicpmv4_6(f, hidden)

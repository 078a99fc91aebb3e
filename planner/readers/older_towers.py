"""Towers of models whose files name them in words of their own: Qwen-VL, DeepSeek-OCR, MiniCPM-V 2, Fuyu, Molmo.

As those of `towers`: weights of parts "vision" and "projector", shapes written [out, in]. Each function names the
source of its structure and, where there is one, the published file whose bytes it comes out to.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from planner.model.attention import Attention
from planner.model.mlp import Mlp
from planner.model.weights import linear, vector
from planner.readers.fields import Fields
from planner.readers.tower_parts import (
    PROJECTOR,
    VISION,
    Weights,
    patch_count,
    patch_elements,
    placed,
    section,
    table,
    transformer,
)

_QWEN_VL = {"image_size": 448, "patch_size": 14, "width": 1664, "layers": 48, "heads": 16, "mlp_ratio": 4.9231, "n_queries": 256}  # fmt: skip


def qwen_vl(f: Fields, hidden: int) -> Weights:
    """Lists the weights of Qwen-VL's tower, section `visual`: OpenCLIP's layers, and 256 queries that attend to patches.

    positions and queries [n_queries, ...], keys and values [output_dim, width], attention of output_dim with biases,
    three LayerNorms and a square projection. Source: visual.py of Qwen-VL; Qwen-VL-Chat-Int4's index gives
    9,731,786,240 bytes, of which 1.9 MB are biases of zeros.
    """
    v = section(f, "visual", _QWEN_VL)
    if v is None:
        return ()
    width, out, queries = v.int("width"), v.int("output_dim", hidden), v.int("n_queries")
    ffn = int(width * v.number("mlp_ratio"))
    return (
        *linear(VISION, width, patch_elements(v)),
        table(VISION, queries, width),
        vector(VISION, width, 2),
        *transformer(v, width, layers="layers", heads="heads", ffn=ffn),
        *_resampler(queries, v_width=width, width=out, keeps_positions=True),
    )


def _resampler(queries: int, *, v_width: int, width: int, keeps_positions: bool) -> Weights:
    """Lists the weights of queries that attend once to patches of `v_width`, with norms and a projection of `width`."""
    joined = linear(PROJECTOR, width, v_width) if v_width != width else ()
    return (
        *(table(PROJECTOR, queries, width) for _ in range(2 if keeps_positions else 1)),
        *joined,
        *linear(PROJECTOR, 3 * width, width, bias=True),
        *linear(PROJECTOR, width, width, bias=True),
        vector(PROJECTOR, width, 6),
        *linear(PROJECTOR, width, width),
    )


# --- MiniCPM-V 2 -----------------------------------------------------------------------------------------

# timm's vit_so400m_patch14_siglip_384 without its last layer (drop_vision_last_layer); positions of its own 384 pixels.
_SO400M = {
    "hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16, "patch_size": 14,
    "image_size": 384,
}  # fmt: skip


def minicpmv2(f: Fields, hidden: int) -> Weights:
    """Lists the weights of MiniCPM-V 2's tower, which its file names and gives no sizes of.

    Source: vLLM 0.33.0 minicpmv.py; MiniCPM-V-2's index gives 6,869,931,584 bytes.
    """
    named = f.text("vision_encoder")
    if named != "vit_so400m_patch14_siglip_384.webli":
        f.leave_out("its vision tower is not counted: the file names it and gives no sizes")
        return ()
    v = Fields(_SO400M, where=f"{f.where}: vision_encoder")
    layers = v.int("num_hidden_layers") - (1 if f.flag("drop_vision_last_layer", True) else 0)
    width = v.int("hidden_size")
    deep = Fields({**v.raw, "num_hidden_layers": layers}, where=v.where)
    return (
        *linear(VISION, width, patch_elements(v), bias=True),
        table(VISION, patch_count(v), width),
        *transformer(deep, width),
        vector(VISION, width, 2),
        *_resampler(f.int("query_num", 64), v_width=width, width=hidden, keeps_positions=True),
    )


# --- Fuyu ------------------------------------------------------------------------------------------------


def fuyu(f: Fields, hidden: int) -> Weights:
    """Lists the one biased projection of patches into the text model (30 x 30 pixels by default).

    Source: transformers 5.24.0 FuyuModel; fuyu-8b's index gives 18,816,477,184 bytes.
    """
    return linear(PROJECTOR, hidden, f.int("num_channels", 3) * f.int("patch_size", 30) ** 2, bias=True)


# --- DeepSeek-OCR ----------------------------------------------------------------------------------------

_CLIP_L = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16, "patch_size": 14}  # fmt: skip


def _sam_b(f: Fields, out: int) -> Weights:
    """Lists the weights of SAM's ViT-B at 1,024 pixels with a neck of 256 and two strided convolutions up to `out`.

    12 layers of 768, tables of relative positions by height and width: 27 rows of a head's width in layers with
    windows of 14, 127 in the four that see everything. Source: vLLM 0.33.0 deepencoder.py.
    """
    width, head, layers, whole = 768, 64, 12, 4
    v = Fields({"num_hidden_layers": layers, "num_attention_heads": width // head}, where=f.where)
    relative = table(VISION, 27, head, count=2 * (layers - whole)), table(VISION, 127, head, count=2 * whole)
    return (
        *linear(VISION, width, 3 * 16 * 16, bias=True),
        table(VISION, 64 * 64, width),
        *transformer(v, width, ffn=4 * width),
        *relative,
        *linear(VISION, 256, width),
        *linear(VISION, 256, 256 * 9),
        vector(VISION, 256, 4),
        *linear(VISION, 512, 256 * 9),
        *linear(VISION, out, 512 * 9),
    )


def deepseek_ocr(f: Fields, hidden: int) -> Weights:
    """Lists the weights of DeepSeek-OCR's towers: SAM, then CLIP-L at 224 pixels or (OCR 2) 24 layers of a Qwen2.

    Both sizes stand in the implementation, not in the file. Source: vLLM 0.33.0 deepseek_ocr.py, deepseek_ocr2.py;
    DeepSeek-OCR comes out to the byte of its index (6,672,212,480), OCR 2 a million bytes below its 6,779,249,408.
    """
    raw = f.section("vision_config") or {}
    projector = f.section("projector_config") or {}
    named = raw.get("width")
    parts: Mapping[str, Any] = named if isinstance(named, Mapping) else {}
    out = Fields(projector, where=f"{f.where}: projector_config")
    joined = linear(PROJECTOR, hidden, out.int("input_dim", 2048), bias=True)
    if "qwen2-0-5b" in parts:
        return (*_sam_b(f, 896), *_qwen2_encoder(f), *joined, vector(PROJECTOR, hidden))
    if "clip-l-14-224" in parts:
        second = Fields({**_CLIP_L, "image_size": 224}, where=f.where)
        # its patches go through a norm before the layers, and through none after them
        return (*_sam_b(f, 1024), *clip_without_last_norm(second), *joined, vector(PROJECTOR, hidden, 2))
    f.leave_out("its vision tower is not counted: the text model and its cache alone")
    return ()


def clip_without_last_norm(v: Fields) -> Weights:
    """Lists CLIP's weights without the norm behind its layers."""
    width = v.int("hidden_size")
    return (
        *linear(VISION, width, patch_elements(v)),
        vector(VISION, width, 1 + 2),
        table(VISION, patch_count(v) + 1, width),
        *transformer(v, width),
    )


def _qwen2_encoder(f: Fields) -> Weights:
    """Lists 24 layers of Qwen2-0.5B that read the patches, and queries for 768 and 1,024 pixels."""
    width = 896
    mixer = Attention(width, 14, 2, 64, qkv_bias=True, out_bias=False)
    one = (*mixer.weights(), *Mlp(width, 4864, True, False).weights(), vector(VISION, width, 2))
    queries = table(VISION, 144, width), table(VISION, 256, width)
    return (*placed(VISION, one, 24), vector(VISION, width), *queries)


# --- Molmo -----------------------------------------------------------------------------------------------


def molmo(f: Fields, hidden: int) -> Weights:
    """Lists the weights of Molmo's tower: CLIP-L at 336 pixels without its last layers, attention pooling, a gated projector.

    Layers -2 and -9 side by side (2 · 1024) are pooled to 1024; the projector has half of the file's
    intermediate_size. Its sizes stand in the implementation. Source: vLLM 0.33.0 molmo.py.
    """
    layers, width = 23, 1024
    v = Fields({**_CLIP_L, "image_size": 336, "num_hidden_layers": layers}, where=f.where)
    pooled = 2 * width
    half = f.int("intermediate_size", high=10**6) // 2
    return (
        *linear(VISION, width, patch_elements(v)),
        vector(VISION, width, 1 + 2),
        table(VISION, patch_count(v) + 1, width),
        *transformer(v, width),
        table(VISION, 2, pooled),
        *linear(PROJECTOR, width, pooled, bias=True),
        *linear(PROJECTOR, width, pooled, bias=True),
        *linear(PROJECTOR, width, pooled, bias=True),
        *linear(PROJECTOR, width, width, bias=True),
        *linear(PROJECTOR, half, width),
        *linear(PROJECTOR, half, width),
        *linear(PROJECTOR, hidden, half),
    )

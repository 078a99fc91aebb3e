"""Models that see or hear, of most of which the text model and its cache are counted, and the towers named as not counted.

A tower keeps no cache; beside the text models here it is small (a vision tower has 0.1 to 2 billion parameters).
Structure as in the configuration files of transformers 5.24.0, unless a type names another source.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from planner.errors import UnsupportedModel, one_line
from planner.readers import audio_towers, more_towers, older_towers, page_towers, phi_towers, qwen_towers, towers
from planner.readers.families.multimodal import FUYU_SIZES, LLAVA_SIZES, outer
from planner.readers.families.newest import not_counted
from planner.readers.model_types import Type

VISION = not_counted("its vision tower is")
AUDIO = not_counted("its audio tower is")
BOTH = not_counted("its vision and audio towers are")
ERNIE = outer("ernie4_5_vl_moe_text", more_towers.ernie4_5_vl)

# vLLM 0.33.0 minicpmv.py, minicpmo.py: the text model by the file's version.
_CPM_TEXTS = {
    "2": "minicpm",
    "2.0": "minicpm",
    "2.5": "llama",
    "2.6": "qwen2",
    "4": "llama",
    "4.0": "llama",
    "4.5": "qwen3",
}


def _minicpm_text(raw: Mapping[str, Any], shown: str) -> str:
    """Returns the type of MiniCPM-V's or -o's text model; UnsupportedModel for a version that is not known."""
    version = str(raw.get("version") or "")
    if not version and "scale_emb" in raw:  # MiniCPM-V and MiniCPM-V 2 give none, and MiniCPM's own factor
        return "minicpm"
    if version not in _CPM_TEXTS:
        known = ", ".join(name for name in _CPM_TEXTS if "." in name)
        raise UnsupportedModel(
            f"{shown}: key 'version' of a MiniCPM-V file is {one_line(repr(raw.get('version')), 40)}; {known} are known: "
            "it says which text model the file holds"
        )
    return _CPM_TEXTS[version]


# What the classes of the text models have where a file leaves it out, whatever the number of query heads.
QWEN_HEADS = {"qwen2": {"num_key_value_heads": 32}, "qwen3": {"num_key_value_heads": 32}}
GLMASR_SIZES = {"llama": {"vocab_size": 59264, "hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 28,
                          "num_attention_heads": 16, "num_key_value_heads": 4}}  # fmt: skip

TYPES: dict[str, Type] = {
    "ernie4_5_vl_moe": ERNIE,
    # Baidu's own files hold the text model's keys beside vision_config.
    "ernie4_5_moe_vl": replace(ERNIE, source="ERNIE-4.5-VL-28B-A3B-PT config.json: text keys outside, lists of text and vision"),
    "glm_ocr": outer("glm_ocr_text", page_towers.glm_ocr),
    "glmga": outer("glm4v_text", more_towers.glm4v),
    "dots3_note": outer("dots3_note_text", audio_towers.dots3_note),
    "hy_v4_vl": outer("hy_v4_vl_text", page_towers.hy_v4_vl),
    "hunyuan_vl": outer("hunyuan_vl_text", page_towers.hunyuan_vl, either_ties=True),
    "granite4_vision": outer("granite4_vision_text", page_towers.granite4_vision),
    "granite_docling": outer("granite_docling_text", page_towers.granite_docling),
    "paddleocr_vl": outer("paddleocr_vl_text", page_towers.paddleocr_vl, either_ties=True),
    "deepseek_ocr2": outer("deepseek_ocr2_text", page_towers.deepseek_ocr2),
    "unlimited_ocr": replace(
        outer("unlimited_ocr_text", page_towers.unlimited_ocr), nested=("text_config", "language_config"), outer_keys=("sliding_window",)
    ),
    "deepseek_vl_v2": Type(
        source="vLLM 0.33.0 deepseek_vl2.py, deepseek_ocr.py; DeepSeek-OCR's index: 6,672,212,480 bytes",
        nested=("language_config",), text="deepseek", towers=older_towers.deepseek_ocr,
    ),
    "molmo": Type(
        source="vLLM 0.33.0 molmo.py; intermediate_size counts gate and up together",
        text="molmo_text", towers=older_towers.molmo,
    ),
    "deepseek_vl": outer("llama", page_towers.deepseek_vl, text_sizes=LLAVA_SIZES),
    "deepseek_vl_hybrid": outer("llama", page_towers.deepseek_vl_hybrid, text_sizes=LLAVA_SIZES),
    "aria": outer("aria_text", page_towers.aria),
    "minicpmv": Type(text_of=_minicpm_text, towers=more_towers.minicpmv),
    "minicpmo": Type(text_of=_minicpm_text, towers=more_towers.minicpmo),
    # The text model's keys lie outside, beside vision_config or img_processor.
    "dots_ocr": Type(text="qwen2", towers=more_towers.dots_ocr, source="vLLM 0.33.0 dots_ocr.py: a Qwen2"),
    "phi3_v": Type(text="phi3", towers=more_towers.phi3_v, source="vLLM 0.33.0 phi3v.py: a Phi-3"),
    "phi4mm": Type(text="phi3", towers=phi_towers.phi4mm, source="vLLM 0.33.0 phi4mm.py: a Phi-4-mini"),
    "phi4_multimodal": Type(
        text="phi3", towers=phi_towers.phi4_multimodal, source="transformers 5.24.0 Phi4MultimodalConfig",
        text_sizes={"phi3": {"num_key_value_heads": 8}},
    ),
    "lfm3_vl": outer("lfm3", page_towers.lfm3_vl),
    "minicpmv4_7": outer("qwen3_5_text", page_towers.minicpmv4_7),
    "minicpm_ocr": outer("qwen3_5_text", page_towers.minicpmv4_7),
    "lighton_ocr": outer("qwen3", page_towers.lighton_ocr, text_sizes=QWEN_HEADS),
    "qianfan_ocr": outer("qwen3", page_towers.qianfan_ocr, text_sizes=QWEN_HEADS),
    "ovis2": outer("qwen2", page_towers.ovis2, text_sizes=QWEN_HEADS),
    "got_ocr2": outer("qwen2", page_towers.got_ocr2, text_sizes=QWEN_HEADS),
    "fast_vlm": outer("qwen2", VISION, text_sizes=QWEN_HEADS),
    "perception_lm": outer("llama", VISION),
    "video_llama_3": outer("qwen2", page_towers.video_llama_3, text_sizes=QWEN_HEADS, either_ties=True),
    "idefics2": outer("mistral", page_towers.idefics2, text_sizes=LLAVA_SIZES),
    "vipllava": outer("llama", page_towers.vipllava, text_sizes=LLAVA_SIZES),
    "video_llava": outer("llama", page_towers.video_llava, text_sizes=LLAVA_SIZES),
    "llava_next_video": outer("llama", towers.llava_next, text_sizes=LLAVA_SIZES, either_ties=True),
    "hyperclovax_vision_v2": outer("hyperclovax", page_towers.hyperclovax_vision),
    "fuyu": outer("persimmon", older_towers.fuyu, text_sizes=FUYU_SIZES),
    "cosmos3_omni": outer("qwen3_vl_text", qwen_towers.qwen3_vl),
    "qwen3_asr": outer("qwen3", audio_towers.qwen3_asr, text_sizes=QWEN_HEADS),
    "fun_asr_nano": outer("qwen3", audio_towers.fun_asr_nano, text_sizes=QWEN_HEADS),
    "glmasr": outer("llama", audio_towers.glmasr, text_sizes=GLMASR_SIZES),
    "voxtral_realtime": outer(
        "voxtral_realtime_text", audio_towers.voxtral_realtime, text_sizes={"voxtral_realtime_text": {"head_dim": 128}}
    ),
    "audioflamingo3": outer("qwen2", audio_towers.audioflamingo3, ties_from="outer", text_sizes=QWEN_HEADS),
    "musicflamingo": outer("qwen2", audio_towers.audioflamingo3, ties_from="outer", text_sizes=QWEN_HEADS),
    "granite_speech": outer("granite", audio_towers.granite_speech),
    "granite_speech_plus": outer("granite", audio_towers.granite_speech),
    "vibevoice_asr": outer("qwen2", audio_towers.vibevoice_asr, ties_from="outer", text_sizes=QWEN_HEADS),
}  # fmt: skip

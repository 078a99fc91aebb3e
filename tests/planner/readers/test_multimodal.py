"""Multimodal models: text model, towers and projectors, against numbers from outside.

Totals marked "published" are the element counts of the published checkpoints; the others, and the cache
elements, are those of the transformers 5.23.0 implementation built on the meta device.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from planner.errors import BadConfig, KvplanError, UnsupportedModel
from planner.model.parameters import active_parameters, parameters, parameters_by_part
from planner.model.spec import ModelSpec
from planner.readers.huggingface import read_config

QWEN25_TOWER: dict[str, Any] = {
    "depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "out_hidden_size": 3584,
    "patch_size": 14, "spatial_merge_size": 2, "window_size": 112, "temporal_patch_size": 2,
}  # fmt: skip
QWEN25_VL_7B: dict[str, Any] = {  # flat: the text keys stand beside the tower
    "model_type": "qwen2_5_vl", "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28,
    "num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152064, "max_window_layers": 28,
    "sliding_window": 32768, "use_sliding_window": False, "tie_word_embeddings": False,
    "vision_config": QWEN25_TOWER,
}  # fmt: skip
QWEN2_VL_2B: dict[str, Any] = {
    "model_type": "qwen2_vl", "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28,
    "num_attention_heads": 12, "num_key_value_heads": 2, "vocab_size": 151936, "tie_word_embeddings": True,
    "vision_config": {"depth": 32, "embed_dim": 1280, "mlp_ratio": 4, "num_heads": 16, "hidden_size": 1536,
                      "patch_size": 14},
}  # fmt: skip
CLIP_LARGE: dict[str, Any] = {
    "hidden_size": 1024, "image_size": 336, "intermediate_size": 4096, "model_type": "clip_vision_model",
    "num_attention_heads": 16, "num_hidden_layers": 24, "patch_size": 14,
}  # fmt: skip
SIGLIP: dict[str, Any] = {
    "hidden_size": 1152, "intermediate_size": 4304, "model_type": "siglip_vision_model",
    "num_attention_heads": 16, "num_hidden_layers": 27, "patch_size": 14,
}  # fmt: skip
LLAVA_7B: dict[str, Any] = {
    "model_type": "llava", "text_config": {"model_type": "llama", "vocab_size": 32064}, "vision_config": CLIP_LARGE,
}  # fmt: skip
GEMMA3_4B: dict[str, Any] = {  # as published: heads, head_dim and vocabulary are left to the class
    "model_type": "gemma3",
    "text_config": {"model_type": "gemma3_text", "hidden_size": 2560, "intermediate_size": 10240,
                    "num_hidden_layers": 34, "sliding_window": 1024},
    "vision_config": {**SIGLIP, "image_size": 896, "vision_use_head": False},
}  # fmt: skip
MISTRAL_SMALL_31: dict[str, Any] = {
    "model_type": "mistral3", "multimodal_projector_bias": False, "spatial_merge_size": 2,
    "text_config": {"model_type": "mistral", "head_dim": 128, "hidden_size": 5120, "intermediate_size": 32768,
                    "num_attention_heads": 32, "num_hidden_layers": 40, "num_key_value_heads": 8,
                    "sliding_window": None, "vocab_size": 131072},
    "vision_config": {"model_type": "pixtral", "hidden_size": 1024, "image_size": 1540, "intermediate_size": 4096,
                      "num_attention_heads": 16, "num_hidden_layers": 24, "patch_size": 14},
}  # fmt: skip
LLAMA32_11B: dict[str, Any] = {
    "model_type": "mllama",
    "text_config": {"model_type": "mllama_text_model", "hidden_size": 4096, "intermediate_size": 14336,
                    "num_hidden_layers": 40, "num_attention_heads": 32, "num_key_value_heads": 8,
                    "vocab_size": 128256, "cross_attention_layers": [3, 8, 13, 18, 23, 28, 33, 38]},
    "vision_config": {"hidden_size": 1280, "num_hidden_layers": 32, "intermediate_size": 5120, "image_size": 448,
                      "patch_size": 14, "max_num_tiles": 4},
}  # fmt: skip
QWEN3_TOWER: dict[str, Any] = {"hidden_size": 1152, "intermediate_size": 4304, "patch_size": 16}
QWEN3_VL_8B: dict[str, Any] = {
    "model_type": "qwen3_vl", "tie_word_embeddings": False, "vision_config": QWEN3_TOWER,
    "text_config": {"model_type": "qwen3_vl_text", "head_dim": 128, "hidden_size": 4096, "intermediate_size": 12288,
                    "num_attention_heads": 32, "num_hidden_layers": 36, "num_key_value_heads": 8,
                    "vocab_size": 151936},
}  # fmt: skip
QWEN3_VL_235B: dict[str, Any] = {
    "model_type": "qwen3_vl_moe", "tie_word_embeddings": False, "vision_config": QWEN3_TOWER,
    "text_config": {"model_type": "qwen3_vl_moe_text", "head_dim": 128, "hidden_size": 4096,
                    "intermediate_size": 12288, "moe_intermediate_size": 1536, "num_experts": 128,
                    "num_experts_per_tok": 8, "num_attention_heads": 64, "num_hidden_layers": 94,
                    "num_key_value_heads": 4, "vocab_size": 151936},
}  # fmt: skip
GEMMA3N_E4B: dict[str, Any] = {
    "model_type": "gemma3n", "tie_word_embeddings": True, "vision_config": {}, "audio_config": {},
    "text_config": {"model_type": "gemma3n_text", "intermediate_size": [16384] * 35},
}  # fmt: skip
GEMMA4_26B: dict[str, Any] = {
    "model_type": "gemma4", "tie_word_embeddings": True,
    "text_config": {"model_type": "gemma4_text", "attention_k_eq_v": True, "enable_moe_block": True,
                    "global_head_dim": 512, "head_dim": 256, "hidden_size": 2816, "hidden_size_per_layer_input": 0,
                    "intermediate_size": 2112, "moe_intermediate_size": 704, "num_attention_heads": 16,
                    "num_experts": 128, "num_global_key_value_heads": 2, "num_hidden_layers": 30,
                    "num_key_value_heads": 8, "sliding_window": 1024, "top_k_experts": 8},
    "vision_config": {"hidden_size": 1152, "intermediate_size": 4304, "num_attention_heads": 16,
                      "num_hidden_layers": 27, "patch_size": 16},
}  # fmt: skip
GEMMA4_E2B: dict[str, Any] = {
    "model_type": "gemma4", "tie_word_embeddings": True,
    "text_config": {"model_type": "gemma4_text", "hidden_size": 1536, "intermediate_size": 6144,
                    "num_attention_heads": 8, "num_hidden_layers": 35, "num_key_value_heads": 1,
                    "num_kv_shared_layers": 20, "use_double_wide_mlp": True,
                    "layer_types": (["sliding_attention"] * 4 + ["full_attention"]) * 7},
    "vision_config": {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12,
                      "num_hidden_layers": 16, "patch_size": 16},
}  # fmt: skip
OMNI_7B: dict[str, Any] = {
    "model_type": "qwen2_5_omni", "talker_config": {"hidden_size": 896}, "token2wav_config": {},
    "thinker_config": {
        "model_type": "qwen2_5_omni_thinker", "audio_config": {}, "vision_config": {"hidden_size": 1280},
        "text_config": {"model_type": "qwen2_5_omni_text", "hidden_size": 3584, "num_key_value_heads": 4},
    },
}  # fmt: skip
MUSE_30B: dict[str, Any] = {
    "model_type": "muse_glimmer", "vision_config": {},
    "text_config": {"model_type": "muse_glimmer_text", "hidden_size": 6656, "intermediate_size": 19968,
                    "num_attention_heads": 32, "num_hidden_layers": 52, "vocab_size": 202048},
}  # fmt: skip
SMOLVLM_256M: dict[str, Any] = {
    "model_type": "idefics3", "scale_factor": 4, "tie_word_embeddings": False,
    "text_config": {"model_type": "llama", "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
                    "num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": 49280},
    "vision_config": {"hidden_size": 768, "image_size": 512, "patch_size": 16, "num_attention_heads": 12,
                      "num_hidden_layers": 12, "intermediate_size": 3072},
}  # fmt: skip


def changed(config: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The config with keys such as text_config__head_dim set; `...` takes a key away."""
    result = deepcopy(config)
    for path, value in changes.items():
        target = result
        *sections, key = path.split("__")
        for name in sections:
            target = target[name]
        if value is ...:
            target.pop(key, None)
        else:
            target[key] = value
    return result


def elements(spec: ModelSpec, tokens: int, source: int = 0) -> int:
    return sum(count * cache.elements(tokens, source) for layer, count in spec.groups for cache in layer.caches)


@pytest.mark.parametrize(
    ("config", "published"),
    [
        (QWEN25_VL_7B, 8_292_166_656),
        (QWEN2_VL_2B, 2_208_985_600),
        (LLAVA_7B, 7_063_427_072),
        (GEMMA3_4B, 4_300_079_472),
        (MISTRAL_SMALL_31, 24_011_361_280),
        (LLAMA32_11B, 10_642_941_475),
        (QWEN3_VL_8B, 8_767_123_696),
        (QWEN3_VL_235B, 235_670_022_896),
        (MUSE_30B, 29_776_626_688),
        (SMOLVLM_256M, 256_484_928),
        (
            {"model_type": "llava_next", "vision_config": CLIP_LARGE,
             "text_config": {"model_type": "mistral", "vocab_size": 32064, "sliding_window": None}},
            7_566_747_648,
        ),
        (
            {"model_type": "paligemma", "vision_config": SIGLIP,
             "text_config": {"model_type": "gemma", "hidden_size": 2048, "intermediate_size": 16384,
                             "num_attention_heads": 8, "num_hidden_layers": 18, "num_key_value_heads": 1,
                             "vocab_size": 257216}},
            2_923_466_480,
        ),
    ],
)  # fmt: skip
def test_total_with_towers_is_the_published_count(config: dict[str, Any], published: int) -> None:
    spec = read_config(config)
    assert parameters(spec) == published
    assert not spec.warnings


@pytest.mark.parametrize(
    ("config", "total"),
    [(GEMMA3N_E4B, 7_818_517_072), (GEMMA4_26B, 25_805_933_872), (GEMMA4_E2B, 4_797_113_600)],
)
def test_total_with_towers_is_what_transformers_builds(config: dict[str, Any], total: int) -> None:
    spec = read_config(config)
    assert parameters(spec) == total
    assert not spec.warnings


@pytest.mark.parametrize(
    ("config", "tokens", "kept"),
    [
        (GEMMA3_4B, 8, 557_056),
        (GEMMA3N_E4B, 8, 163_840),  # 20 of 35 layers: the others attend over theirs
        (GEMMA4_26B, 8, 901_120),
        (GEMMA4_E2B, 8, 73_728),
        (MUSE_30B, 8, 212_992),
        (QWEN3_VL_8B, 8, 589_824),
        (LLAMA32_11B, 8, 524_288),  # without an image
    ],
)
def test_cache_is_that_of_transformers(config: dict[str, Any], tokens: int, kept: int) -> None:
    assert elements(read_config(config), tokens) == kept


def test_windows_of_nested_text_models_stop_growing() -> None:
    """Gemma 4 26B at 1032 tokens: transformers keeps 1023 in 25 layers; the window is 1024."""
    at_1032 = elements(read_config(GEMMA4_26B), 1032)
    assert at_1032 - 115_322_880 == 25 * 2 * 8 * 256


# --- Llama 3.2: cross attention over an image ------------------------------------------------------------


def test_one_image_of_four_tiles_is_4100_vision_tokens() -> None:
    """4 tiles x (32 x 32 patches + 1); transformers with an image at 8 tokens keeps 67,698,688 elements."""
    spec = read_config(LLAMA32_11B)
    assert spec.source_tokens == 4100
    assert elements(spec, 8, 4100) == 67_698_688
    assert any("--source-tokens 0" in note for note in spec.notes)


def test_vision_tokens_follow_image_size() -> None:
    assert read_config(changed(LLAMA32_11B, vision_config__image_size=560)).source_tokens == 4 * 1601


def test_text_extract_has_no_vision_tokens_of_its_own() -> None:
    spec = read_config(changed(LLAMA32_11B, vision_config=...))
    assert spec.source_tokens is None
    assert parameters(spec) == 9_775_192_080


def test_cross_layers_stand_where_the_file_lists_them() -> None:
    spec = read_config(changed(LLAMA32_11B, text_config__cross_attention_layers=[0, 2]))
    kinds = [layer.caches[0].kind for layer in spec.layers[:4]]
    assert kinds == ["cross attention", "full attention", "cross attention", "full attention"]


# --- layers that share a cache ---------------------------------------------------------------------------


def test_sharing_layers_keep_nothing_and_have_no_key_or_value_weights() -> None:
    spec = read_config(GEMMA4_E2B)
    assert [layer.caches[0].elements(10, 0) > 0 for layer in spec.layers] == [True] * 15 + [False] * 20
    text = changed(GEMMA4_E2B, vision_config=..., text_config__use_double_wide_mlp=False)
    unshared = changed(text, text_config__num_kv_shared_layers=0)
    # 16 windowed layers: k, v of 256 x 1536 and a k norm; 4 global ones: of 512 x 1536.
    more = 16 * (2 * 256 * 1536 + 256) + 4 * (2 * 512 * 1536 + 512)
    assert parameters(read_config(unshared)) - parameters(read_config(text)) == more


def test_gemma4_global_layers_cache_keys_and_values_though_one_projection_makes_both() -> None:
    spec = read_config(GEMMA4_26B)
    (cache,) = spec.layers[5].caches
    assert cache.elements(1, 0) == 2 * 2 * 512


def test_gemma4_last_layer_is_global_whatever_the_file_says() -> None:
    spec = read_config(changed(GEMMA4_26B, text_config__layer_types=["sliding_attention"] * 30))
    assert [layer.caches[0].kind for layer in spec.layers[-2:]] == ["sliding window 1024", "full attention"]


def test_gemma4_files_saved_by_transformers_5_list_layers_that_differ() -> None:
    by_rule = changed(GEMMA4_26B, text_config__global_head_dim=..., text_config__num_global_key_value_heads=...)
    listed = {f"{i:02d}": {"head_dim": 512, "num_key_value_heads": 2} for i in range(5, 30, 6)}
    by_list = changed(by_rule, text_config__per_layer_config=listed)
    assert parameters(read_config(by_list)) == 25_805_933_872
    assert elements(read_config(by_list), 8) == 901_120


def test_active_parameters_count_eight_experts_of_128() -> None:
    spec = read_config(GEMMA4_26B)
    idle = 120 * 3 * 2816 * 704 * 30
    assert active_parameters(spec) == parameters(spec) - idle


# --- small models with changed constants: what transformers builds on the meta device -----------------------

TEXT: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 7, "num_attention_heads": 8,
    "num_key_value_heads": 2, "vocab_size": 300,
}  # fmt: skip
TOWER: dict[str, Any] = {
    "hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 48, "num_hidden_layers": 3, "image_size": 56,
    "patch_size": 14,
}  # fmt: skip
GEMMA3N_SMALL: dict[str, Any] = {
    **TEXT, "model_type": "gemma3n_text", "head_dim": 16, "sliding_window": 20, "num_hidden_layers": 12,
    "num_kv_shared_layers": 5, "hidden_size_per_layer_input": 12, "vocab_size_per_layer_input": 200,
    "altup_num_inputs": 3, "laurel_rank": 7,
}  # fmt: skip
GEMMA4_SMALL: dict[str, Any] = {
    **TEXT, "model_type": "gemma4_text", "head_dim": 16, "global_head_dim": 24, "sliding_window": 20,
    "num_hidden_layers": 13, "hidden_size_per_layer_input": 12, "vocab_size_per_layer_input": 200,
}  # fmt: skip
MUSE_SMALL: dict[str, Any] = {
    "model_type": "muse_glimmer", "out_hidden_size": 128, "projector_hidden_size": 40,
    "text_config": {**TEXT, "model_type": "muse_glimmer_text", "head_dim": 16, "sliding_window": 20,
                    "num_hidden_layers": 10},
    "vision_config": {"patch_size": 4, "hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 3,
                      "intermediate_size": 44, "pos_emb_height": 5, "pos_emb_width": 5},
}  # fmt: skip
MLLAMA_SMALL: dict[str, Any] = {
    "model_type": "mllama",
    "text_config": {**TEXT, "model_type": "mllama_text_model", "cross_attention_layers": [1, 4]},
    "vision_config": {"hidden_size": 32, "attention_heads": 4, "intermediate_size": 48, "num_hidden_layers": 3,
                      "num_global_layers": 2, "vision_output_dim": 192, "image_size": 56, "patch_size": 14},
}  # fmt: skip


@pytest.mark.parametrize(
    ("config", "total"),
    [
        (GEMMA3N_SMALL, 558_508),
        ({**GEMMA3N_SMALL, "altup_num_inputs": 5}, 577_796),
        ({**GEMMA3N_SMALL, "attention_bias": True}, 561_260),
        ({**GEMMA3N_SMALL, "num_kv_shared_layers": 0}, 579_068),
        ({**GEMMA3N_SMALL, "intermediate_size": [96] * 5 + [80] * 7}, 537_004),
        (GEMMA4_SMALL, 621_628),
        ({**GEMMA4_SMALL, "attention_k_eq_v": True}, 612_412),
        ({**GEMMA4_SMALL, "attention_k_eq_v": True, "num_global_key_value_heads": 4}, 621_628),
        ({**GEMMA4_SMALL, "num_global_key_value_heads": 4}, 621_628),  # counts only with attention_k_eq_v
        ({**GEMMA4_SMALL, "num_kv_shared_layers": 4}, 601_068),
        ({**GEMMA4_SMALL, "num_kv_shared_layers": 5, "use_double_wide_mlp": True}, 689_116),
        ({**GEMMA4_SMALL, "tie_word_embeddings": False}, 640_828),
        (
            {**GEMMA4_SMALL, "enable_moe_block": True, "num_experts": 6, "top_k_experts": 2,
             "moe_intermediate_size": 40, "hidden_size_per_layer_input": 0},
            1_167_070,
        ),
        (MUSE_SMALL, 547_076),
        (changed(MUSE_SMALL, text_config__attention_bias=True), 549_636),  # the gate has no bias
        (MLLAMA_SMALL, 331_259),
        (changed(MLLAMA_SMALL, tie_word_embeddings=True), 331_259),  # 8 rows more than the head: never tied
        (
            changed(MLLAMA_SMALL, vision_config__supported_aspect_ratios=[[1, 1], [1, 2], [2, 1]],
                    vision_config__max_num_tiles=2),
            314_235,
        ),
        (
            {"model_type": "gemma4", "text_config": GEMMA4_SMALL,
             "vision_config": {"hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 8,
                               "intermediate_size": 48, "num_hidden_layers": 3, "patch_size": 4,
                               "position_embedding_size": 50},
             "audio_config": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
                              "output_proj_dims": 24}},
            778_292,
        ),
        (
            {"model_type": "internvl", "text_config": {**TEXT, "model_type": "qwen2"},
             "vision_config": {**TOWER, "image_size": [56, 56], "patch_size": [14, 14], "norm_type": "rms_norm",
                               "use_qk_norm": True}},
            276_048,  # InternVL's class ties the head where the file is silent outside
        ),
        (
            {"model_type": "llava", "vision_feature_layer": [-2, -1],
             "text_config": {**TEXT, "model_type": "llama"},
             "vision_config": {**TOWER, "model_type": "clip_vision_model"}},
            290_416,
        ),
        (
            {"model_type": "llava", "text_config": {**TEXT, "model_type": "llama"},
             "vision_config": {**TOWER, "model_type": "siglip_vision_model"}},
            295_744,
        ),
    ],
)  # fmt: skip
def test_changed_constants_count_as_transformers_builds_them(config: dict[str, Any], total: int) -> None:
    assert parameters(read_config(config)) == total


# --- how the text model is found ---------------------------------------------------------------------------


def test_a_flat_file_and_a_nested_one_are_the_same_model() -> None:
    outer = ("model_type", "vision_config", "tie_word_embeddings")
    nested = {key: QWEN25_VL_7B[key] for key in outer}
    nested["text_config"] = {key: value for key, value in QWEN25_VL_7B.items() if key not in outer}
    assert parameters(read_config(nested)) == parameters(read_config(QWEN25_VL_7B))
    assert read_config(nested).layers == read_config(QWEN25_VL_7B).layers


def test_a_text_model_without_a_type_takes_that_of_its_family() -> None:
    spec = read_config(changed(QWEN3_VL_8B, text_config__model_type=...))
    assert parameters(spec) == 8_767_123_696


def test_an_unknown_text_model_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedModel, match="'wonder_text'"):
        read_config(changed(LLAVA_7B, text_config__model_type="wonder_text"))


def test_the_outer_file_decides_whether_the_head_is_tied() -> None:
    tied = changed(QWEN3_VL_8B, tie_word_embeddings=True, text_config__tie_word_embeddings=False)
    assert read_config(tied).tied
    assert not read_config(changed(QWEN3_VL_8B, text_config__tie_word_embeddings=True)).tied


def test_qwen2_vl_ties_its_head_where_either_says_so() -> None:
    nested = {"model_type": "qwen2_vl", "tie_word_embeddings": False,
              "text_config": {**TEXT, "tie_word_embeddings": True}}  # fmt: skip
    assert read_config(nested).tied


def test_an_omni_file_is_its_thinker_and_names_what_speaks() -> None:
    """8,931,813,888: the published thinker, Qwen2.5-VL's tower with Whisper's encoder."""
    spec = read_config(OMNI_7B)
    assert parameters(spec) == 8_931_813_888
    assert elements(spec, 1) == 28 * 2 * 4 * 128
    assert [warning.split(" not counted")[0] for warning in spec.warnings] == ["talker and its cache", "speech decoder"]


# --- towers that cannot be counted are named ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (changed(LLAVA_7B, vision_config__model_type="dinov2"), "vision tower not counted"),
        (changed(GEMMA3N_E4B, vision_config={"architecture": "mobilenetv9"}), "vision tower not counted"),
        ({**QWEN3_VL_8B, "audio_config": {"hidden_size": 8}}, "audio tower not counted"),
        ({**TEXT, "model_type": "llama", "vision_config": {"hidden_size": 8}}, "vision tower not counted"),
        ({**QWEN3_VL_8B, "talker_config": {"hidden_size": 8}}, "talker and its cache not counted"),
    ],
)
def test_a_tower_that_is_not_counted_is_named(config: dict[str, Any], words: str) -> None:
    spec = read_config(config)
    assert any(words in warning for warning in spec.warnings)


def test_the_warning_leaves_the_cache_as_it_is() -> None:
    other = changed(LLAVA_7B, vision_config__model_type="dinov2")
    assert read_config(other).layers == read_config(LLAVA_7B).layers


def test_parts_tell_towers_from_text() -> None:
    parts = parameters_by_part(read_config(GEMMA3N_E4B))
    assert parts["vision"] == 294_126_912  # mobilenetv5_300m_enc as timm builds it
    text = sum(count for part, count in parts.items() if part not in ("vision", "audio", "projector"))
    assert text == 6_835_235_568


@pytest.mark.parametrize("missing", [..., None])
def test_a_file_without_a_tower_counts_the_text_alone(missing: Any) -> None:
    spec = read_config(changed(GEMMA3_4B, vision_config=missing))
    assert parameters(spec) == 4_300_079_472 - 419_816_304
    assert not spec.warnings


def test_output_of_a_tower_has_the_width_of_the_text_where_the_file_does_not_say() -> None:
    without = read_config(QWEN3_VL_8B)
    assert parameters(read_config(changed(QWEN3_VL_8B, vision_config__out_hidden_size=4096))) == parameters(without)


# --- refusals ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "error"),
    [
        (changed(QWEN3_VL_8B, text_config=[1]), BadConfig),
        (changed(QWEN3_VL_8B, text_config__model_type=3), BadConfig),
        (changed(OMNI_7B, thinker_config=...), BadConfig),
        (changed(OMNI_7B, thinker_config=[]), BadConfig),
        (changed(QWEN3_VL_8B, vision_config="big"), BadConfig),
        (changed(QWEN3_VL_8B, vision_config__depth=0), BadConfig),
        (changed(QWEN3_VL_8B, vision_config__num_heads=7), BadConfig),
        (changed(QWEN3_VL_8B, vision_config__patch_size=[16, 16, 16]), BadConfig),
        (changed(QWEN3_VL_8B, text_config__kv_lora_rank=512), UnsupportedModel),
        (changed(QWEN3_VL_235B, text_config__num_experts_per_tok=129), BadConfig),
        (changed(LLAMA32_11B, text_config__cross_attention_layers=[3, 40]), BadConfig),
        (changed(LLAMA32_11B, text_config__cross_attention_layers=[-1]), BadConfig),
        (changed(LLAMA32_11B, vision_config__max_num_tiles=3), BadConfig),
        (changed(LLAMA32_11B, vision_config__image_size=7), BadConfig),
        ({**GEMMA3N_SMALL, "num_kv_shared_layers": 12}, BadConfig),
        ({**GEMMA3N_SMALL, "num_kv_shared_layers": 9}, BadConfig),  # no global layer before to share from
        ({**GEMMA3N_SMALL, "num_kv_shared_layers": 13}, BadConfig),
        ({**GEMMA3N_SMALL, "intermediate_size": [96] * 11}, BadConfig),
        ({**GEMMA3N_SMALL, "intermediate_size": [0] * 12}, BadConfig),
        ({**GEMMA4_SMALL, "attention_k_eq_v": True, "num_global_key_value_heads": 16}, BadConfig),
        ({**GEMMA4_SMALL, "enable_moe_block": True}, BadConfig),
        ({**GEMMA4_SMALL, "global_head_dim": "512"}, BadConfig),
        ({**GEMMA4_SMALL, "per_layer_config": {"05": {"intermediate_size": 7}}}, UnsupportedModel),
        ({**GEMMA4_SMALL, "per_layer_config": {"05": {"num_key_value_heads": 16}}}, BadConfig),
        (changed(GEMMA3N_E4B, audio_config={"sscp_conv_kernel_size": [3, 3]}), BadConfig),
        (changed(GEMMA4_26B, audio_config={"subsampling_conv_channels": [128]}), BadConfig),
        ({**TEXT, "model_type": "llama", "per_layer_config": {"0": {"head_dim": 4}}}, UnsupportedModel),
    ],
)
def test_wrong_values_are_refused(config: dict[str, Any], error: type[KvplanError]) -> None:
    with pytest.raises(error):
        read_config(config)


def test_a_layers_number_of_5000_digits_is_one_line() -> None:
    """Python's `int` refuses more than 4,300 digits with an error of its own."""
    with pytest.raises(KvplanError) as error:
        read_config({**GEMMA4_SMALL, "per_layer_config": {"9" * 5000: {"intermediate_size": 7}}})
    assert "per_layer_config" in str(error.value) and len(str(error.value)) < 400 and "\n" not in str(error.value)


@pytest.mark.parametrize("key", ["46", "x", "-1", ""])
def test_a_layer_that_is_none_is_not_passed_over(key: str) -> None:
    with pytest.raises(BadConfig, match="per_layer_config"):
        read_config({**GEMMA4_SMALL, "per_layer_config": {key: {"head_dim": 8}}})

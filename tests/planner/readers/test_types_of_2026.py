"""Model types of 2025 and 2026 against the implementation: small configs with every branch, and published totals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from planner.errors import BadConfig, UnsupportedModel
from planner.model.parameters import parameters
from planner.model.spec import ModelSpec
from planner.readers.huggingface import read_config

CASES = Path(__file__).parents[2] / "cases"
SMALL: list[dict[str, Any]] = json.loads((CASES / "type_configs.json").read_text(encoding="utf-8"))["models"]
BY_TYPE = {case["config"]["model_type"]: case["config"] for case in SMALL}

LAGUNA_XS = {
    "model_type": "laguna", "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 40,
    "num_attention_heads": 48, "num_key_value_heads": 8, "head_dim": 128, "gating": True, "sliding_window": 512,
    "num_attention_heads_per_layer": [48, 64, 64, 64] * 10,
    "layer_types": ["full_attention", *["sliding_attention"] * 3] * 10, "vocab_size": 100352,
}  # fmt: skip
HY3 = {
    "model_type": "hy_v3", "hidden_size": 4096, "num_hidden_layers": 80, "num_attention_heads": 64,
    "vocab_size": 120832, "num_nextn_predict_layers": 1,
}  # fmt: skip
STEP = {
    "model_type": "step3p5", "hidden_size": 4096, "intermediate_size": 11264, "num_hidden_layers": 45,
    "num_attention_heads": 64, "num_attention_groups": 8, "moe_num_experts": 288, "moe_top_k": 8,
    "moe_layers_enum": ",".join(map(str, range(3, 45))), "sliding_window": 512, "num_nextn_predict_layers": 3,
    "attention_other_setting": {"num_attention_heads": 96, "num_attention_groups": 8},
    "layer_types": ["full_attention", *["sliding_attention"] * 3] * 12, "vocab_size": 128896,
}  # fmt: skip


SARVAM = {
    "model_type": "sarvam_mla", "hidden_size": 4096, "intermediate_size": 16384, "num_hidden_layers": 32,
    "num_attention_heads": 64, "num_experts": 128, "num_shared_experts": 1, "vocab_size": 262144,
    "tie_word_embeddings": False,
}  # fmt: skip
AYA_VISION = {
    "model_type": "aya_vision", "alignment_intermediate_size": 28672, "tie_word_embeddings": True,
    "text_config": {"model_type": "cohere2", "head_dim": 128, "hidden_size": 4096, "intermediate_size": 14336,
                    "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8, "vocab_size": 256000},
    "vision_config": {"hidden_size": 1152, "image_size": 364, "intermediate_size": 4304, "num_attention_heads": 16,
                      "num_hidden_layers": 27, "patch_size": 14},
}  # fmt: skip


def ling(hidden: int, layers: int, heads: int, dense: int, width: int, first: int) -> dict[str, Any]:
    return {
        "model_type": "bailing_moe", "hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads,
        "num_key_value_heads": 4, "head_dim": 128, "intermediate_size": dense, "moe_intermediate_size": width,
        "num_experts": 256, "num_experts_per_tok": 8, "num_shared_experts": 1, "first_k_dense_replace": first,
        "use_qk_norm": True, "vocab_size": 157184, "tie_word_embeddings": False,
    }  # fmt: skip


def elements(spec: ModelSpec, tokens: int) -> int:
    return sum(count * cache.elements(tokens, 0) for layer, count in spec.groups for cache in layer.caches)


def predicted(spec: ModelSpec) -> int:
    return sum(weight.parameters for weight in spec.mtp)


@pytest.mark.parametrize("case", SMALL, ids=lambda case: case["config"]["model_type"])
def test_parameters_and_cache_are_those_of_the_implementation(case: dict[str, Any]) -> None:
    spec = read_config(case["config"])
    assert (parameters(spec), elements(spec, 24)) == (case["parameters"], case["cache_elements_24"])
    assert not spec.warnings


@pytest.mark.parametrize(
    ("config", "total", "biases"),
    [
        # Safetensors totals on the Hub, October 2026; the biases of the routers are stored besides where they are buffers.
        pytest.param(LAGUNA_XS, 33_442_617_088, 0, id="Laguna-XS.2"),
        pytest.param(ling(2048, 20, 16, 5120, 512, 1), 16_255_643_392, 19 * 256, id="Ling-mini-2.0"),
        pytest.param(
            ling(8192, 80, 64, 18432, 2048, 4) | {"num_key_value_heads": 8}, 999_705_328_640, 76 * 256, id="Ling-1T"
        ),
        pytest.param(SARVAM, 106_031_767_424, 31 * 128, id="sarvam-105b"),
        pytest.param(AYA_VISION, 8_631_842_032, 0, id="aya-vision-8b"),
        pytest.param(HY3, 298_786_155_776, 80 * 192, id="Hy3"),
        pytest.param(STEP, 199_384_301_376, 42 * 288, id="Step-3.5-Flash"),
    ],
)
def test_published_totals_with_their_prediction_layers(config: dict[str, Any], total: int, biases: int) -> None:
    spec = read_config(config)
    assert parameters(spec) + predicted(spec) + biases == total


def test_the_letters_of_a_window_pattern_repeat_and_the_last_layer_is_global() -> None:
    config = {**BY_TYPE["exaone_moe"], "sliding_window_pattern": "LLG"}
    kinds = ["window" if getattr(layer.caches[0], "window", None) else "all" for layer in read_config(config).layers]
    assert kinds == ["window", "window", "all", "window", "all"]


def test_exaone_4_5_reads_its_predicting_layer_outside_the_text_section_by_either_name_of_it() -> None:
    """A layer of 128 wide (q, o 128², k, v 64·128, two norms of 32, MLP 3·256·128, two norms), fc [128, 256], three norms."""
    config = BY_TYPE["exaone4_5"]
    old_name = {**config, "text_config": {**config["text_config"], "model_type": "exaone4_5_text"}}
    for file in (config, old_name):
        spec = read_config({**file, "num_nextn_predict_layers": 1})
        assert parameters(spec) == parameters(read_config(file))
        assert predicted(spec) == 2 * 128**2 + 2 * 64 * 128 + 64 + 3 * 256 * 128 + 256 + 2 * 128**2 + 384 == 180_928
        assert not spec.warnings


def test_step_reads_experts_by_text_or_list_and_cuts_the_prediction_layers_off_its_lists() -> None:
    listed = {**STEP, "moe_layers_enum": list(range(3, 45))}
    trimmed = {**STEP, "layer_types": STEP["layer_types"][:45], "num_nextn_predict_layers": 0}  # type: ignore[index]
    assert parameters(read_config(listed)) == parameters(read_config(trimmed)) == parameters(read_config(STEP))


@pytest.mark.parametrize(
    ("model_type", "change", "named"),
    [
        ("laguna", {"gating": "sometimes"}, "gating"),
        ("laguna", {"num_attention_heads_per_layer": [8, 12]}, "num_attention_heads_per_layer"),
        ("laguna", {"num_attention_heads_per_layer": [8, 12, 12, 3]}, "layer 3"),
        ("exaone_moe", {"sliding_window_pattern": "LXG"}, "sliding_window_pattern"),
        ("step3p5", {"moe_layers_enum": "3,four"}, "moe_layers_enum"),
        ("step3p5", {"moe_layers_enum": "9" * 5000}, "moe_layers_enum"),
        ("qwen4_exp_text", {"ple_embed_dim": 250}, "ple_embed_dim"),
        ("qwen4_exp_text", {"ngram_vocab_size_base": 10**9}, "ngram_vocab_size_base"),
    ],
)
def test_a_wrong_value_is_named(model_type: str, change: dict[str, Any], named: str) -> None:
    base: dict[str, Any] = STEP if model_type == "step3p5" else BY_TYPE[model_type]
    with pytest.raises(BadConfig, match=named):
        read_config({**base, **change})


def test_mistral_large_4_has_layers_without_a_rotary_part_and_refuses_shared_latents() -> None:
    """Parameters and elements as transformers 5.24.0 builds its defaults (`kvplan verify`), 8 layers of them."""
    config: dict[str, Any] = {
        "model_type": "mistral_large4_text", "hidden_size": 6144, "intermediate_size": 24576, "num_hidden_layers": 8,
        "num_attention_heads": 64, "vocab_size": 204800, "tie_word_embeddings": False,
    }  # fmt: skip
    spec = read_config(config)
    widths = [cache.elements(1, 0) for layer, count in spec.groups for _ in range(count) for cache in layer.caches]
    assert sorted(widths) == [512 + 128] * 2 + [512 + 64 + 128] * 6
    read_config({**config, "kv_source_layers": list(range(8))})
    with pytest.raises(UnsupportedModel, match="kv_source_layers"):
        read_config({**config, "kv_source_layers": [0, 0, 2, 3, 4, 5, 6, 7]})
    with pytest.raises(BadConfig, match="no_rope_layers has 2 entries"):
        read_config({**config, "no_rope_layers": [1, 0]})
    nope = read_config({**config, "no_rope_layer_interval": 2})
    # Two layers more without it: kv_b [heads x 64, 512] grows, kv_a [64, hidden] goes.
    assert parameters(nope) - parameters(spec) == 2 * (64 * 64 * 512 - 64 * 6144)


def test_a_model_whose_towers_are_not_counted_says_so() -> None:
    inner = {"model_type": "llama", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
             "num_attention_heads": 4, "vocab_size": 100}  # fmt: skip
    spec, text = read_config({"model_type": "perception_lm", "text_config": inner}), read_config(inner)
    assert parameters(spec) == parameters(text) and elements(spec, 24) == elements(text, 24)
    assert any("not counted" in line for line in spec.warnings)

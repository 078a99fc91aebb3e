"""Every tower beside the class of transformers that builds it: text model, tower and what joins them, to the parameter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from planner.errors import BadConfig
from planner.lookup import model_spec
from planner.model.parameters import parameters
from planner.readers.huggingface import read_config

CASES: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[2] / "cases" / "tower_configs.json").read_text(encoding="utf-8")
)["models"]
BY_TYPE = {case["config"]["model_type"]: case["config"] for case in CASES}

# As the repository writes it, with what its readers ask for; its index counts 5,574,460,384 parameters.
PHI_4_MULTIMODAL = {
    "model_type": "phi4mm", "hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 32, "num_attention_heads": 24,
    "num_key_value_heads": 8, "vocab_size": 200064, "tie_word_embeddings": True, "vision_lora": {"r": 256},
    "speech_lora": {"r": 320}, "audio_processor": {"name": "cascades"}, "embd_layer": {"embedding_cls": "image_audio"},
}  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["config"]["model_type"])
def test_text_model_and_towers_have_the_parameters_of_the_implementation(case: dict[str, Any]) -> None:
    spec = read_config(case["config"])
    assert parameters(spec) == case["parameters"]
    assert not spec.partial and sum(weight.parameters for weight in spec.towers) > 0


def test_phi_4_multimodal_holds_its_towers_and_two_adapters() -> None:
    """Adapters: r · (in + out) of q k v, o, gate and up, down, in 32 layers of rank 256 and 320."""
    spec = read_config(PHI_4_MULTIMODAL)
    sums = (3072 + 5120) + (3072 + 3072) + (3072 + 16384) + (8192 + 3072)
    adapters = sum(weight.parameters for weight in spec.towers if weight.part == "adapter")
    assert adapters == 32 * (256 + 320) * sums == 830_472_192
    assert parameters(spec) == 5_574_460_384
    assert [layer.weights for layer in spec.layers] == [layer.weights for layer in model_spec("phi-4-mini").layers]
    assert any("adapters" in line for line in spec.notes)


@pytest.mark.parametrize(
    ("model_type", "section", "change", "named"),
    [
        ("granite4_vision", "", {"downsample_rate": "half"}, "downsample_rate"),
        ("granite4_vision", "", {"downsample_rate": None}, "downsample_rate"),
        ("ovis2", "vision_config", {"num_visual_indicator_tokens": 20000}, "num_visual_indicator_tokens"),
        ("got_ocr2", "vision_config", {"num_attention_heads": 7}, "7 heads"),
        ("aria", "", {"projector_patch_to_query_dict": {"1225": "many"}}, "projector_patch_to_query_dict"),
        ("dots3_note", "vision_config", {"mlp_layer_types": ["dense"]}, "mlp_layer_types"),
        ("muse_spark", "audio_config", {"hidden_sizes": "wide"}, "hidden_sizes"),
        ("lfm3_vl", "vision_config", {"layer_types": ["conv"]}, "layer_types"),
    ],
)
def test_a_tower_that_cannot_be_is_refused_by_the_name_of_the_key(
    model_type: str, section: str, change: dict[str, Any], named: str
) -> None:
    base = BY_TYPE[model_type]
    config = {**base, section: {**base[section], **change}} if section else {**base, **change}
    with pytest.raises(BadConfig, match=named):
        read_config(config)


def test_unlimited_ocr_keeps_what_engines_keep_and_says_that_transformers_drops_some() -> None:
    spec = read_config(BY_TYPE["unlimited_ocr"])
    assert {layer.caches[0].kind for layer in spec.layers} == {"full attention"}
    assert any("last 128" in line for line in spec.notes)


def test_files_of_dots_3_as_transformers_saves_them_name_layers_with_zeros_in_front() -> None:
    """per_layer_config "02" is layer 2: 64 heads over a latent of 1,024 in place of 128 over 512."""
    text = {**BY_TYPE["dots3_note"]["text_config"], "num_hidden_layers": 4}
    own = {"num_attention_heads": 64, "num_key_value_heads": 64, "kv_lora_rank": 1024, "qk_nope_head_dim": 192}
    kinds = ["indexed_attention", "indexed_attention", "sliding_attention", "indexed_attention"]
    saved = [
        parameters(read_config({**text, "layer_types": kinds, "per_layer_config": {key: own}})) for key in ("2", "02")
    ]
    assert saved[0] == saved[1] != parameters(read_config({**text, "layer_types": kinds, "per_layer_config": {}}))

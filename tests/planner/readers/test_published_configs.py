"""Config files as people have them, each with the number that an implementation, a log or its own headers give."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from planner.errors import UnsupportedModel
from planner.lookup import model_spec
from planner.memory.estimate import estimate
from planner.memory.request import Request
from planner.readers.huggingface import read_config, read_file

FOLDER = Path(__file__).parents[2] / "cases" / "published"
CASES: list[dict[str, Any]] = json.loads((FOLDER / "cases.json").read_text(encoding="utf-8"))
LLAMA = {
    "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 100,
    "intermediate_size": 96, "max_position_embeddings": 2048,
}  # fmt: skip


def answer_to(case: dict[str, Any]) -> dict[str, Any]:
    spec = model_spec(str(FOLDER / case["file"]), assume="full-attention" if case["assume"] else None)
    request = Request(case["seq_tokens"], k_dtype="bf16", v_dtype="bf16", source_tokens=case.get("source_tokens"))
    return estimate(spec, request).to_dict()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_a_published_file_has_its_published_numbers(case: dict[str, Any]) -> None:
    found, right = answer_to(case), case["right"]
    if "parameters" in right:
        assert found["parameters"] == right["parameters"]
    if "kv_plus_state_bytes_at_64" in right:
        assert found["kv_bytes"] + found["state_bytes"] == right["kv_plus_state_bytes_at_64"]
    if "weight_dtype" in right:
        assert found["weight_dtype"] == right["weight_dtype"]
    if "weight_bytes_about" in right:
        assert found["weight_bytes"] == pytest.approx(right["weight_bytes_about"], rel=right["tolerance"])
    assert found["weight_bytes"] is None or found["weight_bytes"] < right.get("weight_bytes_below", 10**15)
    assert found["weight_bytes"] is None or found["weight_bytes"] > right.get("weight_bytes_above", 0)
    if "parameters_at_least" in right and found["parameters"] is not None:
        assert found["parameters"] >= right["parameters_at_least"]
    elif "parameters_at_least" in right:  # an unknown mixture of experts: the cache alone
        assert found["parameters"] is None and found["exactness"]["parameters"] == "not counted"
        assert found["exactness"]["kv_bytes"] == "upper bound"
    if "warning" in right:
        assert any(right["warning"] in line for line in found["warnings"])


def test_qwen_1_takes_kv_channels_as_its_head_width() -> None:
    spec = read_file(str(FOLDER / "r1-qwen1-kv-channels.json"))
    assert {cache.k_dim for layer, _ in spec.groups for cache in layer.caches} == {128}  # type: ignore[attr-defined]


def test_a_foreign_key_that_is_set_is_named_and_not_read() -> None:
    spec = read_file(str(FOLDER / "p4-gptj-kv-heads.json"))
    assert any("'gptj' has no such key: num_key_value_heads" in note for note in spec.notes)


def test_remote_code_may_read_any_key() -> None:
    config = {**LLAMA, "model_type": "gpt_neox", "num_key_value_heads": 2}
    own = {**config, "auto_map": {"AutoModelForCausalLM": "modeling.Own"}}
    assert estimate(read_config(own), Request(64)).kv_bytes * 2 == estimate(read_config(config), Request(64)).kv_bytes


@pytest.mark.parametrize(
    ("architecture", "head"),
    [
        ("LlamaForCausalLM", 100 * 64), ("LlamaModel", 0), ("LlamaForSequenceClassification", 3 * 64),
        ("LlamaForTokenClassification", 3 * 64 + 3), ("LlamaForQuestionAnswering", 2 * 64 + 2),
        ("LlamaForRewardModel", 0),
    ],
)  # fmt: skip
def test_architectures_decides_the_head(architecture: str, head: int) -> None:
    labels = {str(number): f"LABEL_{number}" for number in range(3)}
    spec = read_config({**LLAMA, "architectures": [architecture], "id2label": labels})
    assert sum(weight.parameters for weight in spec.after if weight.part == "lm_head") == head


def test_a_draft_model_is_called_one() -> None:
    spec = read_config({**LLAMA, "architectures": ["LlamaForCausalLMEagle3"]})
    assert any("draft model" in line for line in spec.warnings)


@pytest.mark.parametrize("model_type", ["bert", "xlm-roberta", "modernbert", "clip"])
def test_an_encoder_is_told_that_it_has_no_cache(model_type: str) -> None:
    with pytest.raises(UnsupportedModel, match=r"encoder.*has no KV cache"):
        read_config({**LLAMA, "model_type": model_type})


def test_an_adapter_is_told_to_name_its_base_model(tmp_path: Path) -> None:
    config = {"peft_type": "LORA", "r": 16, "base_model_name_or_path": "org/base", "target_modules": ["q_proj"]}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    for where in (tmp_path, tmp_path / "adapter_config.json"):
        with pytest.raises(UnsupportedModel, match="adapter: name its base model, 'org/base'"):
            read_file(str(where))


def test_a_null_flag_is_false_where_an_absent_one_takes_the_default() -> None:
    base = {**LLAMA, "model_type": "starcoder2", "num_key_value_heads": 4}
    with_bias, without = read_config(base), read_config({**base, "use_bias": None})
    biases = [sum(w.parameters for w in spec.layers[0].weights if w.cols == 1) for spec in (with_bias, without)]
    assert biases[0] > biases[1]


def test_multi_token_prediction_layers_of_an_unknown_layout_are_said() -> None:
    spec = read_config({**LLAMA, "num_nextn_predict_layers": 2})
    assert any("2 multi-token-prediction layers" in line for line in spec.warnings)


SMALL_VIT = {
    "model_type": "intern_vit_6b", "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
    "image_size": 448, "patch_size": 14, "qkv_bias": True, "qk_normalization": False, "norm_type": "layer_norm",
}  # fmt: skip
LARGE_VIT = {
    "model_type": "intern_vit_6b", "hidden_size": 3200, "intermediate_size": 12800, "num_hidden_layers": 45, "num_attention_heads": 25,
    "image_size": 448, "patch_size": 14, "qkv_bias": False, "qk_normalization": True, "norm_type": "rms_norm",
}  # fmt: skip


def text_model(model_type: str, **sizes: int) -> dict[str, Any]:
    named = {"hidden": "hidden_size", "inner": "intermediate_size", "layers": "num_hidden_layers", "heads": "num_attention_heads",
             "kv": "num_key_value_heads", "vocab": "vocab_size"}  # fmt: skip
    return {
        "model_type": model_type,
        **{named[key]: value for key, value in sizes.items()},
        "tie_word_embeddings": False,
        "bias": False,
    }


@pytest.mark.parametrize(
    ("vision", "text", "on_the_hub"),
    [
        (SMALL_VIT, text_model("qwen2", hidden=3584, inner=18944, layers=28, heads=28, kv=4, vocab=151674), 7_944_373_760),  # InternVL3-8B
        (SMALL_VIT, text_model("qwen2", hidden=896, inner=4864, layers=24, heads=14, kv=2, vocab=151674), 938_193_024),  # InternVL3-1B
        (SMALL_VIT, text_model("internlm2", hidden=4096, inner=14336, layers=32, heads=32, kv=8, vocab=92553), 8_075_365_376),  # 2.5-8B
        (LARGE_VIT, text_model("internlm2", hidden=6144, inner=16384, layers=48, heads=48, kv=8, vocab=92553), 25_514_186_112),  # 2.5-26B
    ],
)  # fmt: skip
def test_internvl_of_its_own_repositories_has_the_parameters_of_the_hub(
    vision: dict[str, Any], text: dict[str, Any], on_the_hub: int
) -> None:
    config = {"model_type": "internvl_chat", "downsample_ratio": 0.5, "vision_config": vision, "llm_config": text}
    spec = read_config({**config, "architectures": ["InternVLChatModel"]})
    assert estimate(spec, Request(8)).parameters == on_the_hub and not spec.warnings


@pytest.mark.parametrize(("name", "beside"), [("mimo-7b", 210_790_400), ("mimo-v2-flash", 987_820_224)])
def test_layers_that_predict_further_tokens_are_those_of_the_checkpoint(name: str, beside: int) -> None:
    """MiMo-7B: 7,833,409,536 parameters on the Hub; MiMo-V2-Flash: 309,785,318,400 with its fp8 scales."""
    spec = model_spec(name)
    assert sum(weight.parameters for weight in spec.mtp) == beside
    assert any(f"layers of {beside:,} parameters" in line for line in estimate(spec, Request(8)).warnings)

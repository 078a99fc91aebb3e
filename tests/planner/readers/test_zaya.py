"""Zaya in both forms of its files: parameters to the number, the cache and its states by hand, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from planner.engines.base import Options
from planner.engines.registry import answer_of
from planner.errors import BadConfig, UnsupportedModel
from planner.memory.estimate import estimate
from planner.memory.request import Request
from planner.model.parameters import parameters
from planner.model.spec import ModelSpec
from planner.readers.huggingface import read_config
from planner.units import GIB

ZAYA1_8B = {
    "model_type": "zaya", "hidden_size": 2048, "num_hidden_layers": 40, "num_attention_heads": 8, "num_key_value_heads": 2,
    "head_dim": 128, "vocab_size": 262272, "num_experts": 16, "num_experts_per_tok": 1, "moe_intermediate_size": 2048,
    "router_hidden_size": 256, "cca_time0": 2, "cca_time1": 2, "layer_types": ["hybrid"] * 40, "sliding_window": None,
}  # fmt: skip
IN_TURNS = {
    "model_type": "zaya", "hidden_size": 2048, "num_hidden_layers": 80, "num_attention_heads": 16, "kv_channels": 128,
    "num_key_value_heads": 2, "cca_num_q_heads": [8, 0] * 40, "num_query_groups_list": [2, 0] * 40, "vocab_size": 262272,
    "ffn_hidden_size_list": [0, 4096] * 40, "zaya_layers": ["a", 16] * 40, "zaya_mlp_expansion": [0, 256] * 40,
    "moe_router_topk": 1, "cca": True, "zaya_use_mod": True, "zaya_use_eda": True, "tie_word_embeddings": True,
}  # fmt: skip


def elements(spec: ModelSpec, tokens: int) -> int:
    return sum(count * cache.elements(tokens, 0) for layer, count in spec.groups for cache in layer.caches)


def test_zaya1_8b_has_the_parameters_of_the_class_and_keeps_kv_and_three_columns_a_layer() -> None:
    """17.7 GB of safetensors in bf16 on the Hub; transformers 5.24.0 ZayaForCausalLM on the meta device.

    A layer keeps 2·2·128 numbers a token, two columns of the (8 + 2)·128 channels of q and k, and half of a token's v.
    """
    spec = read_config(ZAYA1_8B)
    assert parameters(spec) == 8_840_488_784
    assert elements(spec, 1000) == 40 * (1000 * 2 * 2 * 128 + 2 * 1280 + 128)
    assert not spec.warnings and not spec.notes


def test_the_older_form_has_the_same_weights_and_keeps_the_hidden_state_of_the_token_before() -> None:
    """SGLang 0.5.23 scales the router's state in the first layer, too (256 parameters), and keeps 2,048 numbers for one half of v."""
    spec = read_config(IN_TURNS)
    assert parameters(spec) == 8_840_488_784 + 256
    assert elements(spec, 1000) == 40 * (1000 * 2 * 2 * 128 + 2 * 1280 + 2048)
    by_numbers = {key: value for key, value in IN_TURNS.items() if not isinstance(value, list)} | {
        "num_attention_heads": 8
    }
    assert parameters(read_config(by_numbers)) == parameters(spec)


def test_a_window_of_the_older_form_is_said_and_keeps_everything() -> None:
    spec = read_config({**IN_TURNS, "swa_layers": [1] * 40, "sliding_window": 4096})
    assert elements(spec, 10_000) == elements(read_config(IN_TURNS), 10_000)
    assert "window is not read" in " ".join(spec.notes)


def test_a_rank_holds_half_the_heads_channels_and_the_whole_projection_of_v() -> None:
    layer = read_config(ZAYA1_8B).layers[1]
    attention, convolved = layer.mixers
    held = {weight.name: weight.on_rank(2).parameters for weight in (*attention.weights(), *convolved.weights())}
    assert held["q_proj"] == 512 * 2048 and held["k_proj"] == 128 * 2048
    assert held["v_proj_current|v_proj_delayed"] == 256 * 2048
    assert [cache.on_rank(2).elements(0, 0) for cache in layer.caches] == [0, 2 * 640 + 128]


@pytest.mark.parametrize(
    ("change", "error", "named"),
    [
        ({"num_experts_per_tok": 2}, UnsupportedModel, "num_experts_per_tok"),
        ({"layer_types": ["hybrid"] * 39 + ["full_attention"]}, UnsupportedModel, "full_attention"),
        ({"layer_types": ["hybrid_sliding"] * 40}, BadConfig, "sliding_window"),
        ({"num_key_value_heads": 3}, BadConfig, "KV heads"),
        ({"num_key_value_heads": 1, "head_dim": 127}, BadConfig, "halves"),
        ({"cca_time0": 0}, BadConfig, "cca_time0"),
    ],
)
def test_what_the_class_does_not_run_is_refused_by_the_key(change: dict[str, Any], error: type, named: str) -> None:
    with pytest.raises(error, match=named):
        read_config({**ZAYA1_8B, **change})


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"zaya_layers": ["a", 8] * 40}, "zaya_layers"),
        ({"zaya_layers": ["a", True] * 40}, "zaya_layers"),
        ({"zaya_layers": "aa"}, "zaya_layers"),
        ({"num_query_groups_list": [4, 0] * 40}, "query groups"),
        ({"ffn_hidden_size_list": [0, 4095] * 40}, "even"),
        ({"zaya_mlp_expansion": "wide"}, "zaya_mlp_expansion"),
    ],
)
def test_a_file_of_the_older_form_that_contradicts_itself_is_refused(change: dict[str, Any], named: str) -> None:
    with pytest.raises(BadConfig, match=named):
        read_config({**IN_TURNS, **change})


def served(config: dict[str, Any], engine: str) -> Any:
    return answer_of(engine, None, estimate(read_config(config), Request(8192)), options=Options(pool_bytes=10 * GIB))


def test_sglang_keeps_two_columns_and_a_hidden_state_in_the_models_dtype_beside_the_tokens() -> None:
    """40 · (2·1280 + 2048) · 2 B of state and 8,192 tokens of 40 · 2·2·128·2 B: 320.35 MiB."""
    assert served(IN_TURNS, "sglang").request_bytes == 8192 * 40_960 + 368_640


def test_an_engine_that_does_not_have_the_form_refuses_it() -> None:
    with pytest.raises(UnsupportedModel, match="older form"):
        served(ZAYA1_8B, "sglang")
    for config in (ZAYA1_8B, IN_TURNS):
        with pytest.raises(UnsupportedModel, match="vLLM does not run"):
            served(config, "vllm")

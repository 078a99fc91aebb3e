"""What `quantization_config` of published checkpoints says about stored weights, and what it does not say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.catalogue.entries import find_model
from planner.memory.estimate import estimate
from planner.memory.request import Request
from planner.memory.sharding import Sharding
from planner.memory.weight_plan import format_of_kv, weight_plan
from planner.model.spec import ModelSpec
from planner.model.weights import Weight
from planner.readers import read_entry
from planner.readers.huggingface import read_config
from planner.units import GIB

LLAMA = {
    "model_type": "llama", "hidden_size": 512, "num_hidden_layers": 2, "num_attention_heads": 8, "vocab_size": 1000,
    "intermediate_size": 1024, "max_position_embeddings": 2048, "torch_dtype": "bfloat16",
}  # fmt: skip
GPT_OSS = {
    "model_type": "gpt_oss", "hidden_size": 2880, "num_hidden_layers": 2, "num_attention_heads": 64,
    "num_key_value_heads": 8, "head_dim": 64, "vocab_size": 201088, "intermediate_size": 2880,
    "num_local_experts": 32, "num_experts_per_tok": 4, "sliding_window": 128,
}  # fmt: skip
LINEAR = 2 * (4 * 512 * 512 + 3 * 512 * 1024)  # parameters of the blocks' matrices
REST = 2 * 1000 * 512 + 5 * 512  # embedding, head, norms


def spec_with(quantization: Mapping[str, Any], base: Mapping[str, Any] = LLAMA) -> ModelSpec:
    return read_config({**base, "quantization_config": quantization})


def weight_bytes(quantization: Mapping[str, Any], base: Mapping[str, Any] = LLAMA) -> int:
    return estimate(spec_with(quantization, base), Request(1)).weight_bytes


def group_scale_bytes(group: int, bits: int) -> int:
    """Bytes of the codes and of `bits` for each group along the columns; all widths here divide evenly."""
    return LINEAR // group * bits // 8


@pytest.mark.parametrize(
    ("config", "name", "quantised_bytes"),
    [
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, "awq_int4", LINEAR // 2 + group_scale_bytes(128, 20)),
        ({"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": False}, "awq_int4",
         LINEAR // 2 + group_scale_bytes(128, 20)),  # symmetric files hold zeros, too
        ({"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": False, "version": "marlin"}, "awq_int4",
         LINEAR // 2 + group_scale_bytes(128, 16)),
        ({"quant_method": "gptq", "bits": 4, "group_size": 32}, "gptq_int4", LINEAR // 2 + group_scale_bytes(32, 20)),
        ({"quant_method": "gptq", "bits": 8, "group_size": 128}, "gptq_int8", LINEAR + group_scale_bytes(128, 24)),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "nf4", LINEAR // 2 + group_scale_bytes(64, 32)),
        ({"quant_method": "mxfp4"}, "mxfp4", LINEAR // 2 + group_scale_bytes(32, 8)),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "nvfp4", LINEAR // 2 + group_scale_bytes(16, 8)),
        ({"quant_method": "compressed-tensors", "config_groups": {"group_0": {"weights":
            {"num_bits": 4, "type": "int", "group_size": 128, "symmetric": True}}}}, "int_int4",
         LINEAR // 2 + group_scale_bytes(128, 16)),
        ({"quant_method": "compressed-tensors", "config_groups": {"group_0": {"weights":
            {"num_bits": 4, "type": "float", "group_size": 16}}}}, "nvfp4", LINEAR // 2 + group_scale_bytes(16, 8)),
        # 128 x 128 blocks with one fp32 scale each: all extents here divide by 128
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "fp8_block", LINEAR + LINEAR // 128**2 * 4),
        ({"quant_method": "compressed-tensors", "config_groups": {"group_0": {"weights":
            {"num_bits": 8, "type": "float", "strategy": "block", "block_structure": "128x128"}}}}, "fp8_block",
         LINEAR + LINEAR // 128**2 * 4),
        # one fp32 scale for each of the 14 matrices
        ({"quant_method": "fp8"}, "fp8", LINEAR + 14 * 4),
        ({"quant_method": "modelopt", "quant_algo": "FP8"}, "fp8", LINEAR + 14 * 4),
    ],
)  # fmt: skip
def test_a_published_scheme_takes_its_bits_and_scales(config: dict[str, Any], name: str, quantised_bytes: int) -> None:
    plan = weight_plan(spec_with(config))
    assert plan.fmt.name == name
    assert plan.exactness == "exact"
    assert weight_bytes(config) == quantised_bytes + 2 * REST


def test_gpt_oss_stores_only_its_experts_in_mxfp4() -> None:
    config = {
        "quant_method": "mxfp4",
        "modules_to_not_convert": [
            "model.layers.*.self_attn",
            "model.layers.*.mlp.router",
            "model.embed_tokens",
            "lm_head",
        ],
    }
    plan = weight_plan(spec_with(config, GPT_OSS))
    assert plan.bytes(Weight("experts", 2880, 2880)) == 2880 * 2880 // 2 + 2880 * 90
    assert plan.bytes(Weight("attention", 4096, 2880)) == 4096 * 2880 * 2
    assert "attention" in plan.words


def test_parts_that_a_quantiser_leaves_alone_stay_float() -> None:
    plan = weight_plan(spec_with({"quant_method": "awq", "bits": 4, "group_size": 128}))
    for part in ("embedding", "lm_head", "router", "norm", "vision"):
        assert plan.bytes(Weight(part, 128, 128)) == 128 * 128 * 2
    assert plan.bytes(Weight("attention", 128, 1, linear=False)) == 256  # a bias


def test_dense_mlps_spared_by_a_pattern_stay_float() -> None:
    ignore = [
        "re:.*self_attn.*",
        "re:.*shared_experts.*",
        r"re:.*mlp\.(gate|up|gate_up|down)_proj.*",
        "re:.*lm_head.*",
    ]
    plan = weight_plan(spec_with({"quant_method": "mxfp4", "ignore": ignore}))  # Kimi K3
    assert weight_bytes({"quant_method": "mxfp4", "ignore": ignore}) == 2 * (LINEAR + REST)
    assert plan.exactness == "exact"


def test_two_formats_in_one_checkpoint_are_an_upper_bound() -> None:
    groups = {
        "group_0": {"weights": {"num_bits": 8, "type": "float"}},
        "group_1": {"weights": {"num_bits": 4, "type": "float"}},
    }
    assert weight_plan(spec_with({"quant_method": "modelopt", "config_groups": groups})).exactness == "upper bound"


def test_a_single_matrix_left_unquantised_is_counted_as_such() -> None:
    config = {"quant_method": "fp8", "ignored_layers": ["model.layers.0.mlp.down_proj"]}
    plan = weight_plan(spec_with(config))
    assert plan.exactness == "exact" and plan.exactness_on(2, 2) == "estimated" and plan.exactness_on(2) == "exact"
    assert weight_bytes(config) == weight_bytes({"quant_method": "fp8"}) + 512 * 1024 - 4


@pytest.mark.parametrize(
    "config",
    [
        {"quant_method": "quip#"}, {"quant_method": "\x1b[31mred"}, {"foo": 1}, {"quant_method": 5},
        {"quant_method": [1]},
        {"quant_method": "awq", "bits": 5}, {"quant_method": "awq", "bits": 4.0}, {"quant_method": "gptq", "bits": "4"},
        {"quant_method": "gptq", "bits": 4, "group_size": -7}, {"quant_method": "awq", "group_size": 10**30},
        {"quant_method": "compressed-tensors"}, {"quant_method": "compressed-tensors", "config_groups": []},
        {"quant_method": "compressed-tensors", "config_groups": {"a": None}},
        {"quant_method": "compressed-tensors", "config_groups": {"a": {"weights": None}}},
    ],
)  # fmt: skip
def test_an_unread_scheme_is_an_upper_bound_with_a_warning(config: dict[str, Any]) -> None:
    plan = weight_plan(spec_with(config))
    assert plan.exactness == "upper bound"
    assert len(plan.warnings) == 1 and "--dtype" in plan.warnings[0] and plan.warnings[0].isprintable()
    assert weight_bytes(config) == 2 * (LINEAR + REST)


def test_dtype_overrides_what_the_config_says() -> None:
    spec = spec_with({"quant_method": "awq", "bits": 4, "group_size": 128})
    assert estimate(spec, Request(1, dtype="fp32")).weight_bytes == 4 * (LINEAR + REST)


def test_kv_is_never_inferred_from_quantised_weights() -> None:
    for config in (
        {"quant_method": "fp8"},
        {"quant_method": "modelopt", "quant_algo": "FP8", "kv_cache_quant_algo": "FP8"},
    ):
        answer = estimate(spec_with(config), Request(1000))
        assert answer.fmt.name == "bf16"
    assert any("--kv-dtype fp8" in line for line in answer.warnings)


@pytest.mark.parametrize(
    ("config", "stated"),
    [
        (None, None),
        ({}, None),
        ({"kv_cache_scheme": None}, None),
        ({"kv_cache_scheme": {"num_bits": 8, "type": "float"}}, "fp8"),
        ({"kv_cache_scheme": {"num_bits": 8, "type": "int"}}, "int8"),
        ({"kv_cache_quant_algo": "FP8"}, "fp8"),
        ({"kv_cache_quant_algo": "x"}, None),
        ({"kv_cache_scheme": 5}, None),
    ],
)
def test_what_a_checkpoint_says_of_its_kv_cache_is_repeated(config: dict[str, Any] | None, stated: str | None) -> None:
    assert format_of_kv(config) == stated


def test_without_any_word_weights_are_taken_as_16_bit_and_said_so() -> None:
    plan = weight_plan(replace(spec_with({"quant_method": "fp8"}), quantization=None, dtype=None))
    assert plan.fmt.name == "bf16" and "names no dtype" in plan.words


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**31), 10**31) | st.floats() | st.text(max_size=8)
    | st.sampled_from(["float", "int", 4, 8, 16, 128, "128x128", [128, 128], "block", "channel"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
METHODS = [
    "fp8",
    "awq",
    "gptq",
    "auto-round",
    "bitsandbytes",
    "mxfp4",
    "modelopt",
    "compressed-tensors",
    "fbgemm_fp8",
    "x",
]
KEYS = [
    "bits",
    "group_size",
    "zero_point",
    "weight_block_size",
    "quant_algo",
    "ignore",
    "modules_to_not_convert",
    "load_in_8bit",
]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(METHODS), st.dictionaries(st.sampled_from(KEYS), JSON), JSON)
def test_no_quantization_config_gives_anything_but_whole_bytes(
    method: str, values: dict[str, Any], weights: object
) -> None:
    config = {"quant_method": method, **values, "config_groups": {"group_0": {"weights": weights}}}
    size = weight_bytes(config)
    assert type(size) is int
    assert 0 < size <= 2 * (LINEAR + REST) + LINEAR * 4  # never beyond 16 bit and a scale for each weight


def test_llama_405b_in_fp8_as_first_published_loads_what_vllm_logged() -> None:
    """vLLM issue 6746 of July 2024: 57.7520 GB a rank at TP 8, with 16 KV heads (SGLang PR 723 set them to 8).

    The repository of today has 8; the rest is the table of rotary embeddings, 131,072 x 128 in bf16.
    """
    spec = read_entry(find_model("llama-3.1-405b"))
    first = read_config({**spec.config, "num_key_value_heads": 16})
    request = Request(1, dtype="fp8-mlp", sharding=Sharding(tp=8))
    rank = estimate(first, request).per_device.weight_bytes + 131_072 * 128 * 2
    assert rank / GIB == pytest.approx(57.7520, abs=0.02)
    assert estimate(spec, request).per_device.weight_bytes / GIB == pytest.approx(56.73, abs=0.01)

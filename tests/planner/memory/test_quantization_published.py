"""Quantisation configs as repositories of the Hub have them, each with its bytes worked out from the shapes."""

from __future__ import annotations

from typing import Any

import pytest

from planner.catalogue.entries import find_model
from planner.memory.estimate import estimate
from planner.memory.request import Request
from planner.memory.weight_plan import weight_plan
from planner.readers.huggingface import read_config

COMMON = {
    "hidden_size": 512, "num_hidden_layers": 2, "num_attention_heads": 8, "num_key_value_heads": 2, "vocab_size": 1000,
    "intermediate_size": 1024, "max_position_embeddings": 2048, "dtype": "bfloat16", "head_dim": 64,
}  # fmt: skip
LLAMA = {"model_type": "llama", **COMMON}
MOE = {"model_type": "qwen3_moe", **COMMON, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 256}
QO, KV = 2 * 2 * 512 * 512, 2 * 2 * 128 * 512  # of both layers: q and o, k and v
ATTENTION, MLP, EXPERTS, ROUTER = QO + KV, 2 * 3 * 512 * 1024, 2 * 4 * 3 * 256 * 512, 2 * 4 * 512
TABLE = 1000 * 512
NORMS = 5 * 512
MOE_NORMS = NORMS + 2 * 2 * 64
ATTENTION_ROWS, MLP_ROWS = 2 * (512 + 128 + 128 + 512), 2 * (1024 + 1024 + 512)
EXPERT_ROWS = 2 * 4 * (256 + 256 + 512)


def size(count: float, bits: float, group: int = 0, group_bits: float = 0) -> float:
    """Bytes of `count` weights with `group_bits` for each `group` of them."""
    return count * bits / 8 + (count / group * group_bits / 8 if group else 0)


def int4(count: float, group: int = 128, zero: int = 0) -> float:
    return size(count, 4, group, 16 + zero)


def ct(targets: list[str], ignore: list[str] | None = None, form: str | None = None, **weights: Any) -> dict[str, Any]:
    group = {"targets": targets, "weights": weights, "format": form}
    return {"quant_method": "compressed-tensors", "config_groups": {"group_0": group}, "ignore": ignore or ["lm_head"]}


INT4 = {"num_bits": 4, "type": "int", "group_size": 128, "symmetric": True, "strategy": "group"}
INT3 = {"num_bits": 3, "type": "int", "group_size": 128, "symmetric": True, "strategy": "group"}
NVFP4 = {"num_bits": 4, "type": "float", "group_size": 16, "strategy": "tensor_group"}
FP8_ROW = {"num_bits": 8, "type": "float", "strategy": "channel"}
ALL_LLAMA = 2 * (2 * TABLE + NORMS)
ALL_MOE = 2 * (2 * TABLE + MOE_NORMS + ROUTER)

CASES: dict[str, tuple[dict[str, Any], dict[str, Any], float]] = {
    # ---- compressed-tensors
    "w4a16 asymmetric: a 4-bit zero a group": (LLAMA, ct(["Linear"], **{**INT4, "symmetric": False}), int4(ATTENTION + MLP, 128, 4) + ALL_LLAMA),
    "3 bits: ten codes an int32": (LLAMA, ct(["Linear"], form="pack-quantized", **INT3), size(ATTENTION + MLP, 3.2, 128, 16) + ALL_LLAMA),
    "W4A8 as int-quantized: a byte a code": (LLAMA, ct(["Linear"], form="int-quantized", **INT4), size(ATTENTION + MLP, 8, 128, 16) + ALL_LLAMA),
    "a head that is not ignored": (LLAMA, ct(["Linear"], ["re:visual.*"], **FP8_ROW),
        ATTENTION + MLP + TABLE + 4 * (ATTENTION_ROWS + MLP_ROWS + 1000) + 2 * (TABLE + NORMS)),
    "an embedding that is a target": (LLAMA, {**ct(["Linear"], **FP8_ROW), "config_groups": {
        "a": {"targets": ["Linear"], "weights": FP8_ROW}, "b": {"targets": ["Embedding"], "weights": FP8_ROW}}},
        ATTENTION + MLP + TABLE + 4 * (ATTENTION_ROWS + MLP_ROWS + 1000) + 2 * (TABLE + NORMS)),
    "experts alone, as Kimi K2 Thinking": (MOE, ct(["Linear"], ["lm_head", "re:.*self_attn.*", "re:.*shared_experts.*",
        r"re:.*mlp\.(gate|up|gate_up|down)_proj.*"], **{**INT4, "group_size": 32}), int4(EXPERTS, 32) + 2 * ATTENTION + ALL_MOE),
    "experts in 4 bits, attention in fp8": (MOE, {**ct(["Linear"]), "config_groups": {
        "a": {"targets": ["re:.*self_attn.*(q|k|v|o)_proj$"], "weights": FP8_ROW},
        "b": {"targets": ["re:.*mlp.experts.*"], "weights": INT4}}, "ignore": ["lm_head", "re:.*mlp.gate$"]},
        int4(EXPERTS) + ATTENTION + 4 * ATTENTION_ROWS + ALL_MOE),
    "saved dense": (LLAMA, {**ct(["Linear"], form="dense", **INT4), "format": "dense"}, 2 * (ATTENTION + MLP) + ALL_LLAMA),
    "2:4 pruned, stored dense": (LLAMA, {"quant_method": "compressed-tensors", "config_groups": {}, "sparsity_config": {
        "format": "dense", "sparsity_structure": "2:4"}}, 2 * (ATTENTION + MLP) + ALL_LLAMA),
    "fp8 of 2:4: half of the codes and a bit a place": (LLAMA, {**ct(["Linear"], form="float-quantized", **FP8_ROW), "sparsity_config": {
        "format": "sparse-24-bitmask", "sparsity_structure": "2:4"}}, size(ATTENTION + MLP, 5) + 4 * (ATTENTION_ROWS + MLP_ROWS) + ALL_LLAMA),
    "layers by expression": (LLAMA, ct([r"re:.*layers\.1\.mlp\..*"], **INT4), int4(MLP / 2) + 2 * (ATTENTION + MLP / 2) + ALL_LLAMA),
    "3 bits since 0.18: across two int32": (LLAMA, {**ct(["Linear"], form="pack-quantized", **INT3), "version": "0.20.1"}, size(ATTENTION + MLP, 3, 128, 16) + ALL_LLAMA),
    "3 bits of 0.17": (LLAMA, {**ct(["Linear"], form="pack-quantized", **INT3), "version": "0.17.1"}, size(ATTENTION + MLP, 3.2, 128, 16) + ALL_LLAMA),
    # ---- ModelOpt
    "nvfp4 experts beside fp8 blocks, which its list leaves in fp8": (MOE, {"quant_method": "fp8", "weight_block_size": [128, 128], "quant_algo": "MIXED_PRECISION",
        "moe_quant_algo": "NVFP4", "ignore": ["*.self_attn.*", "lm_head"], "quantized_layers": {
            f"model.layers.{n}.mlp.experts": {"quant_algo": "NVFP4", "group_size": 16} for n in (0, 1)}},
        size(EXPERTS, 4, 16, 8) + size(ATTENTION, 8, 128 * 128, 32) + ALL_MOE),
    "int4 of ModelOpt: scales in fp32": (LLAMA, {"quant_method": "modelopt", "quant_algo": "W4A16_AWQ", "group_size": 64, "exclude_modules": ["lm_head"]},
        size(ATTENTION + MLP, 4, 64, 32) + ALL_LLAMA),
    "nvfp4 in groups of 32, beside fp8 activations": (LLAMA, {"quant_method": "modelopt", "quant_algo": "W4A8_NVFP4_FP8", "exclude_modules": ["lm_head"]},
        size(ATTENTION + MLP, 4, 32, 8) + ALL_LLAMA),
    "nvfp4 experts, router and attention spared by glob": (MOE, {"quant_method": "modelopt", "quant_algo": "NVFP4", "group_size": 16, "ignore": [
        "lm_head", *(f"model.layers.{n}.{p}*" for n in (0, 1) for p in ("self_attn", "mlp.gate"))]}, size(EXPERTS, 4, 16, 8) + 2 * ATTENTION + ALL_MOE),
    "mixed by layer, the head too": (MOE, {"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION", "quantized_layers": {
        "lm_head": {"quant_algo": "FP8"}, **{f"model.layers.{n}.mlp.experts": {"quant_algo": "NVFP4", "group_size": 16} for n in (0, 1)},
        **{f"model.layers.{n}.self_attn.{p}_proj": {"quant_algo": "FP8"} for n in (0, 1) for p in "qkvo"}}},
        size(EXPERTS, 4, 16, 8) + ATTENTION + 4 * 8 + TABLE + 4 + 2 * (TABLE + MOE_NORMS + ROUTER)),
    "mxfp8": (LLAMA, {"quant_method": "modelopt_mxfp8", "quant_algo": "MXFP8", "exclude_modules": ["lm_head"]}, size(ATTENTION + MLP, 8, 32, 8) + ALL_LLAMA),
    # ---- fp8 of publishers
    "fp8 by block, gates spared": (MOE, {"quant_method": "fp8", "weight_block_size": [128, 128], "modules_to_not_convert": [
        "lm_head", "model.layers.0.mlp.gate", "model.layers.1.mlp.gate", "model.layers.0.input_layernorm"]},
        size(ATTENTION + EXPERTS, 8, 128 * 128, 32) + ALL_MOE),
    "fp8 of the MLPs alone": (LLAMA, {"quant_method": "fbgemm_fp8", "modules_to_not_convert": [
        "lm_head", *(f"model.layers.{n}.self_attn.{p}_proj" for n in (0, 1) for p in "qkvo"), "model.layers.1.mlp.down_proj"]},
        MLP - 512 * 1024 + 4 * (MLP_ROWS - 512) + 2 * (ATTENTION + 512 * 1024) + ALL_LLAMA),
    "w4afp8: experts in int4, the rest in fp8 blocks": (MOE, {"quant_method": "w4afp8"}, int4(EXPERTS) + size(ATTENTION, 8, 128 * 128, 32) + ALL_MOE),
    "int8 by block": (LLAMA, {"quant_method": "blockwise_int8", "weight_block_size": [128, 128]}, size(ATTENTION + MLP, 8, 128 * 128, 32) + ALL_LLAMA),
    # ---- GPTQ, AWQ, AutoRound
    "gptq of some modules of each block": (LLAMA, {"quant_method": "gptq", "bits": 4, "group_size": 128, "modules_in_block_to_quantize": [
        ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"], ["self_attn.o_proj"]]}, int4(ATTENTION, 128, 4) + 2 * MLP + ALL_LLAMA),
    "gptq with wider rows in one layer": (LLAMA, {"quant_method": "gptq", "bits": 4, "group_size": 128, "dynamic": {
        r"+:.*\.0\.mlp\.down_proj": {"bits": 8, "group_size": -1}}},
        int4(ATTENTION + MLP - 512 * 1024, 128, 4) + 512 * 1024 + 512 * 3 + ALL_LLAMA),
    "awq of a mixture: gates and attention stay": (MOE, {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True,
        "modules_to_not_convert": ["self_attn", "mlp.gate"]}, int4(EXPERTS, 128, 4) + 2 * ATTENTION + ALL_MOE),
    "awq of vLLM's own name": (LLAMA, {"quant_method": "awq_marlin", "w_bit": 4, "q_group_size": 64, "zero_point": True}, int4(ATTENTION + MLP, 64, 4) + ALL_LLAMA),
    "auto-round with 8 bits of some and 16 of the gate": (MOE, {"quant_method": "auto-round", "bits": 4, "group_size": 128, "extra_config": {
        "model.layers.0.self_attn.q_proj": {"bits": 8}, "model.layers.0.mlp.gate": {"bits": 16, "data_type": "float"}, ".*self_attn.o_proj.*": {"bits": 16}}},
        int4(EXPERTS + KV + 512 * 512, 128, 4) + size(512 * 512, 8, 128, 24) + 2 * 2 * 512 * 512 + ALL_MOE),
    "auto-round fp8": (LLAMA, {"quant_method": "auto-round", "bits": 8, "data_type": "fp"}, ATTENTION + MLP + 4 * (ATTENTION_ROWS + MLP_ROWS) + ALL_LLAMA),
    "marlin's own": (LLAMA, {"quant_method": "marlin", "group_size": 128}, int4(ATTENTION + MLP) + ALL_LLAMA),
    "experts by vLLM's wna16": (MOE, {"quant_method": "moe_wna16", "linear_quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True},
        int4(EXPERTS + ATTENTION, 128, 4) + ALL_MOE),
    # ---- MLX
    "mlx of a mixture: gates in 8 bits, experts under switch_mlp": (MOE, {"bits": 4, "group_size": 64, **{
        f"model.layers.{n}.mlp.gate": {"bits": 8, "group_size": 64} for n in (0, 1)}, **{
        f"model.layers.{n}.mlp.switch_mlp.down_proj": {"bits": 6, "group_size": 64} for n in (0, 1)}},
        size(ATTENTION + 2 * TABLE + EXPERTS * 2 / 3, 4, 64, 32) + size(EXPERTS / 3, 6, 64, 32) + size(ROUTER, 8, 64, 32) + 2 * MOE_NORMS),
    "mlx mxfp4": (LLAMA, {"bits": 4, "group_size": 32, "mode": "mxfp4"}, size(ATTENTION + MLP + 2 * TABLE, 4, 32, 8) + 2 * NORMS),
    # ---- torchao, quark, bitsandbytes
    "torchao 8da4w: int4 in a byte each, group 32": (LLAMA, {"quant_method": "torchao", "quant_type": {"default": {
        "_type": "Int8DynamicActivationIntxWeightConfig", "_version": 2, "_data": {"weight_dtype": {"_type": "torch.dtype", "_data": "int4"},
        "weight_granularity": {"_type": "PerGroup", "_data": {"group_size": 32}}}}}}, size(ATTENTION + MLP, 8, 32, 24) + ALL_LLAMA),
    "torchao: embedding in int8, linear layers in 8da4w": (LLAMA, {"quant_method": "torchao", "quant_type": {"default": {
        "_type": "ModuleFqnToConfig", "_data": {"module_fqn_to_config": {
            "_default": {"_type": "Int8DynamicActivationIntxWeightConfig", "_data": {"weight_granularity": {"_type": "PerGroup", "_data": {"group_size": 32}}}},
            "model.embed_tokens": {"_type": "IntxWeightOnlyConfig", "_data": {"granularity": {"_type": "PerAxis", "_data": {"axis": 0}}}}}}}}},
        size(ATTENTION + MLP, 8, 32, 24) + TABLE + 3 * 1000 + 2 * (TABLE + NORMS)),
    "torchao by its old name": (LLAMA, {"quant_method": "torchao", "quant_type": "int8_weight_only"}, ATTENTION + MLP + 5 * (ATTENTION_ROWS + MLP_ROWS) + ALL_LLAMA),
    "quark: a layer without a weight format": (LLAMA, {"quant_method": "quark", "global_quant_config": {"weight": {"dtype": "fp4", "qscheme": "per_group",
        "group_size": 32}}, "layer_quant_config": {"*self_attn*": {"weight": None}}, "exclude": ["lm_head"]}, size(MLP, 4, 32, 8) + 2 * ATTENTION + ALL_LLAMA),
    "quark int4 in fp8": (LLAMA, {"quant_method": "quark", "global_quant_config": {"weight": [{"dtype": "fp8_e4m3", "qscheme": "per_tensor"},
        {"dtype": "int4", "qscheme": "per_channel", "symmetric": True}]}, "exclude": ["lm_head"]}, size(ATTENTION + MLP, 4) + 2.5 * (ATTENTION_ROWS + MLP_ROWS) + ALL_LLAMA),
    "bitsandbytes of 2023, without its name": (LLAMA, {"load_in_8bit": True, "llm_int8_threshold": 6.0}, ATTENTION + MLP + 4 * (ATTENTION_ROWS + MLP_ROWS) + ALL_LLAMA),
    "bitsandbytes with layers left alone, as Unsloth's dynamic ones": (LLAMA, {"quant_method": "bitsandbytes", "load_in_4bit": True, "_load_in_4bit": True,
        "llm_int8_skip_modules": ["lm_head", "multi_modal_projector", "merger", "modality_projection", "model.layers.1.mlp", "model.layers.0.self_attn"]},
        size(ATTENTION / 2 + MLP / 2, 4, 64, 32) + ATTENTION + MLP + ALL_LLAMA),
    # ---- as RedHat AI, Intel, NVIDIA, AMD and the mlx-community publish them, 14 matrices in both layers
    "nvfp4-pack-quantized": (LLAMA, ct(["Linear"], form="nvfp4-pack-quantized", **NVFP4), size(ATTENTION + MLP, 4, 16, 8) + 4 * 14 + ALL_LLAMA),
    "mxfp4-pack-quantized": (LLAMA, ct(["Linear"], form="mxfp4-pack-quantized", num_bits=4, type="float", group_size=32, strategy="group"),
        size(ATTENTION + MLP, 4, 32, 8) + ALL_LLAMA),
    "fp8 of compressed-tensors, a scale a tensor": (LLAMA, ct(["Linear"], form="naive-quantized", num_bits=8, type="float", strategy="tensor"),
        ATTENTION + MLP + 4 * 14 + ALL_LLAMA),
    "fp8 of AutoFP8, static: scales of weights and inputs": (LLAMA, {"quant_method": "fp8", "activation_scheme": "static", "ignored_layers": ["lm_head"]},
        ATTENTION + MLP + 4 * 2 * 14 + ALL_LLAMA),
    "int4 in groups of 32, attention and gates by name": (MOE, ct(["Linear"], ["lm_head", *(f"model.layers.{n}.self_attn.{p}_proj" for n in (0, 1) for p in "qkvo"),
        *(f"model.layers.{n}.mlp.gate" for n in (0, 1))], "pack-quantized", **{**INT4, "group_size": 32}), int4(EXPERTS, 32) + 2 * ATTENTION + ALL_MOE),
    "auto-round packed as gptq": (LLAMA, {"quant_method": "auto-round", "bits": 4, "group_size": 128, "sym": True, "packing_format": "auto_round:auto_gptq"},
        int4(ATTENTION + MLP, 128, 4) + ALL_LLAMA),
    "auto-round packed as awq": (LLAMA, {"quant_method": "auto-round", "bits": 4, "group_size": 128, "sym": False, "packing_format": "auto_round:auto_awq"},
        int4(ATTENTION + MLP, 128, 4) + ALL_LLAMA),
    "auto-round in mxfp4": (LLAMA, {"quant_method": "auto-round", "bits": 4, "group_size": 32, "data_type": "mx_fp", "packing_format": "auto_round:llm_compressor"},
        size(ATTENTION + MLP, 4, 32, 8) + ALL_LLAMA),
    "gptq in 8 bits": (LLAMA, {"quant_method": "gptq", "bits": 8, "group_size": 128, "desc_act": False, "sym": True}, size(ATTENTION + MLP, 8, 128, 24) + ALL_LLAMA),
    "gptq in 3 bits": (LLAMA, {"quant_method": "gptq", "bits": 3, "group_size": 128}, size(ATTENTION + MLP, 3, 128, 19) + ALL_LLAMA),
    "gptq with one group a row": (LLAMA, {"quant_method": "gptq", "bits": 4, "group_size": -1, "desc_act": True},
        size(ATTENTION + MLP, 4) + 2.5 * (ATTENTION_ROWS + MLP_ROWS) + ALL_LLAMA),
    "mxfp4 experts, as gpt-oss": (MOE, {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn", "model.layers.*.mlp.router",
        "model.embed_tokens", "lm_head"]}, size(EXPERTS, 4, 32, 8) + 2 * ATTENTION + ALL_MOE),
    "modelopt fp8 with an fp8 cache": (LLAMA, {"quant_method": "modelopt", "quant_algo": "FP8", "kv_cache_scheme": {"num_bits": 8, "type": "float"},
        "ignore": ["lm_head"]}, ATTENTION + MLP + 4 * 2 * 14 + ALL_LLAMA),
    "modelopt fp8 by block, weights alone": (LLAMA, {"quant_method": "modelopt", "quant_algo": "FP8_PB_WO", "exclude_modules": ["lm_head"]},
        size(ATTENTION + MLP, 8, 128 * 128, 32) + ALL_LLAMA),
    "mlx in 8 bits": (LLAMA, {"bits": 8, "group_size": 64}, size(ATTENTION + MLP + 2 * TABLE, 8, 64, 32) + 2 * NORMS),
    "mlx nvfp4": (LLAMA, {"bits": 4, "group_size": 16, "mode": "nvfp4"}, size(ATTENTION + MLP + 2 * TABLE, 4, 16, 8) + 2 * NORMS),
    "mlx mxfp8": (LLAMA, {"bits": 8, "group_size": 32, "mode": "mxfp8"}, size(ATTENTION + MLP + 2 * TABLE, 8, 32, 8) + 2 * NORMS),
    "quark mxfp4 of experts, the rest by glob": (MOE, {"quant_method": "quark", "global_quant_config": {"weight": {"dtype": "fp4", "qscheme": "per_group",
        "group_size": 32, "scale_format": "e8m0"}}, "exclude": ["lm_head", "*self_attn*", "*mlp.gate"]}, size(EXPERTS, 4, 32, 8) + 2 * ATTENTION + ALL_MOE),
    "quark fp8, a scale a tensor": (LLAMA, {"quant_method": "quark", "global_quant_config": {"weight": {"dtype": "fp8_e4m3", "qscheme": "per_tensor"}},
        "exclude": ["lm_head"]}, ATTENTION + MLP + 4 * 14 + ALL_LLAMA),
    "hqq, groups of 64 with scale and zero": (LLAMA, {"quant_method": "hqq", "quant_config": {"weight_quant_params": {"nbits": 4, "group_size": 64, "axis": 1}}},
        size(ATTENTION + MLP, 4, 64, 32) + ALL_LLAMA),
    "quanto int8": (LLAMA, {"quant_method": "quanto", "weights": "int8"}, ATTENTION + MLP + 2 * (ATTENTION_ROWS + MLP_ROWS) + ALL_LLAMA),
    "eetq": (LLAMA, {"quant_method": "eetq"}, ATTENTION + MLP + 2 * (ATTENTION_ROWS + MLP_ROWS) + ALL_LLAMA),
    "fp_quant in mxfp4": (LLAMA, {"quant_method": "fp_quant", "forward_dtype": "mxfp4"}, size(ATTENTION + MLP, 4, 32, 8) + ALL_LLAMA),
    "torchao float8 of the weights": (LLAMA, {"quant_method": "torchao", "quant_type": {"default": {"_type": "Float8WeightOnlyConfig", "_data": {}}}},
        ATTENTION + MLP + 4 * (ATTENTION_ROWS + MLP_ROWS) + ALL_LLAMA),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_published_form_is_counted_to_the_byte(name: str) -> None:
    base, quantization, expected = CASES[name]
    spec = read_config({**base, "quantization_config": quantization})
    assert weight_plan(spec).warnings == ()
    assert estimate(spec, Request(1)).weight_bytes == pytest.approx(expected, abs=80)  # a part of a byte a matrix


@pytest.mark.parametrize(
    ("quantization", "reason"),
    [
        (ct(["LlamaMLP"], **INT4), "modules of class 'LlamaMLP'"),
        ({"quant_method": "auto-round", "bits": 4, "extra_config": {".*mlp.*": {"bits": 5}}}, "1 module names are not evaluated"),
        ({"quantization": "mix_quant", "moe_quant_type": "wint4"}, "without a quant_method"),
        ({"quant_method": "torchao", "quant_type": {"default": {"_type": "IntxWeightOnlyConfig", "_data": {"intx_packing_format": "opaque_torchao_auto"}}}}, "torchao"),
    ],
)  # fmt: skip
def test_a_form_that_is_not_understood_is_an_upper_bound(quantization: dict[str, Any], reason: str) -> None:
    spec = read_config({**LLAMA, "quantization_config": quantization})
    plan = weight_plan(spec)
    assert plan.exactness == "upper bound" and reason in plan.warnings[0]
    assert estimate(spec, Request(1)).weight_bytes == 2 * (ATTENTION + MLP) + ALL_LLAMA


def test_a_modelopt_file_without_its_list_is_a_lower_bound() -> None:
    """Nemotron 3 Super's hf_quant_config.json as tools pass it on: NVFP4, and not what stays in 16 bit."""
    spec = read_config(
        {
            **MOE,
            "quantization_config": {"quant_method": "modelopt", "quant_algo": "NVFP4", "kv_cache_quant_algo": "FP8"},
        }
    )
    plan = weight_plan(spec)
    assert plan.exactness == "lower bound" and "exclude_modules" in plan.warnings[0]
    assert estimate(spec, Request(1)).exactness["weight_bytes"] == "lower bound"


@pytest.mark.parametrize(
    "method",
    [
        {"quant_method": "bitsandbytes", "load_in_4bit": True},
        {"quant_method": "eetq"},
        {"quant_method": "quanto", "weights": "int8"},
        {"quant_method": "torchao", "quant_type": "int8_weight_only"},
        {"quant_method": "hqq", "quant_config": {"weight_quant_params": {"nbits": 4, "group_size": 64}}},
        {"quant_method": "metal", "bits": 4, "group_size": 64},
    ],
)
def test_experts_stay_float_where_transformers_has_them_as_one_parameter(method: dict[str, Any]) -> None:
    """From transformers 5; before it each expert's matrix was a linear layer."""
    size_of = {
        version: estimate(
            read_config({**MOE, "quantization_config": method, "transformers_version": version}), Request(1)
        ).weight_bytes
        for version in ("4.57.1", "5.24.0")
    }
    plain = estimate(read_config(MOE), Request(1)).weight_bytes
    assert size_of["4.57.1"] < size_of["5.24.0"] < plain
    assert size_of["5.24.0"] > 2 * EXPERTS + ALL_MOE


# What is not in NVFP4 is in fp8 blocks. Bytes: the modules that transformers 5.24.0 builds of the config, each in the format that its
# name has in the lists of nvidia/DeepSeek-V4-Flash-NVFP4 and -Pro-NVFP4 (NVIDIA: attention and shared experts stay FP8).
@pytest.mark.parametrize(
    ("model", "layers", "expected"),
    [("deepseek-v4-flash", 43, 164_275_030_830), ("deepseek-v4-pro", 61, 898_125_652_486)],
)
def test_deepseek_v4_in_nvfp4_keeps_attention_in_fp8(model: str, layers: int, expected: int) -> None:
    mixed = {
        "quant_method": "fp8", "fmt": "e4m3", "scale_fmt": "ue8m0", "weight_block_size": [128, 128], "quant_algo": "MIXED_PRECISION",
        "moe_quant_algo": "NVFP4", "ignore": ["*.attn.*", "*.ffn.shared_experts.*", "head", "mtp.*"],
        "quantized_layers": {f"layers.{n}.ffn.experts": {"quant_algo": "NVFP4", "group_size": 16} for n in range(layers)},
    }  # fmt: skip
    config = {**find_model(model).config, "quantization_config": mixed, "expert_dtype": None}
    assert estimate(read_config(config), Request(1)).weight_bytes == pytest.approx(expected, rel=1e-5)

"""Every quantisation config that transformers, vLLM, ModelOpt, GPTQModel, AutoRound and MLX write, with a worked number."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from planner.memory.estimate import estimate
from planner.memory.module_names import matcher
from planner.memory.request import Capacity, Request
from planner.memory.sharding import Sharding
from planner.memory.weight_plan import weight_plan
from planner.model.spec import ModelSpec
from planner.model.weights import Weight
from planner.readers.huggingface import read_config

# Two layers: 4 projections of 512 x 512 and 3 of the MLP of 1024 x 512, all divisible by 1024.
LLAMA = {
    "model_type": "llama", "hidden_size": 512, "num_hidden_layers": 2, "num_attention_heads": 8, "vocab_size": 1000,
    "intermediate_size": 1024, "max_position_embeddings": 2048, "torch_dtype": "bfloat16",
}  # fmt: skip
ATTENTION, MLP, TABLE = 2 * 4 * 512 * 512, 2 * 3 * 512 * 1024, 1000 * 512
LINEAR = ATTENTION + MLP
NORMS = 5 * 512
REST = 2 * TABLE + NORMS  # embedding, head, norms: 16 bit
ROWS = 2 * (4 * 512 + 2 * 1024 + 512)  # output rows of all matrices
MATRICES = 14


def spec_of(quantization: Mapping[str, Any], **more: Any) -> ModelSpec:
    return read_config({**LLAMA, "quantization_config": quantization, **more})


def weight_bytes(quantization: Mapping[str, Any], **more: Any) -> int:
    return estimate(spec_of(quantization, **more), Request(1)).weight_bytes


def groups(bits: float, group: int, group_bits: int, linear: int = LINEAR) -> float:
    return linear * bits / 8 + linear / group * group_bits / 8


# 512 columns in one group, 8 rows a vector, 256 vectors in the book, no residual
VPTQ = {"in_features": 512, "out_features": 1024, "vector_lens": [-1, 8], "num_centroids": [-1, 256], "num_res_centroids": [-1, -1],
        "group_num": 1, "group_size": 512, "outlier_size": 0, "enable_norm": True, "enable_perm": True}  # fmt: skip
MODULES = {
    **{f"self_attn.{p}_proj": 512 * 512 for p in "qkvo"},
    **{f"mlp.{p}_proj": 512 * 1024 for p in ("gate", "up", "down")},
}


WORKED: dict[str, tuple[dict[str, Any], float]] = {
    # transformers 5.24, one for each class of utils/quantization_config.py
    "auto-round": ({"quant_method": "auto-round", "bits": 4, "group_size": 128}, groups(4, 128, 20)),
    "hqq": ({"quant_method": "hqq", "quant_config": {"weight_quant_params": {"nbits": 4, "group_size": 64}}, "skip_modules": ["lm_head"]}, groups(4, 64, 32)),
    "hqq 3 bits, ten to an int32": ({"quant_method": "hqq", "quant_config": {"weight_quant_params": {"nbits": 3, "group_size": 64}}}, groups(3.2, 64, 32)),
    "hqq by tag": ({"quant_method": "hqq", "quant_config": {"mlp.up_proj": {"weight_quant_params": {"nbits": 8, "group_size": 64}}}},
                   2 * (LINEAR - 2 * 512 * 1024) + groups(8, 64, 32, 2 * 512 * 1024)),
    "bitsandbytes 4 bit": ({"quant_method": "bitsandbytes", "_load_in_4bit": True, "load_in_4bit": True}, groups(4, 64, 32)),
    "bitsandbytes 8 bit": ({"quant_method": "bitsandbytes", "load_in_8bit": True, "load_in_4bit": False}, LINEAR + 4 * ROWS),
    "gptq": ({"quant_method": "gptq", "bits": 3, "group_size": 128}, groups(3, 128, 19)),
    "awq": ({"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True}, groups(4, 128, 20)),
    "aqlm 1x16": ({"quant_method": "aqlm", "in_group_size": 8, "out_group_size": 1, "num_codebooks": 1, "nbits_per_codebook": 16},
                  LINEAR * 2 / 8 + 2 * ROWS + MATRICES * 65536 * 8 * 2),
    "quanto int8": ({"quant_method": "quanto", "weights": "int8"}, LINEAR + 2 * ROWS),
    "quanto int4": ({"quant_method": "quanto", "weights": "int4"}, groups(4, 128, 32)),
    "quanto float8": ({"quant_method": "quanto", "weights": "float8"}, LINEAR + 2 * ROWS),
    "eetq": ({"quant_method": "eetq", "weights": "int8"}, LINEAR + 2 * ROWS),
    "compressed-tensors": ({"quant_method": "compressed-tensors", "config_groups": {"g": {"targets": ["Linear"], "weights":
        {"num_bits": 8, "type": "float", "strategy": "channel"}}}, "ignore": ["lm_head"]}, LINEAR + 4 * ROWS),
    "fbgemm_fp8": ({"quant_method": "fbgemm_fp8", "modules_to_not_convert": ["lm_head"]}, LINEAR + 4 * ROWS),
    "higgs": ({"quant_method": "higgs", "bits": 4, "p": 2, "group_size": 256}, groups(4, 256, 16) + MATRICES * 2 * (16 + 2 * 256)),
    "fp_quant": ({"quant_method": "fp_quant", "forward_dtype": "mxfp4"}, groups(4, 32, 8)),
    "torchao int4": ({"quant_method": "torchao", "quant_type": {"default": {"_type": "Int4WeightOnlyConfig", "_data": {"group_size": 128}}}}, groups(4, 128, 32)),
    "torchao float8": ({"quant_method": "torchao", "quant_type": {"default": {"_type": "Float8WeightOnlyConfig", "_data": {}}}}, LINEAR + 4 * ROWS),
    "torchao by module": ({"quant_method": "torchao", "quant_type": {"default": {"_type": "ModuleFqnToConfig", "_data": {"module_fqn_to_config": {
        "_default": {"_type": "Int8WeightOnlyConfig", "_data": {}}, "re:.*self_attn.*": None}}}}},
        2 * ATTENTION + MLP + 5 * 2 * (2 * 1024 + 512)),
    "bitnet": ({"quant_method": "bitnet", "quantization_mode": "offline"}, LINEAR / 4 + 2 * MATRICES),
    "fp8": ({"quant_method": "fp8", "weight_block_size": [128, 128]}, LINEAR + LINEAR / 128**2 * 4),
    "quark fp8": ({"quant_method": "quark", "global_quant_config": {"weight": {"dtype": "fp8_e4m3", "qscheme": "per_tensor"}}, "exclude": ["lm_head"]}, LINEAR + 4 * MATRICES),
    "quark mxfp4": ({"quant_method": "quark", "global_quant_config": {"weight": {"dtype": "fp4", "qscheme": "per_group", "group_size": 32}},
        "layer_quant_config": {"*self_attn*": {"weight": {"dtype": "fp8_e4m3", "qscheme": "per_tensor"}}}},
        ATTENTION + 4 * 8 + groups(4, 32, 8, MLP)),
    "mxfp4": ({"quant_method": "mxfp4"}, groups(4, 32, 8)),
    "metal": ({"quant_method": "metal", "bits": 4, "group_size": 64}, groups(4, 64, 32)),
    "fouroversix": ({"quant_method": "fouroversix", "dtype": "nvfp4"}, groups(4, 16, 8)),
    "sinq": ({"quant_method": "sinq", "nbits": 4, "group_size": 64}, groups(4, 64, 32)),
    "gemma": ({"quant_method": "gemma", "num_bits": 4, "module_quant_configs": {"self_attn": {"num_bits": 8}}}, ATTENTION + MLP / 2 + 4 * ROWS + 8 * MATRICES),
    "nvfp4": ({"quant_method": "nvfp4"}, groups(4, 16, 8)),
    "vptq of one bit in every up_proj": ({"quant_method": "vptq", "config_for_layers": {f"model.layers.{n}.mlp.up_proj": VPTQ for n in (0, 1)}},
        2 * (LINEAR - 2 * 512 * 1024) + 2 * (4 * 128 * 128 + 2 * 8 * 256 + 6 * 512)),
    "spqr of three bits": ({"quant_method": "spqr", "bits": 3, "beta1": 16, "beta2": 16, "shapes": {
        f"model.layers.{n}.{m}.{t}.shape": c for n in (0, 1) for m, elements in MODULES.items() for t, c in (
            ("dense_weights", elements // 16), ("row_offsets", 100), ("col_vals", elements // 128), ("in_perm", 0))}},
        LINEAR / 2 + 4 * 100 * MATRICES + LINEAR / 32),
    "mxfp8": ({"quant_method": "mxfp8", "weight_block_size": [1, 32]}, groups(8, 32, 8)),
    "gguf": ({"quant_method": "gguf", "gguf_file": "Model-Q8_0.gguf"}, 34 / 32 * (LINEAR + REST) - 2 * REST),
    # vLLM, ModelOpt and others
    "modelopt W4A8": ({"quant_method": "modelopt", "quant_algo": "W4A8_AWQ", "group_size": 128, "exclude_modules": ["lm_head"]}, groups(4, 128, 32)),
    "modelopt excludes by glob": ({"quant_method": "modelopt", "quant_algo": "FP8", "exclude_modules": ["lm_head", "model.layers.0.self_attn*"]},
        LINEAR + ATTENTION / 2 + 4 * (MATRICES - 4)),
    "modelopt mixed": ({"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION", "quantized_layers": {
        f"model.layers.{n}.{p}": {"quant_algo": "NVFP4" if "mlp" in p else "FP8"} for n in (0, 1) for p in ("mlp", "self_attn")}},
        groups(4, 16, 8, MLP) + ATTENTION + 4 * 8),
    "several groups": ({"quant_method": "compressed-tensors", "config_groups": {
        "a": {"targets": ["re:.*self_attn.*"], "weights": {"num_bits": 8, "type": "float", "strategy": "tensor"}},
        "b": {"targets": ["Linear"], "weights": {"num_bits": 4, "type": "float", "group_size": 16}}}, "ignore": ["lm_head"]}, ATTENTION + 4 * 8 + groups(4, 16, 8, MLP)),
    "W4A8 of compressed-tensors": ({"quant_method": "compressed-tensors", "config_groups": {"g": {"targets": ["Linear"],
        "weights": {"num_bits": 4, "type": "int", "group_size": 128, "symmetric": True}, "input_activations": {"num_bits": 8, "type": "float"}}}, "ignore": ["lm_head"]}, groups(4, 128, 16)),
    "sparse 2:4 of 4 bits": ({"quant_method": "compressed-tensors", "format": "marlin-24", "config_groups": {"g": {"targets": ["Linear"],
        "weights": {"num_bits": 4, "type": "int", "group_size": 128, "symmetric": True}}}, "ignore": ["lm_head"]}, groups(3, 128, 16)),
    "gptq dynamic": ({"quant_method": "gptq", "bits": 4, "group_size": 128, "dynamic": {"-:.*attn.*": {}, r"+:.*\.1\.mlp.*": {"bits": 8}}},
        2 * ATTENTION + groups(4, 128, 20, MLP // 2) + groups(8, 128, 24, MLP // 2)),
    "auto-round extra_config": ({"quant_method": "auto-round", "bits": 4, "group_size": 128, "extra_config": {
        "model.layers.0.mlp.up_proj": {"bits": 16}}}, groups(4, 128, 20, LINEAR - 512 * 1024) + 2 * 512 * 1024),
    "ignore by number": ({"quant_method": "fp8", "ignored_layers": ["model.layers.1"]}, LINEAR / 2 + LINEAR + 4 * 7),
}  # fmt: skip


@pytest.mark.parametrize("name", WORKED)
def test_a_config_is_counted_matrix_by_matrix(name: str) -> None:
    config, quantised = WORKED[name]
    assert weight_plan(spec_of(config)).warnings == ()
    assert weight_bytes(config) == pytest.approx(quantised + 2 * REST, abs=MATRICES)  # a part of a byte a matrix


@pytest.mark.parametrize(
    ("config", "size"),
    [
        ({"quant_method": "gptq", "bits": 4, "group_size": 128, "lm_head": True}, groups(4, 128, 20, LINEAR + TABLE) + 2 * (TABLE + NORMS)),
        ({"bits": 4, "group_size": 64}, groups(4, 64, 32, LINEAR + 2 * TABLE) + 2 * NORMS),  # MLX, in both of its keys
        ({"bits": 4, "group_size": 64, "lm_head": False, "model.layers.0.mlp.up_proj": {"bits": 8, "group_size": 64}},
         groups(4, 64, 32, LINEAR + TABLE - 512 * 1024) + groups(8, 64, 32, 512 * 1024) + 2 * (TABLE + NORMS)),
        ({"quant_method": "exl3", "bits": 4.25, "head_bits": 6}, LINEAR * 4.25 / 8 + TABLE * 6 / 8 + 2 * (TABLE + NORMS)),
        ({"quant_method": "exl2", "bits": 4.65, "head_bits": 6}, LINEAR * 4.65 / 8 + TABLE * 6 / 8 + 2 * (TABLE + NORMS)),
    ],
)  # fmt: skip
def test_a_config_that_names_the_head_or_the_table_reaches_them(config: dict[str, Any], size: float) -> None:
    assert weight_bytes(config) == pytest.approx(size, abs=MATRICES + 2)


@pytest.mark.parametrize("key", ["quantization_config", "compression_config"])
def test_the_key_of_older_files_is_read_too(key: str) -> None:
    group = {"targets": ["Linear"], "weights": {"num_bits": 8, "type": "int", "strategy": "channel"}}
    spec = read_config({**LLAMA, key: {"config_groups": {"g": group}, "ignore": ["lm_head"]}})
    assert estimate(spec, Request(1)).weight_bytes == LINEAR + 4 * ROWS + 2 * REST


def test_mlx_files_have_a_key_of_their_own() -> None:
    spec = read_config({**LLAMA, "quantization": {"bits": 4, "group_size": 64}})
    assert weight_plan(spec).fmt.name == "mlx_int4"


@pytest.mark.parametrize(
    "config",
    [
        {"quant_method": "vptq", "config_for_layers": {}}, {"quant_method": "spqr", "bits": 3}, {"quant_method": "spqr", "shapes": {"a.x.shape": 3}},
        {"quant_method": "vptq", "config_for_layers": {"model.layers.0.mlp.up_proj": {"vector_lens": [-1, 0]}}},
        {"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION"}, {"quant_method": "modelopt", "quant_algo": "NEW_1"},
        {"quant_method": "torchao", "quant_type": "autoquant"}, {"quant_method": "quark"}, {"quant_method": "hqq"},
        {"quant_method": "bitnet", "quantization_mode": "online"}, {"quant_method": "fp8", "dequantize": True},
        {"quant_method": "fp8", "ignored_layers": ["re:(a+)+$"]}, {"quant_method": "fp8", "ignored_layers": ["re:(("]},
        {"quant_method": "fp_quant", "store_master_weights": True},
    ],
)  # fmt: skip
def test_what_is_not_understood_is_an_upper_bound_with_its_reason(config: dict[str, Any]) -> None:
    plan = weight_plan(spec_of(config))
    assert plan.exactness == "upper bound"
    assert len(plan.warnings) == 1 and plan.warnings[0].isprintable() and len(plan.warnings[0]) < 300


def test_names_that_are_not_evaluated_leave_nothing_quantised() -> None:
    many = {f"-:.*layers.{number}.*x*y*": {} for number in range(600)}
    for config in (
        {"quant_method": "fp8", "ignore": ["re:(a+)+$"]},
        {"quant_method": "gptq", "bits": 4, "dynamic": many},
    ):
        assert weight_bytes(config) == 2 * (LINEAR + REST)


def test_an_upper_bound_is_never_turned_into_a_refusal() -> None:
    spec = spec_of({"quant_method": "my_own"})
    small, large = Capacity("small", 1 << 20), Capacity("large", 1 << 34)
    assert estimate(spec, Request(8), small).fits_word == "at most"
    assert estimate(spec, Request(8), small).fits is None
    assert estimate(spec, Request(8), large).fits_word == "fits"
    known = estimate(spec_of({"quant_method": "fp8"}), Request(8), small)
    assert known.fits_word == "does not fit" and known.fits is False


def test_experts_in_fp4_stand_beside_fp8() -> None:
    """DeepSeek-V4: `expert_dtype` at the top of the file, experts with one e8m0 byte per 32."""
    config = {
        "model_type": "deepseek_v3", "hidden_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 100,
        "intermediate_size": 256, "moe_intermediate_size": 128, "n_routed_experts": 8, "num_experts_per_tok": 2,
        "n_shared_experts": 1, "first_k_dense_replace": 1, "kv_lora_rank": 64, "qk_nope_head_dim": 32, "qk_rope_head_dim": 32,
        "v_head_dim": 32, "q_lora_rank": None, "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]},
    }  # fmt: skip
    eight = estimate(read_config(config), Request(1)).weight_bytes
    four = estimate(read_config({**config, "expert_dtype": "fp4"}), Request(1)).weight_bytes
    experts = 8 * 3 * 128 * 256
    assert eight - four == experts + experts // 128**2 * 4 - experts // 2 - experts // 32


def test_pipeline_stages_of_uneven_layers_are_an_estimate() -> None:
    spec = spec_of({"quant_method": "fp8", "ignored_layers": ["model.layers.1"]})
    assert estimate(spec, Request(1)).exactness["weight_bytes"] == "exact"
    assert estimate(spec, Request(1, sharding=Sharding(pp=2))).exactness["weight_bytes"] == "estimated"


def test_the_recipe_of_llama_405b_leaves_attention_and_both_ends() -> None:
    spec = read_config({**LLAMA, "num_hidden_layers": 4})
    found = estimate(spec, Request(1, dtype="fp8-mlp")).weight_bytes
    inner = MLP  # of two layers
    assert found == 2 * (2 * LINEAR - inner) + inner + 4 * 2 * (2 * 1024 + 512) + 2 * (2 * TABLE + 9 * 512)
    assert "fp8-mlp" in weight_plan(spec, "fp8-mlp").words


def test_the_tower_is_counted_in_its_own_format() -> None:
    tower = {
        "hidden_size": 64,
        "num_attention_heads": 4,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "image_size": 56,
        "patch_size": 14,
    }
    config = {
        "model_type": "llava",
        "text_config": {**LLAMA},
        "vision_config": {**tower, "model_type": "clip_vision_model"},
    }
    linear = 2 * (4 * 64 * 64 + 2 * 64 * 128)  # the projector of two layers is linear, too
    joined = 512 * 64 + 512 * 512
    reached, spared = (
        estimate(read_config({**config, "quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True, "llm_int8_skip_modules": skip}}), Request(1)).weight_bytes
        for skip in (["lm_head"], ["lm_head", "vision_tower", "multi_modal_projector"])
    )  # fmt: skip
    rows = 2 * (4 * 64 + 128 + 64) + 2 * 512
    assert spared - reached == linear + joined - 4 * rows


def test_names_of_layers_that_predict_further_tokens_stay_out() -> None:
    q = Weight("attention", 8, 8, name="q_proj")
    assert not matcher(["mtp.layers.0*", "mtp*", "model.mtp.layers.0.self_attn"]).hits(q, 0, "llama")


def test_a_hostile_expression_is_never_run() -> None:
    found = matcher(
        [f"re:{'a*' * 40}b", "re:(x+x+)+y", "re:" + "(" * 400, "re:" + "a" * 10_000, "re:.*.*.*.*.*.*.*.*z"]
    )
    found.hits(Weight("attention", 8, 8, name="q_proj"), 3, "llama")
    assert len(found.refused) == 4


def test_every_form_that_transformers_writes_has_a_worked_number() -> None:
    """The names are those of AUTO_QUANTIZATION_CONFIG_MAPPING in transformers 5.24.0 (quantizers/auto.py)."""
    written = """gguf awq bitsandbytes_4bit bitsandbytes_8bit eetq gptq aqlm quanto quark fouroversix fp_quant hqq compressed-tensors
        fbgemm_fp8 higgs torchao bitnet vptq spqr fp8 nvfp4 mxfp8 auto-round mxfp4 metal sinq gemma""".split()
    worked = {str(config["quant_method"]) for config, _ in WORKED.values()}
    for name in written:
        assert {name, name.split("_4bit")[0].split("_8bit")[0]} & worked, name
    transformers = pytest.importorskip("transformers.quantizers.auto")
    if transformers.__spec__ and pytest.importorskip("transformers").__version__ == "5.24.0":
        assert sorted(transformers.AUTO_QUANTIZATION_CONFIG_MAPPING) == sorted(written)


def test_the_layers_that_transformers_builds_are_counted_to_the_byte() -> None:
    """Printed by benchmarks/quantized_layouts.py: the state of a small Llama with each quantiser's own layers."""
    cases = json.loads((Path(__file__).parents[2] / "cases" / "quantized_layouts.json").read_text())
    for case in cases["layouts"]:
        spec = read_config({"model_type": "llama", "torch_dtype": "bfloat16", **cases["model"],
                            "quantization_config": case["quantization_config"]})  # fmt: skip
        assert estimate(spec, Request(1)).weight_bytes == case["bytes"], case["name"]

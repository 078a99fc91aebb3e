"""A config names modules as their library does: which of our weights each name reaches."""

from __future__ import annotations

import pytest

from planner.memory.module_names import matcher
from planner.model.weights import Weight

Q = Weight("attention", 8, 8, name="q_proj")
EXPERT = Weight("experts", 8, 8, 4, name="up_proj")
DENSE = Weight("mlp", 8, 8, name="up_proj")
ROUTER = Weight("router", 4, 8, linear=False, name="gate|router")
MERGER = Weight("projector", 8, 8)


@pytest.mark.parametrize(
    ("name", "weight", "model_type", "hit"),
    [
        # experts of Gemma 4 stand beside its dense MLP: nvidia/Gemma-4-26B-A4B-NVFP4 excludes `layers.N.mlp*`
        ("model.language_model.layers.3.mlp*", EXPERT, "gemma4_text", False),
        ("model.language_model.layers.3.mlp*", DENSE, "gemma4_text", True),
        ("model.language_model.layers.3.router*", ROUTER, "gemma4_text", True),
        ("model.layers.3.mlp*", EXPERT, "qwen3_moe", True),
        ("model.layers.3.block_sparse_moe.experts.7.w3", EXPERT, "mixtral", True),
        ("model.layers.3.mlp.switch_mlp.up_proj", EXPERT, "qwen3_moe", True),  # MLX
        # a star is one piece and names end where they end: `mlp.gate` is the router, in no spelling of an expert's gate_proj
        ("model.layers.*.mlp.gate", ROUTER, "qwen3_moe", True),
        ("model.layers.*.mlp.gate", Weight("experts", 8, 8, 4, name="gate_proj"), "qwen3_moe", False),
        ("model.layers.*.mlp.gate", Weight("shared_experts", 8, 8, name="gate_proj"), "qwen3_5_moe", False),
        (r"re:.*mlp\.(gate|up|gate_up|down)_proj.*", EXPERT, "kimi_k2", False),  # compressed-tensors, Kimi-K2-Thinking
        ("model.layers.3.moe.gate", ROUTER, "step3p5", True),
        ("transformer.blocks.3.ffn.experts.mlp.v1", EXPERT, "dbrx", True),
        ("transformer.blocks.3.norm_attn_norm.attn.Wqkv", Q, "dbrx", True),
        ("model.layers.3.shared_mlp.input_linear", EXPERT, "granitemoehybrid", False),
        ("model.layers.3.self_attn.q_proj", Weight("mixer", 8, 8, name="q_proj"), "glm5_next_text", True),
        ("model.layers.3.linear_attn.in_proj_z", Weight("mixer", 8, 8, name="in_proj_qkvz|in_proj_z"), "qwen3_5_text", True),
        ("model.layers.3.linear_attn.in_proj_z", Weight("mixer", 8, 8, name="in_proj_qkvz|in_proj_qkv"), "qwen3_5_text", False),
        ("model.decoder.layers.3.fc1", DENSE, "opt", True),
        ("model.layers.2.mlp.up_proj", DENSE, "llama", False),
    ],
)  # fmt: skip
def test_a_name_reaches_the_module_that_the_type_calls_so(
    name: str, weight: Weight, model_type: str, hit: bool
) -> None:
    assert matcher([name]).hits(weight, 3, model_type) is hit


@pytest.mark.parametrize(
    ("name", "hit"),
    [
        ("visual.blocks.5.mlp", False), ("visual.blocks.5.attn", True), ("model.visual.blocks.5.attn.qkv", True),
        ("model.visual.blocks.5", True), ("model.visual.blocks.4.attn.qkv", False), ("model.visual.blocks.5.norm1", False),
        ("model.visual.blocks.5.attn.proj.bias", False), ("model.visual.patch_embed.proj", False), ("model.visual*", True),
        ("visual.merger.mlp.0", False), ("multi_modal_projector", False), ("vision_tower", True), ("re:.*vision.*", True),
    ],
)  # fmt: skip
def test_a_list_spares_the_blocks_of_a_tower_that_it_names(name: str, hit: bool) -> None:
    assert matcher([name]).hits(Weight("vision", 8, 8, name="q_proj"), 5, "qwen2_vl") is hit


@pytest.mark.parametrize(
    ("name", "hit"),
    [
        ("visual", True), ("visual.merger.mlp.0", True), ("multi_modal_projector", True), ("model.visual.merger.linear_fc1", True),
        ("vision_tower", False), ("model.vision_tower.encoder.layers.3.mlp.fc1", False),
    ],
)  # fmt: skip
def test_what_joins_a_tower_to_the_text_is_named_apart_unless_it_lies_in_the_tower(name: str, hit: bool) -> None:
    assert matcher([name]).hits(MERGER, None, "qwen2_vl") is hit

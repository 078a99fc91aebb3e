"""LoRA: what peft prints as trainable parameters, what the files on the Hub weigh, and how ranks share it."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.errors import BadRequest
from planner.extras.lora import (
    VLLM_RANKS,
    Lora,
    adapter_parameters,
    canonical_targets,
    layers_parameters,
    modules,
    slot_rank,
    table_parameters,
)
from planner.lookup import model_spec
from planner.model.parameters import parameters

CASES = list(csv.DictReader((Path(__file__).parents[2] / "cases" / "lora_adapters.csv").open()))


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['model']}-r{case['rank']}-{case['targets']}")
def test_an_adapter_has_the_parameters_that_peft_prints(case: dict[str, str]) -> None:
    spec = model_spec(case["model"])
    targets = canonical_targets(spec, case["targets"].split(","))
    trainable = adapter_parameters(spec, Lora(1, int(case["rank"]), targets))
    assert trainable == int(case["trainable"])
    if case["all_params"]:
        assert parameters(spec) + trainable == int(case["all_params"])


@pytest.mark.parametrize(
    ("model", "rank", "tensors", "file_bytes"),
    [
        # size in the LFS pointer of adapter_model.safetensors; fp32, all seven projections
        ("llama-3.1-8b", 16, 448, 167_832_240),  # huggingface.co/vonewman/galsenai-meetup-adapter commit 292c577
        ("gemma-2b", 16, 252, 78_480_072),  # huggingface.co/orgcatorg/gemma-2b-it commit e91ce60
    ],
)
def test_a_published_adapter_file_is_its_numbers_and_a_header(
    model: str, rank: int, tensors: int, file_bytes: int
) -> None:
    spec = model_spec(model)
    assert sum(2 * count * len(list(modules(layer))) for layer, count in spec.groups) == tensors
    header = file_bytes - 4 * adapter_parameters(spec, Lora(1, rank))
    assert 100 * tensors < header < 160 * tensors


def test_targets_are_taken_by_the_names_of_other_libraries() -> None:
    gpt2, llama = model_spec("gpt2"), model_spec("llama-3.1-8b")
    assert canonical_targets(gpt2, ["c_attn", "c_fc"]) == ("qkv", "up")
    assert canonical_targets(llama, ["attention"]) == ("q", "k", "v", "o")
    assert canonical_targets(llama, ["all"]) == ()
    assert canonical_targets(model_spec("falcon-7b"), ["query_key_value"]) == ("qkv",)


@pytest.mark.parametrize(("model", "name"), [("llama-3.1-8b", "zz"), ("gpt2", "gate_proj"), ("llama-7b", "router"), ("gpt2", "")])  # fmt: skip
def test_a_module_that_the_model_lacks_is_refused_with_those_it_has(model: str, name: str) -> None:
    with pytest.raises(BadRequest, match=r"is not a module of .* choose from .*q"):
        canonical_targets(model_spec(model), [name])


def test_recurrent_layers_are_refused_unless_targets_are_named() -> None:
    spec = model_spec("qwen3-next-80b-a3b")
    with pytest.raises(BadRequest, match="name targets"):
        adapter_parameters(spec, Lora(1, 8))
    # 12 attention layers: q with its gate 2048 -> 2 * 16 * 256
    assert adapter_parameters(spec, Lora(1, 8, ("q",))) == 12 * 8 * (2048 + 2 * 16 * 256)


def test_fused_q_k_v_share_one_a() -> None:
    spec = model_spec("gpt2")
    fused, apart = adapter_parameters(spec, Lora(1, 8, ("qkv",))), adapter_parameters(spec, Lora(1, 8, ("q", "k", "v")))
    assert apart - fused == 12 * 2 * 8 * 768


def test_latent_attention_has_its_five_projections() -> None:
    spec = model_spec("deepseek-v3")
    names = [name for name, _ in modules(spec.layers[0])]
    assert names == ["q_a", "q_b", "kv_a", "kv_b", "o", "gate", "up", "down"]
    # kv_a [512 + 64, 7168] on 61 layers
    assert adapter_parameters(spec, Lora(1, 16, ("kv_a",))) == 61 * 16 * (7168 + 576)


def test_column_parallel_holds_a_whole_and_row_parallel_b_whole() -> None:
    """By hand for one Llama-2-7B layer at TP 4: q, k, v, gate, up split B; o and down split A."""
    spec = model_spec("llama-2-7b")
    lora = Lora(1, 16)
    h, m, tp = 4096, 11008, 4
    split_b = 3 * (h + h // tp) + 2 * (h + m // tp)
    split_a = (h // tp + h) + (m // tp + h)
    assert layers_parameters([(spec.layers[0], 1)], lora, tp) == 16 * (split_b + split_a)


@given(st.integers(1, 512), st.sampled_from([1, 2, 4, 8]), st.sampled_from(["llama-3.1-8b", "gpt2", "qwen3-30b-a3b"]))
def test_ranks_together_hold_at_least_the_adapter_and_the_numbers_are_linear_in_the_rank(
    rank: int, tp: int, model: str
) -> None:
    spec = model_spec(model)
    one = layers_parameters(spec.groups, Lora(1, rank), tp)
    assert tp * one >= adapter_parameters(spec, Lora(1, rank)) >= one
    assert one == rank * layers_parameters(spec.groups, Lora(1, 1), tp)


@given(st.integers(1, 512))
def test_a_slot_holds_the_rank_and_no_smaller_slot_does(rank: int) -> None:
    assert slot_rank(rank) >= rank
    assert all(allowed < rank for allowed in VLLM_RANKS if allowed < slot_rank(rank))


def test_slots_beyond_the_largest_are_refused() -> None:
    with pytest.raises(BadRequest, match="at most 512"):
        slot_rank(513)


def test_slots_for_embedding_and_head_are_two_pairs_of_vocabulary_and_width() -> None:
    assert table_parameters(model_spec("llama-3.1-8b"), 16) == 2 * 16 * (128_256 + 4096)

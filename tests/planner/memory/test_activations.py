"""Activations and overhead: estimates with a range, and what they follow."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.lookup import model_spec
from planner.memory.activations import activation_bytes, layer_width, overhead_lines
from planner.memory.estimate import estimate
from planner.memory.request import Request
from planner.memory.sharding import Sharding

NAMES = ["llama-7b", "gpt2", "deepseek-v3", "mamba-2.8b", "mixtral-8x7b", "t5-base", "qwen3-next-80b-a3b"]
SPECS = {name: model_spec(name) for name in NAMES}


def test_llama_7b_is_widest_in_its_mlp() -> None:
    assert layer_width(SPECS["llama-7b"].layers[0]) == 3 * 11008  # up, gate and their product


def test_a_mixture_is_as_wide_as_the_experts_of_a_token() -> None:
    assert layer_width(SPECS["mixtral-8x7b"].layers[0]) == 3 * 2 * 14336


def test_the_formula_can_be_checked_by_hand() -> None:
    found = activation_bytes(SPECS["llama-7b"], prefill_tokens=1000, sequences=2, context=500, dtype_bytes=2)
    assert found.bytes == 1000 * (2 * 4096 + 33024) * 2 + 2 * 32000 * 4 * 2
    assert (found.low, found.high) == (found.bytes // 2, found.bytes * 2)


def test_scores_are_kept_without_fused_attention_alone() -> None:
    def size(context: int, fused: bool) -> int:
        spec = SPECS["llama-7b"]
        return activation_bytes(
            spec, prefill_tokens=10, sequences=1, context=context, dtype_bytes=2, fused_attention=fused
        ).bytes

    assert size(0, True) == size(500, True) == size(0, False)
    assert size(500, False) - size(500, True) == 10 * 500 * 32 * 6


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
@settings(max_examples=15, deadline=None)
@given(tokens=st.integers(1, 10**6), tp=st.sampled_from([1, 2, 8, 64]))
def test_more_tokens_need_more_and_more_ranks_less(spec: object, tokens: int, tp: int) -> None:
    def size(tokens: int, tp: int) -> int:
        return activation_bytes(spec, prefill_tokens=tokens, sequences=1, context=tokens, dtype_bytes=2, tp=tp).bytes  # type: ignore[arg-type]

    assert 0 < size(tokens, tp) < size(tokens + 1, tp)
    assert size(tokens, 2 * tp) <= size(tokens, tp)


def test_long_prompts_are_prefilled_in_steps() -> None:
    spec = SPECS["llama-7b"]

    def size(**options: int) -> int:
        return estimate(spec, Request(**options)).per_device.activation.bytes  # type: ignore[arg-type]

    assert size(seq_tokens=8192) == size(seq_tokens=100_000)
    assert size(seq_tokens=8192) < size(seq_tokens=100_000, prefill_tokens=16384)
    assert size(seq_tokens=100) < size(seq_tokens=8192)


@pytest.mark.parametrize(("kind", "devices"), [("cuda", 1), ("cuda", 8), ("host", 1), ("host", 8)])
def test_every_overhead_line_lies_within_its_range_and_names_its_source(kind: str, devices: int) -> None:
    lines = overhead_lines(kind, devices, 80 << 30)
    assert [line.name for line in lines] == ["context", "allocator", "communication"][: 2 + (devices > 1)]
    for line in lines:
        assert 0 <= line.low <= line.bytes <= line.high and line.source


def test_only_several_devices_talk_to_each_other() -> None:
    one = estimate(SPECS["llama-7b"], Request(1)).per_device.overhead
    two = estimate(SPECS["llama-7b"], Request(1, sharding=Sharding(pp=2))).per_device.overhead
    assert {line.name for line in two} - {line.name for line in one} == {"communication"}

"""What each cache strategy costs: the formulas against counting by hand, and against the estimate."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.catalogue.entries import find_model
from planner.errors import BadRequest, UnsupportedModel
from planner.memory.cache_strategies import (
    STRATEGIES,
    LayerShape,
    concat_peak_bytes,
    layer_shapes,
    paged_blocks,
    paged_bytes,
    paged_table_bytes,
    strategy_bytes,
)
from planner.memory.estimate import estimate
from planner.memory.request import Request
from planner.model.spec import ModelSpec
from planner.readers import read_entry


def catalogued(name: str) -> ModelSpec:
    return read_entry(find_model(name))


@pytest.mark.parametrize("name", ["gpt2", "llama-3-8b", "mistral-7b-v0.1", "gemma-2-9b", "gemma-3-4b", "deepseek-v3"])
@pytest.mark.parametrize(("tokens", "batch"), [(1, 1), (4096, 3), (20_000, 2)])
def test_concat_and_sliding_at_a_length_are_what_the_estimate_says_is_kept(name: str, tokens: int, batch: int) -> None:
    spec = catalogued(name)
    shapes = layer_shapes(spec)
    wanted = estimate(spec, Request(tokens, batch, dtype="fp16")).kv_bytes
    common: dict[str, Any] = {"tokens": tokens, "max_tokens": tokens, "batch": batch, "element_bytes": 2}
    assert strategy_bytes(shapes, "concat", **common) == wanted
    assert strategy_bytes(shapes, "sliding", **common) == wanted


@pytest.mark.parametrize("fmt", ["int8", "int4"])
@pytest.mark.parametrize("name", ["gpt2", "gemma-2-9b", "deepseek-v3"])
def test_quantised_caches_are_what_the_estimate_says_for_that_kv_dtype(name: str, fmt: str) -> None:
    spec = catalogued(name)
    wanted = estimate(spec, Request(1000, 4, k_dtype=fmt, v_dtype=fmt)).kv_bytes
    assert strategy_bytes(layer_shapes(spec), fmt, tokens=1000, max_tokens=1000, batch=4) == wanted


def test_static_keeps_its_longest_length_from_the_first_token_windows_or_not() -> None:
    shape = [LayerShape(8, 128, 128, window=1024)]
    size = strategy_bytes(shape, "static", tokens=1, max_tokens=4096)
    assert size == 4096 * 8 * 256 * 2
    assert strategy_bytes(shape, "sliding", tokens=1, max_tokens=4096) == size // 4


@given(st.lists(st.integers(0, 300), min_size=1, max_size=6), st.integers(1, 64))
def test_paged_sequences_are_rounded_up_each_on_its_own(lengths: list[int], block: int) -> None:
    by_hand = sum(len(range(0, length, block)) for length in lengths)
    assert paged_blocks(lengths=lengths, block_tokens=block) == by_hand
    shape = LayerShape(2, 8, 4)
    total = strategy_bytes(
        [shape] * 3, "paged", tokens=0, max_tokens=300, batch=len(lengths), lengths=lengths, block_tokens=block
    )
    pools = 3 * paged_bytes(blocks=by_hand, kv_heads=2, k_dim=8, v_dim=4, element_bytes=2, block_tokens=block)
    assert total == pools + paged_table_bytes(sequences=len(lengths), max_tokens=300, block_tokens=block)


@given(st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99)), max_size=8))
def test_concat_peak_is_the_fullest_moment_of_replacing_one_tensor_after_another(pairs: list[tuple[int, int]]) -> None:
    before, after = [b for b, _ in pairs], [a for _, a in pairs]
    alive, peak = sum(before), 0
    for old, new in pairs:
        alive += new
        peak = max(peak, alive)
        alive -= old
    assert concat_peak_bytes(before=before, after=after) == peak
    assert concat_peak_bytes(before=before, after=after, old_kept=True) == sum(before) + sum(after)


def test_concat_peak_of_twelve_layers_is_about_one_and_a_24th_of_the_cache() -> None:
    tensors = [1000] * 24
    assert concat_peak_bytes(before=tensors, after=tensors) / 24_000 == pytest.approx(1 + 1 / 24)


def test_no_cache_costs_nothing() -> None:
    assert strategy_bytes([LayerShape(8, 64, 64)], "none", tokens=100, max_tokens=100) == 0


def test_tensor_parallel_ranks_hold_their_share_of_heads_and_all_of_a_latent() -> None:
    assert layer_shapes(catalogued("llama-3-8b"), tp=4)[0] == LayerShape(2, 128, 128)
    assert layer_shapes(catalogued("llama-3-8b"), tp=16)[0] == LayerShape(1, 128, 128)
    assert layer_shapes(catalogued("deepseek-v3"), tp=8)[0] == LayerShape(1, 576, 0)


def test_an_unknown_strategy_is_refused_with_those_there_are() -> None:
    with pytest.raises(BadRequest, match=", ".join(STRATEGIES)):
        strategy_bytes([], "dynamic", tokens=1, max_tokens=1)


def test_a_recurrent_layer_has_no_strategy() -> None:
    with pytest.raises(UnsupportedModel, match="state"):
        layer_shapes(catalogued("mamba-2.8b"))

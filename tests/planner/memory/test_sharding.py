"""How layers, heads, experts, sequences and tokens are laid over devices."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.errors import BadRequest
from planner.lookup import model_spec
from planner.memory.estimate import estimate
from planner.memory.request import Request
from planner.memory.sharding import Sharding, stage_sizes, stages

LLAMA = model_spec("llama-3.1-8b")  # 32 layers, 8 KV heads
DEEPSEEK = model_spec("deepseek-v3")  # MLA, 256 experts
MIXTRAL = model_spec("mixtral-8x7b")
ranks = st.sampled_from([1, 2, 4, 8, 16, 64])


@given(st.integers(1, 1000), st.integers(1, 1000))
def test_stages_differ_by_at_most_one_layer_and_hold_all(layers: int, pp: int) -> None:
    if pp > layers:
        return
    sizes = stage_sizes(layers, pp)
    assert len(sizes) == pp and sum(sizes) == layers
    assert max(sizes) - min(sizes) <= 1
    assert pp == 1 or sizes[-1] == min(sizes)  # the last also holds the head


def test_the_layers_of_all_stages_are_the_layers_of_the_model() -> None:
    counted = [sum(count for _, count in stage) for stage in stages(DEEPSEEK, 8)]
    assert counted == stage_sizes(61, 8)


@settings(max_examples=40, deadline=None)
@given(tp=ranks, tokens=st.integers(1, 10**6))
def test_kv_heads_are_split_and_then_copied(tp: int, tokens: int) -> None:
    one = estimate(LLAMA, Request(tokens)).kv_bytes
    share = estimate(LLAMA, Request(tokens, sharding=Sharding(tp=tp))).per_device.kv_bytes
    assert share * min(tp, 8) == one


@pytest.mark.parametrize("tp", [1, 8, 16])
def test_the_latent_of_mla_is_copied_on_every_rank(tp: int) -> None:
    answer = estimate(DEEPSEEK, Request(4096, sharding=Sharding(tp=tp)))
    assert answer.per_device.kv_bytes == answer.kv_bytes == 61 * 4096 * 576 * 2


@settings(max_examples=40, deadline=None)
@given(pp=st.integers(1, 32), tokens=st.integers(1, 10**6), batch=st.integers(1, 100))
def test_the_stages_together_hold_the_cache_once(pp: int, tokens: int, batch: int) -> None:
    answer = estimate(LLAMA, Request(tokens, batch, sharding=Sharding(pp=pp)))
    assert sum(stage.kv_bytes for stage in answer.stages) == answer.kv_bytes
    assert answer.per_device.total_bytes == max(stage.total_bytes for stage in answer.stages)


def test_the_stages_together_hold_the_weights_once_and_a_tied_head_twice() -> None:
    untied = estimate(LLAMA, Request(1, sharding=Sharding(pp=4)))
    assert sum(stage.weight_bytes for stage in untied.stages) == untied.weight_bytes
    tied = estimate(model_spec("llama-3.2-1b"), Request(1, sharding=Sharding(pp=4)))
    assert sum(stage.weight_bytes for stage in tied.stages) == tied.weight_bytes + 128256 * 2048 * 2


@settings(max_examples=30, deadline=None)
@given(tp=ranks)
def test_tensor_parallel_ranks_together_hold_at_least_all_weights(tp: int) -> None:
    for spec in (LLAMA, MIXTRAL, DEEPSEEK):
        answer = estimate(spec, Request(1, sharding=Sharding(tp=tp)))
        assert answer.weight_bytes <= tp * answer.per_device.weight_bytes
        assert answer.per_device.weight_bytes <= answer.weight_bytes


def test_expert_ranks_hold_whole_experts() -> None:
    def held(ep: int) -> int:
        return estimate(MIXTRAL, Request(1, dtype="bf16", sharding=Sharding(dp=8, ep=ep))).per_device.weight_bytes

    expert = 3 * 4096 * 14336 * 2 * 32  # one expert in each of the 32 layers
    assert held(1) - held(2) == 4 * expert
    assert held(1) - held(8) == 7 * expert


@given(st.integers(1, 10**6), st.integers(1, 64))
def test_each_data_parallel_replica_serves_its_share_of_the_sequences(batch: int, dp: int) -> None:
    share = Sharding(dp=dp).sequences_on_rank(batch)
    assert share * dp >= batch > (share - 1) * dp


def test_context_parallel_ranks_share_the_tokens_of_copied_heads() -> None:
    copied = estimate(DEEPSEEK, Request(4096, sharding=Sharding(tp=8))).per_device.kv_bytes
    spread = estimate(DEEPSEEK, Request(4096, sharding=Sharding(tp=8, dcp=8))).per_device.kv_bytes
    assert spread * 8 == copied


@pytest.mark.parametrize(
    ("layout", "words"),
    [
        ({"tp": 0}, "--tp 0"),
        ({"tp": -1}, "--tp -1"),
        ({"tp": True}, "--tp True"),
        ({"tp": 2.0}, "--tp 2.0"),
        ({"tp": 65537}, "--tp 65537"),
        ({"pp": 33}, "more stages"),
        ({"ep": 2}, "no experts"),
        ({"dcp": 2}, "copies"),
        ({"tp": 16, "dcp": 4}, "copies"),
    ],
)
def test_a_layout_that_no_engine_could_run_is_refused(layout: dict[str, int], words: str) -> None:
    with pytest.raises(BadRequest, match=words):
        estimate(LLAMA, Request(1, sharding=Sharding(**layout)))


@pytest.mark.parametrize("layout", [{"ep": 3, "dp": 8}, {"ep": 16, "dp": 16}, {"ep": 8}])
def test_expert_ranks_must_divide_the_devices_and_not_outnumber_the_experts(layout: dict[str, int]) -> None:
    with pytest.raises(BadRequest, match="--ep"):
        estimate(MIXTRAL, Request(1, sharding=Sharding(**layout)))


def test_what_a_layout_does_is_said_in_words() -> None:
    def said(spec: object, **layout: int) -> str:
        return " ".join(Sharding(**layout).words(spec))  # type: ignore[arg-type]

    assert "8 KV heads split, 2 a rank" in said(LLAMA, tp=4)
    assert "each held 2 times" in said(LLAMA, tp=16)
    assert "do not divide" in said(LLAMA, tp=3)
    assert "copied on every rank" in said(DEEPSEEK, tp=8)
    assert "stages of 8, 8, 8, 8 layers" in said(LLAMA, pp=4)
    assert "share of the sequences" in said(LLAMA, dp=2)
    assert said(LLAMA) == ""


def test_devices_are_counted_once_however_the_experts_are_seen() -> None:
    assert replace(Sharding(tp=4, pp=3, dp=2), ep=8).devices == 24

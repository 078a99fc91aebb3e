"""The simulator's pool is the byte curve of the memory answer, cut into blocks, or vLLM's own groups."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.engines.base import Options
from planner.engines.registry import answer_of
from planner.errors import BadRequest
from planner.lookup import capacity, model_spec
from planner.memory.estimate import estimate
from planner.memory.request import Request
from planner.memory.sharding import Sharding
from planner.serving.block_pool import BlockKind, Pool, PrefixCache
from planner.serving.pools import NoRoom, pool_of, vllm_pool

MODELS = ("llama-3.1-8b", "gemma-3-27b", "gpt-oss-20b", "mistral-7b", "deepseek-v3", "llama-4-scout", "mamba-2.8b",
          "qwen3-next-80b-a3b", "whisper-large-v3", "gpt2")  # fmt: skip


def found(name, tokens=4096, gpu="h200", **layout):
    return estimate(model_spec(name), Request(tokens, sharding=Sharding(**layout)), capacity(gpu, None))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("layout", [{}, {"tp": 4}, {"pp": 2}], ids=str)
@pytest.mark.parametrize("blocks", [1, 7, 256, 4096])
def test_whole_blocks_hold_what_the_memory_answer_says(name, layout, blocks):
    pool = pool_of(found(name, **layout), 1 << 40)
    tokens = 16 * blocks
    device = found(name, tokens, **layout).per_device
    assert pool.held_bytes(tokens) == device.kv_bytes + device.state_bytes


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(MODELS), st.integers(1, 200_000))
def test_a_sequence_holds_what_it_needs_and_less_than_a_block_of_each_kind_more(name, tokens):
    pool = pool_of(found(name), 1 << 40)
    device = found(name, tokens).per_device
    needed = device.kv_bytes + device.state_bytes
    assert needed <= pool.held_bytes(tokens) <= needed + sum(kind.block_bytes for kind in pool.kinds)


def test_a_window_stops_growing_and_a_state_never_grows():
    mistral, mamba = pool_of(found("mistral-7b"), 1 << 40), pool_of(found("mamba-2.8b"), 1 << 40)
    assert mistral.held_bytes(4096) == mistral.held_bytes(30_000) > mistral.held_bytes(4000)
    assert mamba.kinds == () and mamba.held_bytes(1) == mamba.held_bytes(10**6) > 0


@pytest.mark.parametrize("name", ["llama-3.1-8b", "deepseek-v2-lite", "gpt2"])
def test_vllms_pool_has_its_blocks_and_limits(name):
    asked = found(name)
    answer = answer_of("vllm", "0.11.2", asked, options=Options())
    mine = vllm_pool(asked, Options(), "0.11.2")
    pool = answer.ranged.pool
    assert mine.pool.pool_bytes == pool.blocks * pool.extra["block_bytes"]
    assert mine.pool.held_bytes(4096) == answer.request_bytes
    limits = (answer.extra["max_num_seqs"], answer.extra["max_num_batched_tokens"], answer.extra["max_model_len"])
    assert (mine.max_num_seqs, mine.max_num_batched_tokens, mine.longest_tokens) == limits


def test_vllms_windows_hold_their_tokens_and_a_block_while_they_decode():
    """Gemma-3-27B: 62 layers in groups of 10; six groups of windows of 1,024 tokens, one that keeps all."""
    pool = vllm_pool(found("gemma-3-27b"), Options(), "0.11.2").pool
    window, full = sorted(pool.kinds, key=lambda kind: kind.limit_tokens or 1 << 60)
    assert (window.limit_tokens, full.limit_tokens) == (1024, None)
    assert pool.held_bytes(100_000) - pool.held_bytes(90_000) == full.block_bytes * 625
    assert pool.sequence_bytes == window.block_bytes


def test_no_room_and_the_first_engine_are_refused():
    with pytest.raises(NoRoom, match="short by"):
        pool_of(found("gpt2"), -5)
    with pytest.raises(NoRoom, match="no memory left"):
        vllm_pool(found("llama-3.1-70b", gpu="rtx-4090"), Options())
    with pytest.raises(BadRequest, match="V0"):
        vllm_pool(found("llama-3.1-8b"), Options(), "0.6.6")
    assert NoRoom.exit_code == 3


def test_blocks_of_512_tokens_are_shared_by_kinds_without_a_window_where_their_blocks_divide_them():
    kinds = (BlockKind(16, 3), BlockKind(64, 5), BlockKind(16, 100, 1024))
    assert Pool(10**6, kinds).hash_bytes == 32 * 3 + 8 * 5
    assert Pool(10**6, (BlockKind(48, 3),)).hash_bytes == 0


IDS = st.lists(st.integers(0, 8), max_size=5)


@given(st.lists(st.tuples(IDS, st.booleans(), st.integers(0, 9)), max_size=30))
def test_a_block_is_in_use_or_idle_never_both_and_uses_are_counted(script):
    cache, held = PrefixCache(), []
    for ids, let_go, room in script:
        if let_go and held:
            cache.release(held.pop(0))
        else:
            cache.use(ids)
            held.append(ids)
        cache.trim(room)
        assert not cache.uses.keys() & cache.idle.keys() and len(cache.idle) <= room
        counted = [block for one in held for block in one]
        assert cache.uses == {block: counted.count(block) for block in set(counted)}
        assert all(cache.hits(one) == len(one) for one in held)

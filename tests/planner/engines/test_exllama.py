"""ExLlama under TabbyAPI: pages of 256 tokens, packed caches, rings and states for every request of a batch.

Figures by hand from exllamav3 1.4.1 (`cache/quant.py`, `mla.py`, `modules/sliding_attn.py`, `gated_delta_net.py`) and exllamav2 0.3.2
(`cache.py`); no log of ExLlama prints its sizes.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.catalogue.entries import find_model
from planner.engines import exllama
from planner.engines.base import Options
from planner.engines.registry import parse_engine
from planner.errors import UnsupportedModel
from planner.lookup import model_spec
from planner.memory.estimate import Estimate, estimate
from planner.memory.request import Capacity, Request
from planner.readers import read_entry
from planner.units import GIB

THIRD, SECOND = exllama.Kept(4), exllama.Kept(4, second=True)


def asked(name: str, seq: int = 8192, size: int = 24 * GIB, k: str | None = None, v: str | None = None) -> Estimate:
    request = Request(seq, dtype="int4", k_dtype=k, v_dtype=v or k)
    return estimate(read_entry(find_model(name)), request, Capacity("card", size))


def test_a_cache_is_whole_pages_of_256_tokens() -> None:
    """Llama-3.1-8B: 131,072 B a token in fp16; TabbyAPI rounds 10,000 tokens up to 10,240."""
    answer = exllama.answer(asked("llama-3.1-8b"), Options(ctx_size=10_000), None, "exllamav3")
    assert answer.extra["cache_size"] == 10_240 and answer.extra["kv_bytes"] == 10_240 * 131_072


@pytest.mark.parametrize(("k", "v", "bits"), [("exl3_q8", None, 17), ("exl3_q4", None, 9), ("exl3_q8", "exl3_q4", 13)])
def test_k_and_v_have_bits_of_their_own(k: str, v: str | None, bits: int) -> None:
    """ "8,8" takes 8.5 + 8.5 bits a pair of numbers, "8,4" 8.5 + 4.5."""
    found = exllama.cache_bytes(asked("llama-3.1-8b", k=k, v=v), 256, THIRD)
    assert found * 32 == 256 * 131_072 * bits


def test_the_second_generation_keeps_one_layer_in_fp16_beside_a_packed_cache() -> None:
    """32 layers of 8.5 bits, and 8 heads x 128 x 2 x 2 B a token; its Q6 is 8 bits for K and 4 for V."""
    q8, q6 = (exllama.cache_bytes(asked("llama-3.1-8b", k=f"exl3_q{n}"), 256, SECOND) for n in (8, 6))
    assert q8 == 256 * (131_072 * 17 // 32 + 4096) and q6 == 256 * (131_072 * 13 // 32 + 4096)


def test_rings_are_held_for_a_whole_batch() -> None:
    """gpt-oss-20b: 12 window layers, a ring of 768 tokens for each of 4 requests; 12 layers in full; 2,048 B a token and layer."""
    assert exllama.cache_bytes(asked("gpt-oss-20b"), 8192, THIRD) == 12 * 2048 * (4 * 768 + 8192)
    assert exllama.default_batch(asked("gpt-oss-20b")) == 4 and exllama.default_batch(asked("llama-3.1-8b")) == 128


def test_windows_of_gemma_3_are_kept_in_full() -> None:
    one = 16 * 128 * 2 * 2
    assert exllama.cache_bytes(asked("gemma-3-27b"), 8192, THIRD) == 62 * one * 8192


def test_states_have_one_more_for_every_draft() -> None:
    """Qwen3-Next: 36 layers, conv 8,192 channels x 4 columns in bf16, state 32 x 128 x 128 in fp32; 12 layers of 2,048 B a token."""
    alone = 36 * (8192 * 4 * 2 + 32 * 128 * 128 * 4)
    drafted = 36 * (8192 * (4 + 3) * 2 + 4 * 32 * 128 * 128 * 4)
    tokens = 12 * 2 * 2 * 256 * 2 * 256
    assert exllama.cache_bytes(asked("qwen3-next-80b-a3b"), 256, exllama.Kept(1)) == alone + tokens
    assert exllama.cache_bytes(asked("qwen3-next-80b-a3b"), 256, exllama.Kept(2, 3)) == 2 * drafted + tokens


def test_a_cache_that_is_too_large_is_a_refusal_with_its_settings() -> None:
    answer = exllama.answer(asked("llama-3.1-8b", size=10 * GIB), Options(ctx_size=131_072), None, "exllamav3")
    assert answer.refusal is not None and answer.fits is False and answer.most_requests == 0
    assert answer.refusal.mends[0] == "a smaller cache_size" and "cache_mode 4,4" in answer.refusal.mends[1]


def test_what_the_second_generation_cannot_load_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedModel, match="ExLlamaV2 keeps latent"):
        exllama.answer(asked("deepseek-v3"), Options(), None, "exllamav2")


def test_it_is_known_by_its_names() -> None:
    assert parse_engine("tabbyapi") == parse_engine("exl3") == parse_engine("ExLlama") == ("exllamav3", None)
    assert parse_engine("exl2")[0] == "exllamav2"


@given(st.integers(1, 200_000), st.sampled_from([None, "exl3_q2", "exl3_q8"]))
def test_more_tokens_and_more_bits_never_take_less(tokens: int, k: str | None) -> None:
    found = asked("llama-3.1-8b", k=k)
    assert exllama.cache_bytes(found, tokens, THIRD) < exllama.cache_bytes(found, tokens + 256, THIRD)
    assert exllama.cache_bytes(found, tokens, THIRD) <= exllama.cache_bytes(asked("llama-3.1-8b"), tokens, THIRD)


def test_the_embedding_lies_on_the_host_and_the_head_has_six_bits() -> None:
    """oobabooga/textgen PR 6903: a Qwen2.5 of 32 B at 4.0 bits with 8,192 tokens of cache takes 18,665 MiB on the card."""
    found = estimate(model_spec("Qwen2.5-32B-Instruct-exl2-4.0bpw"), Request(seq_tokens=8192), None)
    told = exllama.answer(found, Options(), None)
    assert told.activation is not None and told.overhead is not None
    total = found.per_device.weight_bytes - exllama.embedding_bytes(found) + told.request_bytes
    assert exllama.embedding_bytes(found) == 152_064 * 5120 * 2
    assert 0.93 < (total + told.activation.bytes + told.overhead.bytes) / (18_665 * 2**20) < 1.07

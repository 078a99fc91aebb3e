"""The byte curve of each kind of cache: what grows, what stops, what tensor parallelism splits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.dtypes.kinds import CacheFormat
from planner.dtypes.names import kv_format
from planner.errors import BadRequest
from planner.model.cache import Cache, Full, Shared, heads_on_rank
from planner.model.cross_attention import Cross
from planner.model.latent_attention import Latent
from planner.model.recurrent import Recurrent, StatePart
from planner.model.windows import Chunked, SlidingWindow

BF16 = CacheFormat(kv_format("bf16"), kv_format("bf16"))
FP32 = CacheFormat(kv_format("fp32"), kv_format("fp32"), 4)
GROWING = [
    Full(8, 128, 128),
    Full(4, 192, 128),
    SlidingWindow(8, 128, 128, 1024),
    Chunked(8, 128, 128, 8192),
    Latent(512, 64),
    Latent(512, 64, 128),
]
STATE = Recurrent("mamba", (StatePart("conv", 5120 * 4, None, 5120), StatePart("ssm", 5120 * 16, "fp32", 5120)))
tokens = st.integers(1, 10**7)


@pytest.mark.parametrize("cache", GROWING, ids=lambda cache: cache.kind)
@given(a=tokens, b=tokens)
def test_more_tokens_never_take_fewer_bytes(cache: Cache, a: int, b: int) -> None:
    low, high = sorted((a, b))
    assert cache.kv_bytes(low, 0, BF16) <= cache.kv_bytes(high, 0, BF16)


@pytest.mark.parametrize("cache", GROWING, ids=lambda cache: cache.kind)
@given(n=tokens)
def test_bytes_are_two_an_element_in_16_bit_and_four_in_32(cache: Cache, n: int) -> None:
    assert cache.kv_bytes(n, 0, BF16) == 2 * cache.elements(n, 0)
    assert cache.kv_bytes(n, 0, FP32) == 4 * cache.elements(n, 0)


@given(window=st.integers(1, 10**5), n=tokens)
def test_a_sliding_window_stops_growing_at_the_window(window: int, n: int) -> None:
    limited, full = SlidingWindow(8, 128, 128, window), Full(8, 128, 128)
    assert limited.kv_bytes(n, 0, BF16) == full.kv_bytes(min(n, window), 0, BF16)
    assert limited.kv_bytes(window, 0, BF16) == limited.kv_bytes(window + n, 0, BF16)


@given(chunk=st.integers(1, 10**5), n=tokens)
def test_chunked_attention_keeps_at_most_one_chunk(chunk: int, n: int) -> None:
    assert Chunked(8, 128, 128, chunk).tokens_kept(n, 0) == min(n, chunk)


@given(n=tokens, source=st.integers(0, 10**6))
def test_cross_attention_follows_the_source_and_not_the_answer(n: int, source: int) -> None:
    cross = Cross(16, 64, 64)
    assert cross.kv_bytes(n, source, BF16) == cross.kv_bytes(1, source, BF16) == source * 16 * 128 * 2


def test_llama_7b_at_8192_keeps_4_gib() -> None:
    assert 32 * Full(32, 128, 128).kv_bytes(8192, 0, BF16) == 4 * 2**30


def test_a_latent_is_stored_once_and_not_for_k_and_v() -> None:
    assert Latent(512, 64).kv_bytes(1, 0, BF16) == (512 + 64) * 2  # DeepSeek-V3: 1,152 B a token and layer


def test_fp8_ds_mla_takes_656_bytes_a_token() -> None:
    ds = CacheFormat(kv_format("fp8_ds_mla"), kv_format("fp8_ds_mla"))
    assert Latent(512, 64).kv_bytes(1, 0, ds) == 512 + 16 + 128  # vLLM MLAAttentionSpec
    assert Latent(512, 64, 128).kv_bytes(1, 0, ds) == 656 + 132  # + the indexer's key and its scale


def test_fp8_ds_mla_is_refused_where_there_is_no_latent() -> None:
    ds = CacheFormat(kv_format("fp8_ds_mla"), kv_format("fp8_ds_mla"))
    with pytest.raises(BadRequest, match="latent attention"):
        Full(8, 128, 128).kv_bytes(1, 0, ds)


def test_a_recurrent_state_does_not_grow_and_its_fp32_part_stays_fp32() -> None:
    assert STATE.kv_bytes(10**6, 0, BF16) == 0
    assert STATE.state_bytes(BF16) == 5120 * 4 * 2 + 5120 * 16 * 4
    assert 64 * STATE.state_bytes(BF16) == 23_592_960  # Mamba 2.8B
    assert STATE.state_bytes(FP32) - STATE.state_bytes(BF16) == 5120 * 4 * 2


def test_layers_that_share_or_keep_nothing_take_no_bytes() -> None:
    for cache in (Cache(), Shared()):
        assert cache.kv_bytes(10**6, 10, BF16) == cache.state_bytes(BF16) == cache.elements(10, 10) == 0


@given(heads=st.integers(1, 256), tp=st.integers(1, 1024))
def test_kv_heads_are_split_and_then_copied(heads: int, tp: int) -> None:
    share = heads_on_rank(heads, tp)
    assert 1 <= share <= heads
    assert share * tp >= heads
    assert share == 1 if tp >= heads else share == -(-heads // tp)


@pytest.mark.parametrize("tp", [2, 8, 64])
def test_a_latent_is_copied_on_every_rank(tp: int) -> None:
    assert Latent(512, 64).on_rank(tp) == Latent(512, 64)


@given(tp=st.integers(1, 10_000))
def test_a_state_is_split_by_its_units_and_never_lost(tp: int) -> None:
    share = STATE.on_rank(tp)
    assert share.state_bytes(BF16) * tp >= STATE.state_bytes(BF16)
    assert share.state_bytes(BF16) <= STATE.state_bytes(BF16)


def test_a_state_part_without_units_is_whole_on_every_rank() -> None:
    part = StatePart("tail", 100, "fp32")
    assert part.on_rank(8) == part


@pytest.mark.parametrize("cache", GROWING, ids=lambda cache: cache.kind)
@pytest.mark.parametrize("name", ["bf16", "fp8", "fp32"])
@given(n=st.integers(1, 10**6), batch=st.integers(1, 1000))
def test_the_printed_equation_comes_to_the_bytes(cache: Cache, name: str, n: int, batch: int) -> None:
    fmt = CacheFormat(kv_format(name), kv_format(name))
    text = cache.equation(batch, n, 0, fmt).replace(" B", "").replace(" x ", "*")
    assert eval(text) == batch * cache.kv_bytes(n, 0, fmt)


@given(batch=st.integers(1, 1000))
def test_the_printed_equation_of_a_state_comes_to_the_bytes(batch: int) -> None:
    text = (
        STATE.equation(batch, 1, 0, BF16).replace("conv ", "").replace("ssm ", "").replace(" B", "").replace(" x ", "*")
    )
    assert eval(text) == batch * STATE.state_bytes(BF16)


def test_k_and_v_of_different_widths_and_formats_are_added_apart() -> None:
    mixed = CacheFormat(kv_format("q8_0"), kv_format("fp16"))
    assert Full(2, 64, 128).kv_bytes(10, 0, mixed) == 10 * 2 * (68 + 256)

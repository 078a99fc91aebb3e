"""Every cache: its bytes are its formula's, and what comes back is what attention needs."""

from __future__ import annotations

from typing import Any

import pytest

from tests.profiler.small_models import NEEDS_TORCH, SMALL, VOCAB, small

torch = pytest.importorskip("torch", reason=NEEDS_TORCH)

from hypothesis import given, settings
from hypothesis import strategies as st

from planner.dtypes.names import FLOAT_BYTES
from planner.errors import BadRequest
from planner.memory.cache_strategies import STRATEGIES, LayerShape, concat_peak_bytes, strategy_bytes
from planner.memory.estimate import estimate
from planner.memory.request import Request
from profiler.caches import ConcatCache, PagedCache, QuantisedCache, make_cache, storage_bytes
from profiler.generate import cache_for, decode_step, prefill
from profiler.gpt import DTYPES, build

EXACT = [name for name in STRATEGIES if name not in ("int8", "int4")]
KEEPING = STRATEGIES[1:]
SHAPES = {
    "gqa": [LayerShape(2, 16, 16)] * 3,
    "mqa_wide_values": [LayerShape(1, 24, 40)] * 2,
    "mixed_windows": [LayerShape(2, 16, 16, window=8), LayerShape(2, 16, 16), LayerShape(4, 8, 8, window=100)],
    "latent": [LayerShape(1, 72, 0)] * 2,
    "odd_width": [LayerShape(3, 33, 7)],
    "several_groups": [LayerShape(2, 130, 130)],
}


def fed(strategy: str, shapes: list[LayerShape], batch: int, pieces: list[int], dtype: str = "fp32") -> Any:
    """A cache that was given `pieces` tokens after one another, and all that it was given."""
    cache = make_cache(strategy, shapes, batch=batch, max_tokens=sum(pieces), dtype=DTYPES[dtype])
    generator = torch.Generator().manual_seed(0)
    given_to: list[list[Any]] = [[] for _ in shapes]
    for new in pieces:
        for layer, shape in enumerate(shapes):
            k = torch.randn(batch, shape.kv_heads, new, shape.k_dim, generator=generator).to(DTYPES[dtype])
            v = torch.randn(batch, shape.kv_heads, new, shape.v_dim, generator=generator).to(DTYPES[dtype])
            cache.update(layer, k, v)
            given_to[layer].append((k, v))
    whole = [tuple(torch.cat(side, dim=2) for side in zip(*pairs, strict=True)) for pairs in given_to]
    return cache, whole


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize(("batch", "pieces"), [(1, [1]), (1, [17]), (3, [5, 1, 1, 1]), (4, [16, 1, 7, 1, 1])])
def test_storage_bytes_are_the_formula_exactly(
    strategy: str, shapes: str, dtype: str, batch: int, pieces: list[int]
) -> None:
    cache, _ = fed(strategy, SHAPES[shapes], batch, pieces, dtype)
    wanted = strategy_bytes(
        SHAPES[shapes], strategy, tokens=sum(pieces), max_tokens=sum(pieces), batch=batch,
        element_bytes=FLOAT_BYTES[dtype],
    )  # fmt: skip
    assert cache.nbytes == storage_bytes(cache.tensors()) == wanted
    assert cache.tokens == (0 if strategy == "none" else sum(pieces))


@pytest.mark.parametrize("strategy", ["concat", "static", "sliding", "paged"])
@pytest.mark.parametrize("shapes", SHAPES)
def test_get_answers_with_the_newest_tokens_in_order(strategy: str, shapes: str) -> None:
    cache, whole = fed(strategy, SHAPES[shapes], 2, [5, 1, 9, 1, 1])
    for layer, shape in enumerate(SHAPES[shapes]):
        for found, wanted in zip(cache.get(layer), whole[layer], strict=True):
            kept = found.shape[2]
            assert kept >= min(17, shape.window or 17)
            assert torch.equal(found, wanted[:, :, -kept:])


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_bytes_of_a_model_that_ran_are_the_estimate_exactly(name: str, dtype: str) -> None:
    """The joint test: real tensors after prefill and decode against planner.memory.estimate."""
    spec = small(name)
    model = build(spec, dtype=dtype)
    batch, prompt, total = 2, 13, 21
    wanted = estimate(spec, Request(total, batch, dtype=dtype)).kv_bytes
    ids = torch.randint(0, VOCAB, (batch, total))
    for strategy in ("concat", "sliding"):
        cache = cache_for(model, strategy, batch=batch, max_tokens=total)
        prefill(model, ids[:, :prompt], cache)
        for at in range(prompt, total):
            decode_step(model, ids[:, at : at + 1], cache)
        assert cache.nbytes == wanted
    for fmt in ("int8", "int4"):
        wanted = estimate(spec, Request(total, batch, dtype=dtype, k_dtype=fmt, v_dtype=fmt)).kv_bytes
        assert cache_for(model, fmt, batch=batch, max_tokens=total).nbytes == wanted


def test_concat_grows_by_one_token_and_holds_no_view_of_a_larger_tensor() -> None:
    """Slices of a fused q, k, v output would hold all three: 1.5 times and more."""
    shape = LayerShape(2, 8, 8)
    cache = make_cache("concat", [shape], max_tokens=10)
    for step in range(1, 4):
        fused = torch.randn(1, 1, 48)  # q, k and v of two heads
        _, k, v = (part.view(1, 1, 2, 8).transpose(1, 2) for part in fused.split(16, dim=-1))
        cache.update(0, k, v)
        assert cache.nbytes == step * 2 * 16 * 4


def test_static_and_sliding_write_in_place() -> None:
    for strategy in ("static", "sliding", "int8", "int4", "paged"):
        cache = make_cache(strategy, [LayerShape(2, 8, 8)], max_tokens=10)
        before = [t.data_ptr() for t in cache.tensors()]
        for _ in range(10):
            cache.update(0, torch.randn(1, 2, 1, 8), torch.randn(1, 2, 1, 8))
        assert [t.data_ptr() for t in cache.tensors()] == before


@pytest.mark.parametrize("old_kept", [False, True])
def test_the_concat_peak_is_the_formula_of_the_last_step(old_kept: bool) -> None:
    shapes = [LayerShape(2, 8, 8)] * 4
    cache = ConcatCache(shapes, 1, 20)
    cache.old_kept = old_kept
    for new in (10, 1):
        for layer in range(4):
            cache.update(layer, torch.randn(1, 2, new, 8), torch.randn(1, 2, new, 8))
    one = 2 * 8 * 4
    assert cache.peak_nbytes == concat_peak_bytes(before=[10 * one] * 8, after=[11 * one] * 8, old_kept=old_kept)


@pytest.mark.parametrize("strategy", KEEPING)
def test_reset_empties_the_cache_and_it_can_be_used_again(strategy: str) -> None:
    cache, _ = fed(strategy, SHAPES["gqa"], 2, [6, 1])
    held = cache.nbytes
    cache.reset()
    assert cache.tokens == 0
    assert cache.get(0)[0].shape[2] == 0
    for layer in range(3):
        cache.update(layer, torch.randn(2, 2, 7, 16), torch.randn(2, 2, 7, 16))
    assert cache.nbytes == held


@pytest.mark.parametrize("strategy", KEEPING)
def test_one_token_too_many_is_refused_and_says_for_how_many_it_was_made(strategy: str) -> None:
    cache, _ = fed(strategy, SHAPES["gqa"], 1, [6])
    with pytest.raises(BadRequest, match="made for 6 tokens and 7"):
        cache.update(0, torch.randn(1, 2, 1, 16), torch.randn(1, 2, 1, 16))


@pytest.mark.parametrize("strategy", KEEPING)
def test_keys_of_another_shape_are_refused(strategy: str) -> None:
    cache = make_cache(strategy, SHAPES["gqa"], batch=2, max_tokens=8)
    with pytest.raises(BadRequest, match=r"\[2, 2, T, 16\]"):
        cache.update(0, torch.randn(1, 2, 1, 16), torch.randn(1, 2, 1, 16))


def test_unknown_strategies_and_empty_sizes_are_refused() -> None:
    with pytest.raises(BadRequest, match="concat, static"):
        make_cache("dynamic", SHAPES["gqa"], max_tokens=4)
    with pytest.raises(BadRequest, match="at least 1"):
        make_cache("static", SHAPES["gqa"], max_tokens=0)


def test_paged_sequences_of_different_lengths_share_one_pool() -> None:
    shapes = SHAPES["gqa"]
    lengths = [40, 17, 1]
    starts = torch.tensor([0, 23, 39])
    cache = make_cache("paged", shapes, batch=3, max_tokens=40, blocks=6)
    assert isinstance(cache, PagedCache)
    cache.reset(starts)
    for layer in range(3):
        cache.update(layer, torch.randn(3, 2, 40, 16), torch.randn(3, 2, 40, 16))
    assert cache.sequence_lengths == lengths
    wanted = strategy_bytes(shapes, "paged", tokens=40, max_tokens=40, batch=3, lengths=lengths, element_bytes=4)
    assert cache.used_nbytes == wanted == cache.nbytes  # 3 + 2 + 1 blocks: the pool is just used up
    owned = [block for row in cache.owned for block in row]
    assert sorted(owned) == list(range(6))  # no block belongs to two


def test_a_pool_that_is_used_up_is_a_clear_error() -> None:
    cache = make_cache("paged", SHAPES["gqa"], batch=2, max_tokens=40, blocks=2)
    cache.update(0, torch.randn(2, 2, 16, 16), torch.randn(2, 2, 16, 16))
    for layer in (1, 2):
        cache.update(layer, torch.randn(2, 2, 16, 16), torch.randn(2, 2, 16, 16))
    with pytest.raises(BadRequest, match="2 blocks of 16 tokens is used up"):
        cache.update(0, torch.randn(2, 2, 1, 16), torch.randn(2, 2, 1, 16))


@given(
    dim=st.integers(1, 140),
    tokens=st.integers(1, 5),
    size=st.sampled_from([1e-3, 1.0, 300.0]),
    fmt=st.sampled_from(["int8", "int4"]),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=100)
def test_quantised_numbers_come_back_within_half_a_step(
    dim: int, tokens: int, size: float, fmt: str, seed: int
) -> None:
    x = torch.randn(1, 2, tokens, dim, generator=torch.Generator().manual_seed(seed)) * size
    cache = QuantisedCache([LayerShape(2, dim, dim)], 1, tokens, fmt=fmt)
    found, _ = cache.update(0, x, x)
    if fmt == "int8":
        step = x.abs().amax(-1, keepdim=True) / 127
    else:
        step = torch.stack([g.amax(-1) - g.amin(-1) for g in x.split(64, dim=-1)], -1).amax(-1, keepdim=True) / 15
    # fp16 scales are up to 1/1024 larger (and 2^-24 where they are tiny); int4's minimum is rounded as well
    slack = x.abs().amax() * 2**-11 * (fmt == "int4") + 2**-24
    assert ((found - x).abs() <= step * 0.501 + slack).all()


def test_quantised_caches_say_they_are_not_exact() -> None:
    exact = {name: make_cache(name, SHAPES["gqa"], max_tokens=2).exact for name in STRATEGIES}
    assert [name for name, value in exact.items() if not value] == ["int8", "int4"]

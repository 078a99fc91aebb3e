"""Generation: cached equals uncached, padding, sampling, stopping, and the lengths that are refused."""

from __future__ import annotations

from typing import Any

import pytest

from tests.profiler.small_models import NEEDS_TORCH, SMALL, VOCAB, small

torch = pytest.importorskip("torch", reason=NEEDS_TORCH)

from planner.errors import BadRequest
from planner.memory.cache_strategies import STRATEGIES
from profiler.generate import (
    Sampling,
    cache_for,
    chooser,
    decode_step,
    filtered,
    generate,
    logits_error,
    pad_left,
    prefill,
)
from profiler.gpt import GPT, build

EXACT = [name for name in STRATEGIES if name not in ("int8", "int4")]


def model_of(name: str, **changes: Any) -> GPT:
    model = build(small(name, **changes), dtype="fp32", seed=3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(6.0)
    return model


def tokens_of(batch: int, length: int) -> Any:
    return torch.randint(0, VOCAB, (batch, length), generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("strategy", EXACT[1:])
def test_cached_decode_equals_the_uncached_forward_pass(name: str, strategy: str) -> None:
    model, ids = model_of(name), tokens_of(2, 40)
    for prompt, end in ((1, 40), (14, 20), (33, 40)):  # within, at and beyond the windows of 8 and 16
        error = logits_error(
            model, ids[:, :end], cache_for(model, strategy, batch=2, max_tokens=40), prompt_tokens=prompt
        )
        assert error.scale > 0.05 and error.largest < 1e-4 and error.steps == end + 1 - prompt


@pytest.mark.parametrize("name", ["gpt2", "mistral_window", "gemma3", "deepseek_v3"])
@pytest.mark.parametrize("strategy", EXACT)
@torch.inference_mode()
def test_the_prompt_may_come_in_pieces(name: str, strategy: str) -> None:
    """Chunked prefill: several tokens onto a cache that holds some already."""
    model, ids = model_of(name), tokens_of(2, 40)
    if strategy == "none":
        pytest.skip("a cache that keeps nothing takes no pieces")
    cache = cache_for(model, strategy, batch=2, max_tokens=40)
    pieces = [model(ids[:, a:b], cache) for a, b in ((0, 3), (3, 14), (14, 15), (15, 39), (39, 40))]
    assert (torch.cat(pieces, dim=1) - model(ids)).abs().max() < 1e-4


@pytest.mark.parametrize("name", ["gpt2", "llama3_rope", "mistral_window", "gemma2", "mixtral", "deepseek_v3"])
@pytest.mark.parametrize("strategy", EXACT)
def test_prompts_of_unequal_length_go_on_as_they_would_alone(name: str, strategy: str) -> None:
    model = model_of(name)
    prompts = [tokens_of(1, n)[0].tolist() for n in (20, 11, 1)]
    together = generate(model, prompts, 15, cache=strategy).sequences
    alone = [generate(model, [prompt], 15, cache="none").sequences[0] for prompt in prompts]
    assert list(together) == alone


@torch.inference_mode()
def test_prefill_and_decode_step_answer_with_the_last_tokens_logits() -> None:
    model, ids = model_of("llama"), tokens_of(3, 10)
    cache = cache_for(model, "static", batch=3, max_tokens=10)
    assert torch.allclose(prefill(model, ids[:, :9], cache), model(ids[:, :9])[:, -1], atol=1e-5)
    assert torch.allclose(decode_step(model, ids[:, 9:], cache), model(ids)[:, -1], atol=1e-5)
    assert cache.tokens == 10


def test_greedy_takes_the_likeliest_token_each_time() -> None:
    model, ids = model_of("gpt2"), tokens_of(1, 5)
    tokens = generate(model, [ids[0].tolist()], 6).sequences[0]
    for token in tokens:
        assert token == int(model(ids)[0, -1].argmax())
        ids = torch.cat((ids, torch.tensor([[token]])), dim=1)


def test_equal_seeds_choose_equally_and_others_do_not() -> None:
    model = model_of("llama")
    one, same, other = (
        generate(model, [[1, 2, 3]], 30, sampling=Sampling(temperature=1.5, seed=seed)).sequences for seed in (1, 1, 2)
    )
    assert one == same != other


def test_a_cache_does_not_change_what_is_sampled() -> None:
    model, rule = model_of("llama"), Sampling(temperature=1.0, top_k=20, top_p=0.9, seed=4)
    first, *others = (generate(model, [[1, 2, 3], [4]], 20, cache=s, sampling=rule).sequences for s in EXACT)
    assert all(other == first for other in others)


def test_top_k_leaves_k_tokens() -> None:
    kept = filtered(torch.randn(4, 50), top_k=7).isfinite().sum(-1)
    assert kept.tolist() == [7] * 4
    assert filtered(torch.randn(4, 50), top_k=1000).isfinite().all()


def test_top_p_keeps_the_likeliest_until_p_is_reached() -> None:
    logits = torch.tensor([[0.5, 0.25, 0.125, 0.125]]).log()
    assert filtered(logits, top_p=0.5).isfinite().tolist() == [[True, False, False, False]]
    assert filtered(logits, top_p=0.51).isfinite().tolist() == [[True, True, False, False]]
    assert filtered(logits, top_p=1e-9).isfinite().sum() == 1
    assert filtered(logits, top_p=1.0).isfinite().all()


def test_samples_follow_the_chances() -> None:
    chances = torch.tensor([0.6, 0.3, 0.1])
    choose = chooser(Sampling(temperature=1.0, seed=0))
    drawn = choose(chances.log().expand(20_000, 3)).bincount(minlength=3) / 20_000
    assert torch.allclose(drawn, chances, atol=0.02)


def test_a_stop_token_ends_its_row_and_the_last_one_ends_all() -> None:
    model = model_of("gpt2")
    free = generate(model, [[1], [2, 3]], 30).sequences
    stop = free[0][4]
    ended = generate(model, [[1], [2, 3]], 30, stop=stop)
    for row, whole in zip(ended.sequences, free, strict=True):
        wanted = whole[: whole.index(stop) + 1] if stop in whole else whole
        assert row == wanted
    alone = generate(model, [[1]], 30, stop=[stop])
    assert alone.steps == len(alone.sequences[0]) - 1


def test_tokens_are_handed_over_as_they_come() -> None:
    seen: list[list[int]] = []
    rows = generate(model_of("gpt2"), [[1], [2]], 5, on_token=seen.append).sequences
    assert [tuple(column) for column in zip(*rows, strict=True)] == [tuple(step) for step in seen]


def test_the_cache_is_as_long_as_prompt_and_answer_need() -> None:
    cache = generate(model_of("gpt2"), [[1, 2, 3]], 5).cache
    assert cache.max_tokens == cache.tokens == 7  # the last new token is not fed back


def test_the_whole_context_can_be_used_and_no_more() -> None:
    model = model_of("gpt2", n_positions=12)
    assert len(generate(model, [[1] * 12], 1).sequences[0]) == 1
    assert len(generate(model, [[1] * 4], 9).sequences[0]) == 9
    with pytest.raises(BadRequest, match="ask for at most 9 new tokens"):
        generate(model, [[1] * 4], 10)
    with pytest.raises(BadRequest, match="prompt has 13 tokens and the context of gpt2 is 12: shorten"):
        generate(model, [[1] * 13], 1)


@pytest.mark.parametrize(
    ("prompts", "new", "reason"),
    [([], 1, "no tokens"), ([[]], 1, "no tokens"), ([[1], []], 1, "no tokens"), ([[1]], 0, "from 1 up"),
     ([[VOCAB]], 1, "outside the vocabulary of 97"), ([[-1]], 1, "outside the vocabulary")],
)  # fmt: skip
def test_prompts_that_mean_nothing_are_refused(prompts: list[list[int]], new: int, reason: str) -> None:
    with pytest.raises(BadRequest, match=reason):
        generate(model_of("gpt2"), prompts, new)


@pytest.mark.parametrize("wrong", [{"temperature": -1.0}, {"temperature": float("nan")}, {"top_k": 0}, {"top_p": 0.0},
                                   {"top_p": 1.5}])  # fmt: skip
def test_sampling_rules_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadRequest):
        Sampling(**wrong)


def test_equal_prompts_need_no_padding() -> None:
    assert pad_left([[1, 2], [3, 4]])[1] is None


def test_the_error_of_quantised_caches_is_reported_and_int8_is_closer() -> None:
    model, ids = model_of("llama"), tokens_of(2, 40)
    eight, four = (
        logits_error(model, ids, cache_for(model, fmt, batch=2, max_tokens=40), prompt_tokens=10)
        for fmt in ("int8", "int4")
    )
    assert 0 < eight.mean < four.mean < four.scale
    assert 0 <= four.same_choice <= 1

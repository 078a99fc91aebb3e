"""`kvplan speed --prefix-cached`: tokens of a prompt that need no prefill, and engines that keep none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.catalogue.entries import find_device
from planner.lookup import model_spec
from planner.memory.estimate import estimate
from planner.memory.request import Request
from planner.speed.speed import speed

Run = Callable[..., Any]
H100 = ("speed", "llama-3.1-8b", "--gpu", "h100-sxm", "--prompt", "8k", "--batch", "1")


def test_the_rest_of_a_prompt_attends_to_all_of_it(run: Run) -> None:
    found = run(*H100, "--engine", "vllm", "--prefix-cached", "6k", "--load", "static", "--json").json
    # By hand: 2,048 tokens x 2 x 6,979,588,096 weights, 2 x 128,256 x 4,096 of the head, and 4 x 4,096 x 32 FLOP a pair for
    # 2,048 x 6,144 + 2,048 x 2,049 / 2 pairs: 36.29 TFLOP at 989.4 TFLOP/s.
    assert found["ttft_seconds_bound"] == pytest.approx(36.675e-3, rel=1e-3)
    assert (found["prompt_tokens"], found["prefix_cached_tokens"]) == (8192, 6144)


def test_only_the_first_token_and_the_prompts_of_others_are_faster(run: Run) -> None:
    cold, warm = (run(*H100, "--engine", "vllm", *more, "--json").json for more in ((), ("--prefix-cached", "6k")))
    assert warm["ttft_seconds"] < cold["ttft_seconds"] / 2 and warm["tpot_seconds"] == cold["tpot_seconds"]
    page = run(*H100, "--engine", "vllm", "--prefix-cached", "6k", "--explain").out
    assert "8k tokens (6k of them cached)" in page
    assert "A prefill of 1 x 2,048 tokens, each behind 6,144 cached ones" in page


@given(st.integers(0, 4095), st.integers(0, 4095))
def test_more_cached_tokens_never_take_longer(one: int, other: int) -> None:
    fewer, more = sorted((one, other))
    found = estimate(model_spec("llama-3.1-8b"), Request(4096))
    times = [
        speed(found, find_device("l4"), prompt_tokens=4096, output_tokens=64, batch=8, cached_tokens=cached)
        for cached in (fewer, more)
    ]
    assert times[0].ttft_seconds.value >= times[1].ttft_seconds.value
    assert times[0].tpot_seconds.value >= times[1].tpot_seconds.value


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ((*H100, "--prefix-cached", "8k"), 1, "up to 8,191 can be cached"),
        ((*H100, "--prefix-cached", "1k", "--engine", "transformers"), 2, "keeps no cache between requests"),
        ((*H100, "--prefix-cached", "1k", "--engine", "vllm", "--no-enable-prefix-caching"), 2, "--no-enable-prefix-caching keeps none"),
        ((*H100, "--prefix-cached", "1k", "--engine", "vllm==0.5.0"), 2, "unless --enable-prefix-caching is given"),
        ((*H100, "--prefix-cached", "1k", "--bring-back", "host"), 2, "leave out --prefix-cached"),
        (("simulate", "llama-3.1-8b", "--gpu", "l4", "--rate", "1", "--seq", "2k", "--prefix-share", "0.5", "--no-enable-prefix-caching"), 2, "--prefix-share: --no-enable"),
        (("plan", "llama-3.1-8b", "--gpu", "l4", "--rate", "1", "--seq", "2k", "--prefix-share", "0.5", "--engine", "vllm", "--no-enable-prefix-caching"), 2, "--prefix-share: --no-enable"),
    ],
)  # fmt: skip
def test_what_cannot_be_cached_is_refused_in_a_line(run: Run, words: tuple[str, ...], code: int, said: str) -> None:
    found = run(*words)
    assert found.code == code and said in found.err and found.err.count("\n") == 1


def test_a_hybrid_keeps_prefixes_from_the_release_that_does(run: Run) -> None:
    words = (
        "speed",
        "qwen3-next-80b-a3b",
        "--gpu",
        "h200",
        "--tp",
        "2",
        "--prompt",
        "2k",
        "--prefix-cached",
        "1k",
        "--batch",
        "1",
    )
    assert run(*words, "--engine", "vllm==0.20.0").code == 2 and run(*words, "--engine", "vllm==0.28.0").code == 0


def test_the_slot_of_llamacpp_is_said(run: Run) -> None:
    found = run(
        "speed",
        "llama-3.1-8b",
        "--gpu",
        "rtx-4090",
        "--dtype",
        "q4_k_m",
        "--engine",
        "llamacpp",
        "--prefix-cached",
        "512",
        "--batch",
        "1",
    )
    assert "the slot that held it last" in " ".join(found.out.split())

"""`--num-speculative-tokens` in fit, estimate and check: it has its effect on memory, or it is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Run = Callable[..., Any]
LARGE = ("deepseek-v3", "--gpu", "8xh200", "--engine", "vllm", "--seq", "4k")
SERVED = ("vllm", "serve", "deepseek-ai/DeepSeek-V3", "-tp", "8", "--max-model-len", "4096")


def pool(run: Run, *words: str) -> int:
    return int(run(*words, "--json").json["engine"]["pool_tokens"])


def test_a_model_with_mtp_layers_drafts_with_them_in_fit_estimate_and_check(run: Run) -> None:
    tokens = ("--num-speculative-tokens", "1")
    plain, drafted = (pool(run, "fit", *LARGE, *more) for more in ((), tokens))
    assert drafted == pool(run, "fit", *LARGE, "--drafter", "mtp", *tokens) == pool(run, "estimate", *LARGE, *tokens)
    config = '{"method":"mtp","num_speculative_tokens":1}'
    checked = run("check", "--gpu", "8xh200", "--json", "--", *SERVED, "--speculative-config", config).json
    assert checked["engine_answer"]["pool_tokens"] == drafted
    # a 62nd layer of latents, and 1.56 GB of weights a device off the pool of 48.8 GB
    assert drafted / plain == pytest.approx((1 - 1.558 / 48.82) * 61 / 62, rel=2e-3)


def test_ngram_lookup_takes_nothing_of_the_pool(run: Run) -> None:
    plain = pool(run, "fit", *LARGE)
    assert pool(run, "fit", *LARGE, "--num-speculative-tokens", "4", "--drafter", "ngram") == plain
    config = '{"method":"ngram","num_speculative_tokens":4}'
    checked = run("check", "--gpu", "8xh200", "--json", "--", *SERVED, "--speculative-config", config).json
    assert checked["engine_answer"]["pool_tokens"] == plain


def test_snapshots_of_states_are_counted_in_llama_cpp(run: Run) -> None:
    asked = ("estimate", "qwen3.5-27b", "--gpu", "h100-sxm", "--engine", "llamacpp", "--seq", "8k", "--json")
    plain, drafted = (
        run(*asked, *more).json["engine"]["state_bytes"] for more in ((), ("--num-speculative-tokens", "2"))
    )
    assert drafted == 3 * plain


@pytest.mark.parametrize("command", ["fit", "estimate"])
@pytest.mark.parametrize("engine", ["vllm", "vllm-v0", "llamacpp", "exllamav3"])
def test_tokens_that_nothing_drafts_are_refused_in_a_line(run: Run, command: str, engine: str) -> None:
    asked = (command, "llama-3.1-8b", "--gpu", "l4", "--seq", "4k", "--engine", engine)
    assert "what drafts for llama-3.1-8b?" in run(*asked, "--num-speculative-tokens", "4").refused(2)


def test_the_number_of_drafts_reaches_the_drafter(run: Run) -> None:
    asked = ("fit", "llama-3.1-8b", "--gpu", "l40s", "--engine", "vllm", "--seq", "4k", "--drafter", "eagle3")
    assert "give one of them" in run(*asked, "--draft-tokens", "2", "--num-speculative-tokens", "4").refused(2)
    by_flag, by_name = (
        run(*asked, flag, "7", "--json").json for flag in ("--num-speculative-tokens", "--draft-tokens")
    )
    assert by_flag["engine"]["pool_tokens"] == by_name["engine"]["pool_tokens"]

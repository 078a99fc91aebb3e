"""`--num-speculative-tokens` without a drafter, and the drafts of a start command."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Run = Callable[..., Any]
ONE = ("--engine", "vllm", "--num-speculative-tokens", "1")
LOAD = ("--users", "4", "--seq", "2k")
DEEPSEEK, LLAMA = ("deepseek-v3", "--gpu", "h200"), ("llama-3.1-8b", "--gpu", "h100-sxm")


def test_speed_takes_the_models_own_mtp_layers_off_memory(run: Run) -> None:
    words = ("speed", *DEEPSEEK, "--tp", "8", "--batch", "1", "--json")
    plain, drafted = run(*words, "--engine", "vllm").json, run(*words, *ONE).json
    named = run(*words, "--engine", "vllm", "--drafter", "mtp", "--draft-tokens", "1").json
    assert drafted["tokens_a_step"] == 1.75 and drafted["largest_batch"] < plain["largest_batch"]
    assert (drafted["largest_batch"], drafted["tpot_seconds"]) == (named["largest_batch"], named["tpot_seconds"])


def test_plan_and_simulate_take_them_as_well(run: Run) -> None:
    plans = [
        run("plan", *DEEPSEEK, *LOAD, "--as-published", "--json", *more).json["plans"][0]
        for more in (("--engine", "vllm"), ONE)
    ]
    assert [plan["tokens_a_step"] for plan in plans] == [1.0, 1.75]
    pools = [plan["per_device"]["pool_bytes"] for plan in plans if plan["layout"] == plans[0]["layout"]]
    assert len(pools) < 2 or pools[1] < pools[0]
    found = run("simulate", *DEEPSEEK, "--tp", "8", *LOAD, "--requests", "20", *ONE, "--json").json
    assert found["tokens_a_step"] == 1.75


@pytest.mark.parametrize("command", ["speed", "plan", "simulate", "fit"])
def test_a_model_without_them_is_asked_what_drafts(run: Run, command: str) -> None:
    load = {"speed": (), "fit": ("--seq", "2k")}.get(command, LOAD)
    for more in ((), ("--acceptance", "0.7")) if command != "fit" else ((),):
        found = run(command, *LLAMA, *load, *ONE, *more)
        assert found.code == 2 and "what drafts for llama-3.1-8b? --drafter eagle3, mtp or MODEL" in found.err
        assert found.err.count("\n") == 1


def test_ngram_lookup_takes_time_and_no_memory(run: Run) -> None:
    words = ("speed", *LLAMA, "--batch", "1", "--json")
    plain, drafted = run(*words, "--engine", "vllm").json, run(*words, *ONE, "--drafter", "ngram").json
    assert drafted["tokens_a_step"] == 1.35 and drafted["largest_batch"] == plain["largest_batch"]


SERVE = (
    "check",
    "--gpu",
    "h100-sxm",
    "--",
    "vllm",
    "serve",
    "meta-llama/Llama-3.1-8B-Instruct",
    "--max-model-len",
    "8192",
)


def test_check_says_what_a_token_takes_with_drafts_and_without(run: Run) -> None:
    config = '{"method":"ngram","num_speculative_tokens":3}'
    json = (*SERVE[:1], "--json", *SERVE[1:])
    plain, drafted = run(*json), run(*json, "--speculative-config", config)
    assert plain.json["speed_without_drafts"] is None
    assert drafted.json["speed_without_drafts"][0]["tpot_seconds"] == plain.json["speed"][0]["tpot_seconds"]
    # 1 + 0.35 + 0.35^2 + 0.35^3 tokens a step
    assert drafted.json["speed"][0]["tokens_a_step"] == pytest.approx(1.515375)
    page = " ".join(run(*SERVE, "--speculative-config", config).out.split())
    assert "drafts (ngram, 3 a step, 0.05 to 0.75 of them accepted): 1.52 tokens a step; a token takes" in page
    without = plain.json["speed"][0]["tpot_seconds"] * 1e3
    assert f"for one user ({without:.2f} ms without)" in page

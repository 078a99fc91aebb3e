"""`kvplan fit` with adapters, drafters, other models and idle sessions beside the model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Runner = Callable[..., Any]
ASKED = ("fit", "llama-3.1-8b", "--gpu", "rtx-4090", "--seq", "8k")


@pytest.mark.parametrize(
    "extra",
    [("--lora", "32xr64"), ("--drafter", "llama-3.2-1b"), ("--also", "qwen2.5-0.5b:4kx8"), ("--idle-sessions", "3")],
    ids=lambda extra: extra[0],
)
def test_each_option_takes_from_most_sequences_and_from_real_lengths(run: Runner, extra: tuple[str, str]) -> None:
    mix = ("--lengths", "p50=800,p95=6000", "--json")
    plain, less = run(*ASKED, *mix).json, run(*ASKED, *extra, *mix).json
    assert less["most_sequences"] < plain["most_sequences"]
    assert less["length_mix"]["safe_sequences"] < plain["length_mix"]["safe_sequences"]
    assert less["extras"] and "extras" not in plain


def test_the_table_says_what_lies_beside_the_model_and_where_idle_sessions_are(run: Runner) -> None:
    out = run(
        *ASKED, "--lora", "8xr16", "--drafter", "llama-3.2-1b", "--also", "qwen2.5-0.5b:4kx2@20%",
        "--idle-sessions", "100", "--host-memory", "64GiB", "--ssd", "1TB", "--ssd-bandwidth", "7GB",
    ).out  # fmt: skip
    assert "8 LoRA r16            0.62 GiB  41.94 M parameters each, on every linear layer" in out
    assert "1.24 B parameters, 4 tokens drafted a step" in out
    assert "room for 2 x 4k tokens; 20% of what is left" in out
    assert "host memory  holds 64: 64 of them used" in out and "back in at least 34.1 ms" in out
    assert "disk         holds 931: 36 of them used" in out


def test_sessions_with_a_tier_take_nothing_from_the_device(run: Runner) -> None:
    asked = (*ASKED, "--idle-sessions", "100", "--json")
    assert run(*asked, "--host-memory", "1TB").json["most_sequences"] == run(*ASKED, "--json").json["most_sequences"]
    assert run(*asked).code == 3


def test_vllm_keeps_padded_slots_for_every_module(run: Runner) -> None:
    found = run(*ASKED, "--lora", "8xr24:q,v", "--engine", "vllm", "--json").json["extras"]["lora"][0]
    assert (found["rank"], found["slots"]) == (32, True)


def test_the_csv_has_columns_that_stay(run: Runner) -> None:
    heads = [run(*ASKED, "--lora", lora, "--csv").out.splitlines()[0] for lora in ("8xr16", "2xr8:q,v")]
    assert heads[0] == heads[1] and "extras.device_bytes" in heads[0]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--lora", "8x16"), "write for example 8xr16"),
        (("--lora", "0xr16"), "write for example 8xr16"),
        (("--lora", "8xr99999"), "up to 4096"),
        (("--lora", "8xr16:zz"), "is not a module of llama-3.1-8b"),
        (("--also", "nope"), "no model is called 'nope'"),
        (("--also", "gpt2:0x2"), "out of range"),
        (("--also", "gpt2@60%", "--also", "gpt2@50%"), "leave nothing"),
        (("--drafter", "mtp"), "no multi-token-prediction layers"),
        (("--drafter", "t5-small"), "a decoder"),
        (("--idle-sessions", "-1"), "--idle-sessions '-1' is"),
        (("--host-memory", "0"), "out of range"),
        (("--host-memory", "nan"), "is not a size"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_meant_is_refused_in_one_line(run: Runner, options: tuple[str, ...], said: str) -> None:
    assert said in run(*ASKED, *options).refused()


@pytest.mark.parametrize(
    "options", [("--draft-tokens", "3"), ("--ssd-bandwidth", "7GB"), ("--drafter", "eagle", "--engine", "lmdeploy"), ("--also", "gpt2", "--engine", "vllm")]
)  # fmt: skip
def test_options_that_hang_in_the_air_are_a_usage_error(run: Runner, options: tuple[str, ...]) -> None:
    run(*ASKED, *options).refused(2)


def test_host_memory_is_no_tier_where_it_is_the_devices_own(run: Runner) -> None:
    asked = ("fit", "llama-3.1-8b", "--gpu", "apple-m2-ultra", "--seq", "8k", "--idle-sessions", "2")
    assert "share one memory" in run(*asked, "--host-memory", "64GiB").refused()
    assert run(*asked, "--ssd", "1TB", "--json").json["extras"]["idle"]["ssd_sessions_most"] == 931


def test_a_drafter_that_lies_on_another_device_than_the_fullest_is_said(run: Runner) -> None:
    """llama.cpp lays whole layers on two cards: the first is the fuller one, the drafter is on the last."""
    asked = (
        "fit",
        "qwen3.5-9b",
        "--gpu",
        "h200",
        "--gpus",
        "2",
        "--engine",
        "llamacpp",
        "--seq",
        "4k",
        "--drafter",
        "mtp",
    )
    assert "Nothing beside the model on the fullest device: a drafter lies on the last one" in run(*asked).out

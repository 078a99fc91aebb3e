"""Several models, devices, lengths or batches in one line; a config on stdin; the first two lines of every screen."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from typing import Any

import pytest

import kvplan

Runner = Callable[..., Any]
CONFIG = {
    "model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
    "intermediate_size": 11008, "vocab_size": 32000, "max_position_embeddings": 4096,
}  # fmt: skip


def test_several_models_are_compared_at_the_shortest_of_their_lengths(run: Runner) -> None:
    rows = run("estimate", "gpt2", "llama-7b", "--json").json
    assert [(row["model"], row["seq_tokens"]) for row in rows] == [("gpt2", 1024), ("llama-7b", 1024)]
    assert [row["kv_bytes"] for row in rows] == [37_748_736, 536_870_912]  # 2 x 1024 x width x 2 B x layers
    assert rows == json.loads(json.dumps(kvplan.compare_models("gpt2", "llama-7b").to_dict()))
    assert run("compare-models", "gpt2", "llama-7b", "--json").json == rows


def test_devices_and_batches_make_a_row_for_each_combination(run: Runner) -> None:
    rows = run("estimate", "qwen3-8b", "--gpu", "l4,t4", "--batch", "1,8", "--json").json
    assert [(row["device"], row["batch"]) for row in rows] == [("L4", 1), ("L4", 8), ("T4", 1), ("T4", 8)]
    single = run("estimate", "qwen3-8b", "--gpu", "t4", "--batch", "8", "--json").json
    assert rows[3] == single
    assert rows == json.loads(json.dumps(kvplan.estimate("qwen3-8b", gpu=["l4", "t4"], batch=[1, 8]).to_dict()))


@pytest.mark.parametrize(
    ("gpus", "code", "verdict"), [("l4,t4", 0, "1 of 2 FITS."), ("t4,gtx-1080", 3, "NONE of these 2 FITS.")]
)
def test_the_exit_code_of_several_is_that_of_the_verdict(run: Runner, gpus: str, code: int, verdict: str) -> None:
    found = run("estimate", "qwen3-8b", "--gpu", gpus)
    assert (found.code, found.out.splitlines()[1]) == (code, verdict)


def test_fit_takes_lists_of_devices_and_lengths(run: Runner) -> None:
    rows = run("fit", "qwen3-8b", "--gpu", "l4,h100-sxm", "--seq", "1k,8k", "--json").json
    assert len(rows) == 4
    assert rows[1] == run("fit", "qwen3-8b", "--gpu", "l4", "--seq", "8k", "--json").json
    screen = run("fit", "qwen3-8b", "--gpu", "l4,h100-sxm", "--seq", "1k,8k").out
    assert screen.splitlines()[1] == "FITS in all 4." and screen.count("fits") == 4


@pytest.mark.parametrize("command", ["estimate", "fit", "speed", "engines"])
def test_gpus_is_tensor_parallel_up_to_eight(run: Runner, command: str) -> None:
    asked = (command, "qwen3-8b", "--gpu", "h100-sxm", "--json")
    assert run(*asked, "--gpus", "2").json == run(*asked, "--tp", "2").json


def test_a_start_command_is_of_one_question(run: Runner) -> None:
    found = run("estimate", "gpt2", "llama-7b", "--engine", "vllm", "--gpu", "l4", "--emit")
    assert found.code == 2 and "--emit is of one question" in found.err


def test_too_many_questions_are_refused(run: Runner) -> None:
    found = run("estimate", "gpt2", "--batch", ",".join(map(str, range(1, 400))), "--gpu", "l4,t4,l40s")
    assert found.code == 1 and "1,000 at most" in found.err


def test_a_config_on_stdin_is_a_model(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(json.dumps(CONFIG).encode())))
    found = run("estimate", "-", "--seq", "4k", "--json").json
    assert found["kv_bytes"] == 2 * 4096 * 4096 * 2 * 32


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "is empty"),
        (b"[1]", "is no JSON object"),
        (b"{", "is damaged or not JSON"),
        (b"\xff\xfe", "is not UTF-8 text"),
        (b" " * ((16 << 20) + 1), "is larger than 16 MiB"),
    ],
)
def test_what_is_no_config_on_stdin_is_one_line(
    run: Runner, monkeypatch: pytest.MonkeyPatch, text: bytes, words: str
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
    found = run("estimate", "-")
    assert found.code == 1 and words in found.err and found.err.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    [
        ("estimate", "deepseek-v3", "--gpu", "h200", "--tp", "8"),
        ("estimate", "deepseek-ai/DeepSeek-V3", "--gpu", "h100", "--tp", "8", "--engine", "vllm", "--seq", "8k"),
        ("fit", "TheBloke/Llama-2-70B-Chat-AWQ", "--gpu", "a100-80gb"),
        ("speed", "qwen3-8b", "--gpu", "h100-sxm", "--gpus", "2", "--engine", "vllm"),
        ("check", "--gpu", "2x3090", "--", "vllm", "serve", "Qwen/Qwen3-32B", "-tp", "2", "--max-model-len", "32k"),
        ("simulate", "gpt2", "--gpu", "l4", "--prompt", "100", "--answer", "20", "--rate", "5/s", "--requests", "50"),
    ],
    ids=lambda words: words[0],
)
def test_the_question_is_one_line_of_80_columns_and_the_verdict_the_next(
    run: Runner, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = run(*words).out.splitlines()
    assert len(lines[0]) <= 80
    assert any(word in lines[1] for word in ("FITS", "FIT", "STARTS", "START", "tok/s", "TTFT")), lines[1]


def test_what_is_usually_assumed_is_said_with_v(run: Runner) -> None:
    plain, told = run("estimate", "llama-7b", "--gpu", "l4").out, run("estimate", "llama-7b", "--gpu", "l4", "-v").out
    assert "assumed: 3 usual things, which -v says" in plain
    assert "assumed: weights in fp16, as the config says" in told and "usual things" not in told


def test_v_is_kvplans_own_with_an_engine_too(run: Runner) -> None:
    """llama.cpp and vLLM have flags of that letter."""
    for engine in ("llamacpp", "vllm"):
        told = run("estimate", "llama-7b", "--seq", "1k", "--gpu", "l4", "--engine", engine, "-v")
        assert told.code == 0 and not told.err and "assumed: weights in fp16, as the config says" in told.out


def test_engines_answer_for_each_device_and_length(run: Runner) -> None:
    """The same engines as one by one, a row each; the length asked is the length that a server is started for."""
    words = ("engines", "gpt2", "--gpu", "l4,t4", "--seq", "512,1k")
    found = run(*words, "--json").json
    assert [(one["device"], one["seq_tokens"]) for one in found] == [
        ("L4", 512),
        ("L4", 1024),
        ("T4", 512),
        ("T4", 1024),
    ]
    alone = run("engines", "gpt2", "--gpu", "t4", "--seq", "512", "--json").json
    assert found[2] == alone
    page = run(*words)
    assert (
        page.code == 0
        and page.out.splitlines()[1].startswith("YES on 4 of 4")
        and max(map(len, page.out.splitlines())) <= 80
    )
    fit = run("fit", "gpt2", "--gpu", "l4", "--seq", "1k", "--engine", "sglang", "--json").json
    row = next(row for row in found[1]["engines"] if row["name"] == "sglang")
    assert row["most_requests"] == fit["most_sequences"]


def test_engines_say_no_where_none_of_them_holds_a_request(run: Runner) -> None:
    found = run("engines", "gpt2", "--gpu", "l4", "--seq", "8k")
    assert found.code == 3 and found.out.splitlines()[1].startswith("NONE")


def test_a_load_is_played_on_each_device(run: Runner) -> None:
    words = ("simulate", "gpt2", "--seq", "512", "--rate", "1/s", "--requests", "20")
    both = run(*words, "--gpu", "l4,t4", "--json").json
    assert both[1] == run(*words, "--gpu", "t4", "--json").json
    page = run(*words, "--gpu", "l4,t4", "--ttft", "1s").out.splitlines()
    assert (
        page[1] == "MEETS its targets on 2 of 2 devices." and sum(line.startswith(("L4", "T4")) for line in page) >= 2
    )


def test_a_device_without_room_leaves_the_others_their_answer(run: Runner) -> None:
    found = run(
        "simulate", "llama-3.1-8b", "--gpu", "rtx-3060,l4", "--seq", "512", "--rate", "0.1/s", "--requests", "5"
    )
    assert found.code == 0 and "no memory left" in found.err and "on 1 devices" not in found.out

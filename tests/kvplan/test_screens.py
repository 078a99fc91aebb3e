"""How the commands look: the verdict on the second line, lines that fit the terminal, numbers whole."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import kvplan
from kvplan.table import COMMANDS
from planner.answers.verdict import FITS, STARTS, STARTS_TIGHT, TIGHT
from planner.engines.registry import ENGINES
from planner.terminal.markdown import screen

Runner = Callable[..., Any]
MODEL = "llama-3.1-8b"
CASES = Path(__file__).parents[1] / "cases"
SCREENS: list[tuple[Any, ...]] = [
    ("estimate", MODEL),
    ("estimate", MODEL, "--seq", "128k", "--gpu", "l4"),
    ("estimate", MODEL, "--seq", "1k,8k,32k", "--gpu", "l4", "--tp", "2", "--explain"),
    ("estimate", MODEL, "--seq", "8k", "--gpu", "l4", "--engine", "vllm", "--emit"),
    ("estimate", "deepseek-v3", "--seq", "32k", "--gpu", "h100-sxm", "--gpus", "16", "--explain"),
    ("fit", MODEL, "--gpu", "rtx-4090", "--engine", "sglang"),
    ("fit", MODEL, "--gpu", "rtx-4090", "--lengths", "p50=800,p95=6000"),
    ("fit", MODEL, "--gpu", "l40s", "--seq", "2k", "--measured", "tpot_ms=30 batch=8 prompt=1k answer=200"),
    ("engines", MODEL, "--gpu", "l4", "--seq", "8k"),
    ("speed", MODEL, "--gpu", "l4,h100-sxm", "--batch", "1,8"),
    ("plan", MODEL, "--users", "50", "--prompt", "800", "--answer", "200", "--gpu", "l4"),
    ("simulate", "gpt2", "--gpu", "l4", "--prompt", "100", "--answer", "20", "--rate", "5/s", "--requests", "50"),
    ("compare-models", "gpt2", MODEL, "mamba-2.8b"),
    ("estimate", "gpt2", MODEL, "--gpu", "l4,t4", "--batch", "1,8"),
    ("fit", MODEL, "--gpu", "l4,t4", "--seq", "1k,8k"),
    ("check", "--gpu", "2x3090", "--", "vllm", "serve", "Qwen/Qwen3-32B", "-tp", "2"),
    ("estimate", "gpt2", "--seq", "8k", "--gpu", "l4"),
    ("estimate", MODEL, "--seq", "256k", "--gpu", "h200", "--engine", "sglang"),
    ("fit", MODEL, "--seq", "256k", "--gpu", "h200", "--engine", "llamacpp"),
    ("speed", "gpt2", "--gpu", "l4", "--seq", "8k"),
    ("engines", "gpt2", "--gpu", "l4,t4", "--seq", "512,8k"),
    ("simulate", "gpt2", "--gpu", "l4,t4", "--seq", "512", "--rate", "5/s", "--requests", "20"),
    ("check", "--gpu", "h100", "--", "llama-server", "-hf", "unsloth/Qwen3-8B-GGUF:Q4_K_M", "-c", "131072"),
    ("reconcile", CASES / "logs" / "sglang-tp4.log"),
    ("reconcile", CASES / "logs" / "lmdeploy.log"),
    ("watch", CASES / "metrics" / "llama-server.txt"),
    ("watch", CASES / "metrics" / "dynamo.txt", "--gpu", "h100-sxm", "--model", MODEL),
    ("show", "gemma-3-27b"),
    ("models", "gemma"),
    ("gpus", "rtx"),
    ("completion",),
]
# What a command prints to be copied, and names that are longer than the terminal.
TO_COPY = re.compile(r"\\$|https?://\S{60,}")


@pytest.mark.parametrize("columns", [80, 100, 120])
@pytest.mark.parametrize(
    "command", SCREENS, ids=lambda command: "-".join(str(word).removeprefix(str(CASES)) for word in command[:3])
)
def test_no_line_is_wider_than_the_terminal(
    run: Runner, monkeypatch: pytest.MonkeyPatch, command: tuple[Any, ...], columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    found = run(*command).out.splitlines()
    assert found and not [line for line in found if len(line) > columns and not TO_COPY.search(line)]


def test_the_counts_of_accuracy_fit_the_terminal(run: Runner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Written to a file it is Markdown with long lines; on the screen the same is wrapped."""
    assert run("accuracy", "-o", tmp_path / "a.md").code == 0
    for columns in (80, 100, 120):
        monkeypatch.setenv("COLUMNS", str(columns))
        assert max(map(len, screen((tmp_path / "a.md").read_text()).splitlines())) <= columns


HELPS = [(name,) for name in sorted(COMMANDS)] + [
    (name, "--engine", engine)
    for name in ("estimate", "fit", "speed", "plan", "simulate")
    for engine in ("vllm", "llamacpp")
]


@pytest.mark.parametrize("command", HELPS, ids="-".join)
def test_help_fits_the_terminal(run: Runner, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = run(*command, "--help").out.splitlines()
    assert lines and max(map(len, lines)) <= 80
    if command[0] == "estimate":
        assert len(lines) <= 60, "it is read on one screen"


@pytest.mark.parametrize(
    "command", SCREENS[:10], ids=lambda command: "-".join(str(word).removeprefix(str(CASES)) for word in command[:3])
)
def test_breaking_lines_changes_no_word_and_no_number(
    run: Runner, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    wide = run(*command).out.split()
    monkeypatch.setenv("COLUMNS", "80")
    narrow = run(*command).out.replace(" \\\n", " ").split()
    # What the first line has no room for stands on the third.
    assert {word.strip(",;") for word in wide} == {word.strip(",;") for word in narrow}


def test_a_terminal_says_its_own_width(monkeypatch: pytest.MonkeyPatch) -> None:
    from planner.terminal.tables import width

    monkeypatch.delenv("COLUMNS")
    assert width() == 80  # no terminal here
    monkeypatch.setenv("COLUMNS", "20")
    assert width() == 40  # nothing is legible below


def questions() -> list[tuple[str, ...]]:
    """Random questions about memory, with every engine among them."""
    draw = random.Random(13)
    models = ("gpt2", MODEL, "qwen2.5-7b", "gemma-3-12b", "mistral-7b-v0.1", "mixtral-8x7b", "qwen3-32b")
    found = []
    for index in range(200):
        words = [
            "estimate" if index % 3 else "fit",
            draw.choice(models),
            "--gpu",
            draw.choice(("l4", "rtx-4090", "h100-sxm", "a100-40gb")),
        ]
        words += ["--seq", draw.choice(("1k", "8k", "32k", "256k"))] if draw.random() < 0.8 else []
        words += ["--batch", str(draw.choice((1, 4, 16)))] if draw.random() < 0.5 else []
        engine = [*ENGINES, None][index % (len(ENGINES) + 1)]
        words += ["--engine", engine] if engine else []
        found.append(tuple(words))
    return found


@pytest.mark.parametrize("part", range(10))
def test_exit_code_json_and_text_say_the_same(run: Runner, part: int) -> None:
    for words in questions()[part::10]:
        text, machine = run(*words), run(*words, "--json")
        assert text.code == machine.code, words
        if text.code not in (0, 3):
            assert text.out == machine.out == ""
            continue
        verdict = machine.json["verdict"]
        assert (verdict in (FITS, TIGHT, STARTS, STARTS_TIGHT)) or machine.code == 3, (words, verdict)
        second = text.out.splitlines()[1]
        assert verdict is None or (
            verdict.upper().split(" ")[0] in second and ("TIGHTLY" in second) == ("tightly" in verdict)
        ), (words, verdict, second)
        if "--engine" in words:
            assert "refuses to start" in verdict or "REFUSES" not in text.out


def test_the_length_asked_is_the_length_that_a_server_is_started_for(run: Runner) -> None:
    """Without it a server takes the model's own limit, which this card refuses."""
    whole = run("estimate", MODEL, "--gpu", "l4", "--engine", "vllm", "--json")
    assert whole.code == 3 and whole.json["verdict"] == "refuses to start"
    asked = run("estimate", MODEL, "--gpu", "l4", "--engine", "vllm", "--seq", "8k", "--json")
    assert asked.code == 0 and asked.json["engine"]["max_model_len"] == 8192
    longer = run(
        "estimate", MODEL, "--gpu", "l4", "--engine", "vllm", "--seq", "8k", "--max-model-len", "16k", "--json"
    )
    assert longer.json["engine"]["max_model_len"] == 16384


def test_a_command_that_is_refused_is_never_printed(run: Runner) -> None:
    """The flag that mends it is in the command, and the command is then accepted."""
    words = (
        run("estimate", MODEL, "--gpu", "l4", "--engine", "vllm", "--emit", "--json").json["engine"]["command"].split()
    )
    longest = words[words.index("--max-model-len") + 1]
    again = run("estimate", MODEL, "--gpu", "l4", "--engine", "vllm", "--max-model-len", longest, "--json")
    assert again.json["engine"]["refusal"] is None


def test_a_request_beyond_sglangs_pool_is_too_long_and_the_server_is_not_said_to_refuse(run: Runner) -> None:
    words = ("estimate", MODEL, "--gpu", "l4", "--engine", "sglang", "--seq")
    refused = run(*words, "128k", "--json")
    assert (refused.code, refused.json["verdict"]) == (3, "too long")
    said = " ".join(run(*words, "128k").out.split())
    held = re.search(r"TOO LONG: its cache holds requests of ([\d,]+) tokens at most", said)
    assert held and "REFUSES" not in said
    assert run(*words, held[1].replace(",", ""), "--json").json["verdict"].startswith("starts")


def test_fit_gives_one_count_in_headline_json_and_table(run: Runner) -> None:
    found = run("fit", MODEL, "--gpu", "l4", "--seq", "8k", "--engine", "vllm", "--json").json
    assert found["most_sequences"] == found["engine"]["most_requests"]
    assert {"seq_tokens": 8192, "most_sequences": found["most_sequences"]} in found["by_length"]
    text = run("fit", MODEL, "--gpu", "l4", "--seq", "8k", "--engine", "vllm").out.splitlines()[1]
    assert f"{found['most_sequences']} requests" in text


def test_python_gives_the_same_verdict() -> None:
    answer = kvplan.estimate(MODEL, seq="128k", gpu="l4")
    assert answer.verdict is not None and answer.verdict.word == "does not fit" and answer.exit_code == 3
    assert "--kv-dtype" in answer.verdict.line() or "--tp" in answer.verdict.line()


def test_a_server_that_would_not_start_at_the_low_end_starts_tightly(run: Runner) -> None:
    """The low end of the pool holds less than one request: by the estimate it starts, and the line says what decides."""
    words = ("estimate", "llama-3.1-405b", "--dtype", "fp8", "--gpu", "h100", "--tp", "8", "--engine", "vllm==0.5.3")
    found = run(*words, "--seq", "131072", "--json")
    pool, low = found.json["engine"]["pool_tokens"], found.json["engine"]["pool_tokens_low"]
    assert found.code == 0 and found.json["engine"]["most_requests"] * low // pool == 0
    assert found.json["verdict"] == STARTS_TIGHT
    assert "decide it with --activation or a log" in run(*words, "--seq", "131072").out.splitlines()[1]


BEYOND = (
    ("estimate", "gpt2", "--gpu", "l4", "--seq", "8k"),
    ("fit", "gpt2", "--gpu", "l4", "--seq", "8k"),
    ("speed", "gpt2", "--gpu", "l4", "--seq", "8k"),
    ("engines", "gpt2", "--gpu", "l4", "--seq", "8k"),
    ("plan", "gpt2", "--gpu", "l4", "--seq", "8k", "--rate", "1/s"),
    ("simulate", "gpt2", "--gpu", "l4", "--seq", "8k", "--rate", "1/s", "--requests", "5"),
    ("check", "--gpu", "l4", "--", "vllm", "serve", "gpt2", "--max-model-len", "8192"),
)


@pytest.mark.parametrize("command", BEYOND, ids=lambda command: command[0])
def test_a_length_beyond_the_positions_is_a_no_in_every_command(run: Runner, command: tuple[str, ...]) -> None:
    """GPT-2 has 1,024 rows of positions (transformers' GPT2Config.n_positions), whatever the memory says."""
    where = command.index("--") if "--" in command else len(command)
    assert run(*command).code == run(*command[:where], "--json", *command[where:]).code == 3


@pytest.mark.parametrize("engine", [(), ("--engine", "llamacpp"), ("--engine", "transformers")])
def test_scaled_positions_make_the_same_length_a_yes(run: Runner, engine: tuple[str, ...]) -> None:
    words = ("estimate", MODEL, "--gpu", "h200", "--seq", "256k", *engine)
    refused, scaled = run(*words, "--json"), run(*words, "--rope-scaling", "2", "--json")
    assert (refused.code, refused.json["verdict"], refused.json["fits"]) == (3, "only with RoPE scaling", False)
    assert scaled.code == 0 and scaled.json["kv_bytes"] == refused.json["kv_bytes"]


def test_without_a_device_the_bytes_are_counted_and_the_length_is_remarked(run: Runner) -> None:
    found = run("estimate", "gpt2", "--seq", "8k")
    assert found.code == 0 and "KV cache 288.00 MiB" in found.out.splitlines()[1] and "TOO LONG" in found.out
    answer = run("estimate", "gpt2", "--seq", "8k", "--json").json
    assert answer["verdict"] is None and any("1,024 positions" in line for line in answer["warnings"])


def test_memory_bounds_the_batch_of_an_engine_without_a_pool(run: Runner) -> None:
    """transformers keeps no pool: `no bound: nothing is kept` was printed of a model that keeps 512 MiB a request.

    Mistral-7B keeps 4,095 of its window: 32 layers x 2 x 8 heads x 128 x 2 B x 4,095 = 536,739,840 B a sequence.
    """
    found = run("fit", "mistral-7b", "--engine", "transformers", "--gpu", "4090", "--json").json
    assert found["most_sequences"] == run("fit", "mistral-7b", "--gpu", "4090", "--json").json["most_sequences"] == 16
    assert found["sequence_bytes"] == 536_739_840
    assert [row["most_sequences"] for row in found["by_length"]] == sorted(
        (row["most_sequences"] for row in found["by_length"]), reverse=True
    )
    assert "no bound" not in run("fit", "mistral-7b", "--engine", "transformers", "--gpu", "4090").out


@pytest.mark.parametrize(
    "engine, model, stored",
    [
        ("vllm", "deepseek-v3.2", "fp8_ds_mla"),
        ("vllm==0.10.0", "deepseek-v3.2", "bf16"),
        ("vllm", "deepseek-v4-flash", "fp8"),
        ("sglang", "deepseek-v4-flash", "fp8"),
        ("sglang", "deepseek-v3.2", "bf16"),
        ("vllm", "deepseek-v3", "bf16"),
    ],
)
def test_the_cache_is_named_and_counted_as_the_engine_stores_it(
    run: Runner, engine: str, model: str, stored: str
) -> None:
    """DeepSeek-V3.2's record in vLLM: 512 in fp8, 4 scales, 64 in bf16, an index key of 128 in fp8 with its scale: 656 + 132 B."""
    words = (model, "--engine", engine, "--gpu", "h200", "--tp", "8", "--seq", "8k")
    for command in ("estimate", "fit", "speed"):
        said = run(command, *words).out
        assert f"KV in {stored}" in " ".join(said.split("\n\n")[0].split()), said
        assert run(command, *words, "--json").json["kv_dtype"] == stored
    found = run("estimate", *words)
    assert f"8,192 tokens, {stored}" in found.out
    if stored == "fp8_ds_mla":
        assert run("estimate", *words, "--json").json["kv_bytes"] == 8192 * 61 * (656 + 132)

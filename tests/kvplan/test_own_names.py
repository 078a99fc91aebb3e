"""Engines' own flag names on kvplan's command line: answered like kvplan's names, or asked back with what to write."""

from __future__ import annotations

import csv
import json
import re
import shlex
from pathlib import Path

import pytest

from kvplan.cli import main


def run(capsys: pytest.CaptureFixture[str], text: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(shlex.split(text))
    said = capsys.readouterr()
    return int(ended.value.code or 0), said.out, said.err


LLAMA = "estimate qwen3-8b --engine llamacpp"
SAME = {
    f"{LLAMA} -c 32768": f"{LLAMA} --ctx-size 32768",
    f"{LLAMA} -c 32k": f"{LLAMA} --ctx-size 32k",
    f"{LLAMA} --ctx-size 32k -ctk q8_0 -ctv q4_0": f"{LLAMA} --ctx-size 32k --k-dtype q8_0 --v-dtype q4_0",
    f"{LLAMA} --ctx-size 32k --cache-type-k q8_0 --cache-type-v q8_0": f"{LLAMA} --ctx-size 32k --kv-dtype q8_0",
    f"{LLAMA} --ctx-size 32k -fa": f"{LLAMA} --ctx-size 32k --flash-attn on",
    f"{LLAMA} --ctx-size 32k -fa off": f"{LLAMA} --ctx-size 32k --flash-attn off",
    f"{LLAMA} --ctx-size 32k --flash-attn": f"{LLAMA} --ctx-size 32k --flash-attn on",
    f"{LLAMA} -c 32k -ngl 20 -ot exps=CPU -ts 3,1 -nkvo": (
        f"{LLAMA} --ctx-size 32k --n-gpu-layers 20 --override-tensor exps=CPU --tensor-split 3,1 --no-kv-offload"
    ),
    f"{LLAMA} -c 32k -ngl 0 -ncmoe 4": f"{LLAMA} --ctx-size 32k --n-gpu-layers 0 --n-cpu-moe 4",
    f"{LLAMA} -c 32k -ngl all -cmoe": f"{LLAMA} --ctx-size 32k --cpu-moe",
    f"{LLAMA} --ctx-size 32k -np 4 -ub 2048 -b 2048": f"{LLAMA} --ctx-size 32k --parallel 4 --ubatch-size 2048 --batch-size 2048",
    "estimate qwen3-8b --engine vllm -tp 2 -q fp8 --kv-cache-dtype fp8 --max_num_seqs 16 --max-model-len 8k": (
        "estimate qwen3-8b --engine vllm --tp 2 --dtype fp8 --kv-dtype fp8 --max-num-seqs 16 --max-model-len 8k"
    ),
    "estimate qwen3-8b --engine vllm --tensor-parallel-size=2 --pipeline-parallel-size 2 --seq 8k": (
        "estimate qwen3-8b --engine vllm --tp 2 --pp 2 --seq 8k"
    ),
    "estimate qwen3-8b --engine vllm --dtype auto --kv-cache-dtype auto --seq 8k": "estimate qwen3-8b --engine vllm --seq 8k",
    "estimate qwen3.5-27b --engine vllm --seq 8k --speculative-config.num_speculative_tokens 3": (
        "estimate qwen3.5-27b --engine vllm --seq 8k --num-speculative-tokens 3"
    ),
    "estimate qwen3-8b --engine sglang --tp-size 2 --context-length 8192 --page-size 64": (
        "estimate qwen3-8b --engine sglang --tp 2 --max-model-len 8192 --block-size 64"
    ),
    "estimate qwen3-8b --engine lmdeploy --session-len 8192 --quant-policy 8": (
        "estimate qwen3-8b --engine lmdeploy --max-model-len 8192 --kv-dtype int8"
    ),
    "estimate qwen3-8b --engine tensorrt-llm --tp_size 2 --max_seq_len 8192": (
        "estimate qwen3-8b --engine tensorrt-llm --tp 2 --max-model-len 8192"
    ),
    "estimate qwen3-8b --seq 8k --dtype UD-Q4_K_XL": "estimate qwen3-8b-UD-Q4_K_XL --seq 8k",
    "estimate qwen3-8b --seq 8k --dtype 4.0bpw": "estimate qwen3-8b-4.0bpw --seq 8k",
    "fit qwen3-8b --gpu l4 --seq 8k --dtype 4bit": "fit qwen3-8b-4bit --gpu l4 --seq 8k",
    "estimate qwen3-8b --engine ollama --num-ctx 8192": "estimate qwen3-8b --engine ollama --ctx-size 8192",
    "estimate qwen3-8b --engine lmstudio --context-length 8192": "estimate qwen3-8b --engine lmstudio --ctx-size 8192",
    "simulate qwen3-8b --gpu h100-sxm --engine vllm -tp 2 --rate 2 --prompt 1k --answer 16 --requests 20": (
        "simulate qwen3-8b --gpu h100-sxm --engine vllm --tp 2 --rate 2 --prompt 1k --answer 16 --requests 20"
    ),
    "fit qwen3-8b --gpu h100-sxm --engine vllm -tp 2 --max-model-len 8192": (
        "fit qwen3-8b --gpu h100-sxm --engine vllm --tp 2 --max-model-len 8192"
    ),
    "speed qwen3-8b --gpu h100-sxm --engine vllm --tensor-parallel-size 2": (
        "speed qwen3-8b --gpu h100-sxm --engine vllm --tp 2"
    ),
}  # fmt: skip


@pytest.mark.parametrize("theirs", SAME)
def test_an_engines_name_is_answered_like_ours(capsys: pytest.CaptureFixture[str], theirs: str) -> None:
    code, out, err = run(capsys, f"{theirs} --json")
    ours = run(capsys, f"{SAME[theirs]} --json")
    assert (code, json.loads(out)) == (ours[0], json.loads(ours[1])) and err == ours[2] == ""


@pytest.mark.parametrize(
    "flags, said",
    [
        ("--n-cpu-ffn 4", "kvplan check reads it"),
        ("--mmproj x.gguf", "encoder"),
        ("-md draft.gguf", "a drafter is a model of its own"),
        ("-np 0 --jinja", "no effect on memory or speed"),
        ("--threads 8", "not counted"),
        ("--api-key hunter2", "no effect on memory or speed"),
    ],
)
def test_what_is_not_in_the_answer_is_said(capsys: pytest.CaptureFixture[str], flags: str, said: str) -> None:
    code, out, err = run(capsys, f"{LLAMA} --ctx-size 32k {flags} --json")
    assert code == 0 and json.loads(out) and said in err and err.count("\n") == 1 and "hunter2" not in err


def test_where_weights_lie_is_asked_of_a_command_that_answers_it(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "simulate qwen3-8b --engine llamacpp -c 32768 --gpu rtx-4090 --n-cpu-moe 20")
    assert code == 2
    assert "kvplan check --gpu rtx-4090 --model qwen3-8b -- llama-server -c 32768 --n-cpu-moe 20" in err


def test_speed_answers_for_layers_in_host_memory(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "speed qwen3-8b --engine llamacpp -c 32768 --gpu rtx-4090 -ngl 20 --batch 1")
    assert (
        code == 0 and "in host memory: " in out and "of the weights besides experts" in out and "Traceback" not in err
    )


@pytest.mark.parametrize(
    "text, said",
    [
        (f"{LLAMA} --ctx-size 32k --drafter qwen3-0.6b", "ask kvplan fit"),
        ("estimate qwen3-8b --seq 8k --tensor-parallel-size 2", "say so with --engine vllm"),
        ("estimate qwen3-8b -c 32768", "say so with --engine llamacpp"),
        ("fit qwen3-8b --gpu l4 --nonesuch", "No such option"),
        ("estimate qwen3-8b --seq 8k --engine jan", "jan runs llama.cpp: write --engine llamacpp"),
        ("estimate qwen3-8b --seq 8k --engine mistralrs", "leave --engine out"),
        ("estimate qwen3-8b --seq 8k --engine ktransformers", "leave --engine out"),
        (f"{LLAMA} -c abc", "--ctx-size 'abc' is not a"),
        (f"{LLAMA} -c", "-c wants a value"),
        ("estimate qwen3-8b --engine vllm --seq 8k --nonesuch 3", "No such option"),
    ],
)
def test_what_is_not_understood_is_asked_back_in_one_line(
    capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    code, out, err = run(capsys, text)
    assert code in (1, 2) and not out and said in err and err.count("\n") == 1


FIELD = Path(__file__).parents[1] / "cases" / "flags" / "field.csv"
WHAT_TO_DO = re.compile(
    r"choose one of|write |leave --engine out|ask kvplan|are one machine|give |of this size are about"
)


def test_every_command_line_from_the_field_is_answered_or_asked_back(capsys: pytest.CaptureFixture[str]) -> None:
    """The rows are what people wrote; an answer may be that it does not fit, a refusal says what to do."""
    wrong = {}
    for row in csv.DictReader(FIELD.read_text().splitlines()):
        code, out, err = run(capsys, row["command"].removeprefix("kvplan "))
        answered = code in (0, 3) and out
        asked_back = code in (1, 2) and not out and err.count("\n") == 1 and WHAT_TO_DO.search(err)
        if not (answered or asked_back):
            wrong[row["command"]] = (code, err)
    assert wrong == {}

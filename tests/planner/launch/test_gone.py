"""A flag that a release has no longer is said: a reason where the command names the release, else a note.

The releases are those of the parsers: vLLM's arg_utils of 0.17.1 has --swap-space, of 0.18.1 has not; llama.cpp's
parser of v0.5.0 holds "the argument has been removed. use --spec-draft-n-max".
"""

from __future__ import annotations

from pathlib import Path

import pytest

from planner.launch.gone import GONE, gone
from planner.launch.read import TABLES, questions_in

CASES = Path(__file__).parents[2] / "cases" / "flags"
LISTS = {"vllm": "vllm-0.33.0", "sglang": "sglang-0.5.23", "llamacpp": "llamacpp-0.5.0"}


@pytest.mark.parametrize("engine", GONE)
def test_what_is_gone_is_not_in_the_newest_parser_and_still_classified(engine: str) -> None:
    lines = (CASES / f"{LISTS[engine]}.txt").read_text().splitlines()
    there = {flag for line in lines for flag in line.split("\t")[0].split()}
    assert not there & set(GONE[engine])
    assert all(TABLES[engine].find(flag)[0] is not None for flag in GONE[engine])


@pytest.mark.parametrize(
    ("command", "flags"),
    [
        ("vllm serve Qwen/Qwen3-8B --swap-space 8", ["--swap-space"]),
        ("docker run vllm/vllm-openai:v0.17.1 --model Qwen/Qwen3-8B --swap_space 8", []),
        ("docker run vllm/vllm-openai:v0.18.1 --model Qwen/Qwen3-8B --swap_space 8", ["--swap-space"]),
        (
            "docker run vllm/vllm-openai:v0.10.1 --model Qwen/Qwen3-8B --num-scheduler-steps 8",
            [],
        ),  # between two read ones
        ("python -m sglang.launch_server --model-path Qwen/Qwen3-8B --torchao-config int4wo-128", ["--torchao-config"]),
        ("llama-server -m Qwen3-8B-Q8_0.gguf --draft-max 8", ["--draft-max"]),
        ("llama-server -m Qwen3-8B-Q8_0.gguf --spec-draft-n-max 8", []),
    ],
)
def test_a_flag_is_gone_from_its_release_on(command: str, flags: list[str]) -> None:
    (question,) = questions_in(command)
    assert [row.flag for row in gone(question)] == flags


def test_a_named_release_refuses_and_an_unnamed_one_is_told() -> None:
    from kvplan import check

    named = check("docker run vllm/vllm-openai:v0.20.0 --model Qwen/Qwen3-8B --task generate", gpu="h200").to_dict()
    assert not named["starts"] and "--task is no flag of this release" in named["reasons"][0]
    unnamed = check("vllm serve Qwen/Qwen3-8B --task generate", gpu="h200").to_dict()
    assert unnamed["starts"] and any("--task is gone from newer releases" in note for note in unnamed["notes"])

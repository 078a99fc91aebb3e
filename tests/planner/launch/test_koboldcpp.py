"""KoboldCpp's start command: one slot, its own names for layers, types and experts."""

from __future__ import annotations

import json
import shlex

import pytest

from planner.errors import BadRequest
from planner.launch.program import program_of
from planner.launch.read import question_of
from planner.launch.words import Command
from tests.kvplan.test_own_names import run


def test_its_flags_are_those_of_llama_cpp_by_other_names() -> None:
    line = "koboldcpp --model Qwen3-30B-A3B-Q4_K_M.gguf --contextsize 16384 --gpulayers 40 --moecpu 12 --quantkv 1 --tensor_split 3 1"
    found = question_of(shlex.split(line))
    assert (found.engine, found.weights, found.k_dtype, found.v_dtype) == ("koboldcpp", "Q4_K_M", "q8_0", "q8_0")
    assert found.placement is not None and found.placement.shares == (3.0, 1.0)
    assert (found.placement.layers, found.placement.expert_layers) == (40, 12)
    assert (found.seq_tokens, found.options.ctx_size, found.options.parallel) == (16384, 16384, 1)
    assert found.options.flash_attn is True


def test_the_model_may_stand_alone_and_a_switch_takes_no_number() -> None:
    """`koboldcpp MODEL PORT`; --moecpu alone is all experts, --gpulayers alone is one layer."""
    found = question_of(shlex.split("python koboldcpp.py gemma-3-27b-it-Q4_K_M.gguf 5001 --moecpu --gpulayers"))
    assert found.model == "gemma-3-27b-it-Q4_K_M.gguf" and not [
        flag for flag in found.flags if flag.kind == "not known"
    ]
    assert found.placement is not None and (found.placement.layers, found.placement.expert_layers) == (1, 999)
    assert found.seq_tokens == 8192 and "no --contextsize" in found.notes[0]
    assert question_of(shlex.split("koboldcpp --usecpu --model m.gguf")).placement.layers == 0  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "name",
    [
        "koboldcpp",
        "./koboldcpp-linux-x64",
        "koboldcpp.exe",
        "koboldcpp_nocuda.exe",
        "koboldcpp-linux-x64-nocuda-1.113.2",
    ],
)
def test_it_is_known_by_its_files_names(name: str) -> None:
    found = program_of(Command((name, "--model", "m.gguf")))
    assert found is not None and found.name == "koboldcpp"


def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(BadRequest, match="--quantkv 7 is not known"):
        question_of(shlex.split("koboldcpp --model m.gguf --quantkv 7"))


def test_the_cache_is_the_engines_and_advice_is_in_its_words(capsys: pytest.CaptureFixture[str]) -> None:
    """Issue 1054 of KoboldCpp: cells of 128 more than the context in the newest releases; Llama-3.1-8B keeps 128 KiB a token."""
    line = "check --gpu 3060 --json -- koboldcpp --model Llama-3.1-8B-Instruct-Q8_0.gguf --contextsize 32768 --gpulayers 99"
    found = json.loads(run(capsys, line)[1])
    assert found["engine_answer"]["kv_bytes"] == (32768 + 256) * 128 * 1024
    assert found["engine"] == "koboldcpp" and not found["starts"]
    advice = " ".join(one["change"] for one in found["advice"])
    assert "--quantkv 1" in advice and "--gpulayers" in advice and "-ngl" not in advice

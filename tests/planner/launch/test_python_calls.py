"""An engine made in Python is read as the command of the same settings; nothing of the text is run."""

from __future__ import annotations

import pytest

from planner.launch.python_calls import python_commands
from planner.launch.read import one_question

TEXT = """
from vllm import LLM, SamplingParams
NAME = "Qwen/Qwen3-8B"
llm = LLM(model=NAME, tensor_parallel_size=2, max_model_len=8192, enforce_eager=True, seed=unknown())
"""


def test_a_call_is_the_command_of_the_same_settings() -> None:
    found = one_question(TEXT)
    assert (found.engine, found.model, found.tp, found.seq_tokens) == ("vllm", "Qwen/Qwen3-8B", 2, 8192)
    assert any("seed" in note for note in found.notes)  # not a constant: named, never guessed


def test_sglangs_engine_takes_model_path() -> None:
    found = one_question("import sglang as sgl\nengine = sgl.Engine(model_path='Qwen/Qwen3-8B', tp_size=2)")
    assert (found.engine, found.model, found.tp) == ("sglang", "Qwen/Qwen3-8B", 2)


@pytest.mark.parametrize("text", ["LLM(", "x = LLM", "LLM(**" + "(" * 500, "def f(:\n LLM(model='a')", "LLM()"])
def test_what_is_no_python_makes_no_command(text: str) -> None:
    assert python_commands(text) == []

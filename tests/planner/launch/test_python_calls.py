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


def test_a_sum_of_constants_is_a_constant() -> None:
    found = one_question("STEP = 4096\nllm = LLM(model='Qwen/Qwen3-8B', max_model_len=STEP * 2 + 1)")
    assert found.seq_tokens == 8193
    hostile = "LLM(model='Qwen/Qwen3-8B', max_model_len=" + "99999999 * " * 40 + "9)"
    assert any("max_model_len" in note for note in one_question(hostile).notes)


def test_settings_that_go_in_as_one_argument_are_read() -> None:
    lmdeploy = "pipe = pipeline('org/Qwen3-8B', backend_config=TurbomindEngineConfig(tp=2, session_len=4096))"
    found = one_question(lmdeploy)
    assert (found.engine, found.model, found.tp, found.seq_tokens) == ("lmdeploy", "org/Qwen3-8B", 2, 4096)
    assert python_commands("pipe = pipeline('text-generation', model='gpt2')") == []  # of transformers


def test_an_llm_of_tensorrt_is_no_llm_of_vllm() -> None:
    text = "from tensorrt_llm import LLM\nLLM(model='Qwen/Qwen3-8B', kv_cache_config=KvCacheConfig(free_gpu_memory_fraction=0.8))"
    found = one_question(text)
    assert (found.engine, float(found.options.fraction or 0)) == ("tensorrt-llm", 0.8)


def test_sums_within_sums_are_read_to_a_depth_and_no_further() -> None:
    """1,500 of them ended in a RecursionError; a setting has two or three."""
    most = one_question("LLM(model='Qwen/Qwen3-8B', max_model_len=" + " + ".join(["128"] * 17) + ")")
    assert most.seq_tokens == 17 * 128
    for deep in (18, 900, 1500):
        found = one_question("LLM(model='Qwen/Qwen3-8B', max_model_len=" + "+".join(["128"] * deep) + ")")
        assert found.seq_tokens is None and any("max_model_len" in note for note in found.notes)
    named = "N = " + "+".join(["1"] * 1500) + "\nLLM(model='Qwen/Qwen3-8B', max_model_len=N)"
    assert one_question(named).seq_tokens is None

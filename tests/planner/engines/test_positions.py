"""A request beyond the model's positions: what each engine makes of it, by its own source."""

from __future__ import annotations

import pytest

from planner.answers.engine import engine_answer
from planner.answers.estimate import EstimateAnswer, estimate_answers
from planner.answers.verdict import REFUSES, SCALED, STARTS, TOO_LONG
from planner.engines.registry import ENGINES
from planner.errors import KvplanError, UsageError
from planner.options.estimate import estimate_asked
from planner.options.tables import ESTIMATE, given

YARN = {
    "model_type": "qwen2", "hidden_size": 896, "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2,
    "intermediate_size": 4864, "vocab_size": 151936, "max_position_embeddings": 32768, "tie_word_embeddings": True,
    "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768},
}  # fmt: skip
REFUSING = ("vllm", "vllm-v0", "vllm-v1", "sglang")


def asked(model: object, seq: int, engine: str | None = None, **more: object) -> EstimateAnswer:
    values = {"gpu": "h100-sxm", "seq": seq, "engine": engine, **more}
    return estimate_answers(estimate_asked({**given(ESTIMATE, values, "a flag"), "model": model}))[0]


@pytest.mark.parametrize("engine", sorted(ENGINES))
def test_no_engine_takes_more_tokens_than_a_table_of_positions_has_rows(engine: str) -> None:
    try:
        answer = asked("gpt2", 8192, engine)
    except KvplanError:
        pytest.skip("this engine does not run the model")
    assert answer.exit_code == 3 and answer.to_dict()["fits"] is False
    assert answer.engine is not None and answer.engine.most_requests == 0
    assert answer.verdict is not None
    assert answer.verdict.word == (REFUSES if engine in REFUSING else TOO_LONG)
    assert asked("gpt2", 1024, engine).exit_code == 0


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_a_server_that_refuses_starts_with_the_models_own_length(engine: str) -> None:
    """vLLM `_get_and_verify_max_len`, SGLang `_derive_context_length`: a ValueError unless a variable is set."""
    refused = asked("llama-3.1-8b", 262_144, engine)
    assert refused.verdict is not None and refused.verdict.word == REFUSES
    assert refused.verdict.mends[0].endswith(" 131072") and refused.verdict.mends[1] == "--rope-scaling 2"
    flag = {"max_model_len": 131_072}
    assert asked("llama-3.1-8b", 131_072, engine, **flag).exit_code == 0
    assert asked("llama-3.1-8b", 262_144, engine, rope_scaling=2).exit_code == 0


@pytest.mark.parametrize(("engine", "words"), [("llamacpp", "caps a slot"), ("tensorrt-llm", "max_seq_len")])  # fmt: skip
def test_a_server_that_takes_less_says_so(engine: str, words: str) -> None:
    answer = asked("llama-3.1-8b", 262_144, engine)
    assert answer.verdict is not None and answer.verdict.word == SCALED and words in answer.verdict.text
    assert answer.exit_code == 3 and answer.engine is not None and "REFUSES" not in answer.verdict.text


def test_ollama_has_no_flag_that_scales() -> None:
    """llm/server.go lowers num_ctx to the file's context length, and no option changes that."""
    for more in ({}, {"rope_scaling": 2}):
        answer = asked("llama-3.1-8b", 262_144, "ollama", **more)
        assert answer.exit_code == 3 and answer.verdict is not None and answer.verdict.word == TOO_LONG


def test_koboldcpp_scales_by_itself() -> None:
    answer = asked("llama-3.1-8b", 262_144, "koboldcpp")
    assert answer.exit_code == 0 and answer.verdict is not None and answer.verdict.word == STARTS
    assert any("scales RoPE by itself" in line for line in answer.engine.reasons)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("engine", "code"), [("vllm==0.20.0", 0), ("vllm==0.29.0", 0), ("vllm==0.30.0", 3), ("vllm", 3), ("sglang", 3)]
)
def test_yarn_in_a_config_lifts_the_limit_where_the_engine_reads_it(engine: str, code: int) -> None:
    """vLLM to 0.29 takes original x factor; from 0.30 max_position_embeddings as it stands, as SGLang does."""
    assert asked(YARN, 131_072, engine).exit_code == code
    assert asked({**YARN, "max_position_embeddings": 131_072}, 131_072, engine).exit_code == 0


def test_the_pool_stays_what_memory_makes_it() -> None:
    """The refusal is of the model, not of the card."""
    flag = {"max_model_len": 8192}
    one = asked("gpt2", 1024, "vllm", max_num_batched_tokens=2048, **flag)
    assert one.engine is not None and one.engine.ranged is not None
    assert one.engine.ranged.pool.bytes > 0 and one.engine.fits is False
    assert one.asked is not None and engine_answer(one.asked, one).refusal == one.engine.refusal


@pytest.mark.parametrize("engine", ["llamacpp", "ollama", "tensorrt-llm", "lmdeploy", "vllm", "sglang"])
def test_a_start_command_never_asks_for_more_than_the_model_has(engine: str) -> None:
    answer = asked("llama-3.1-8b", 262_144, engine, emit=True)
    assert answer.command is not None and "131072" in answer.command and "262144" not in answer.command


def test_a_start_command_scales_where_the_engine_has_a_flag() -> None:
    """llama.cpp re-adjusts n_ctx_train by --rope-scale and --yarn-orig-ctx: "custom YaRN scaling detected"."""
    words = asked("qwen3-8b", 131_072, "llamacpp", emit=True, rope_scaling=4).command or ""
    assert "--rope-scaling yarn --rope-scale 4 --yarn-orig-ctx 40960" in words and "--ctx-size 131072" in words
    with pytest.raises(UsageError, match="RoPE scaling"):
        asked("qwen3-8b", 131_072, "vllm", emit=True, rope_scaling=4)

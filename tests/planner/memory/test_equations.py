"""The equations that are shown: their numbers come to the bytes, and the fields behind them are named."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.lookup import model_spec
from planner.memory.equations import equations, explanation
from planner.memory.estimate import estimate
from planner.memory.request import Request

NAMES = ["llama-7b", "gpt2", "gemma-3-27b", "llama-4-scout", "deepseek-v3", "deepseek-v3.2", "t5-base",
"whisper-large-v3",
         "mamba-2.8b", "jamba-v0.1", "qwen3-next-80b-a3b", "gpt-oss-20b",
         "gemma-3n-e2b"]  # fmt: skip
SPECS = {name: model_spec(name) for name in NAMES}


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
@settings(max_examples=10, deadline=None)
@given(tokens=st.integers(1, 10**6), batch=st.integers(1, 1000), name=st.sampled_from(["bf16", "fp8", "int8", "fp32"]))
def test_each_equation_comes_to_its_bytes_and_together_to_the_whole(
    spec: object, tokens: int, batch: int, name: str
) -> None:
    answer = estimate(spec, Request(tokens, batch, k_dtype=name, v_dtype=name))  # type: ignore[arg-type]
    found = equations(answer)
    for equation in found:
        assert arithmetic(equation.text) == equation.bytes
    assert sum(equation.bytes for equation in found) == answer.kv_bytes + answer.state_bytes


def arithmetic(text: str) -> int:
    """The value of an equation as it is printed: names of state tensors and units are words only."""
    bare = re.sub(r"\b[a-zA-Z_]\w*\b", " ", text.replace(" x ", " * "))
    assert re.fullmatch(r"[\d\s*+()]+", bare), text
    value = eval(bare)
    assert isinstance(value, int)
    return value


def test_llama_7b_at_8192_is_the_equation_of_the_textbooks() -> None:
    (only,) = equations(estimate(SPECS["llama-7b"], Request(8192)))
    assert only.text == "2 x 1 x 8192 x 32 x 128 x 2 B x 32 layers"
    assert only.symbols == "2 (K and V) x batch x tokens x KV heads x head_dim x bytes x layers"
    assert only.bytes == 4 * 2**30


def test_unequal_layers_have_an_equation_each() -> None:
    kinds = {equation.kind: equation.layers for equation in equations(estimate(SPECS["gemma-3-27b"], Request(8192)))}
    assert kinds == {"sliding window 1024": 52, "full attention": 10}


def test_the_config_fields_behind_a_group_are_named() -> None:
    assert "num_key_value_heads" in equations(estimate(SPECS["gemma-3-27b"], Request(1)))[0].fields


def test_quantised_caches_are_written_as_pairs_of_vectors() -> None:
    (only,) = equations(estimate(SPECS["llama-7b"], Request(10, k_dtype="q8_0", v_dtype="q4_0")))
    assert only.text == "1 x 10 x 32 x (136 + 72) B x 32 layers"
    assert "K + one V" in only.symbols


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_the_long_answer_has_every_part(spec: object) -> None:
    text = "\n".join(explanation(estimate(spec, Request(1000))))  # type: ignore[arg-type]
    for word in ("weights:", "activations:", "context:", "allocator:"):
        assert word in text
    assert "\x1b" not in text


def test_layers_that_keep_nothing_are_counted() -> None:
    text = "\n".join(explanation(estimate(SPECS["gemma-3n-e2b"], Request(1000))))
    assert re.search(r"\d+ of 30 layers keep nothing", text)

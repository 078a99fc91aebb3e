"""TabbyAPI's config.yml and its flags of the same names (config_sample.yml of August 2026)."""

from __future__ import annotations

import shlex

import pytest

from planner.errors import BadRequest
from planner.launch.read import question_of, questions_in
from planner.launch.tabbyapi import cache_bits
from tests.kvplan.test_own_names import run

CONFIG = """
network: {host: 127.0.0.1, port: 5000}
model:
  model_name: Llama-3.1-8B-Instruct-exl3-4.0bpw
  max_seq_len: 32768
  cache_size: 65536
  cache_mode: 8,4
  gpu_split: [20, 24]
draft_model: {draft_mode: mtp, draft_num_tokens: 3}
"""


def test_a_config_is_a_question() -> None:
    (asked,) = questions_in(CONFIG)
    assert (asked.engine, asked.model, asked.seq_tokens) == ("exllamav3", "Llama-3.1-8B-Instruct-exl3-4.0bpw", 32_768)
    assert (asked.k_dtype, asked.v_dtype, asked.tp, asked.pp) == ("exl3_q8", "exl3_q4", 1, 2)
    assert asked.options.ctx_size == 65_536 and asked.options.num_speculative_tokens == 3
    assert asked.drafting is not None and asked.drafting.method == "mtp"
    assert {flag.name for flag in asked.flags if flag.kind == "not known"} == set()


def test_flags_are_the_keys_of_the_config() -> None:
    words = [
        "tabbyapi",
        "--model-name",
        "m",
        "--cache-size",
        "8192",
        "--cache-mode",
        "Q6",
        "--tensor-parallel",
        "true",
        "--gpu-split",
        "20",
        "20",
    ]
    asked = question_of(words)
    assert (asked.options.ctx_size, asked.k_dtype, asked.tp, asked.pp) == (8192, "exl3_q6", 2, 1)


def test_max_seq_len_is_no_more_than_the_cache() -> None:
    (asked,) = questions_in(CONFIG.replace("65536", "16384"))
    assert asked.seq_tokens == 16_384 and any("more than the cache" in note for note in asked.notes)


@pytest.mark.parametrize("mode", ["Q5", "9,9", "4", "", "8;8", "fp8"])
def test_a_cache_mode_that_is_none_is_one_line(mode: str) -> None:
    with pytest.raises(BadRequest, match="cache_mode"):
        cache_bits(mode)


def test_a_config_of_vllm_is_none_of_it() -> None:
    (asked,) = questions_in("model: Qwen/Qwen3-8B\nmax_model_len: 8192\n")
    assert asked.engine == "vllm"


def test_words_beside_the_model_are_named_and_the_model_is_not() -> None:
    asked = question_of(["tabbyapi", "some-model-exl3-4.0bpw", "stray", "--cache-size", "8192"])
    assert asked.model == "some-model-exl3-4.0bpw"
    assert [flag.name for flag in asked.flags if flag.kind == "not known"] == ["stray"]


@pytest.mark.parametrize(
    "words", [["fit", "--seq", "4k", "--emit"], ["simulate", "--rate", "1", "--prompt", "100", "--answer", "9"]]
)
def test_what_is_not_done_for_exllama_is_refused_in_one_line_that_names_it(
    capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    command, *rest = words
    code, out, err = run(capsys, shlex.join([command, "llama-2-7b", "--gpu", "3090", "--engine", "exllamav3", *rest]))
    assert (code, out, err.count("\n")) == (code, "", 1) and code in (1, 2)
    assert ("config.yml" if command == "fit" else "exllamav3 is not simulated") in err

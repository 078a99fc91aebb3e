"""Start commands of mlx-lm and LM Studio: what they say, and what they leave to defaults."""

from __future__ import annotations

import json
import shlex

import pytest

from planner.errors import BadRequest
from planner.launch.question import Question
from planner.launch.read import question_of
from tests.kvplan.test_own_names import run


def asked(line: str) -> Question:
    return question_of(shlex.split(line))


@pytest.mark.parametrize(
    ("start", "said"),
    [
        ("mlx_lm.server", "mlx_lm.server"),
        ("python -m mlx_lm.server", "python -m mlx_lm.server"),
        ("mlx_lm server", "mlx_lm.server"),
        ("mlx_lm.generate -p hello -m 100", "mlx_lm.generate"),
        ("uv run mlx_lm.chat", "mlx_lm.chat"),
    ],
)
def test_mlx_is_read_under_each_of_its_names(start: str, said: str) -> None:
    found = asked(f"{start} --model mlx-community/Qwen3-8B-4bit")
    assert (found.engine, found.said, found.model) == ("mlx", said, "mlx-community/Qwen3-8B-4bit")
    assert {flag.kind for flag in found.flags} <= {"used", "no effect"}


def test_mlx_cache_bits_are_types_of_as_many_bits_a_number() -> None:
    """4 and 8 bits, a scale and a bias of 16 bit for 64 numbers: 4.5 and 8.5."""
    types = [asked(f"mlx_lm.server --model m --kv-bits {bits}").k_dtype for bits in (4, 8)]
    assert types == ["int4", "q8_0"]
    with pytest.raises(BadRequest, match="--kv-bits 3"):
        asked("mlx_lm.server --model m --kv-bits 3")


def test_lms_load_takes_lm_studios_defaults_for_what_it_does_not_say() -> None:
    found = asked("lms load qwen/qwen3-8b --gpu max -y")
    assert (found.engine, found.model, found.usual_weights) == ("lmstudio", "qwen/qwen3-8b", "Q4_K_M")
    assert (found.seq_tokens, found.options.parallel) == (4096, 1)
    longer = asked("lms load qwen/qwen3-8b@q8_0 --context-length 16384 --parallel 2 --gpu off")
    assert (longer.weights, longer.options.ctx_size) == (None, 32768)
    assert longer.placement is not None and longer.placement.layers == 0
    with pytest.raises(BadRequest, match="read as max or off"):
        asked("lms load m --gpu 0.5")


@pytest.mark.parametrize(
    ("name", "weights"),
    [("qwen3-8b-q6_k", "q6_k"), ("qwen/qwen3-8b@q8_0", "q8_0"), ("qwen3-8b-iq4_xs", "iq4_xs"), ("qwen3-8b", "q4_k_m"),
     ("lmstudio-community/Qwen3-8B-GGUF", "q4_k_m"), ("lmstudio-community/Qwen3-8B-MLX-8bit", "mlx_int8")],
)  # fmt: skip
def test_lms_load_takes_the_type_that_the_name_says(
    capsys: pytest.CaptureFixture[str], name: str, weights: str
) -> None:
    """qwen3-8b-q6_k was answered as Q4_K_M, 4.3 GiB of weights in place of 6.3."""
    _, out, _ = run(capsys, f"check --gpu 3090 --json -- lms load {name}")
    assert weights in json.loads(out)["weight_dtype"]
    assert ("the name says no type" in out) == (name == "qwen3-8b")


def test_check_answers_an_mlx_command_for_requests_of_8k_or_the_asked_length(
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = "--gpu m3-max-64gb -- mlx_lm.server --model mlx-community/Qwen3-8B-4bit"
    for more, words in (("", "STARTS: 41 requests of 8k tokens"), ("--seq 32k", "requests of 32k tokens")):
        code, out, _ = run(capsys, f"check {more} {command}")
        assert code == 0 and words in " ".join(out.split())

"""What vLLM and SGLang refuse by compute capability, in the words and by the limits of their sources."""

from __future__ import annotations

from typing import Any

import pytest

from planner.engines import sglang, vllm
from planner.engines.base import EngineAnswer, Options
from planner.lookup import device as find_device
from planner.lookup import model_spec as find_model
from planner.memory.estimate import estimate
from planner.memory.request import Request, device_capacity


def answered(model: str, gpu: str, version: str, options: Options, **request: Any) -> EngineAnswer:
    asked = estimate(find_model(model), Request(2048, **request), device_capacity(find_device(gpu)))
    return vllm.answer(asked, options, version)


@pytest.mark.parametrize(
    ("model", "gpu", "version", "options", "request_", "why"),
    [
        # platforms/cuda.py check_if_supports_dtype
        ("qwen2.5-3b", "t4", "0.33.0", Options(compute_dtype="bfloat16"), {}, "Turing has 7.5"),
        ("qwen2.5-3b", "v100-32gb", "0.9.2", Options(), {"dtype": "bf16"}, "Volta has 7.0"),
        ("qwen2.5-3b", "a10", "0.33.0", Options(compute_dtype="bfloat16"), {}, None),
        ("qwen2.5-3b", "t4", "0.33.0", Options(), {}, None),  # auto takes float16 there
        ("qwen2.5-3b", "t4", "0.33.0", Options(compute_dtype="half"), {}, None),
        # triton_attn.py from 0.24, when FlashInfer began to want 8.0
        ("qwen2.5-3b", "t4", "0.24.0", Options(), {"k_dtype": "fp8", "v_dtype": "fp8"}, "fp8 KV cache"),
        ("qwen2.5-3b", "t4", "0.23.0", Options(), {"k_dtype": "fp8", "v_dtype": "fp8"}, None),
        ("qwen2.5-3b", "a10", "0.33.0", Options(), {"k_dtype": "fp8", "v_dtype": "fp8"}, None),
        # get_min_capability
        ("qwen2.5-7b-awq", "v100-32gb", "0.33.0", Options(), {}, "at least 7.5"),
        ("qwen2.5-7b-awq", "t4", "0.33.0", Options(), {}, None),
        ("gpt-oss-20b", "quadro-rtx-8000", "0.33.0", Options(), {}, "at least 8.0"),
        ("qwen3-4b-fp8", "t4", "0.13.0", Options(), {}, "at least 8.0"),
        ("qwen3-4b-fp8", "t4", "0.14.1", Options(), {}, None),
        # config/model.py _FLOAT16_NOT_SUPPORTED_MODELS
        ("gemma-2-2b", "l4", "0.33.0", Options(compute_dtype="float16"), {}, "does not support float16"),
    ],
)
def test_vllm_refuses_what_a_card_cannot(
    model: str, gpu: str, version: str, options: Options, request_: dict[str, Any], why: str | None
) -> None:
    found = answered(model, gpu, version, options, **request_).refusal
    assert (found is None) if why is None else (found is not None and why in found.text)


def test_sglang_runs_in_float16_by_itself_and_refuses_fp8_weights_before_ampere() -> None:
    card = device_capacity(find_device("t4"))
    plain = sglang.answer(estimate(find_model("qwen2.5-3b"), Request(2048, dtype="bf16"), card), Options(), None)
    fp8 = sglang.answer(estimate(find_model("qwen3-4b-fp8"), Request(2048), card), Options(), None)
    assert plain.refusal is None
    assert fp8.refusal is not None and "Turing has 7.5" in fp8.refusal.text


def test_a_type_without_float16_runs_in_float32_where_there_is_no_bfloat16() -> None:
    """vLLM 0.9.2 to 0.33.0 `_FLOAT16_NOT_SUPPORTED_MODELS`: weights and cache of Gemma 3 on a T4 are twice those in 16 bit."""
    spec = find_model("gemma-3-1b")
    cards = [device_capacity(find_device(name)) for name in ("t4", "l4")]
    asked = [
        vllm.answer(estimate(spec, Request(seq_tokens=2048), card), Options(max_model_len=2048), "0.11.0")
        for card in cards
    ]
    assert asked[0].request_bytes == 2 * asked[1].request_bytes
    assert any("takes float32" in reason for reason in asked[0].reasons)
    assert not any("float32" in reason for reason in asked[1].reasons)

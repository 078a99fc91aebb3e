"""mlx-lm's cache: steps of 256 tokens, windows that rotate, the memory that Metal wires down."""

from __future__ import annotations

import pytest

from planner.catalogue.entries import find_model
from planner.engines import mlx
from planner.engines.base import Options
from planner.engines.registry import parse_engine
from planner.lookup import model_spec
from planner.memory.estimate import Estimate, estimate
from planner.memory.request import Capacity, Request
from planner.readers import read_entry
from planner.units import GIB


def asked(name: str, seq: int, size: int = 24 * GIB, kv: str | None = None) -> Estimate:
    request = Request(seq, dtype="int4", k_dtype=kv, v_dtype=kv)
    return estimate(read_entry(find_model(name)), request, Capacity("Apple", size, "host"))


def test_the_cache_grows_in_steps_of_256() -> None:
    """Llama-3.1-8B: 131,072 B a token in 16 bit; 300 tokens are 512."""
    assert mlx.request_bytes(asked("llama-3.1-8b", 300), 300) == 512 * 131072
    assert mlx.request_bytes(asked("llama-3.1-8b", 256), 256) == 256 * 131072


def test_four_bits_hold_a_scale_and_a_bias_for_64_numbers() -> None:
    """4.5 bits a number in place of 16."""
    assert mlx.request_bytes(asked("llama-3.1-8b", 512, kv="int4"), 512) == 512 * 131072 * 45 // 160


def test_windows_rotate() -> None:
    """Gemma 3 27B: 52 window layers stop at 1,024 tokens, 10 go on; 8,192 B a token and layer."""
    one = 16 * 128 * 2 * 2
    assert mlx.request_bytes(asked("gemma-3-27b", 8192), 8192) == (52 * 1024 + 10 * 8192) * one


def test_heads_without_a_fused_kernel_have_scores() -> None:
    """LM Studio counts 98,304 B a token of context for Qwen3.8-27B (24 heads of 256; lmstudio-bug-tracker issue 2250); Llama's
    heads are 128 wide, which MLX reads fused. Qwen3.6-35B-A3B in 4 bit held 38.0 GB at 192k (mlx-lm issue 1480)."""
    assert mlx.score_bytes(asked("qwen3.8-27b", 8192), 1) == 98_304
    assert mlx.score_bytes(asked("llama-3.1-8b", 8192), 8192) == 0
    spec = read_entry(find_model("qwen3.6-35b-a3b"))
    long = mlx.answer(
        estimate(spec, Request(192 * 1024, dtype="int4"), Capacity("Apple", 128 * GIB, "host")), Options(), None
    )
    assert long.activation is not None
    held = long.request_bytes + long.activation.bytes + 19.5e9
    assert abs(held - 38.0e9) / 38.0e9 < 0.05


def test_more_than_metal_wires_down_is_a_refusal() -> None:
    answer = mlx.answer(asked("llama-3.1-8b", 8192, 4 * GIB), Options(), None).to_dict()
    assert answer["refusal"] and answer["fits"] is False and answer["most_requests"] == 0
    fine = mlx.answer(asked("llama-3.1-8b", 8192), Options(), None).to_dict()
    assert fine["refusal"] is None and fine["fits"]
    assert fine["pool_bytes_low"] <= fine["pool_bytes"] <= fine["pool_bytes_high"]


def test_it_is_known_by_its_names() -> None:
    assert parse_engine("mlx") == parse_engine("mlx-lm") == parse_engine("mlx_lm") == ("mlx", None)


def test_a_prefill_step_is_2048_tokens_whatever_the_prompt() -> None:
    """Peaks less weights and cache: Qwen3-4B 0.70 GB (mlx-lm PR 1569), Mistral 7B 0.57 GB at 33,898 tokens (PR 40)."""
    found = [
        mlx.answer(estimate(model_spec(name), Request(seq_tokens=tokens), None), Options(), None).activation
        for name, tokens in (
            ("mlx-community/Qwen3-4B-4bit", 2176),
            ("mlx-community/Mistral-7B-Instruct-v0.3-4bit", 33_898),
        )
    ]
    assert [round(one.bytes / 1e9, 2) for one in found if one is not None] == [0.56, 0.84]
    assert all(
        one is not None and one.low < least * 1e9 < one.high for one, least in zip(found, (0.70, 0.57), strict=True)
    )


def test_peaks_of_long_prompts_follow_the_prefill_step() -> None:
    """Qwen3.8-27B 4-bit, 131,072 tokens: mlx-lm PR 1781. The mask was set on steps of 2048 and 512; 1024 and 256 were kept back."""
    for step, peak in ((2048, 39.78), (1024, 32.26), (512, 28.54), (256, 26.52)):
        whole = estimate(
            model_spec("mlx-community/Qwen3.8-27B-4bit"), Request(131072), Capacity("Apple", 128 * GIB, "host")
        )
        found = mlx.answer(whole, Options(ubatch_size=step), None)
        assert found.activation is not None
        total = whole.per_device.weight_bytes + found.request_bytes + found.activation.bytes
        assert total / 1e9 == pytest.approx(peak, rel=0.01)

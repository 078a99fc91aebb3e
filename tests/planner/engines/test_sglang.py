"""SGLang's rules: K and V sizes and token counts that servers printed, the default fraction, two pools."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest

from planner.answers.engine import engine_answer, with_own_length
from planner.catalogue.entries import find_device, find_model
from planner.engines import emit, sglang
from planner.engines.base import Options
from planner.errors import UnsupportedModel
from planner.memory.estimate import Estimate, estimate
from planner.memory.request import Capacity, Request, device_capacity
from planner.memory.sharding import Sharding
from planner.options.engine import EngineAsked, laid_out
from planner.readers import read_entry
from planner.units import GIB, MIB


def asked(name: str, seq: int = 1024, kv: str | None = None, capacity: Capacity | None = None, tp: int = 1) -> Estimate:
    return estimate(
        read_entry(find_model(name)), Request(seq, k_dtype=kv, v_dtype=kv, sharding=Sharding(tp=tp)), capacity
    )


def pool_of(found: Estimate, version: str | None = None, **options: Any) -> dict[str, Any]:
    return sglang.answer(found, Options(**{"pool_bytes": 10 * GIB, **options}), version).to_dict()


def test_one_token_is_the_unit() -> None:
    """Llama 3.1 8B: 131,072 B a token; pages round down."""
    assert pool_of(asked("llama-3.1-8b"))["pool_tokens"] == 10 * GIB // 131072
    assert pool_of(asked("llama-3.1-8b"), block_size=64)["pool_tokens"] == 10 * GIB // 131072 // 64 * 64


def test_windows_split_off_share_the_bytes_by_the_ratio() -> None:
    """F = pool / (full + ratio · sliding); gpt-oss-20b: 12 + 12 layers of 2,048 B a token."""
    found = pool_of(asked("gpt-oss-20b"), swa_ratio=Fraction(1, 2))
    assert found["pool_tokens"] == 10 * GIB * 2 // (12 * 2048 * 3)
    assert found["sliding_tokens"] == found["pool_tokens"] // 2


def test_gemma_3_has_one_pool_at_full_length() -> None:
    """Only Llama 4, gpt-oss, Gemma 4, MiMo-V2 and Step-3.5 split their windows off."""
    assert pool_of(asked("gemma-3-27b"))["pool_tokens"] == 10 * GIB // (62 * 2 * 16 * 128 * 2)


def test_the_request_table_is_int32_of_running_requests_times_context() -> None:
    """DeepSeek-R1: 2049 rows of 163,844: 1.25 GiB (rows of the log of sglang issue 4161)."""
    found = pool_of(asked("deepseek-v3"), max_running_requests=2048, max_model_len=163840)
    assert found["request_table_bytes"] == 4 * 2049 * 163844
    assert round(found["request_table_bytes"] / GIB, 2) == 1.25


def test_the_default_fraction_by_ranks_then_by_device() -> None:
    """0.88, 0.87, 0.85, 0.81 for 1, 2, 4, 8 ranks; later (memory - reserved) / memory."""
    h100 = Capacity("H100", 81_000 * MIB)
    for tp, fraction in ((1, 0.88), (2, 0.87), (4, 0.85), (8, 0.81)):
        answer = pool_of(asked("llama-3.1-8b", capacity=h100, tp=tp), "0.4.3", pool_bytes=None)
        assert answer["fraction"] == fraction
    # 512 + 1.5 · 8192 + 2 · 256 + 128 = 13,440 MiB reserved of 81,000
    assert pool_of(asked("llama-3.1-8b", capacity=h100), "0.5.5", pool_bytes=None)["fraction"] == 0.834


def test_states_take_their_share_first() -> None:
    """Qwen3-Next: 0.9 / 1.9 of the pool for states of fp32, the rest for the tokens of 12 layers; 0.5.18 pads by a slot."""
    state = 36 * (8192 * 3 * 2 + 32 * 128 * 128 * 4)
    for version, pad in (("0.5.15", 0), ("0.5.23", 1)):
        found = pool_of(asked("qwen3-next-80b-a3b"), version)
        assert found["state_slots"] == 10 * GIB * 9 // 19 // state - pad
        assert found["pool_tokens"] == (10 * GIB - (found["state_slots"] + pad) * state) // (12 * 2048)


def test_k_and_v_sizes_are_those_of_the_pool() -> None:
    found = pool_of(asked("qwen2.5-32b", tp=4))
    assert found["k_bytes"] == found["v_bytes"] == found["pool_tokens"] * 65536 // 2
    assert found["prints"][0].startswith(
        f"KV Cache is allocated. #tokens: {found['pool_tokens']}, K size: 5.00 GB, V size: 5.00 GB"
    )


def test_what_is_not_modelled_is_refused() -> None:
    with pytest.raises(UnsupportedModel, match="cross attention"):
        pool_of(asked("whisper-large-v3-turbo", 448))


def test_without_version_and_fraction_the_range_holds_both_defaults() -> None:
    """Llama 3 8B on MI300X in 2024: 1,256,440 tokens were printed, 0.88 by the ranks; later releases take less."""
    found = asked("llama-3-8b", capacity=Capacity("mi300x", int(191.45 * GIB)))
    open_ended = sglang.answer(found, Options(), None).ranged
    named = sglang.answer(found, Options(), "0.3.0").ranged
    assert open_ended is not None and named is not None
    assert open_ended.low.tokens <= 1_256_440 <= open_ended.high.tokens
    assert named.pool.tokens == pytest.approx(1_256_440, rel=0.005)
    assert named.high.bytes - named.low.bytes < open_ended.high.bytes - open_ended.low.bytes


def test_a_request_table_larger_than_what_is_left_refuses_to_start() -> None:
    """sgl-project/sglang issue 5755: 2049 x (10,485,760 + 4) x 4 B = 80.04 GiB asked for beside the pool of an H100."""
    found = estimate(
        read_entry(find_model("llama-4-scout")), Request(32768, sharding=Sharding(tp=8)), Capacity("H100", 79 * GIB)
    )
    answer = sglang.answer(found, Options(), "0.4.6").to_dict()
    assert answer["request_table_bytes"] == 2049 * (10485760 + 4) * 4
    assert "80.04 GiB" in answer["refusal"] and answer["fits"] is False
    context = int(answer["mends"][0].removeprefix("--context-length "))
    assert sglang.answer(found, Options(max_model_len=context), "0.4.6").to_dict()["refusal"] is None


def test_an_answer_says_where_the_models_own_length_would_refuse() -> None:
    """The same server asked for 32k starts; without --context-length it takes 10,485,760 and does not."""
    request = Request(32768, sharding=Sharding(tp=8))
    found = estimate(read_entry(find_model("llama-4-scout")), request, Capacity("H100", 79 * GIB))
    asked_for = EngineAsked("sglang", "0.4.6", Options(max_model_len=32768))
    said = with_own_length(asked_for, found, engine_answer(asked_for, found))
    assert said.refusal is None and "80.04 GiB" in said.assumptions[-1] and "--context-length" in said.assumptions[-1]


def test_sparse_attention_is_stored_in_fp8_on_blackwell() -> None:
    """sgl-project/sglang PR 11309: 975,424 tokens in 43.67 GiB are 61 x (656 + 132) B a token."""
    for gpu, token in (("b200", 61 * 788), ("h200", 61 * (1152 + 132))):
        card = device_capacity(find_device(gpu))
        found = estimate(read_entry(find_model("deepseek-v3.2")), Request(8192, sharding=Sharding(dp=8, ep=8)), card)
        assert sglang.answer(found, Options(), "0.5.3").to_dict()["cell_bytes"] == token


def test_data_parallel_attention_divides_the_ranks() -> None:
    """--tp 8 --dp 8 of an MLA model are 8 devices; 0.784 of a B200 and 975,424 tokens as logged, to 5 %."""
    spec = read_entry(find_model("deepseek-v3.2"))
    asked = EngineAsked("sglang", "0.5.3", Options())
    request = laid_out(Request(32768, sharding=Sharding(tp=8, dp=8)), spec, asked)
    assert (request.sharding.tp, request.sharding.dp, request.sharding.ep, request.sharding.devices) == (1, 8, 8, 8)
    found = estimate(spec, request, device_capacity(find_device("b200")))
    answer = sglang.answer(found, Options(), "0.5.3")
    assert answer.ranged is not None and abs(answer.ranged.pool.tokens / 975424 - 1) < 0.05
    command = emit.command(answer, found, Options())
    assert "--tp 8 --dp 8 --enable-dp-attention --ep-size 8" in command
    plain = read_entry(find_model("llama-3.1-8b"))
    assert laid_out(Request(1, sharding=Sharding(tp=2, dp=2)), plain, asked).sharding.devices == 4


def test_a_reserve_beyond_the_device_is_a_refusal_and_no_negative_share() -> None:
    found = estimate(
        read_entry(find_model("llama-3.1-8b")), Request(1024, sharding=Sharding(tp=64, pp=16)), Capacity("T4", 14 * GIB)
    )
    answer = sglang.answer(found, Options(), None).to_dict()
    assert answer["fraction"] >= 0 and answer["fits"] is False
    assert answer["pool_tokens_low"] <= answer["pool_tokens"] <= answer["pool_tokens_high"]


def test_experts_and_offloaded_weights_lie_in_host_memory() -> None:
    """Kimi-K2.5 with one expert a layer on a card of 48 GB took some 31 GB with 32K tokens (ktransformers issue 1817)."""
    card = asked("kimi-k2.5", seq=32768, capacity=Capacity("48 GB", 48_500 * MIB))
    none, one, offloaded = (
        sglang.answer(card, Options(**options), "0.5.6").to_dict()
        for options in ({}, {"gpu_experts": 1}, {"gpu_experts": 1, "cpu_offload_bytes": 2 * GIB})
    )
    assert not none["fits"] and one["fits"]
    here = card.per_device.weight_bytes - sglang.experts_on_host(card, 1)
    assert 22 * GIB < here < 31e9 - 32768 * 70272
    assert offloaded["pool_bytes"] - one["pool_bytes"] == pytest.approx(2 * GIB, abs=1)


def test_experts_on_the_host_are_those_beyond_the_kept_ones() -> None:
    found = asked("qwen3-30b-a3b")
    every, half, gone = (sglang.experts_on_host(found, kept) for kept in (0, 64, 128))
    assert every == 48 * 128 * 3 * 768 * 2048 * 2
    assert (half * 2, gone, sglang.experts_on_host(found, None)) == (every, 0, 0)

"""What vLLM's profile run and a loader hold: each rule by a figure that a server printed, or by hand."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.catalogue.entries import find_model
from planner.engines import vllm
from planner.engines.base import NO_ROOM, EngineAnswer, Options
from planner.engines.device_memory import ProfileRun, context_before_weights, forward_bytes, vllm_activation
from planner.engines.emit import command
from planner.engines.registry import answer_of
from planner.lookup import capacity
from planner.memory.estimate import Estimate, estimate
from planner.memory.request import Capacity, Request
from planner.memory.sharding import Sharding
from planner.readers import read_entry
from planner.units import GIB


def asked(name: str, gpu: str = "t4", dtype: str | None = None, tp: int = 1) -> Estimate:
    request = Request(1024, dtype=dtype, sharding=Sharding(tp=tp))
    return estimate(read_entry(find_model(name)), request, capacity(gpu, None))


def of(found: Estimate, version: str, **options: Any) -> EngineAnswer:
    return vllm.answer(found, Options(**options), version)


def peak_gib(found: Estimate, version: str, **options: Any) -> float:
    activation = of(found, version, **options).activation
    assert activation is not None
    return activation.bytes / GIB


@pytest.mark.parametrize(
    ("model", "version", "sequences", "printed"),
    [
        ("qwen3-8b", "0.8.5", 128, 0.70),
        ("llama-3.1-8b", "0.7.3", 160, 0.74),
        ("qwen3-4b", "0.8.5", 160, 0.88),
        ("phi-4", "0.7.1", 128, 0.47),
        ("qwen2.5-3b", "0.7.1", 192, 1.05),
        ("llama-3.2-3b", "0.8.1", 320, 1.49),
    ],
)
def test_the_sampler_decides_the_peak_of_short_steps(model: str, version: str, sequences: int, printed: float) -> None:
    """PyTorch activation peak of six notebooks of unslothai/notebooks, with the sequences that each prints."""
    assert peak_gib(asked(model), version, max_num_seqs=sequences, max_model_len=1024) == pytest.approx(
        printed, abs=0.012
    )


def test_flashinfer_samples_in_a_third_of_the_memory() -> None:
    """The default in 0.11.0, not from 0.11.1 to 0.20, and again from 0.21 (vLLM PR 26859, 40376); Triton's between."""
    found = asked("llama-3.1-8b", "l4")
    peaks = [
        peak_gib(found, version, max_num_seqs=256) for version in ("0.10.2", "0.11.0", "0.11.1", "0.20.0", "0.21.0")
    ]
    plain, flash = 39 * 256 * 128256 / GIB, 14 * 256 * 128256 / GIB
    triton = flash + 4 * 132 * 128256 / GIB  # from 0.17, where FlashInfer does not sample
    assert peaks == pytest.approx([plain, flash, plain, triton, flash])
    amd = asked(
        "llama-3.1-8b", "mi300x"
    )  # no FlashInfer: vLLM 0.21.0 `TopKTopPSampler` takes Triton's from 8 sequences on
    assert peak_gib(amd, "0.21.0", max_num_seqs=1024) == pytest.approx((14 * 1024 + 4 * 132) * 128256 / GIB)
    assert peak_gib(amd, "0.21.0", max_num_seqs=256) == pytest.approx(
        8192 * 102_400 / GIB
    )  # the forward pass is larger


def test_a_multimodal_model_has_no_chunked_prefill_in_v0() -> None:
    """Gemma 3 27B, TP 4, 65,536 tokens on 0.8: 3.73 GiB of peak were printed (vLLM issue 16378)."""
    found = asked("gemma-3-27b", "a100-sxm4-40gb", tp=4)
    answer = of(found, "0.7.3", max_model_len=65536)
    assert answer.extra["max_num_batched_tokens"] == 65536
    assert peak_gib(found, "0.7.3", max_model_len=65536) == pytest.approx(3.73, abs=0.1)
    text = of(asked("llama-3.1-8b", "a100-sxm4-40gb"), "0.7.3", max_model_len=65536)
    assert text.extra["max_num_batched_tokens"] == 2048
    text = of(asked("llama-3.1-8b", "a100-sxm4-40gb"), "0.5.2", max_model_len=65536)
    assert text.extra["max_num_batched_tokens"] == 65536  # chunked prefill by length came with 0.5.3
    assert of(found, "0.7.3", max_model_len=2048).extra["max_num_batched_tokens"] == 5120


def test_the_driver_saw_twice_the_forward_pass_until_0_6_4() -> None:
    """vLLM PR 2031 to PR 9352."""
    found = asked("llama-3.1-8b", "a40")
    forward, sampler = forward_bytes(found, 8192), 39 * 256 * 128256
    assert peak_gib(found, "0.5.4", max_model_len=8192) == pytest.approx((2 * forward + sampler) / GIB)
    assert peak_gib(found, "0.6.4", max_model_len=8192) == pytest.approx(max(forward, sampler) / GIB)


def test_awq_wrote_eight_partial_products_before_0_3() -> None:
    """Mixtral on two A100: experts lie whole on a rank, 8 · 32,768 · 14,336 · 2 B twice in the driver's eyes."""
    found = asked("mixtral-8x7b", "a100-sxm4-80gb", dtype="awq", tp=2)
    more = peak_gib(found, "0.2.7", max_model_len=32768) - peak_gib(found, "0.3.0", max_model_len=32768)
    assert more == pytest.approx(2 * 8 * 32768 * 14336 * 2 / GIB)


def test_fp8_without_a_fused_kernel_is_scaled_in_fp32() -> None:
    """Llama 3 70B on MI300X, 32,768 tokens: 86.79 - 67.70 = 19.1 GiB of peak in a log of V0; gate and up are 57,344 wide."""
    rocm, cuda = asked("llama-3-70b", "mi300x", dtype="fp8"), asked("llama-3-70b", "h200", dtype="fp8")
    assert peak_gib(rocm, "0.7.3", max_model_len=32768) - peak_gib(cuda, "0.7.3", max_model_len=32768) == pytest.approx(
        8 * 57344 * 32768 / GIB
    )
    assert peak_gib(rocm, "0.7.3", max_model_len=32768) == pytest.approx(19.1, rel=0.07)


def test_a_card_that_is_shared_has_a_trainers_sequences() -> None:
    """T4, 0.69 of it, Qwen3-4B: 2.68 GiB are left for the cache, and Unsloth's log says 160 sequences."""
    found = asked("qwen3-4b", dtype="fp16")
    shared = of(found, "0.8.5", fraction=Fraction(69, 100), max_model_len=2048)
    assert shared.extra["max_num_seqs"] == 160
    assert any("--max-num-seqs not given: 160" in line for line in shared.assumptions)
    assert "--max-num-seqs 160" in command(shared, found, Options(fraction=Fraction(69, 100)))
    assert shared.ranged is not None
    whole = of(found, "0.8.5", fraction=Fraction(69, 100), max_model_len=2048, max_num_seqs=256)
    assert whole.ranged is not None
    assert shared.ranged.low.bytes <= whole.ranged.pool.bytes < shared.ranged.pool.bytes


def test_a_server_with_its_default_share_or_its_own_count_keeps_256() -> None:
    found = asked("qwen3-4b", dtype="fp16")
    assert of(found, "0.8.5").extra["max_num_seqs"] == 256
    assert of(found, "0.8.5", fraction=Fraction(69, 100), max_num_seqs=200).extra["max_num_seqs"] == 200
    assert of(asked("qwen3-4b", "l4"), "0.11.2", fraction=Fraction(69, 100)).extra["max_num_seqs"] == 256


def test_offloaded_weights_leave_room_for_as_many_bytes() -> None:
    found = asked("llama-3.1-8b", "l4")
    plain, offloaded = (of(found, "0.11.2", cpu_offload_bytes=size).ranged for size in (0, 4 * GIB))
    assert plain is not None and offloaded is not None
    assert offloaded.pool.bytes - plain.pool.bytes == 4 * GIB
    emitted = command(of(found, "0.11.2", cpu_offload_bytes=4 * GIB), found, Options(cpu_offload_bytes=4 * GIB))
    assert "--cpu-offload-gb 4" in emitted


@pytest.mark.parametrize(
    ("gpu", "tp", "least", "most"),
    [
        ("rtx-4090", 1, 0.4, 0.7),  # 23.16 GB before the weights (SGLang issue 3419)
        ("rtx-3090", 2, 0.65, 0.8),  # 22.91
        ("h200", 8, 2.1, 2.5),  # 137.29 (SGLang PR 11716)
    ],
)
def test_what_cuda_and_nccl_hold_before_the_weights(gpu: str, tp: int, least: float, most: float) -> None:
    held = context_before_weights(asked("llama-3.1-8b", gpu, tp=tp))
    assert least <= held.bytes / GIB <= most
    assert held.low < held.bytes < held.high


def test_tensorrt_llm_buffers_go_with_slots_and_vocabulary() -> None:
    """0.20, 2,048 slots, vocabulary of 128,256: 2.2 + 6.0 + 8.0 GiB were printed."""
    found = asked("llama-3.3-nemotron-super-49b", "h200")
    activation = answer_of("tensorrt-llm", "0.20.0", found, options=Options()).activation
    assert activation is not None
    assert activation.bytes / GIB == pytest.approx(16.2, rel=0.07)


def test_the_second_model_runner_keeps_less_for_graphs() -> None:
    """Dense models from 0.25.1; nothing for graphs is in the budget before 0.21 (vLLM issues 49224, 50159)."""
    found, experts = asked("llama-3.1-8b", "h100"), asked("qwen3-30b-a3b", "h100")
    kept = {version: of(found, version).overhead for version in ("0.20.0", "0.24.0", "0.25.1")}
    sizes = {version: held.bytes for version, held in kept.items() if held is not None}
    graphs = 32 * 24 * 2**20
    assert sizes["0.24.0"] - sizes["0.20.0"] == graphs
    assert sizes["0.25.1"] - sizes["0.20.0"] == graphs // 2
    moe = [of(experts, version).overhead for version in ("0.24.0", "0.25.1")]
    assert moe[0] is not None and moe[1] is not None and moe[0].bytes == moe[1].bytes


@pytest.mark.parametrize("engine", ["vllm-v0", "vllm-v1", "sglang", "tensorrt-llm", "lmdeploy"])
def test_a_card_too_small_for_the_weights_is_said_and_nothing_is_negative(engine: str) -> None:
    """Llama-3.1-8B in 16 bit, 14.96 GiB, on a T4 of 14.74."""
    answer = answer_of(engine, None, asked("llama-3.1-8b"), options=Options())
    assert answer.ranged is not None
    assert (answer.ranged.pool.bytes, answer.ranged.pool.tokens, answer.most_requests) == (0, 0, 0)
    assert answer.lines == (NO_ROOM,)
    assert answer.fits is False


@given(st.integers(1, 4096), st.integers(1, 65536), st.sampled_from([(0, 5), (0, 8), (0, 11), (0, 15), (0, 24)]))
def test_more_sequences_or_tokens_never_need_less(sequences: int, tokens: int, version: tuple[int, ...]) -> None:
    found = asked("llama-3.1-8b", "l4")
    run = ProfileRun(version, version >= (0, 11), tokens, sequences, sequences, True)
    one = vllm_activation(found, run)
    more = vllm_activation(
        found, replace(run, sequences=sequences + 1, sequences_most=sequences + 1, tokens=tokens + 1)
    )
    assert one.low <= one.bytes <= one.high
    assert one.bytes <= more.bytes


def test_a_video_of_the_longest_request_is_passed_at_start() -> None:
    """Qwen2.5-VL-3B in 0.3 of an A100 and 128,000 tokens has no cache left (vLLM issue 18124): 6 pairs of frames of 16,384
    tokens; one image where a flag takes the videos away, nothing where it takes both."""
    found = asked("qwen2.5-vl-3b", "a100-sxm4-80gb")
    full, image, none = (of(found, "0.8.5", max_model_len=128_000, mm_items=items) for items in (None, (1, 0), (0, 0)))
    assert full.activation and image.activation and none.activation
    assert full.activation.high > (24 - 7) * GIB > 6 * image.activation.bytes > 6 * none.activation.bytes
    short = of(found, "0.8.5", max_model_len=8192)
    assert short.activation and short.activation.bytes == image.activation.bytes


def test_a_bare_size_has_no_vendor() -> None:
    found = estimate(read_entry(find_model("llama-3.1-8b")), Request(1024), Capacity("24 GiB", 24 * GIB))
    assert of(found, "0.8.5").ranged is not None

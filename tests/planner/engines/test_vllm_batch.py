"""The defaults of a step, by release, device and start: `get_batch_defaults` and `SchedulerConfig` of the releases named."""

from __future__ import annotations

from fractions import Fraction

import pytest

from planner.catalogue.entries import find_device, find_model
from planner.engines import vllm
from planner.engines.base import Options
from planner.engines.vllm_batch import default_batch
from planner.memory.estimate import Estimate, estimate
from planner.memory.request import Request, device_capacity
from planner.memory.sharding import Sharding
from planner.readers import read_entry


def asked(model: str = "llama-3.1-8b", device: str = "l4", tp: int = 1) -> Estimate:
    capacity = device_capacity(find_device(device))
    return estimate(read_entry(find_model(model)), Request(1024, sharding=Sharding(tp=tp)), capacity)


def first(version: tuple[int, ...], longest: int, model: str = "llama-3.1-8b", **options: object) -> int:
    given = Options(**options)  # type: ignore[arg-type]
    return default_batch(asked(model), given, version, v1=False, longest=longest)[0]


def later(version: tuple[int, ...], device: str, model: str = "llama-3.1-8b", **options: object) -> tuple[int, int]:
    given = Options(**options)  # type: ignore[arg-type]
    return default_batch(asked(model, device), given, version, v1=True, longest=32768)


def test_chunked_prefill_of_the_first_engine_takes_512_then_2048() -> None:
    """`SchedulerConfig`: 512 in 0.4.2 to 0.6.4.post1, 2,048 in 0.6.6.post1 to 0.8.5."""
    assert [first(v, 16384, chunked_prefill=True) for v in ((0, 4, 2), (0, 6, 4), (0, 6, 6), (0, 8, 5))] == [
        512, 512, 2048, 2048,
    ]  # fmt: skip
    assert first((0, 6, 3), 16384) == 16384
    assert first((0, 6, 3), 131072) == 512 and first((0, 6, 3), 131072, chunked_prefill=False) == 131072
    assert first((0, 5, 2), 131072) == 131072


def test_what_keeps_a_prompt_whole() -> None:
    """`use_long_context`: windows over all layers, drafts, states, images; a mix of windows and full layers does not."""
    assert first((0, 6, 3), 131072, "mistral-7b-v0.1") == 131072
    assert first((0, 6, 3), 131072, num_speculative_tokens=3) == 131072
    assert first((0, 6, 3), 131072, "jamba-v0.1") == 131072
    assert first((0, 8, 5), 131072, "gemma-3-1b") == 2048
    assert first((0, 8, 5), 131072, "gemma-3-27b") == 131072 and first((0, 8, 5), 2048, "gemma-3-27b") == 5120
    assert first((0, 5, 5), 131072, prefix_caching=True) == 131072
    assert first((0, 6, 3), 131072, prefix_caching=True) == 512


@pytest.mark.parametrize(
    ("version", "device", "batch", "offline"),
    [
        ((0, 8, 2), "l4", (2048, 1024), 8192),
        ((0, 8, 2), "h100", (8192, 1024), 16384),
        ((0, 8, 2), "mi300x", (2048, 1024), 8192),
        ((0, 8, 5), "mi300x", (8192, 1024), 16384),
        ((0, 8, 5), "l4", (2048, 256), 8192),
        ((0, 20), "a100-80gb", (2048, 256), 8192),
        ((0, 27), "b200", (8192, 1024), 16384),
        ((0, 28), "b200", (16384, 1024), 16384),
        ((0, 32), "dgx-spark", (8192, 1024), 16384),
        ((0, 33), "dgx-spark", (2048, 256), 8192),
    ],
)
def test_defaults_by_device(version: tuple[int, ...], device: str, batch: tuple[int, int], offline: int) -> None:
    assert later(version, device) == batch
    assert later(version, device, offline=True)[0] == offline


def test_a_step_holds_no_more_than_all_requests() -> None:
    """max_num_seqs · max_model_len, from 0.9 (`config.py` of 0.9.2); vLLM issue 33263 has one request of 1,024."""
    given = Options(max_num_seqs=1)
    assert default_batch(asked(), given, (0, 14, 1), v1=True, longest=1024)[0] == 1024
    assert default_batch(asked(), given, (0, 8, 5), v1=True, longest=1024)[0] == 2048


def test_throughput_doubles_and_a_video_of_gemma_4_is_whole() -> None:
    """`performance_mode` of 0.17.1; "Raising max_num_batched_tokens from 2048 to 2496" of 0.22.1: 32 frames of 78."""
    assert later((0, 17, 1), "l4", performance_mode="throughput") == (4096, 512)
    assert later((0, 16), "l4", performance_mode="throughput") == (2048, 256)
    assert [later(v, "l4", "gemma-4-26b-a4b")[0] for v in ((0, 21), (0, 22))] == [2048, 2496]
    assert later((0, 22), "l4", "gemma-4-26b-a4b", mm_items=(0, 0))[0] == 2048


def test_a_server_is_no_trainer() -> None:
    """vLLM issue 10533: the 14B in 0.2 of an A100 starts; a server's 256 sequences, and steps of 512 tokens."""
    given = estimate(
        read_entry(find_model("qwen2.5-14b")),
        Request(16384, dtype="gptq"),
        device_capacity(find_device("a100-80gb")),
    )
    found = vllm.answer(
        given,
        Options(fraction=Fraction(1, 5), server=True, chunked_prefill=True, max_model_len=16384),
        "0.6.3",
    ).to_dict()
    assert found["refusal"] is None and found["max_num_seqs"] == 256 and found["max_num_seqs_assumed"] is False

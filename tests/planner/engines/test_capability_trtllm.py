"""What TensorRT-LLM has no kernel for on a card."""

from __future__ import annotations

import pytest

from planner.catalogue.entries import find_device, find_model
from planner.engines.capability import tensorrt_llm_refusal
from planner.memory.estimate import estimate
from planner.memory.request import Request, device_capacity
from planner.readers import read_entry


@pytest.mark.parametrize(
    ("model", "dtype", "device", "version", "refused"),
    [
        # "FP4 Gemm not supported before Blackwell" (TensorRT-LLM issue 5018); eight H200 and DeepSeek-V3-0324-FP4 (issue 6038)
        ("llama-3.3-70b", "nvfp4", "h100", (1, 2), "NVFP4"),
        ("llama-3.3-70b", "nvfp4", "h200", (9999,), "NVFP4"),
        ("llama-3.3-70b", "nvfp4", "b200", (1, 2), ""),
        ("llama-3.3-70b", "nvfp4", "5090", (1, 2), ""),
        # PR 14775 of May 2026: Nemotron-H's NVFP4 is dequantised on Hopper
        ("nemotron-3-nano-30b-a3b", "nvfp4", "h100", (1, 2), "NVFP4"),
        ("nemotron-3-nano-30b-a3b", "nvfp4", "h100", (1, 3), ""),
        ("nemotron-3-nano-30b-a3b", "nvfp4", "a100-80gb", (1, 3), "NVFP4"),
        # support matrix of 0.18.2: FP8 on Ada and Hopper, not on Ampere
        ("llama-3.1-8b", "fp8", "a100-80gb", (1, 2), "fp8"),
        ("llama-3.1-8b", "fp8", "l4", (1, 2), ""),
        ("llama-3.1-8b", "bf16", "a100-80gb", (1, 2), ""),
    ],
)
def test_formats_without_a_kernel(model: str, dtype: str, device: str, version: tuple[int, ...], refused: str) -> None:
    found = estimate(read_entry(find_model(model)), Request(1024, dtype=dtype), device_capacity(find_device(device)))
    refusal = tensorrt_llm_refusal(found, version)
    assert (refusal.text if refusal else "").startswith(f"TensorRT-LLM has no {refused} kernel" if refused else "")
    assert (refusal is None) == (not refused)

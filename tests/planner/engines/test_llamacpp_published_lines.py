"""Lines of llama.cpp's start that people published in public repositories, beside the answer for their settings.

Read on 2026-11-30 in notes, fixtures and issues on GitHub; none of the logs is among tests/cases/logs. The figures are MiB.
"""

from __future__ import annotations

from typing import Any

import pytest

from planner.engines import llamacpp
from planner.engines.base import Options
from planner.lookup import model_spec
from planner.memory.estimate import estimate
from planner.memory.request import Request
from planner.units import MIB

FOUR = {"parallel": 4, "kv_unified": True}
PUBLISHED: tuple[tuple[str, str | None, str, dict[str, Any], tuple[float, float, float]], ...] = (
    # Vulkan, MTP with two drafts: "4 cells, 64 layers, 4 seqs  2 rs_seq"
    ("qwen3.8-27b", None, "fp16", {"ctx_size": 8192, "num_speculative_tokens": 2, **FOUR}, (512.0, 0.0, 1795.5)),
    ("qwen3.6-27b", None, "fp16", {"ctx_size": 131_072}, (8192.0, 0.0, 149.62)),  # 26 layers on CUDA
    ("qwen3.6-35b-a3b", None, "q8_0", {"ctx_size": 168_192, "num_speculative_tokens": 7}, (1745.16, 0.0, 502.5)),  # PR 26499
    ("gpt-oss-20b", "b6900", "q8_0", {"ctx_size": 8192, "batch_size": 128, "ubatch_size": 128}, (102.0, 3.19, 0.0)),  # Hexagon
    ("gpt-oss-120b", None, "fp16", {"ctx_size": 65_535, **FOUR}, (2304.0, 36.0, 0.0)),
    ("gemma-4-12b", None, "q8_0", {"ctx_size": 8192, **FOUR}, (68.0, 765.0, 0.0)),
    ("qwen3-next-80b-a3b", "b9496", "fp16", {"ctx_size": 131_072, **FOUR}, (3072.0, 0.0, 301.5)),  # ROCm
    ("phi-4", "b4400", "fp16", {"ctx_size": 2048, "flash_attn": False}, (400.0, 0.0, 0.0)),  # ollama, January 2025
    ("llama-3.2-3b", "b4400", "fp16", {"ctx_size": 40_128, "flash_attn": False}, (4389.0, 0.0, 0.0)),  # SYCL, issue 11044
)  # fmt: skip


@pytest.mark.parametrize(
    ("model", "build", "dtype", "options", "printed"), PUBLISHED, ids=[row[0] for row in PUBLISHED]
)
def test_caches_are_what_the_log_printed(
    model: str, build: str | None, dtype: str, options: dict[str, Any], printed: tuple[float, float, float]
) -> None:
    found = estimate(model_spec(model), Request(1, k_dtype=dtype, v_dtype=dtype))
    answer = llamacpp.answer(found, Options(**{"parallel": 1, **options}), build).to_dict()
    sizes = (answer["kv_full_bytes"], answer["kv_swa_bytes"], answer["state_bytes"])
    assert [size / MIB for size in sizes] == pytest.approx(printed, abs=0.006)

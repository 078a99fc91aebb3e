"""DeepSeek-V4's compressed past in vLLM: figures that servers printed, pages worked out by hand, what always holds."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.engines import vllm, vllm_v1
from planner.engines import vllm_setting as flags
from planner.engines.base import Options
from planner.engines.vllm_compressed import PackedLayout, layout
from planner.errors import BadRequest, UnsupportedModel
from planner.lookup import device, model_spec
from planner.memory.estimate import Estimate, estimate
from planner.memory.request import Request, device_capacity
from planner.units import GIB

RELEASES = ("0.20.1", "0.22.1", "0.26.0", "0.27.1", "0.29.0", "0.33.0")


def asked(tokens: int, model: str = "deepseek-v4-flash", dtype: str | None = None) -> Estimate:
    return estimate(model_spec(model), Request(tokens, k_dtype=dtype, v_dtype=dtype))


def made(version: str, model: str = "deepseek-v4-flash", **options: Any) -> tuple[PackedLayout, flags.Setting]:
    found, given_options = asked(options.get("max_model_len", 8192), model), Options(**options)
    setting = flags.settings(found, given_options, version)
    return layout(found, given_options, setting), setting


def test_what_a_server_of_0_22_needs_is_as_it_said() -> None:
    """Two GH200, 16,384 batched tokens: 6.66 GiB for 30,000 tokens, at 5.44 GiB at most 13,528.

    Source: https://github.com/vllm-project/vllm/issues/44376
    """
    found, _ = made("0.22.1", max_model_len=30_000, max_num_batched_tokens=16_384)
    assert round(found.check_bytes(30_000) / GIB, 2) == 6.66
    assert found.check_bytes(13_528) <= 5.445 * GIB  # as rounded
    assert found.check_bytes(13_529 + 64) > 5.435 * GIB


def test_what_a_server_of_0_26_prints_is_as_it_said() -> None:
    """Two H20, 8,192 batched tokens, a draft head: 150,992 tokens in 7.71 GiB, no longer request than 121,344.

    Source: https://github.com/vllm-project/vllm/issues/51041
    """
    longest = 121_344
    found, setting = made("0.26.0", max_model_len=longest, max_num_batched_tokens=8192, num_speculative_tokens=1)
    low, high = (
        vllm_v1.pool(found, int(size * GIB), setting.version, longest=longest).printed or 0 for size in (7.705, 7.715)
    )
    assert low <= 150_992 <= high


def test_pages_and_blocks_are_those_worked_out_by_hand() -> None:
    """V4-Flash: 43 windows, 21 layers 1:4 with an indexer, 20 layers 1:128; pages rounded up to 576 B."""
    entries = 21 * (37_440 + 8_640) + 20 * 1_728  # 64 records of 584 B, 64 keys of 132 B, 2 records
    found, _ = made("0.33.0", max_model_len=131_072, max_num_batched_tokens=8192)
    assert found.block_bytes == entries == 1_002_240
    kinds = [(group.kind.limit, group.block, group.layers) for group in found.groups]
    assert kinds == [(0, 256, (62,)), (128, 64, (22,)), (128, 64, (21,)), (8, 4, (42,)), (128, 8, (20,))]
    in_flight = 2 * 8192
    by_hand = 131_072 // 256 + 2 * (-(-(127 + in_flight) // 64) + 1) + -(-(7 + in_flight) // 4) + 1 + -(-(127 + in_flight) // 8) + 1  # fmt: skip
    assert found.request_blocks(131_072) == by_hand
    old, _ = made("0.22.1", max_model_len=131_072)
    assert old.block_bytes == 22 * (37_440 + 8_640 + 1_728)  # rows of one page of each size
    middle, _ = made("0.26.0", max_model_len=131_072)
    assert middle.block_bytes == 22 * 37_440 + 21 * 8_640 + 20 * 1_728


@pytest.mark.parametrize(("longest", "blocks"), [(30_000, 6_800), (131_072, 7_194), (1_000_000, 10_589)])
def test_blocks_are_those_of_the_engines_own_planning_code(longest: int, blocks: int) -> None:
    """vLLM 0.32.0's `_get_packed_kv_cache_groups` and `_get_kv_cache_bytes_per_block`, given the pages of V4-Flash."""
    found, _ = made("0.32.0", max_model_len=longest, max_num_batched_tokens=8192)
    assert (found.request_blocks(longest), found.block_bytes) == (blocks, 1_002_240)


@settings(deadline=None, max_examples=30)
@given(
    version=st.sampled_from(RELEASES),
    model=st.sampled_from(["deepseek-v4-flash", "deepseek-v4-pro"]),
    length=st.integers(1, 1 << 20),
    more=st.integers(1, 1 << 16),
)
def test_a_longer_request_never_takes_less(version: str, model: str, length: int, more: int) -> None:
    found, _ = made(version, model)
    assert found.request_blocks(length) <= found.request_blocks(length + more)
    assert found.check_bytes(length) <= found.check_bytes(length + more)


def test_the_answer_says_fp8_and_refuses_other_caches_and_releases_without_the_model() -> None:
    whole = estimate(model_spec("deepseek-v4-flash"), Request(65536), device_capacity(device("h200")))
    found = vllm.answer(whole, Options(), None)
    assert any("pages of unlike sizes" in reason for reason in found.reasons)
    with pytest.raises(BadRequest, match="in fp8 alone, not in bf16: write --kv-cache-dtype fp8"):
        vllm.answer(asked(4096, dtype="bf16"), Options(), None)
    with pytest.raises(UnsupportedModel, match="it came with"):
        vllm.answer(asked(4096), Options(), "0.19.1")
    with pytest.raises(BadRequest, match="wants --block-size 256"):
        vllm.answer(asked(4096), Options(block_size=128), "0.26.0")

"""vLLM pads experts in mxfp4 to whole tiles when it loads them: its logs of gpt-oss-120b beside the counted bytes."""

from __future__ import annotations

import pytest

from planner.engines.mxfp4 import padding
from planner.engines.vllm import loaded_by_vllm
from planner.lookup import capacity, model_spec
from planner.memory.estimate import Estimate, estimate
from planner.memory.request import Request
from planner.memory.sharding import Sharding
from planner.units import GIB


def of(model: str, device: str, tp: int = 1) -> Estimate:
    return estimate(model_spec(model), Request(8192, sharding=Sharding(tp=tp)), capacity(device, None))


@pytest.mark.parametrize(
    ("version", "logged_gib"),
    [((0, 10, 1), 65.9651), ((0, 14, 1), 64.38)],  # github.com/vllm-project/vllm issues 23278 and 33155, H100
)
def test_gpt_oss_loads_as_vllm_says(version: tuple[int, ...], logged_gib: float) -> None:
    found = loaded_by_vllm(of("gpt-oss-120b", "h100"), version)
    assert found.bytes / GIB == pytest.approx(logged_gib, abs=0.08)
    assert found.low < found.bytes < found.high


def test_padding_is_that_of_marlins_tiles() -> None:
    """36 layers of 128 experts: 2880 to 3072 beside the hidden state, to 2944 inside; codes and a scale for 32."""
    padded, counted = 3 * 3072 * 2944 * 17 // 32, 3 * 2880 * 2880 * 17 // 32
    assert padding(of("gpt-oss-120b", "a100-80gb"), (0, 32)).bytes == 36 * 128 * (padded - counted)


def test_a_rank_pads_its_own_share() -> None:
    """2880 over four ranks is 720, padded to 768."""
    padded, counted = 3 * 3072 * 768 * 17 // 32, 2 * 720 * 2880 * 17 // 32 + 2880 * (360 + 23)
    assert padding(of("gpt-oss-120b", "a100-80gb", tp=4), (0, 32)).bytes == 36 * 128 * (padded - counted)


@pytest.mark.parametrize(("model", "device"), [("llama-3.1-8b", "h100"), ("deepseek-v4-flash", "b200")])
def test_widths_of_whole_tiles_and_other_formats_are_not_padded(model: str, device: str) -> None:
    assert padding(of(model, device), (0, 32)).bytes == 0


def test_the_oldest_b200_kernels_pad_wider() -> None:
    old, new = (padding(of("gpt-oss-120b", "b200-hgx-180gb"), version).bytes for version in ((0, 20), (0, 28)))
    assert old > new > 0

"""A cache brought back against computing it again."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvplan.api import speed
from planner.catalogue.entries import find_device
from planner.errors import KvplanError
from planner.lookup import model_spec
from planner.memory.estimate import estimate
from planner.memory.request import Request
from planner.memory.sharding import Sharding
from planner.speed.bring_back import BroughtBack, brought_back
from planner.speed.constants import constants_for
from planner.speed.passes import rates_of
from planner.speed.transfer import tier_of
from planner.speed.work import work

H100 = find_device("h100-sxm")


def back(where: str, tokens: int, tp: int = 1) -> BroughtBack:
    one = estimate(model_spec("llama-3.1-8b"), Request(tokens, sharding=Sharding(tp=tp)))
    sums, rates = work(one), rates_of(H100, one)
    return brought_back(
        one, tier_of(where, H100, "--bring-back"), tokens, sums=sums, rates=rates, constants=constants_for("vllm", H100)
    )


def test_a_gibibyte_comes_over_pcie_5_in_twenty_milliseconds() -> None:
    found = back("host", 8192)  # 128 KiB a token: 1 GiB at 85 % of 63 GB/s
    assert found.cache_bytes == 1 << 30
    assert found.seconds == pytest.approx((1 << 30) / (0.85 * 63.015e9), rel=1e-3)
    assert found.pays and found.pays_from == 16


def test_each_rank_has_its_own_way_to_the_host_and_all_share_a_drive() -> None:
    assert back("host", 8192, tp=4).seconds == pytest.approx(back("host", 8192).seconds / 4, rel=1e-3)
    assert back("nvme", 8192, tp=4).seconds == pytest.approx(back("nvme", 8192).seconds, rel=1e-3)


def test_a_slow_drive_pays_at_no_length() -> None:
    found = back("sata", 8192)
    assert not found.pays and found.pays_from is None


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 131_072))
def test_above_the_rate_that_breaks_even_it_pays_and_below_it_does_not(tokens: int) -> None:
    even = (back("1GB/s", tokens).break_even_bytes_per_s or 0.0) / 1e9
    assert not back(f"{0.9 * even:.6f}GB/s", tokens).pays
    assert back(f"{1.1 * even:.6f}GB/s", tokens).pays


def test_longer_prompts_than_the_break_even_length_pay() -> None:
    found = back("3GB/s", 8192)
    assert not found.pays and found.pays_from is not None
    assert back("3GB/s", found.pays_from).pays and back("3GB/s", 2 * found.pays_from).pays


def test_the_command_says_it_and_refuses_what_is_no_place() -> None:
    answer = speed("llama-3.1-8b", gpu="h100-sxm", prompt="8k", bring_back="host")
    assert answer["brought_back"]["pays"] and "is back over PCIe 5.0 x16 in 20.1 ms" in answer["notes"][-1]
    with pytest.raises(KvplanError, match="no place for caches"):
        speed("llama-3.1-8b", gpu="h100-sxm", bring_back="tape")

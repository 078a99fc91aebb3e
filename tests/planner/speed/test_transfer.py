"""A cache's way over a link: bytes over rate and latency, by hand and by its laws."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.catalogue.entries import find_device
from planner.errors import BadRequest
from planner.lookup import model_spec
from planner.memory.estimate import estimate
from planner.memory.request import Request
from planner.memory.sharding import Sharding
from planner.speed.transfer import NETWORKS, cache_bytes, link_of, transfer_seconds

H100, L4 = find_device("h100-sxm"), find_device("l4")


def test_a_prompt_of_llama_2_70b_takes_what_the_published_example_says() -> None:
    # 320 KiB a token (80 layers, 8 KV heads of 128, fp16): 4,096 tokens are 1.34 GB, 26.8 ms at 400 Gbit/s of payload
    size = cache_bytes(estimate(model_spec("llama-2-70b"), Request(1)), 4096)
    assert size == 320 * 1024 * 4096
    assert transfer_seconds(size, 50e9) == pytest.approx(0.02684, rel=1e-3)


def test_a_named_network_reaches_what_a_transfer_engine_measured() -> None:
    # Mooncake's transfer engine: 87 GB/s over four links of 200 Gbit/s
    assert 4 * link_of("200g", L4).bytes_per_s * link_of("200g", L4).reached == pytest.approx(87e9)


def test_a_rate_that_is_given_is_the_rate_that_is_reached() -> None:
    assert link_of("40GB/s", L4).seconds(40e9) == pytest.approx(1.0)
    assert link_of("8Gbit/s+5ms", L4).seconds(1e9) == pytest.approx(1.005)


def test_a_devices_own_links_are_the_catalogues() -> None:
    assert link_of("nvlink", H100).bytes_per_s == 450e9
    assert link_of("pcie", L4).bytes_per_s == pytest.approx(31.5e9, rel=1e-3)
    with pytest.raises(BadRequest, match="L4 has no such link"):
        link_of("nvlink", L4)


@pytest.mark.parametrize(
    "text", ["", "fast", "0GB/s", "40GB", "400g+", "400g+5", "400g+11s", "-1GB/s", "nan", "1e9GB/s"]
)
def test_what_is_no_link_is_refused_by_name(text: str) -> None:
    with pytest.raises(BadRequest, match="--link"):
        link_of(text, H100)


def test_each_rank_sends_its_own_heads() -> None:
    spec = model_spec("llama-3.1-70b")
    sizes = [cache_bytes(estimate(spec, Request(1, sharding=Sharding(tp=tp))), 1000) for tp in (1, 2, 8)]
    assert sizes[0] == 2 * sizes[1] == 8 * sizes[2]


@given(st.sampled_from(sorted(NETWORKS)), st.integers(0, 10**12), st.integers(0, 10**12))
def test_more_bytes_never_take_less_time_and_a_slower_share_never_less(name: str, one: int, more: int) -> None:
    link = link_of(name, L4)
    assert link.seconds(one) <= link.seconds(one + more)
    assert link.slowed(link.high).seconds(one) <= link.seconds(one) <= link.slowed(link.low).seconds(one)

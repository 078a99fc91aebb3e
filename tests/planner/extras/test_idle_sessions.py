"""Idle sessions in host memory and on disk: how many, and the least time back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.catalogue.device import pcie_bytes_per_s
from planner.errors import BadRequest
from planner.extras.idle_sessions import Tiers, idle_answer, session_bytes
from planner.lookup import model_spec
from planner.memory.estimate import estimate
from planner.memory.request import Request
from planner.memory.sharding import Sharding
from planner.units import GIB

LLAMA = model_spec("llama-3.1-8b")


def test_a_session_leaves_what_one_sequence_keeps() -> None:
    answer = estimate(LLAMA, Request(8192))
    found = session_bytes(answer)
    assert found.device_bytes == found.ranks_bytes == found.once_bytes == answer.kv_bytes == GIB


def test_copied_heads_and_latents_are_copied_out_by_every_rank() -> None:
    wide = session_bytes(estimate(LLAMA, Request(8192, sharding=Sharding(tp=16))))
    assert wide.ranks_bytes == 2 * wide.once_bytes  # 8 KV heads on 16 ranks
    latent = session_bytes(estimate(model_spec("deepseek-v3"), Request(8192, sharding=Sharding(tp=8))))
    assert latent.ranks_bytes == 8 * latent.once_bytes and latent.device_bytes == latent.once_bytes


def test_recurrent_states_go_along() -> None:
    spec = model_spec("mamba-2.8b")
    assert session_bytes(estimate(spec, Request(100))).once_bytes == estimate(spec, Request(1)).state_bytes


@given(st.integers(0, 10**4), st.integers(0, 2000), st.integers(0, 2000))
def test_host_memory_fills_before_the_disk_and_nobody_is_lost(sessions: int, host_gib: int, ssd_gib: int) -> None:
    found = idle_answer(estimate(LLAMA, Request(8192)), Tiers(sessions, host_gib * GIB, ssd_gib * GIB))
    assert found.on_host + found.on_ssd + found.left == sessions
    assert (found.host_capacity, found.ssd_capacity) == (host_gib, ssd_gib)
    assert found.on_host == min(sessions, host_gib)
    assert found.left == 0 or found.on_ssd == ssd_gib


def test_a_session_comes_back_no_faster_than_its_link() -> None:
    """1 GiB over 31.5 GB/s: 34.1 ms; from a disk of 7 GB/s 153 ms; a disk faster than the link waits for the link."""
    answer = estimate(LLAMA, Request(8192))
    found = idle_answer(answer, Tiers(1, GIB, GIB, pcie_bytes_per_s(4), 7 * 10**9))
    assert found.host_restore_seconds == pytest.approx(0.03408, rel=1e-3)
    assert found.ssd_restore_seconds == pytest.approx(0.15339, rel=1e-3)
    assert idle_answer(answer, Tiers(1, GIB, GIB, 10**9, 10**12)).ssd_restore_seconds == GIB / 10**9


def test_ranks_bring_their_shares_back_at_once() -> None:
    one = idle_answer(estimate(LLAMA, Request(8192)), Tiers(1, GIB, link_bytes_per_s=10**9))
    eight = idle_answer(estimate(LLAMA, Request(8192, sharding=Sharding(tp=8))), Tiers(1, GIB, link_bytes_per_s=10**9))
    assert one.host_restore_seconds == pytest.approx(8 * (eight.host_restore_seconds or 0))


def test_no_time_is_said_where_no_bandwidth_is_known() -> None:
    found = idle_answer(estimate(LLAMA, Request(8192)), Tiers(1, GIB, GIB)).to_dict()
    assert found["host_restore_seconds_bound"] is None and found["ssd_restore_seconds_bound"] is None


def test_an_unknown_generation_is_refused() -> None:
    with pytest.raises(BadRequest, match="write one of 3, 4, 5, 6"):
        pcie_bytes_per_s(2)

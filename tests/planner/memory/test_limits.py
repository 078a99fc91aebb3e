"""The inverse questions: what comes out fits, and one more does not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.errors import BadRequest
from planner.lookup import model_spec
from planner.memory.estimate import estimate
from planner.memory.limits import (
    fewest_devices,
    largest,
    longest_context,
    most_sequences,
    pool_bytes,
    tensor_parallel_devices,
)
from planner.memory.request import Capacity, Request
from planner.memory.sharding import Sharding
from planner.model.spec import ModelSpec
from planner.units import MAX_COUNT

NAMES = ["llama-3.1-8b", "gemma-3-27b", "deepseek-v2-lite", "mamba-2.8b", "qwen3-next-80b-a3b", "t5-base"]
SPECS = {name: model_spec(name) for name in NAMES}
memory = st.integers(1 << 30, 1 << 40)


def fits(spec: ModelSpec, request: Request, room: Capacity) -> bool:
    return bool(estimate(spec, request, room).fits)


@given(st.integers(0, 10**9), st.integers(1, 10**9))
def test_the_search_finds_the_last_number_that_fits(limit: int, high: int) -> None:
    assert largest(lambda n: n <= limit, high) == min(limit, high)


def test_the_search_asks_about_a_hundred_times_at_most() -> None:
    asked: list[int] = []
    largest(lambda n: not asked.append(n) and n <= 123_456_789, 10**10)  # type: ignore[func-returns-value]
    assert len(asked) < 100 and max(asked) <= 10**10


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
@settings(max_examples=10, deadline=None)
@given(size=memory, tokens=st.integers(1, 10**6))
def test_most_sequences_fit_and_one_more_does_not(spec: ModelSpec, size: int, tokens: int) -> None:
    room, request = Capacity("x", size), Request(tokens)
    most = most_sequences(spec, request, room)
    assert not most or fits(spec, replace(request, batch=most), room)
    assert most == MAX_COUNT or not fits(spec, replace(request, batch=most + 1), room)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
@settings(max_examples=10, deadline=None)
@given(size=memory, batch=st.integers(1, 1000))
def test_the_longest_context_fits_and_one_token_more_does_not(spec: ModelSpec, size: int, batch: int) -> None:
    room, request = Capacity("x", size), Request(1, batch)
    longest = longest_context(spec, request, room)
    ceiling = spec.max_positions or 10**10
    assert 0 <= longest <= ceiling
    assert not longest or fits(spec, replace(request, seq_tokens=longest), room)
    assert longest == ceiling or not fits(spec, replace(request, seq_tokens=longest + 1), room)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
@settings(max_examples=5, deadline=None)
@given(size=st.integers(2 << 30, 1 << 38))
def test_the_fewest_devices_hold_it_and_no_smaller_layout_does(spec: ModelSpec, size: int) -> None:
    room, request = Capacity("x", size), Request(4096, 4)
    found = fewest_devices(spec, request, room, limit=64)
    smaller = 65 if found is None else found.devices
    if found is not None:
        assert fits(spec, replace(request, sharding=found.sharding), room)
    for tp in (1, 2, 4, 8):
        for pp in range(1, min(len(spec.layers), (smaller - 1) // tp) + 1):
            assert not fits(spec, replace(request, sharding=Sharding(tp=tp, pp=pp)), room)


def test_servers_are_started_with_tensor_parallelism_before_stages() -> None:
    layout = tensor_parallel_devices(model_spec("llama-3.1-70b"), Request(8192), Capacity("x", 79 << 30))
    assert layout is not None and (layout.devices, layout.sharding.tp, layout.sharding.pp) == (2, 2, 1)


def test_what_no_number_of_devices_holds_is_none() -> None:
    assert fewest_devices(SPECS["llama-3.1-8b"], Request(8192), Capacity("x", 1 << 20)) is None
    assert tensor_parallel_devices(SPECS["llama-3.1-8b"], Request(8192), Capacity("x", 1 << 20)) is None


@settings(max_examples=20, deadline=None)
@given(size=memory)
def test_the_pool_is_what_the_cache_may_take(size: int) -> None:
    answer = estimate(SPECS["llama-3.1-8b"], Request(8192), Capacity("x", size))
    cache = answer.per_device.kv_bytes + answer.per_device.state_bytes
    assert (pool_bytes(answer) >= cache) is answer.fits
    assert pool_bytes(answer) - cache == answer.free_bytes


def test_a_pool_needs_a_device() -> None:
    with pytest.raises(BadRequest, match="device"):
        pool_bytes(estimate(SPECS["llama-3.1-8b"], Request(1)))


@pytest.mark.parametrize("high", [0, -1])
def test_nothing_is_asked_where_nothing_is_allowed(high: int) -> None:
    asked: list[int] = []
    assert largest(lambda n: asked.append(n) is None, high) == 0
    assert asked == []

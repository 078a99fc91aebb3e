"""How many sequences of a load a layout admits."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.deployment.room import MOST_SEQUENCES, Room, Sizes, engine_room, room
from planner.engines.base import Options
from planner.engines.registry import answer_of, request_bytes_of
from planner.lookup import device, model_spec
from planner.memory.estimate import estimate
from planner.memory.limits import most_sequences
from planner.memory.request import Capacity, Request, device_capacity
from planner.memory.sharding import Sharding
from planner.units import GIB
from planner.workloads.lengths import LengthMix
from planner.workloads.load import Load, load

LLAMA = model_spec("llama-3.1-8b")
L40S = device_capacity(device("l40s"))


def asked(prompt: int, output: int = 2, **more: object) -> Load:
    return load(LengthMix({prompt: 1}, ""), LengthMix({output: 1}, ""), users=1, **more)  # type: ignore[arg-type]


def of(wanted: Load, capacity: Capacity = L40S, name: str = "llama-3.1-8b", **more: object) -> Room:
    return room(model_spec(name), Request(1, prefill_tokens=2048, **more), capacity, load=wanted)  # type: ignore[arg-type]


@given(st.integers(300, 30_000), st.integers(20, 200), st.sampled_from([1, 2, 4]))
@settings(max_examples=30, deadline=None)
def test_equal_lengths_are_admitted_as_the_memory_answer_counts_them(tokens: int, gib: int, tp: int) -> None:
    place = Capacity("any", gib * GIB)
    request = Request(tokens + 2, prefill_tokens=2048, sharding=Sharding(tp=tp))
    most = most_sequences(LLAMA, request, place)
    found = room(LLAMA, request, place, load=asked(tokens))
    assert found.admitted == pytest.approx(min(most, MOST_SEQUENCES), rel=0.01, abs=1)


def test_a_common_prefix_is_held_once_and_makes_room() -> None:
    alone, shared = of(asked(8000)), of(asked(8000, prefix_share=0.9))
    own = of(asked(8000, prefix_share=0.9, prefix_common=False))
    assert shared.prefix_bytes == 7200 * 131_072  # whole blocks of 16: 2 x 8 x 128 x 2 B x 32 layers a token
    assert shared.admitted == pytest.approx(10 * alone.admitted, rel=0.1)
    assert own.admitted == alone.admitted and own.prefix_bytes == 0


def test_a_window_is_each_sequences_own_whatever_is_shared() -> None:
    # Gemma 3: five of six layers keep 1,024 tokens, and those are not shared
    found = estimate(model_spec("gemma-3-27b"), Request(8000))
    sizes = Sizes(found)
    assert sizes.own(8000, 0) == 52 * 1024 * 16 * 2 * 128 * 2
    assert sizes.own(8000, 8000) == found.kv_bytes


def test_a_request_that_is_too_long_admits_nobody_and_says_what_is_missing() -> None:
    found = of(asked(100_000), device_capacity(device("rtx-4090")))
    assert found.admitted == 0 and found.short_bytes == found.longest_bytes - found.pool_bytes > 0


def test_long_lengths_are_rare_and_still_leave_room_in_99_of_100_moments() -> None:
    mixed = load(LengthMix({100: 99, 20_000: 1}, ""), LengthMix({100: 1}, ""), users=1)
    found = of(mixed)
    assert found.longest_bytes < found.admitted * found.request_bytes < found.pool_bytes
    assert found.admitted < found.average


@pytest.mark.parametrize("engine", ["vllm", "vllm-v0", "sglang", "tensorrt-llm", "lmdeploy"])
def test_an_engines_pool_and_request_take_the_place_of_ours(engine: str) -> None:
    wanted = asked(4000, 1000)
    mine = of(wanted)
    options = Options(max_model_len=5000)
    short, longest = (estimate(LLAMA, replace(mine.found.request, seq_tokens=n), L40S) for n in (4500, 5000))
    answer = answer_of(engine, None, longest, options=options)
    counted, least = request_bytes_of(engine, None, longest, lengths=(4500, 1), options=options)
    assert counted == answer_of(engine, None, short, options=options).request_bytes > least
    theirs = engine_room(mine, [(4500, counted), (5000, answer.request_bytes)], answer, load=wanted)
    ranged = answer.ranged
    assert ranged is not None and theirs.pool_bytes == ranged.pool.bytes != mine.pool_bytes
    assert theirs.request_bytes == pytest.approx(4500 * 131_072, rel=0.02)  # whole blocks


def test_llamacpp_reserves_a_slot_of_the_longest_request_for_each() -> None:
    wanted = asked(4000, 1000)
    mine = of(wanted)
    answer = answer_of(
        "llamacpp", None, estimate(LLAMA, replace(mine.found.request, seq_tokens=5000), L40S), options=Options()
    )
    theirs = engine_room(mine, [(5000, answer.request_bytes)], answer, load=wanted)
    assert theirs.admitted == mine.pool_bytes // answer.request_bytes


def test_a_state_without_growth_admits_as_many_as_engines_run() -> None:
    assert of(asked(8000), device_capacity(device("h100-sxm")), "mamba-2.8b").admitted >= 100

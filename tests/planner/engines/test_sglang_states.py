"""SGLang's pool of recurrent states: slots, what a running request holds, what drafts take, by release."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.catalogue.entries import find_model
from planner.engines import sglang
from planner.engines.base import Options
from planner.engines.sglang_states import DRAFTING_REQUESTS, StateRule, state_rule
from planner.memory.estimate import Estimate, estimate
from planner.memory.request import Capacity, Request
from planner.memory.sharding import Sharding
from planner.readers import read_entry
from planner.units import GIB

NEXT_STATE = 36 * (8192 * 3 * 2 + 32 * 128 * 128 * 4)


def asked(name: str = "qwen3-next-80b-a3b", tp: int = 1) -> Estimate:
    request = Request(65536, sharding=Sharding(tp=tp))
    return estimate(read_entry(find_model(name)), request, Capacity("H20-96GB", int(94.5 * GIB)))


def test_the_first_release_with_states_made_512_of_them() -> None:
    """Qwen3-Next on two H20 was refused, on four it ran (sglang PR 10467, the week of 0.5.2): 18.4 GiB of states a rank."""
    two = sglang.answer(asked(tp=2), Options(), "0.5.2").to_dict()
    four = sglang.answer(asked(tp=4), Options(), "0.5.2").to_dict()
    assert two["refusal"].startswith("512 recurrent states, 18.42 GiB, leave nothing") and two["fits"] is False
    assert four["refusal"] is None and four["state_slots"] == 512
    assert sglang.answer(asked(tp=2), Options(), "0.5.15").to_dict()["refusal"] is None


def test_a_running_request_holds_five_slots_where_states_are_copied_beside_the_next_step() -> None:
    """40 slots let 8 requests run (jpezzulli/sglang-rtxpro6000 issue 5: max_running_requests=8)."""
    options = Options(state_slots=40, num_speculative_tokens=4, pool_bytes=40 * GIB)
    found = sglang.answer(asked("qwen3.6-27b"), options, "0.5.23").to_dict()
    assert found["max_running_requests"] == 8 and found["slots_of_a_request"] == 5


@pytest.mark.parametrize(
    ("version", "options", "held"),
    [
        ((0, 5, 3), Options(), 1),
        ((0, 5, 4), Options(), 3),
        ((0, 5, 13), Options(), 3),
        ((0, 5, 14), Options(), 5),
        ((0, 5, 23), Options(disable_radix_cache=True), 1),
        ((0, 5, 23), Options(mamba_strategy="extra_buffer_lazy"), 4),
        ((0, 5, 23), Options(mamba_strategy="no_buffer"), 3),
    ],
)
def test_slots_of_a_request_by_release_and_flag(version: tuple[int, ...], options: Options, held: int) -> None:
    assert state_rule(asked(), options, version).held == held


def test_lfm2_has_no_buffers() -> None:
    """It is not in `_MAMBA_EXTRA_BUFFER_ARCHS` of 0.5.23; Kimi Linear came between 0.5.15 and 0.5.23."""
    assert state_rule(asked("lfm2-1.2b"), Options(), (0, 5, 23)).held == 3
    kimi = asked("kimi-linear-48b-a3b")
    assert [state_rule(kimi, Options(), version).held for version in ((0, 5, 15), (0, 5, 23))] == [3, 5]


def test_drafts_write_into_states_of_their_own() -> None:
    """D = 4 drafts: 0.5.6 divides by 1 + D, 0.5.8 takes 48 · D states first, 0.5.15 solves for both together."""
    rule = StateRule((0, 5, 6), 4, 3, None, DRAFTING_REQUESTS)
    assert rule.split(19_000, 10) == (9_000 // 50, 9_000)
    first = replace(rule, version=(0, 5, 8))
    assert first.split(19_000, 10) == ((19_000 - 1_920) * 9 // 19 // 10, 1_920 + (19_000 - 1_920) * 9 // 19 // 10 * 10)
    together = replace(rule, version=(0, 5, 15))
    slots = int(9_000 / (10 * (1 + 4 / 3)))
    assert together.split(19_000, 10) == (slots, slots * 10 + 10 * 4 * min(48, slots // 3))


@given(size=st.integers(0, 1 << 40), state=st.integers(1, 1 << 30), drafts=st.integers(0, 16), held=st.integers(1, 5),
       version=st.sampled_from([(0, 5, 4), (0, 5, 8), (0, 5, 15), (0, 5, 23)]))  # fmt: skip
def test_more_bytes_never_hold_fewer_states(
    size: int, state: int, drafts: int, held: int, version: tuple[int, ...]
) -> None:
    rule = StateRule(version, drafts, held, None, DRAFTING_REQUESTS)
    slots, taken = rule.split(size, state)
    more, _ = rule.split(size + state * 4, state)
    assert 0 <= slots <= more and taken >= slots * state

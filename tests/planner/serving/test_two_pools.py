"""Two pools: by hand where there is one answer, by their laws, and formulas beside the simulator."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.serving.block_pool import Pool
from planner.serving.pools_run import simulate_pools
from planner.serving.replica import Policy, Side
from planner.serving.steady_state import Replica
from planner.serving.two_pools import JoinedSteps, Prefills, TwoPools, decoding_load
from planner.serving.waiting import waiting_seconds
from planner.speed.step import Linear
from planner.units import PS_PER_SECOND
from planner.workloads.arrivals import Arrival, synthetic
from planner.workloads.lengths import LengthMix
from planner.workloads.load import Load, load

MS = PS_PER_SECOND // 1000
US = MS // 1000
STEPS = Linear(fixed_ps=10 * MS, token_ps=20 * US)  # 10 ms a step, 20 us a prompt token
SENT = 0.004


def asked(prompt: int = 1000, output: int = 101, **more: object) -> Load:
    return load(LengthMix({prompt: 1}, ""), LengthMix({output: 1}, ""), **(more or {"rate_per_s": 1.0}))  # type: ignore[arg-type]


def pools(of: Load, x: int = 1, y: int = 1, sent: float = SENT) -> TwoPools:
    joined = Replica(JoinedSteps(STEPS), decoding_load(of), chunk_tokens=2048, most=500)
    return TwoPools(Prefills(STEPS, of, chunk_tokens=2048), joined, x, y, (sent,) * len(of.prompts))


def test_at_no_load_ttft_is_the_prompt_the_transfer_and_the_step_it_joins() -> None:
    # a prompt takes 10 + 20 ms, the transfer 4, a step that is idle 10
    state = pools(asked()).at_rate(1e-6)
    assert state is not None
    assert state.ttft_mean_seconds == pytest.approx(0.030 + SENT + 0.010, rel=1e-3)
    assert state.tpot_seconds == pytest.approx(0.010)


def test_no_prompt_of_others_is_in_the_time_between_tokens() -> None:
    of = asked()
    state = pools(of, x=4).at_rate(60.0)
    both = Replica(STEPS, of, chunk_tokens=2048, most=500).at_rate(20.0)
    assert state is not None and both is not None
    assert state.tpot_seconds == pytest.approx(0.010, rel=1e-6)
    assert both.tpot_seconds > 0.012


def test_a_pool_or_a_link_that_cannot_carry_the_rate_says_so() -> None:
    # two prompts to a step of 2,048 tokens: 10 + 40 ms for two, so 40 a second a rank
    of = asked()
    assert pools(of).at_rate(39.0) is not None
    assert pools(of).at_rate(41.0) is None
    assert pools(of, x=9).at_rate(41.0) is not None
    assert pools(of, x=9, sent=0.03).at_rate(35.0) is None  # 35 x 30 ms on the one link


def test_users_ask_at_the_rate_at_which_their_answers_come() -> None:
    of = asked(users=16)
    state = pools(of).at_users(16)
    assert state is not None
    took = state.ttft_mean_seconds + of.decode_steps * state.tpot_seconds
    assert state.rate_per_s * took == pytest.approx(16, rel=1e-3)
    assert pools(of).at_users(10**5) is None


def test_waiting_of_one_rank_is_that_of_pollaczek_and_khinchine() -> None:
    served = [(0.1, 0.5), (0.3, 0.5)]
    assert waiting_seconds(2.0, served, 0.4, ranks=1) == pytest.approx(2 * 0.05 / (2 * 0.6))


@given(st.floats(0.05, 0.95), st.integers(1, 50))
def test_requests_dealt_out_in_turn_wait_less_than_those_at_random(busy: float, ranks: int) -> None:
    waits = [waiting_seconds(busy, [(1.0, 1.0)], busy, ranks=n) for n in (1, ranks, ranks + 1)]
    assert all(later <= earlier + 1e-12 for earlier, later in pairwise(waits))


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(0, 50), st.integers(1, 10**6))
def test_every_request_waits_for_its_prompt_and_its_transfer(x: int, y: int, sent_ms: int, seed: int) -> None:
    arrivals = list(
        synthetic(LengthMix({100: 1, 900: 2}, ""), LengthMix({1: 1, 40: 2}, ""), 60, rate_per_s=20, seed=seed)
    )
    sides = [Side(STEPS, Pool.of_blocks(10_000), Policy(replicas=count)) for count in (x, y)]
    run = simulate_pools(arrivals, *sides, token_ps=dict.fromkeys((100, 900), sent_ms * MS))
    rows = run.decode.requests
    for i, one in enumerate(arrivals):
        assert rows.first_ps[i] - one.time_ps >= 10 * MS + one.prompt_tokens * 20 * US + sent_ms * MS + 10 * MS
        assert rows.last_ps[i] - rows.first_ps[i] >= (one.output_tokens - 1) * 10 * MS
    assert run.sent_ps == 60 * sent_ms * MS and run.lanes == min(x, y)


def test_transfers_of_one_lane_wait_for_each_other() -> None:
    side = Side(Linear(fixed_ps=MS), Pool.of_blocks(1000), Policy())
    run = simulate_pools([Arrival(0, 10, 2), Arrival(0, 10, 2)], side, side, token_ps={10: 5 * MS})
    assert run.decode.ttft_seconds() == pytest.approx([0.007, 0.012])  # 1 step, 5 or 10 on the link, 1 step
    assert run.lane_wait_ps == 5 * MS


def test_the_pool_that_decodes_computes_no_prompt() -> None:
    side = Side(STEPS, Pool.of_blocks(1000), Policy())
    run = simulate_pools([Arrival(0, 1000, 3)], side, side, token_ps={1000: 0})
    assert run.decode.latency_seconds() == pytest.approx([0.030 + 3 * 0.010])
    assert run.prefill.prefill_tokens == 1000


@pytest.mark.parametrize(("x", "y", "rate"), [(1, 1, 15.0), (3, 1, 60.0), (4, 2, 60.0)])
def test_formulas_are_near_the_simulation(x: int, y: int, rate: float) -> None:
    of = asked(rate_per_s=rate)
    state = pools(of, x, y).at_rate(rate)
    arrivals = synthetic(*of.mixes, 3000, rate_per_s=rate)
    sides = [Side(STEPS, Pool.of_blocks(100_000), Policy(500, 2048, replicas=count)) for count in (x, y)]
    run = simulate_pools(arrivals, *sides, token_ps={1000: round(SENT * PS_PER_SECOND)}).decode
    waits = run.ttft_seconds()
    assert state is not None
    assert state.ttft_mean_seconds == pytest.approx(sum(waits) / len(waits), rel=0.12)
    assert state.tpot_seconds == pytest.approx(sum(run.tpot_seconds()) / len(waits), rel=0.02)


def test_few_long_prompts_among_short_ones_are_waited_for_as_the_simulation_says() -> None:
    mix = LengthMix({200: 900, 2000: 90, 60_000: 10}, "")
    of = load(mix, LengthMix({20: 1}, ""), rate_per_s=12.0)
    state = pools(of).at_rate(12.0)
    found = []
    for seed in range(6):
        sides = [Side(STEPS, Pool.of_blocks(100_000), Policy(500, 2048)) for _ in range(2)]
        arrivals = synthetic(*of.mixes, 3000, rate_per_s=12.0, seed=seed)
        run = simulate_pools(arrivals, *sides, token_ps=dict.fromkeys(mix.counts, round(SENT * PS_PER_SECOND))).decode
        waits = sorted(run.ttft_seconds())
        found.append((sum(waits) / len(waits), waits[int(0.95 * len(waits))]))
    assert state is not None
    assert state.ttft_mean_seconds == pytest.approx(sum(mean for mean, _ in found) / 6, rel=0.15)
    assert state.ttft_seconds == pytest.approx(sum(late for _, late in found) / 6, rel=0.15)


def test_a_prompt_that_waited_shares_its_last_step() -> None:
    prefills = Prefills(STEPS, asked(), chunk_tokens=2048)
    assert prefills.shared_seconds(1000, 0.0) == 0.0
    assert prefills.shared_seconds(1000, 100.0) == pytest.approx(100 * 20e-6)
    assert prefills.shared_seconds(1000, 1e9) == pytest.approx((2048 - 1000) / 2 * 20e-6)  # half of the room
    assert prefills.shared_seconds(2048, 1e9) == 0.0  # a full step

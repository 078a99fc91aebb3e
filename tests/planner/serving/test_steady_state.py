"""A replica's steady state: by hand where it has one answer, by its laws, and beside the simulator."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.serving.block_pool import Pool
from planner.serving.replica import Policy
from planner.serving.result import percentiles
from planner.serving.scheduler import simulate
from planner.serving.steady_state import Replica
from planner.speed.step import Linear, StepTerms
from planner.units import PS_PER_SECOND
from planner.workloads.arrivals import synthetic
from planner.workloads.lengths import LengthMix, from_percentiles
from planner.workloads.load import Load, load

MS = PS_PER_SECOND // 1000
US = MS // 1000
PLAIN = Linear(fixed_ps=10 * MS, token_ps=20 * US)  # 10 ms a step, 20 us a prompt token, nothing hidden
HIDING = Linear(fixed_ps=2 * MS, sequence_ps=50 * US, token_ps=25 * US, kv_ps=(30_000,))


def fixed(prompt: int = 1000, output: int = 101, **more: object) -> Load:
    given = more or {"users": 1}
    return load(LengthMix({prompt: 1}, ""), LengthMix({output: 1}, ""), **given)  # type: ignore[arg-type]


def replica(model: Linear = PLAIN, asked: Load | None = None, most: int = 200, **more: object) -> Replica:
    return Replica(model, asked or fixed(), chunk_tokens=2048, most=most, **more)  # type: ignore[arg-type]


def test_one_user_waits_for_nobody() -> None:
    # the prompt's step: 10 ms + 1000 x 20 us = 30 ms; then 100 steps of 10 ms
    state = replica().at_users(1)
    assert state.tpot_seconds == pytest.approx(0.010)
    assert state.ttft_seconds == state.ttft_mean_seconds == pytest.approx(0.030)
    assert state.rate_per_s == pytest.approx(1 / 1.030, rel=1e-4)


def test_the_time_between_tokens_grows_by_the_prompts_of_the_others() -> None:
    # rate·x = share of the time that goes into prompts: TPOT = d / (1 - rate·x), x = 20 ms
    state = replica(asked=fixed(rate_per_s=20.0)).at_rate(20.0)
    assert state is not None and state.prefill_share == pytest.approx(20 * 0.020)
    assert state.tpot_seconds == pytest.approx(0.010 / (1 - 0.4), rel=1e-4)


@dataclass(frozen=True)
class WithAnEntry(Linear):
    """A step model in which each prompt's first piece costs 5 s more: a request's way in on a processor."""

    def terms(self, sequences: int, chunks: Sequence[tuple[int, int]]) -> StepTerms:
        entries = sum(not before for _, before in chunks)
        found = super().terms(sequences, chunks)
        return found._replace(fixed_ps=found.fixed_ps + entries * 5 * PS_PER_SECOND)


@pytest.mark.parametrize("prompt", [1000, 2048, 4096, 10_000])
def test_a_prompts_way_in_is_paid_once_however_many_pieces_it_has(prompt: int) -> None:
    asked, constants = fixed(prompt), {"fixed_ps": 10 * MS, "token_ps": 20 * US}
    slow, quick = (replica(model(**constants), asked).at_users(1) for model in (WithAnEntry, Linear))
    assert slow.ttft_mean_seconds - quick.ttft_mean_seconds == pytest.approx(5.0)


@given(st.floats(0.01, 0.99), st.sampled_from([PLAIN, HIDING]), st.integers(1, 4000), st.integers(2, 800))
def test_littles_law_holds_at_any_rate(share: float, model: Linear, prompt: int, output: int) -> None:
    one = replica(model, fixed(prompt, output, rate_per_s=1.0))
    rate = share * one.full_rate_per_s
    state = one.at_rate(rate)
    assert state is not None
    steps = output - 1
    assert state.decoding == pytest.approx(rate * steps * state.tpot_seconds, rel=1e-3)
    assert state.users == pytest.approx(rate * (state.ttft_mean_seconds + steps * state.tpot_seconds), rel=1e-3)


@given(st.integers(1, 600), st.sampled_from([PLAIN, HIDING]), st.floats(0, 60), st.integers(1, 3000))
def test_littles_law_holds_for_any_users_with_those_who_wait(
    users: int, model: Linear, think: float, prompt: int
) -> None:
    asked = load(LengthMix({prompt: 1}, ""), LengthMix({200: 1}, ""), users=users, think_seconds=think)
    state = replica(model, asked).at_users(users)
    took = state.ttft_mean_seconds + 199 * state.tpot_seconds + think
    assert state.rate_per_s * took == pytest.approx(users, rel=2e-3)
    assert state.decoding <= min(users, 200) + 1e-6


@given(st.sampled_from([PLAIN, HIDING]), st.floats(0, 20))
def test_more_load_is_never_faster(model: Linear, think: float) -> None:
    asked = replace(fixed(), think_seconds=think)
    states = [replica(model, asked).at_users(users) for users in (1, 2, 5, 20, 80, 300)]
    for before, after in itertools.pairwise(states):
        assert before.tpot_seconds <= after.tpot_seconds * (1 + 1e-6)
        assert before.rate_per_s <= after.rate_per_s * (1 + 1e-3)
    one = replica(model, fixed(rate_per_s=1.0))
    rates = [one.at_rate(share * one.full_rate_per_s) for share in (0.05, 0.3, 0.6, 0.9)]
    for low, high in itertools.pairwise(rates):
        assert low is not None and high is not None
        assert low.tpot_seconds < high.tpot_seconds and low.ttft_seconds < high.ttft_seconds


def test_more_than_can_be_carried_is_no_state() -> None:
    one = replica(asked=fixed(rate_per_s=1.0))
    assert one.at_rate(one.full_rate_per_s) is None and one.at_rate(10**6) is None
    assert one.at_rate(0.999 * one.full_rate_per_s) is not None


def test_prompts_alone_bound_the_rate() -> None:
    # steps full of prompts: 2048 tokens in 10 ms + 2048 x 20 us, so 1000 tokens in 24.9 ms, whatever the memory
    whole = 2048 / (0.010 + 2048 * 20e-6) / 1000
    assert replica(asked=fixed(rate_per_s=1.0), most=10**5).full_rate_per_s == pytest.approx(whole, rel=0.01)


def test_users_beyond_the_room_wait_for_it() -> None:
    state = replica(most=50).at_users(200)
    room = replica(most=50).at_users(50)
    assert state.waiting == pytest.approx(150, rel=0.05)
    assert state.rate_per_s == pytest.approx(room.rate_per_s, rel=0.03)
    assert state.ttft_mean_seconds == pytest.approx(150 / state.rate_per_s, rel=0.1)


def test_waiting_for_room_is_that_of_m_m_1_where_one_is_served() -> None:
    # Sakasegawa is exact for M/M/1: W = S·rho / (1 - rho); exponential outputs have cv² = 1
    one = Replica(PLAIN, replace(fixed(1, 101, rate_per_s=1.0)), chunk_tokens=2048, most=1)
    one.load.__dict__["output_spread"] = 1.0
    decoding = 0.5
    ratio = one.held(decoding)
    wait, likely = one._wait_for_room(decoding)
    assert likely == pytest.approx(ratio)
    assert wait == pytest.approx(100 * one.tpot_seconds(decoding) * ratio / (1 - ratio))


def test_a_cached_prefix_spares_its_prefill() -> None:
    half = replica(asked=load(LengthMix({1024: 1}, ""), LengthMix({101: 1}, ""), users=1, prefix_share=0.5))
    assert half.at_users(1).ttft_seconds == pytest.approx(0.010 + 512 * 20e-6)
    assert half.cached_share(1) == 0  # nothing but products here
    scoring = Linear(fixed_ps=MS, token_ps=20 * US, pair_ps=1000)
    hit = Replica(scoring, half.load, chunk_tokens=2048, most=9).cached_share(1)
    assert hit == pytest.approx(512 * 512 * 1e-9 / (512 * 20e-6 + (512 * 512 + 512 * 513 / 2) * 1e-9), rel=1e-6)


def test_a_slower_replica_is_slower_by_that_factor_when_alone() -> None:
    assert replica().slowed(1.5).at_users(1).tpot_seconds == pytest.approx(0.015)


def test_a_window_bounds_what_a_step_reads() -> None:
    model = Linear(fixed_ps=MS, reaches=(None, 100), kv_ps=(1000, 1000), score_ps=(0, 0))
    held = replica(model, fixed(1000, 101)).reached
    assert held[0] == pytest.approx(1050, rel=0.01) and held[1] == 100


@pytest.mark.parametrize("model", [PLAIN, HIDING])
@pytest.mark.parametrize("share", [0.2, 0.6, 0.85])
def test_the_formulas_agree_with_the_simulator_when_requests_arrive_at_random(model: Linear, share: float) -> None:
    mixes = from_percentiles("p50=600,p95=1800"), from_percentiles("p50=200,p95=500")
    one = Replica(model, load(*mixes, rate_per_s=1.0), chunk_tokens=2048, most=200)
    rate = share * one.full_rate_per_s
    state = one.at_rate(rate)
    run = simulate(synthetic(*mixes, 3000, rate_per_s=rate), model, Pool.of_blocks(10**6), policy=Policy(200, 2048))
    _agree(state, run, tpot=0.10, ttft=0.35)


@pytest.mark.parametrize("model", [PLAIN, HIDING])
@pytest.mark.parametrize("users", [1, 20, 120])
def test_the_formulas_agree_with_the_simulator_in_a_closed_loop(model: Linear, users: int) -> None:
    mixes = from_percentiles("p50=600,p95=1800"), from_percentiles("p50=200,p95=500")
    state = Replica(model, load(*mixes, users=users), chunk_tokens=2048, most=200).at_users(users)
    run = simulate(synthetic(*mixes, 3000), model, Pool.of_blocks(10**6), policy=Policy(200, 2048), users=users)
    _agree(state, run, tpot=0.06, ttft=0.35)


def _agree(state: object, run: object, tpot: float, ttft: float) -> None:
    rows = run.requests  # type: ignore[attr-defined]
    kept = [i for i in rows.served if 400 <= i < len(rows) - 200]
    steps = sum(rows.output_tokens[i] - 1 for i in kept)
    decoded = sum(rows.last_ps[i] - rows.first_ps[i] for i in kept) / PS_PER_SECOND / steps
    (late,) = percentiles([(rows.first_ps[i] - rows.arrival_ps[i]) / PS_PER_SECOND for i in kept], [0.95])
    assert state.tpot_seconds == pytest.approx(decoded, rel=tpot)  # type: ignore[attr-defined]
    assert 1 / (1 + ttft) < state.ttft_seconds / late < 1 + ttft  # type: ignore[attr-defined]

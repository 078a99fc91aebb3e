"""What a run is summed up to: percentiles, targets met, the pool over time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.serving.block_pool import Pool
from planner.serving.replica import Policy
from planner.serving.result import Timeline, percentiles, summed
from planner.serving.scheduler import simulate
from planner.speed.step import Linear
from planner.workloads.arrivals import Arrival


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50), st.floats(0.001, 1))
def test_a_percentile_is_the_smallest_value_that_enough_do_not_exceed(values, share):
    found = percentiles(values, [share])[0]
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-9
    assert sum(value < found for value in values) < share * len(values) + 1e-9


def test_the_percentile_of_nothing_is_nothing():
    assert percentiles([], [0.5, 0.99]) == [0.0, 0.0]


@given(st.lists(st.integers(0, 9), max_size=200))
def test_a_timeline_keeps_every_nth_sample_at_its_own_time(samples):
    line = Timeline(8, 3)
    while line.next_ps < len(samples) * 3:
        line.add(samples[line.next_ps // 3])
    assert len(line.samples) < 8 or not samples
    stride = line.interval_ps // 3
    assert line.samples == samples[::stride][: len(line.samples)]


def test_timelines_of_replicas_are_summed_at_the_coarsest_interval():
    fine, coarse = Timeline(100, 1), Timeline(100, 4)
    for held in range(9):
        fine.add(held)
    coarse.add(100)
    assert summed([fine, coarse]).samples == [100, 4, 8]


def test_targets_count_requests_that_meet_both():
    """Steps of 1 s: the first waits 1 s for its token, the second, which comes during its last step, 1.5 s."""
    second = 10**12
    arrivals = [Arrival(0, 5, 3), Arrival(2 * second + second // 2, 5, 1)]
    run = simulate(arrivals, Linear(fixed_ps=second), Pool.of_blocks(9), policy=Policy())
    assert run.ttft_seconds() == [1.0, 1.5] and run.tpot_seconds() == [1.0]
    assert [run.meeting(*targets) for targets in ((None, None), (1.0, None), (1.5, 0.9), (1.5, 1.0), (0.5, None))] == [
        2,
        1,
        1,
        2,
        0,
    ]
    assert run.latency_seconds() == [3.0, 1.5] and run.queueing_seconds() == [0.0, 0.5]


def test_throughput_and_shares_of_time_by_hand():
    second = 10**12
    run = simulate(
        [Arrival(0, 5, 3), Arrival(7 * second, 5, 3)], Linear(fixed_ps=second), Pool.of_blocks(4), policy=Policy()
    )
    assert (run.seconds, run.utilisation, run.requests_per_s) == (10.0, 0.6, 0.2)
    assert run.output_tokens_per_s == pytest.approx(0.6)
    assert run.mean_concurrency == pytest.approx(0.6)
    line = run.occupancy
    assert [line.samples[time * second // line.interval_ps] for time in (0, 1, 5, 8)] == [1, 1, 0, 1]

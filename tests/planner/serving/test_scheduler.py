"""Event jumping equals step by step, and queueing theory where it applies."""

from __future__ import annotations

from itertools import repeat

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.errors import BadRequest
from planner.serving.block_pool import BlockKind, Pool
from planner.serving.replica import ROUTINGS, Flight, Policy
from planner.serving.scheduler import simulate
from planner.speed.step import Linear
from planner.workloads.arrivals import Arrival, poisson_ps, synthetic
from planner.workloads.lengths import from_percentiles
from tests.planner.serving.scheduler_reference import Reference

SMALL = st.integers(0, 50)


@st.composite
def pools(draw):
    if draw(st.booleans()):
        return Pool.of_blocks(draw(st.integers(4, 60)))
    kinds = [BlockKind(draw(st.sampled_from([4, 16])), draw(st.integers(1, 5)))] * draw(st.booleans())
    kinds += [BlockKind(draw(st.sampled_from([1, 8, 16])), draw(st.integers(1, 5)), draw(st.integers(1, 200)))]
    return Pool(draw(st.integers(100, 600)), tuple(kinds), draw(st.integers(0, 9)))


@st.composite
def models(draw):
    reaches = draw(st.sampled_from([(None,), (None, 30), (64,), (40, 100, None), (33, 33)]))
    per_kind = st.tuples(*[st.integers(0, 5)] * len(reaches))
    return Linear(draw(st.integers(1, 300)), draw(SMALL), draw(SMALL), draw(st.integers(0, 2)), reaches, draw(per_kind), draw(per_kind))  # fmt: skip


@st.composite
def policies(draw):
    seats = draw(st.integers(1, 8))
    return Policy(
        max_num_seqs=seats,
        max_num_batched_tokens=seats + draw(st.integers(0, 120)),
        longest_tokens=draw(st.sampled_from([None, None, 400])),
        replicas=draw(st.sampled_from([1, 1, 1, 2, 3])),
        routing=draw(st.sampled_from(ROUTINGS)),
    )


@st.composite
def workloads(draw):
    gaps = st.one_of(st.integers(0, 3), st.integers(0, 20_000))
    rows = st.tuples(gaps, st.integers(1, 300), st.integers(1, 150), st.sampled_from([0, 0, 16, 400]))
    time, found = 0, []
    for gap, prompt, output, cached in draw(st.lists(rows, min_size=1, max_size=25)):
        time += gap
        found.append(Arrival(time, prompt, output, cached))
    return found


@st.composite
def prefix_workloads(draw):
    """Chains of 512-token blocks that branch, in a pool that holds some of them."""
    gaps = st.one_of(st.integers(0, 3), st.integers(0, 20_000))
    time, found = 0, []
    for _ in range(draw(st.integers(1, 20))):
        time += draw(gaps)
        ids, node = [], 0
        for _ in range(draw(st.integers(0, 4))):
            node = node * 2 + draw(st.integers(1, 2))
            ids.append(node)
        if draw(st.integers(0, 20)) == 20:
            ids = [draw(st.integers(0, 3)) for _ in ids]  # a file that is wrong about its hashes
        prompt = max(1, 512 * len(ids) + draw(st.sampled_from([-512, -100, 0, 1, 17, 300])))
        found.append(Arrival(time, prompt, draw(st.sampled_from([1, 5, 60, 300])), 0, tuple(ids)))
    return found


@st.composite
def prefix_policies(draw):
    seats = draw(st.integers(1, 6))
    return Policy(seats, seats + draw(st.sampled_from([3, 40, 600, 3000])), None, draw(st.sampled_from([1, 1, 2])))


def prefix_pools():
    plain = st.one_of(st.integers(40, 130), st.integers(40, 500)).map(Pool.of_blocks)
    windowed = st.integers(300, 1500).map(lambda size: Pool(size, (BlockKind(16, 2), BlockKind(16, 3, 100)), 5))
    odd = st.integers(100, 400).map(lambda size: Pool(size, (BlockKind(48, 2),)))
    return st.one_of(plain, windowed, odd)


def assert_equal(arrivals, model, pool, policy, users=0, think=0):
    run = simulate(arrivals, model, pool, policy=policy, users=users, think_ps=repeat(think))
    plain = Reference(arrivals, model, pool, policy, users, think).run()
    rows = run.requests
    found = [
        {"arrival": rows.arrival_ps[i], "scheduled": rows.scheduled_ps[i], "first": rows.first_ps[i],
         "last": rows.last_ps[i], "hits": rows.hit_tokens[i], "preemptions": rows.preemptions[i], "replica": rows.replica[i]}
        for i in range(len(rows))
    ]  # fmt: skip
    assert found == plain.rows
    assert (run.steps, run.preemptions, run.prefill_tokens) == (plain.steps, plain.preemptions, plain.prefill_tokens)
    assert (run.end_ps, run.in_system_ps) == (plain.now, plain.in_system_ps)
    assert run.peak_bytes == max(engine.peak for engine in plain.engines)
    return run, plain


@settings(max_examples=200, deadline=None)
@given(workloads(), models(), pools(), policies())
def test_jumping_from_event_to_event_equals_step_by_step(arrivals, model, pool, policy):
    run, _ = assert_equal(arrivals, model, pool, policy)
    rows = run.requests
    latency = sum(rows.last_ps[i] - rows.arrival_ps[i] for i in rows.served)
    assert run.in_system_ps == latency  # Little's law, exactly: the integral of L is the sum of W


@settings(max_examples=120, deadline=None)
@given(prefix_workloads(), models(), prefix_pools(), prefix_policies())
def test_shared_prefixes_equal_step_by_step(arrivals, model, pool, policy):
    assert_equal(arrivals, model, pool, policy)


@settings(max_examples=150, deadline=None)
@given(workloads(), models(), pools(), policies(), st.integers(1, 9), st.sampled_from([0, 0, 7, 3000]))
def test_a_closed_loop_equals_step_by_step(arrivals, model, pool, policy, users, think):
    assert_equal(arrivals, model, pool, policy, users, think)


@settings(max_examples=60, deadline=None)
@given(workloads(), models(), pools(), policies())
def test_the_pool_at_a_moment_is_what_the_step_under_way_holds(arrivals, model, pool, policy):
    run, plain = assert_equal(arrivals, model, pool, policy)
    line = run.occupancy
    for i, held in enumerate(line.samples):
        assert held == sum(plain.held_at(number, i * line.interval_ps) for number in range(policy.replicas))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 400), st.integers(0, 50), st.integers(1, 90), st.integers(0, 4000))
def test_a_flight_is_cut_at_the_first_step_boundary_not_before_a_moment(first, slope, steps, moment):
    flight = Flight(0, steps, first, slope_ps=slope, prefilled=[])
    spans = [sum(first + slope * i for i in range(n)) for n in range(steps + 1)]
    assert [flight.span_ps(n) for n in range(steps + 1)] == spans
    flight.cut(moment)
    assert flight.end_ps == next((span for span in spans[1:] if span >= moment), spans[-1])


def test_one_request_by_hand():
    """Prompt of 40 in chunks of 16: 3 steps; the third gives the first token, then two steps of one token."""
    model = Linear(fixed_ps=1000, sequence_ps=10, token_ps=5, kv_ps=(1,))
    run = simulate([Arrival(7, 40, 3)], model, Pool.of_blocks(3), policy=Policy(8, 16))
    rows = run.requests
    assert rows.scheduled_ps[0] == 7
    assert rows.first_ps[0] == 7 + 3 * 1000 + 5 * 40
    assert rows.last_ps[0] == rows.first_ps[0] + (1000 + 10 + 41) + (1000 + 10 + 42)
    assert (run.steps, run.peak_bytes, run.prefill_tokens) == (5, 3, 40)


def test_decodes_go_first_and_the_prompt_gets_what_is_left_of_the_budget():
    """While one decodes, a prompt of 10 has 4 of 5 tokens a step: chunks of 4, 4, 2."""
    model = Linear(fixed_ps=1)
    run = simulate([Arrival(0, 5, 9), Arrival(0, 10, 1)], model, Pool.of_blocks(9), policy=Policy(2, 5))
    assert list(run.requests.first_ps) == [1, 4]


def test_the_latest_arrival_is_preempted_recomputed_and_keeps_its_first_token():
    """Two of 16 + 17 tokens need 3 blocks each at their ends; 4 are there. The second is dropped at its 17th token."""
    run = simulate(
        [Arrival(0, 16, 18), Arrival(0, 16, 18)], Linear(fixed_ps=1), Pool.of_blocks(4), policy=Policy(2, 100)
    )
    rows = run.requests
    assert list(rows.preemptions) == [0, 1]
    assert list(rows.first_ps) == [1, 1]
    # both: 1 prefill, 16 decode steps (to 32 tokens); alone: the last decode step; then 33 tokens again in one step
    assert list(rows.last_ps) == [18, 19]
    assert run.prefill_tokens == 16 + 16 + 33


def test_what_never_fits_is_rejected_and_counted_and_disturbs_nobody():
    few = Pool.of_blocks(4)
    run = simulate([Arrival(0, 60, 5), Arrival(0, 60, 6), Arrival(1, 1, 1)], Linear(fixed_ps=1), few, policy=Policy())
    assert (run.rejected, run.served, list(run.requests.replica)) == (1, 2, [0, -1, 0])
    assert simulate([Arrival(0, 60, 5)], Linear(fixed_ps=1), few, policy=Policy(longest_tokens=64)).rejected == 1


def test_a_prefix_that_is_cached_is_neither_computed_nor_held_twice():
    shared = tuple(range(4))  # 2048 tokens; the last block of a prompt is always computed
    arrivals = [Arrival(0, 2049, 2, 0, shared), Arrival(10**6, 2049, 2, 0, shared), Arrival(10**6, 2049, 2, 0, shared)]
    run = simulate(arrivals, Linear(fixed_ps=1, token_ps=1), Pool.of_blocks(200), policy=Policy())
    assert list(run.requests.hit_tokens) == [0, 2048, 2048]
    assert run.prefill_tokens == 2049 + 1 + 1
    assert run.peak_bytes == 128 + 2 * 1


def test_the_longest_idle_prefix_gives_way_first():
    """Room for two prompts of 2 blocks of 512: the third request drops the first one's, from its end."""
    times = [0, 10**7, 2 * 10**7, 3 * 10**7, 4 * 10**7]
    prefixes = [(1, 2), (3, 4), (5, 6), (3, 4), (1, 2)]
    arrivals = [Arrival(time, 1025, 1, 0, ids) for time, ids in zip(times, prefixes, strict=True)]
    run = simulate(arrivals, Linear(fixed_ps=1), Pool.of_blocks(2 * 64 + 1 + 2), policy=Policy())
    assert list(run.requests.hit_tokens) == [0, 0, 0, 1024, 0]


def test_a_prefix_that_gave_way_during_a_jump_is_gone_after_it():
    """The second request grows to 91 of 100 blocks in one jump: the idle 32 of the first one's prefix must go."""
    arrivals = [Arrival(0, 513, 1, 0, (1,)), Arrival(10, 16, 16 * 90), Arrival(10**6, 513, 1, 0, (1,))]
    run, _ = assert_equal(arrivals, Linear(fixed_ps=1), Pool.of_blocks(100), Policy())
    assert list(run.requests.hit_tokens) == [0, 0, 0]


def test_the_first_in_line_may_need_less_once_its_prefix_gave_way():
    """With its prefix it needs 36 blocks at once, and 35 are free; when the prefix is gone, a first chunk of 4 fits."""
    arrivals = [Arrival(0, 513, 1, 0, (1,)), Arrival(100, 16 * 65, 500), Arrival(200, 600, 1, 0, (1,))]
    run, _ = assert_equal(arrivals, Linear(fixed_ps=1), Pool.of_blocks(100), Policy(4, 64))
    rows = run.requests
    assert rows.hit_tokens[2] == 0 and rows.first_ps[1] < rows.scheduled_ps[2] < rows.last_ps[1]


@pytest.mark.parametrize(("budget", "scheduled"), [(16 * 70 + 64, 100), (592, 110)])
def test_a_prefix_that_gives_way_to_the_prompt_before_is_not_found_in_the_same_step(budget, scheduled):
    """A prompt of 70 of 100 blocks leaves 30: the idle 32 go, and the next in line has a first chunk of 4 at once.

    With a budget of 592 the large prompt is under way already when it takes that room.
    """
    arrivals = [Arrival(0, 513, 1, 0, (1,)), Arrival(100, 16 * 70, 1), Arrival(100, 600, 1, 0, (1,))]
    run, _ = assert_equal(arrivals, Linear(fixed_ps=10), Pool.of_blocks(100), Policy(4, budget))
    assert list(run.requests.scheduled_ps) == [0, 100, scheduled]
    assert run.requests.hit_tokens[2] == 0


def test_routing_by_turns_and_by_load():
    """A long request on the first replica: by turns the third waits behind it, by load it does not."""
    arrivals = [Arrival(0, 1, 100), Arrival(1, 1, 1), Arrival(50, 1, 1), Arrival(50, 1, 1)]
    by = {
        routing: list(
            simulate(
                arrivals, Linear(fixed_ps=10), Pool.of_blocks(99), policy=Policy(replicas=2, routing=routing)
            ).requests.replica
        )
        for routing in ROUTINGS
    }
    assert by == {"round-robin": [0, 1, 0, 1], "least-loaded": [0, 1, 1, 0]}


def mean(values):
    return sum(values) / len(values)


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_one_at_a_time_waits_as_the_pollaczek_khinchine_formula_says(load):
    """M/G/1: W = rate · E[S²] / (2 · (1 - rho)), where S is the time of prefill and decode steps alone.

    Gross & Harris, Fundamentals of Queueing Theory, section 5.1; 20,000 requests scatter by a few in a hundred.
    """
    model = Linear(fixed_ps=10**9, token_ps=10**7, kv_ps=(10**5,))
    prompts, outputs = from_percentiles("p50=200,p95=900"), from_percentiles("p50=30,p95=120")
    rows = list(synthetic(prompts, outputs, 20_000))

    def service(arrival: Arrival) -> int:
        p, o = arrival.prompt_tokens, arrival.output_tokens
        return 10**9 * o + 10**7 * p + 10**5 * sum(range(p + 1, p + o))

    times = [service(row) / 1e12 for row in rows]
    rate = load / mean(times)
    arrivals = [row._replace(time_ps=at) for row, at in zip(rows, poisson_ps(rate, 5), strict=False)]
    run = simulate(arrivals, model, Pool.of_blocks(10**6), policy=Policy(1, 10**6))
    assert run.busy_ps == sum(service(row) for row in rows)
    busy = rate * mean(times)
    expected = rate * mean([t * t for t in times]) / (2 * (1 - busy))
    assert mean(run.queueing_seconds()) == pytest.approx(expected, rel=0.07)
    assert run.utilisation == pytest.approx(busy, rel=0.03)


def test_littles_law_at_a_replica_that_batches():
    """L = rate · W over the run: the time integral of the number in the system is the sum of the latencies."""
    prompts, outputs = from_percentiles("p50=800,p95=6000"), from_percentiles("p50=200,p95=900")
    model = Linear(fixed_ps=10**10, token_ps=3 * 10**7, kv_ps=(50_000,))
    run = simulate(synthetic(prompts, outputs, 3000, rate_per_s=4.0), model, Pool.of_blocks(20_000), policy=Policy())
    rows = run.requests
    assert run.in_system_ps == sum(rows.last_ps[i] - rows.arrival_ps[i] for i in range(len(rows)))
    assert run.mean_concurrency == pytest.approx(run.requests_per_s * mean(run.latency_seconds()))


def test_the_same_seed_gives_the_same_run_and_another_seed_another():
    mix = from_percentiles("p50=100,p95=300")

    def last(seed):
        arrivals = synthetic(mix, mix, 300, rate_per_s=20.0, seed=seed)
        return list(simulate(arrivals, Linear(fixed_ps=10**10), Pool.of_blocks(100), policy=Policy()).requests.last_ps)

    assert last(1) == last(1) != last(2)


def test_users_in_a_closed_loop_never_have_more_than_one_request_each():
    mix = from_percentiles("p50=100,p95=300")
    run = simulate(
        synthetic(mix, mix, 500), Linear(fixed_ps=10**10), Pool.of_blocks(1000), policy=Policy(), users=7, think_ps=repeat(10**12)
    )  # fmt: skip
    rows = run.requests
    changes = sorted([(at, 1) for at in rows.arrival_ps] + [(at, -1) for at in rows.last_ps])
    present, most = 0, 0
    for _, change in changes:
        present += change
        most = max(most, present)
    assert most == 7 and run.served == 500


def test_vidur_gives_the_same_times():
    """The first requests of the Azure conversation trace through vidur 0.0.26, its sarathi scheduler, the same step times.

    `benchmarks/simulate.py --vidur-python` compares 2,000 of them; here are five, in seconds, as vidur gave them.
    """
    rows = [(0.0, 374, 44), (4.314579, 396, 109), (4.541877, 879, 55), (4.710427, 91, 16), (5.892655, 91, 16)]
    arrivals = [Arrival(round(at * 1e12), prompt, output) for at, prompt, output in rows]
    model = Linear(fixed_ps=8 * 10**9, token_ps=30 * 10**6, kv_ps=(50_000,))
    run = simulate(arrivals, model, Pool.of_blocks(20_000), policy=Policy(256, 2048))
    assert run.latency_seconds() == pytest.approx([0.3640714, 0.91784645, 0.4738856, 0.1358761, 0.13080425], abs=1e-9)


@pytest.mark.parametrize(
    ("arrivals", "words"),
    [
        ([Arrival(0, 0, 1)], "at least one prompt token"),
        ([Arrival(0, 1, 0)], "at least one prompt token"),
        ([Arrival(5, 1, 1), Arrival(4, 1, 1)], "in order of time"),
        ([Arrival(-1, 1, 1)], "in order of time"),
        ([Arrival(1 << 63, 1, 1)], "106 days"),
    ],
)
def test_requests_that_mean_nothing_are_refused(arrivals, words):
    with pytest.raises(BadRequest, match=words):
        simulate(arrivals, Linear(fixed_ps=1), Pool.of_blocks(9), policy=Policy())


@pytest.mark.parametrize(
    "made",
    [
        lambda: Policy(max_num_seqs=0),
        lambda: Policy(max_num_seqs=9, max_num_batched_tokens=8),
        lambda: Policy(replicas=0),
        lambda: Policy(routing="random"),
        lambda: Pool.of_blocks(0),
        lambda: Pool(5, (BlockKind(0, 1),)),
    ],
)
def test_policies_and_pools_that_mean_nothing_are_refused(made):
    with pytest.raises(BadRequest):
        made()


def test_nothing_arrives_and_nothing_happens():
    run = simulate([], Linear(fixed_ps=1), Pool.of_blocks(9), policy=Policy())
    assert (run.end_ps, run.steps, run.requests_per_s, run.utilisation, run.mean_concurrency) == (0, 0, 0.0, 0.0, 0.0)

"""Event jumping equals step by step, and queueing theory where it applies."""

from __future__ import annotations

from itertools import repeat

from hypothesis import given, settings
from hypothesis import strategies as st

from planner.paged_pool import BlockKind, Pool
from planner.simulator import ROUTINGS, Policy, simulate
from planner.step import Linear
from planner.traffic import Arrival
from tests.planner.simulator_reference import Reference

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
        found.append(Arrival(time, prompt, draw(st.integers(1, 60)), 0, tuple(ids)))
    return found


@st.composite
def prefix_policies(draw):
    seats = draw(st.integers(1, 6))
    return Policy(seats, seats + draw(st.sampled_from([3, 40, 600, 3000])), None, draw(st.sampled_from([1, 1, 2])))


def prefix_pools():
    plain = st.integers(40, 500).map(Pool.of_blocks)
    windowed = st.integers(300, 1500).map(lambda size: Pool(size, (BlockKind(16, 2), BlockKind(16, 3, 100)), 5))
    odd = st.integers(100, 400).map(lambda size: Pool(size, (BlockKind(48, 2),)))
    return st.one_of(plain, windowed, odd)


def assert_equal(arrivals, model, pool, policy, users=0, think=0):
    run = simulate(arrivals, model, pool, policy, users=users, think_ps=repeat(think))
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


@settings(max_examples=300, deadline=None)
@given(workloads(), models(), pools(), policies())
def test_jumping_from_event_to_event_equals_step_by_step(arrivals, model, pool, policy):
    run, _ = assert_equal(arrivals, model, pool, policy)
    rows = run.requests
    latency = sum(rows.last_ps[i] - rows.arrival_ps[i] for i in rows.served)
    assert run.in_system_ps == latency  # Little's law, exactly: the integral of L is the sum of W


@settings(max_examples=200, deadline=None)
@given(prefix_workloads(), models(), prefix_pools(), prefix_policies())
def test_shared_prefixes_equal_step_by_step(arrivals, model, pool, policy):
    assert_equal(arrivals, model, pool, policy)


@settings(max_examples=150, deadline=None)
@given(workloads(), models(), pools(), policies(), st.integers(1, 9), st.sampled_from([0, 0, 7, 3000]))
def test_a_closed_loop_equals_step_by_step(arrivals, model, pool, policy, users, think):
    assert_equal(arrivals, model, pool, policy, users, think)

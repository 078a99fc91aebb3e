"""A plan played request by request on one of its ranks, to hold the formulas of `deploy_steady` against it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

from planner.deployment.candidate import Candidate, Check, missed
from planner.deployment.plan import Plan
from planner.deployment.question import Question
from planner.deployment.room import Sizes
from planner.deployment.search import Answer, order
from planner.serving.pools import pool_of
from planner.serving.replica import Policy, Side
from planner.serving.result import REJECTED, Simulation, percentiles
from planner.serving.scheduler import simulate
from planner.units import PS_PER_SECOND, ceil_div
from planner.workloads.arrivals import Arrival, exponential_ps, replayed, speed_up_to, synthetic
from planner.workloads.load import Load

REQUESTS = 1500


MOST_REQUESTS = 4000


PER_USER = 8


SEED = 1


FAR = 2.0  # a target missed by this factor wants more than one replica


MOST_CHECKS = 10


def verified(answer: Answer) -> Answer:
    """Simulates the best plan; where that misses a target it gets more replicas and its new place in the ranking.

    One more; where a target is missed twofold the formulas are off for this load, and all plans on that device that
    cost no more get half as many again. At most MOST_CHECKS runs; the rest of the ranking stays with the formulas.
    """
    question = answer.question
    plans, failed = list(answer.plans), []
    for _ in range(MOST_CHECKS):
        if not plans:
            break
        best = replace(plans[0], check=check(plans[0]))
        assert best.check is not None
        misses = missed(best.check, question.targets)
        if not misses:
            plans[0] = best
            break
        failed.append(best)
        far = max(ratio for _, ratio in misses) >= FAR
        plans = [found for plan in plans if (found := _more(plan, best, far, question=question)) is not None]
        plans.sort(key=lambda plan: order(plan, question.sort))
    return replace(answer, plans=tuple(plans), failed_checks=tuple(failed))


def _more(plan: Plan, failed: Plan, far: bool, *, question: Question) -> Plan | None:
    """`plan` itself, or with more replicas where a failed simulation says so; None where it cannot have them."""
    itself = plan.candidate is failed.candidate
    alike = far and plan.candidate.device is failed.candidate.device and plan.devices <= failed.devices
    if not (itself or alike):
        return plan
    more = _with(plan, plan.replicas + (ceil_div(plan.replicas, 2) if far else 1))
    budget = question.budget_usd_per_hour
    return None if more is None or (budget is not None and (more.usd_per_hour or 0.0) > budget) else more


def _with(plan: Plan, count: int) -> Plan | None:
    candidate = plan.candidate.holding(count)
    state = candidate.state(count) if count <= candidate.most_replicas else None
    return None if state is None else Plan(candidate, count, state)


def check(plan: Plan) -> Check:
    """Simulates the plan's TPOT and TTFT: one rank of it under its share of the load, lengths drawn from the load's bins."""
    candidate = plan.candidate
    load = candidate.question.load
    users = 0 if load.users is None else ceil_div(load.users, plan.ranks)
    count = max(REQUESTS, min(MOST_REQUESTS, PER_USER * users))
    if load.trace is not None:
        count = min(len(load.trace), MOST_REQUESTS)
    side = side_of(candidate)
    run = simulate(
        arrivals_of(load, None if users else plan.state.rate_per_s, count),
        side.model,
        side.pool,
        policy=side.policy,
        users=users,
        occupancy=False,
        think_ps=exponential_ps(load.think_seconds, SEED, "pauses") if users and load.think_seconds else None,
    )
    requests = len(run.requests)
    return check_of(run, candidate, first=min(requests // 4, 3 * users) if users else requests // 10)


def side_of(candidate: Candidate, replicas: int = 1) -> Side:
    """Describes ranks of a candidate as the simulator plays them: steps, pool, schedule."""
    load, room = candidate.question.load, candidate.room
    sizes = Sizes(room.found)
    whole = sum(held.share * sizes.own(held.tokens, held.tokens) for held in load.held_sequences)
    pool = max(1, round((room.pool_bytes - room.prefix_bytes) * whole / max(1, room.request_bytes)))
    tokens = max(candidate.chunk_tokens, room.admitted)
    policy = Policy(room.admitted, tokens, load.longest_tokens, replicas)
    return Side(candidate.steps, pool_of(room.found, pool), policy)


def check_of(run: Simulation, candidate: Candidate, *, first: int) -> Check:
    """Sums up a run from its `first` request on: TPOT by token, TTFT at the share of requests that was asked for."""
    rows = run.requests
    kept = [i for i in rows.served if i >= first]
    steps = sum(rows.output_tokens[i] - 1 for i in kept)
    decoded = sum(rows.last_ps[i] - rows.first_ps[i] for i in kept)
    waits = [(rows.first_ps[i] - rows.arrival_ps[i]) / PS_PER_SECOND for i in kept]
    waits += [math.inf] * sum(last == REJECTED for last in rows.last_ps[first:])  # who is never served never begins
    (at_share,) = percentiles(waits, [candidate.question.targets.ttft_share])
    return Check(
        len(kept),
        decoded / max(1, steps) / PS_PER_SECOND,
        at_share + candidate.constants.before_seconds,
        run.preemptions,
    )


def arrivals_of(load: Load, rate: float | None, count: int) -> Iterator[Arrival]:
    """Draws or replays the load's requests at a rate; without one a closed loop makes its own times."""
    if load.trace is None:
        return synthetic(*load.mixes, count, rate_per_s=rate, prefix_share=load.prefix_share, seed=SEED)
    pace = speed_up_to(load.trace, rate) if rate and load.trace.has_times else Fraction(1)
    share = load.prefix_share if load.prefix_common else 0.0
    timed = rate is not None
    return replayed(load.trace, count, speed_up=pace, rate_per_s=rate, prefix_share=share, seed=SEED, timed=timed)

"""A plan played request by request on one of its ranks, to hold the formulas of `deploy_steady` against it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

from planner.deploy import Answer, Check, Plan, order
from planner.deploy_load import Bin, Targets, cached
from planner.deploy_memory import Sizes
from planner.replica_pool import pool_of
from planner.simulation import percentiles
from planner.simulator import Policy, simulate
from planner.step import PS_PER_SECOND
from planner.traffic import Arrival
from planner.units import ceil_div

REQUESTS = 1500
MOST_REQUESTS = 4000
PER_USER = 8
SEED = 1


MOST_CHECKS = 6


def verified(answer: Answer) -> Answer:
    """The best plan is simulated; where that misses a target it gets a replica more and its new place in the ranking.

    At most MOST_CHECKS runs, and all else in the ranking rests on the formulas alone.
    """
    question = answer.question
    plans, checks = list(answer.plans), []
    for _ in range(MOST_CHECKS):
        if not plans:
            break
        best = plans[0]
        found = check(best)
        if not missed(found, question.targets):
            plans[0] = replace(best, check=found)
            break
        checks.append(replace(best, check=found))
        plans.pop(0)
        more = _with_one_more(best)
        budget = question.budget_usd_per_hour
        if more is not None and (budget is None or (more.usd_per_hour or 0.0) <= budget):
            plans = sorted([*plans, more], key=lambda plan: order(plan, question.sort))
    return replace(answer, plans=tuple(plans), failed_checks=tuple(checks))


def _with_one_more(plan: Plan) -> Plan | None:
    count = plan.replicas + 1
    state = plan.candidate.state(count) if count <= plan.candidate.most_replicas else None
    return None if state is None else Plan(plan.candidate, count, state)


def missed(found: Check, targets: Targets) -> list[tuple[str, float]]:
    """Targets that the simulation misses, with what it has over what it may have."""
    pairs = (("TTFT", found.ttft_seconds, targets.ttft_seconds), ("TPOT", found.tpot_seconds, targets.tpot_seconds))
    return [(name, has / may) for name, has, may in pairs if may is not None and has > may]


def check(plan: Plan) -> Check:
    """The plan's TPOT and TTFT as simulated: one rank of it under its share of the load, lengths drawn from the load's bins."""
    candidate = plan.candidate
    load, room = candidate.question.load, candidate.room
    users = 0 if load.users is None else ceil_div(load.users, plan.ranks)
    count = max(REQUESTS, min(MOST_REQUESTS, PER_USER * users))
    sizes = Sizes(room.found)
    whole = sum(held.share * sizes.own(held.tokens, held.tokens) for held in load.residents)
    pool = max(1, round((room.pool_bytes - room.prefix_bytes) * whole / max(1, room.request_bytes)))
    think = round(load.think_seconds * PS_PER_SECOND)
    run = simulate(
        _arrivals(plan, count, plan.state.rate_per_s),
        candidate.steps,
        pool_of(room.found, pool),
        Policy(max(1, room.admitted), max(candidate.chunk_tokens, room.admitted)),
        users=users,
        think_ps=_thinking(think) if users and think else None,
    )
    rows = run.requests
    first = min(len(rows) // 4, 3 * users) if users else len(rows) // 10
    kept = [i for i in rows.served if i >= first]
    steps = sum(rows.output_tokens[i] - 1 for i in kept)
    decoded = sum(rows.last_ps[i] - rows.first_ps[i] for i in kept)
    waits = [(rows.first_ps[i] - rows.arrival_ps[i]) / PS_PER_SECOND for i in kept]
    (at_share,) = percentiles(waits, [candidate.question.targets.ttft_share])
    return Check(
        len(kept),
        decoded / max(1, steps) / PS_PER_SECOND,
        at_share + candidate.constants.request_seconds,
        run.preemptions,
    )


def _arrivals(plan: Plan, count: int, rate_per_s: float) -> Iterator[Arrival]:
    """Prompts and outputs drawn apart; times of a Poisson process (a closed loop ignores them)."""
    load, draw = plan.candidate.question.load, random.Random(SEED)
    prompts, outputs = _drawn(draw, load.prompts, count), _drawn(draw, load.outputs, count)
    seconds = 0.0
    for prompt, output in zip(prompts, outputs, strict=True):
        seconds += draw.expovariate(rate_per_s)
        yield Arrival(round(seconds * PS_PER_SECOND), prompt, output, cached(prompt, load.prefix_share))


def _drawn(draw: random.Random, bins: tuple[Bin, ...], count: int) -> list[int]:
    return draw.choices([item.tokens for item in bins], [item.share for item in bins], k=count)


def _thinking(mean_ps: int) -> Iterator[int]:
    draw = random.Random(SEED + 1)
    while True:
        yield round(draw.expovariate(1 / mean_ps))

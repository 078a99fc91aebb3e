"""From a load and targets to a deployment: every layout and format on every device, what is dropped and why, the rest
ranked.

`search(question)` -> Answer. A candidate is a device, a layout of one replica, formats of weights and cache. Its room
(`deploy_memory`) says how many sequences it admits, its steady state (`deploy_steady`) how fast they run, and a
search over replicas how many of it carry the load within the targets.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property

from planner.deployment.candidate import MAX_DEVICES, Candidate, Miss, _candidates, failures, place
from planner.deployment.plan import Plan
from planner.deployment.question import Question
from planner.errors import BadRequest
from planner.frozen import dataclass
from planner.memory.estimate import estimate
from planner.memory.limits import smallest
from planner.memory.request import Request
from planner.speed.passes import rates_of
from planner.units import ceil_div, human_seconds
from planner.workloads.targets import Targets

OVER_BUDGET = "over the budget"


SAME = "the same figures as a simpler one"


FRONT_REPLICAS = (1.0, 1.5, 2.0, 3.0, 4.0)


@dataclass(frozen=True)
class Point:
    """One deployment for the figure of cost against TPOT."""

    plan: Plan
    meets: bool
    front: bool = False


@dataclass(frozen=True, eq=False)
class Answer:
    """Plans that meet the targets, the best first; the rest counted by reason; devices that could not be answered."""

    question: Question
    plans: tuple[Plan, ...]
    candidates: tuple[Candidate, ...]
    dropped: tuple[tuple[str, int], ...]
    refused: tuple[str, ...]
    nearest: Miss | None
    failed_checks: tuple[Plan, ...] = ()

    @property
    def searched(self) -> int:
        return len(self.plans) + sum(count for _, count in self.dropped)

    @cached_property
    def points(self) -> tuple[Point, ...]:
        """Cost against TPOT, of every candidate with as few replicas as carry the load, and with more."""
        found = []
        for candidate in self.candidates:
            if candidate.price is None:
                continue
            found += [Point(plan, not failures(plan.state, self.question.targets)) for plan in _more(candidate)]
        best = float("inf")
        points = []
        for point in sorted(found, key=lambda p: (p.plan.usd_per_hour or 0.0, p.plan.state.tpot_seconds)):
            front = point.plan.state.tpot_seconds < best
            best = min(best, point.plan.state.tpot_seconds)
            points.append(replace(point, front=front))
        return tuple(points)


def _more(candidate: Candidate) -> Iterator[Plan]:
    """With the fewest replicas that carry the load at all, and with up to four times as many."""
    first = _fewest(candidate, Targets())
    if first is None:
        return
    for count in sorted({min(candidate.most_replicas, round(first * more)) for more in FRONT_REPLICAS}):
        state = candidate.state(count)
        if state is not None and state.waiting < 1:
            yield Plan(candidate, count, state)


# long: one search, whose parts share all their names
def search(question: Question, progress: Callable[[int, int], None] | None = None) -> Answer:
    """Tries every candidate of every device: memory, then speed and replicas, then money.

    `progress` is told of each device before it is searched: how many are done, and of how many.

    Raises UnsupportedModel for a model whose speed is not modelled at all, and BadRequest for one with an encoder; a
    device without bandwidth or FLOP/s is refused by name and the others are answered.
    """
    if question.spec.has_cross_attention:
        raise BadRequest(
            f"{question.spec.name} reads an encoder's output: a plan is of decoders, what an encoder takes of the steps "
            "is not modelled; kvplan fit and kvplan speed answer for it"
        )
    plans: list[Plan] = []
    candidates: list[Candidate] = []
    dropped: Counter[str] = Counter()
    refused: list[str] = []
    misses: list[Miss] = []
    for done, device in enumerate(question.devices):
        if progress is not None:
            progress(done, len(question.devices))
        try:
            rates_of(device, estimate(question.spec, Request(1, dtype=question.dtype)))
        except BadRequest as error:
            refused.append(str(error))
            continue
        for found in _candidates(question, device):
            if isinstance(found, Miss):
                dropped[found.reason] += 1
                misses.append(found)
                continue
            candidates.append(found)
            plan = _plan(found)
            if isinstance(plan, Miss):
                dropped[plan.reason] += 1
                misses.append(plan)
            else:
                plans.append(plan)
    costly = [miss for miss in misses if miss.reason == OVER_BUDGET]  # these meet all the other targets
    nearest = None if plans or not misses else min(costly or misses, key=lambda miss: miss.ratio)
    ranked = _without_twins(sorted(plans, key=lambda plan: order(plan, question.sort)), dropped)
    return Answer(
        question,
        tuple(ranked),
        tuple(candidates),
        tuple(dropped.most_common()),
        tuple(refused),
        nearest,
    )


def _without_twins(plans: Sequence[Plan], dropped: Counter[str]) -> list[Plan]:
    """Experts whole or split over the same ranks, or a smaller dtype of a cache that a model has not, often come to the
    same figures: the simpler one stays."""
    kept: dict[tuple[object, ...], Plan] = {}
    for plan in plans:
        c = plan.candidate
        key = (c.device.name, c.formats.dtype, plan.devices, c.room.admitted, plan.state, c.sharding.dp, c.sharding.pp)
        if key in kept:
            dropped[SAME] += 1
        else:
            kept[key] = plan
    return list(kept.values())


def order(plan: Plan, sort: str) -> tuple[object, ...]:
    """Returns what plans are ranked by; a device without a price (or power) comes last."""
    none = float("inf")
    cost = none if plan.usd_per_hour is None else plan.usd_per_hour
    hours = plan.watt_hours_per_million_output_tokens if sort == "energy" else None
    energy = none if hours is None else hours
    first = {"cost": (cost, plan.devices), "devices": (plan.devices, cost), "energy": (energy, cost)}[sort]
    sharding = plan.candidate.sharding
    return (*first, plan.state.tpot_seconds, sharding.ep, sharding.pp, plan.candidate.formats.kv_dtype is not None)


def _plan(candidate: Candidate) -> Plan | Miss:
    """The fewest replicas that meet the targets, or what is missed, and by how much, with the most of them."""
    question = candidate.question
    replicas = _fewest(candidate, question.targets)
    if replicas is not None and question.idle_sessions:
        candidate, replicas = _with_sessions(candidate, replicas)
    if replicas is None:
        return _missed(candidate)
    state = candidate.state(replicas)
    assert state is not None
    plan = Plan(candidate, replicas, state)
    budget = question.budget_usd_per_hour
    if budget is None:
        return plan
    if plan.usd_per_hour is None:
        return Miss("no price is known, and a budget was given", float("inf"), f"{place(candidate)}: --price gives one")
    if plan.usd_per_hour > budget:
        over = plan.usd_per_hour / budget
        words = f"the budget: {plan.usd_per_hour:.2f} USD/h against {budget:.2f}, with {place(candidate, replicas)}"
        return Miss(OVER_BUDGET, over, words)
    return plan


def _with_sessions(candidate: Candidate, least: int) -> tuple[Candidate, int | None]:
    """The fewest replicas, at least `least`, that carry the load beside their share of the idle sessions."""
    question, most = candidate.question, candidate.most_replicas

    def carries(replicas: int) -> bool:
        found = candidate.holding(replicas)
        fewest = _fewest(found, question.targets) if found.room.admitted else None
        return fewest is not None and fewest <= replicas

    found = smallest(carries, most, least)
    return candidate.holding(most if found is None else found), found


def _fewest(candidate: Candidate, targets: Targets) -> int | None:
    """More replicas carry less each, so the fewest are found by bisection; nobody waits for room in them."""

    def meets(replicas: int) -> bool:
        state = candidate.state(replicas)
        return not failures(state, targets) and state is not None and state.waiting < 1

    return 1 if meets(1) else smallest(meets, candidate.most_replicas)  # one often does, and then no other is asked


def _missed(candidate: Candidate) -> Miss:
    most = candidate.most_replicas
    if not candidate.room.admitted:
        return Miss(
            "no room beside the idle sessions", 1e6, f"no room beside the idle sessions on {place(candidate, most)}"
        )
    state = candidate.state(most)
    found = failures(state, candidate.question.targets)
    if state is None or not found:
        devices = most * candidate.sharding.devices
        words = f"{devices:,} devices do not carry the load: {place(candidate)}"
        return Miss(f"more than {MAX_DEVICES} devices", 1e6, words)
    target, ratio = found[0]
    targets = candidate.question.targets
    has, may = (
        (state.ttft_seconds, targets.ttft_seconds) if target == "TTFT" else (state.tpot_seconds, targets.tpot_seconds)
    )
    assert may is not None
    words = f"{target}: {human_seconds(has)} against {human_seconds(may)} with {place(candidate, most)}"
    return Miss(f"{target} missed", ratio, f"{words}, {_share_words(candidate, most)}")


def _share_words(candidate: Candidate, replicas: int) -> str:
    load, ranks = candidate.question.load, replicas * candidate.sharding.dp
    if load.users is not None:
        users = ceil_div(load.users, ranks)
        return f"even with {users:,} user{'s' if users > 1 else ''} a replica"
    assert load.rate_per_s is not None
    return f"even with {load.rate_per_s / ranks:.3g} requests/s a replica"


def neighbours(plan: Plan) -> list[tuple[str, Plan | None, Sequence[tuple[str, float]]]]:
    """Looks one step down and one up: (what changes, what it comes to, targets that it misses)."""
    candidate, targets = plan.candidate, plan.candidate.question.targets
    steps: list[tuple[str, Plan | None, Sequence[tuple[str, float]]]] = []
    for count in (plan.replicas - 1, plan.replicas + 1):
        if 1 <= count <= candidate.most_replicas:
            other = candidate.holding(count)
            state = other.state(count) if other.room.admitted else None
            found = None if state is None else Plan(other, count, state)
            missed = failures(state, targets)
            if state is not None and state.waiting >= 1 and not missed:
                missed = [("room", 1 + state.waiting / max(1.0, state.decoding))]
            steps.append((f"{count} replica{'s' if count > 1 else ''} of the same", found, missed))
    return steps

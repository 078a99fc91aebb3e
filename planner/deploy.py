"""From a load and targets to a deployment: every layout and format on every device, what is dropped and why, the rest
ranked.

`search(question)` -> Answer. A candidate is a device, a layout of one replica, formats of weights and cache. Its room
(`deploy_memory`) says how many sequences it admits, its steady state (`deploy_steady`) how fast they run, and a
search over replicas how many of it carry the load within the targets.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from planner.cost import HourlyPrice, TokenCosts, price_of, token_costs, watt_hours_per_million_tokens
from planner.deploy_load import Load, Targets
from planner.deploy_memory import Room, engine_room, room
from planner.deploy_space import Formats, kv_dtypes, layouts, over_pcie, weight_dtypes
from planner.deploy_steady import Replica, State
from planner.device import Device
from planner.engines.base import EngineAnswer, Options
from planner.engines.registry import answer_of
from planner.errors import BadRequest, UnsupportedModel
from planner.limits import largest, smallest
from planner.memory import Estimate, Request, estimate
from planner.residents import Residents, split_pool
from planner.resolve import device_capacity
from planner.roofline import Constants, LinearSteps, constants_for, decode_step, rates_of, step_model, tpot_range
from planner.sharding import Sharding
from planner.spec import ModelSpec
from planner.step import PS_PER_SECOND, sides_ps
from planner.units import ceil_div, human_bytes

MAX_DEVICES = 512
CHUNK_TOKENS = 2048  # prompt tokens of a step, unless the engine or the user says otherwise
MAX_USERS = 10**6
# Nine in ten of 32 measured rows of tensor parallelism over PCIe took up to this much longer than the speed model expects.
PCIE_SLOWER = 3.3
OVER_BUDGET = "over the budget"
SAME = "the same figures as a simpler one"
SORTS = ("cost", "devices", "energy")
BUSY_MOMENTS = 5  # standard deviations of a Poisson count: sequences that the server is started for
FRONT_REPLICAS = (1.0, 1.5, 2.0, 3.0, 4.0)


@dataclass(frozen=True)
class Question:
    """What `kvplan plan` asks.

    dtype, kv_dtype   fixed formats; None searches
    as_published      search no format but the model's own
    engine            (name, version) as `parse_engine` gives it, with its options; None: in kvplan's own terms
    prices            given US dollars an hour, by the device's key
    residents         adapters, drafter and other models on each replica's devices
    idle_sessions     sessions whose cache stays in the pools, of all replicas together
    """

    spec: ModelSpec
    devices: tuple[Device, ...]
    load: Load
    targets: Targets = field(default_factory=Targets)
    dtype: str | None = None
    kv_dtype: str | None = None
    as_published: bool = False
    engine: tuple[str, str | None] | None = None
    options: Options = field(default_factory=Options)
    chunk_tokens: int | None = None
    prices: dict[str, float] = field(default_factory=dict)
    budget_usd_per_hour: float | None = None
    sort: str = "cost"
    residents: Residents | None = None
    idle_sessions: int = 0


@dataclass(frozen=True)
class Miss:
    """Why a candidate was dropped, and by how much: `ratio` is what it has over what it may have."""

    reason: str
    ratio: float
    words: str


@dataclass(frozen=True, eq=False)
class Candidate:
    """One replica: a layout of a model in its formats on a device."""

    question: Question
    device: Device
    sharding: Sharding
    formats: Formats
    room: Room
    chunk_tokens: int
    constants: Constants
    answer: EngineAnswer | None = None

    @cached_property
    def steps(self) -> LinearSteps:
        return step_model(self.room.found, self.device, self.constants)

    @cached_property
    def replica(self) -> Replica:
        """One of the `dp` ranks that serve sequences of their own."""
        return Replica(
            self.steps,
            self.question.load,
            chunk_tokens=self.chunk_tokens,
            most=self.room.admitted,
            share=self.question.targets.ttft_share,
            before_seconds=self.constants.request_seconds,
        )

    @property
    def over_pcie(self) -> bool:
        return over_pcie(self.device, self.sharding)

    @cached_property
    def price(self) -> HourlyPrice | None:
        return price_of(self.device, self.question.prices)

    def state(self, replicas: int, replica: Replica | None = None) -> State | None:
        """Each rank under its share of the load; None where that is more than it can carry."""
        load, ranks = self.question.load, replicas * self.sharding.dp
        steady = replica or self.replica
        if load.users is not None:
            return steady.at_users(ceil_div(load.users, ranks))
        assert load.rate_per_s is not None
        return steady.at_rate(load.rate_per_s / ranks)

    @property
    def most_replicas(self) -> int:
        """More would stand idle, or be more devices than are searched."""
        most = MAX_DEVICES // self.sharding.devices
        users = self.question.load.users
        if users is None or self.question.idle_sessions:
            return max(1, most)
        return max(1, min(most, ceil_div(users, self.sharding.dp)))

    def holding(self, replicas: int) -> Candidate:
        """With its share of the idle sessions where there are so many replicas."""
        if not self.question.idle_sessions:
            return self
        kept = ceil_div(self.question.idle_sessions, replicas * self.sharding.dp)
        return replace(self, room=self.room.keeping(kept))


def failures(state: State | None, targets: Targets) -> list[tuple[str, float]]:
    """The targets that a state misses, with what it has over what it may have; the worst first."""
    if state is None:
        return [("load", float("inf"))]
    return sorted(missed(state, targets), key=lambda item: -item[1])


def missed(found: State | Check, targets: Targets) -> list[tuple[str, float]]:
    """Targets that formulas or a simulation miss, with what they have over what they may have."""
    pairs = (("TTFT", found.ttft_seconds, targets.ttft_seconds), ("TPOT", found.tpot_seconds, targets.tpot_seconds))
    return [(name, has / may) for name, has, may in pairs if may is not None and has > may]


@dataclass(frozen=True)
class Check:
    """What came of `requests` simulated requests, the first of them left out; seeded, so the same each time."""

    requests: int
    tpot_seconds: float
    ttft_seconds: float
    preemptions: int


@dataclass(frozen=True, eq=False)
class Plan:
    """A candidate with as many replicas as carry the load within the targets; simulated where `check` is there."""

    candidate: Candidate
    replicas: int
    state: State
    check: Check | None = None

    @property
    def devices(self) -> int:
        return self.replicas * self.candidate.sharding.devices

    @property
    def usd_per_hour(self) -> float | None:
        price = self.candidate.price
        return None if price is None else price.usd_per_hour * self.devices

    @property
    def watts(self) -> float | None:
        tdp = self.candidate.device.tdp_watts
        return None if tdp is None else tdp * self.devices

    @property
    def ranks(self) -> int:
        return self.replicas * self.candidate.sharding.dp

    @property
    def requests_per_s(self) -> float:
        """Of all ranks; the fullest has its users rounded up, the others fewer."""
        users = self.candidate.question.load.users
        return self.state.rate_per_s * (self.ranks if users is None else users / self.state.users)

    @property
    def tokens_per_s(self) -> float:
        load = self.candidate.question.load
        return self.requests_per_s * (load.prompt_tokens + load.output_tokens)

    @property
    def watt_hours_per_million_tokens(self) -> float | None:
        return None if self.watts is None else watt_hours_per_million_tokens(self.watts, self.tokens_per_s)

    @cached_property
    def costs(self) -> TokenCosts | None:
        if self.usd_per_hour is None:
            return None
        load, replica, state = self.candidate.question.load, self.candidate.replica, self.state
        prompt, hit = replica.added_seconds(state.decoding), replica.cached_share(state.decoding)
        return token_costs(
            usd_per_hour=self.usd_per_hour,
            requests_per_s=self.requests_per_s,
            prompt_tokens=load.prompt_tokens,
            cached_tokens=load.cached_tokens,
            output_tokens=load.output_tokens,
            prompt_seconds=prompt * (1 - hit),
            cached_seconds=prompt * hit,
            decode_seconds=load.decode_steps * state.step_seconds / state.seen,
        )

    @cached_property
    def ends(self) -> tuple[State | None, State | None]:
        """The state where steps are as fast, and as slow, as the range of the constants for TPOT says."""
        candidate = self.candidate
        fast, slow = tpot_range(candidate.constants, bool(candidate.steps.sums.experts))
        slow = max(slow, PCIE_SLOWER) if candidate.over_pcie else slow
        low, high = (candidate.state(self.replicas, candidate.replica.slowed(factor)) for factor in (fast, slow))
        return low, high

    @property
    def tpot_range(self) -> tuple[float, float | None]:
        """None: with steps that slow the load is more than can be carried."""
        low, high = self.ends
        assert low is not None
        return max(low.tpot_seconds, self.tpot_bound_seconds), None if high is None else high.tpot_seconds

    @property
    def ttft_range(self) -> tuple[float, float | None]:
        """The wider of the constants' range, of TTFT under load unless one user is alone, and of what slower or faster
        steps make of the queue."""
        (low, high), c, seconds = self.ends, self.candidate.constants, self.state.ttft_seconds
        assert low is not None
        users = self.candidate.question.load.users
        alone = users is not None and users <= self.ranks
        least, most = (c.ttft_low, c.ttft_high) if alone else (c.queued_low, c.queued_high)
        return min(low.ttft_seconds, seconds * least), None if high is None else max(high.ttft_seconds, seconds * most)

    @cached_property
    def tpot_bound_seconds(self) -> float:
        """What bandwidth and FLOP/s of the device allow a step of so many sequences, nothing else counted."""
        found, load = self.candidate.room.found, self.candidate.question.load
        rates = rates_of(self.candidate.device, found)
        tokens = round(sum(held.tokens * held.share for held in load.residents))
        batch = max(1, int(self.state.seen)) * self.candidate.sharding.dp
        return decode_step(found, batch, tokens).seconds(rates.bandwidth_bytes_per_s, rates.flops_per_s)

    @property
    def tight(self) -> bool:
        """The targets are met by the expectation, not by the slow end of its range."""
        targets = self.candidate.question.targets
        (_, tpot), (_, ttft) = self.tpot_range, self.ttft_range
        late = targets.ttft_seconds is not None and (ttft is None or ttft > targets.ttft_seconds)
        slow = targets.tpot_seconds is not None and (tpot is None or tpot > targets.tpot_seconds)
        return late or slow

    @cached_property
    def tpot_parts(self) -> dict[str, float]:
        """Seconds of the time between two tokens, by what they go into."""
        low = max(1, int(self.state.seen))
        share = max(0.0, self.state.seen - low)
        parts: dict[str, float] = {}
        for n, weight in ((low, 1 - share), (low + 1, share)):  # as a step of so many sequences is: on a line between
            for name, seconds in self._step_parts(n).items():
                parts[name] = parts.get(name, 0.0) + weight * seconds
        parts = {name: seconds for name, seconds in parts.items() if seconds}
        return parts | {"prompts of others": max(0.0, self.state.tpot_seconds - self.state.step_seconds)}

    def _step_parts(self, sequences: int) -> dict[str, float]:
        """Of a step without prompts."""
        replica, model = self.candidate.replica, self.candidate.steps
        terms = model.terms(sequences, ())
        memory, compute = sides_ps(model, terms, [round(sequences * mean) for mean in replica.reached])
        return {
            "bandwidth" if memory >= compute else "compute": max(memory, compute) / PS_PER_SECOND,
            "layers, sequences and ranks": terms.fixed_ps / PS_PER_SECOND,
        }

    @property
    def binds(self) -> str:
        return max(self.tpot_parts, key=lambda name: self.tpot_parts[name])

    @cached_property
    def capacity(self) -> tuple[float, str]:
        """(the most users, or requests a second, that these replicas carry within the targets; what stops more)."""
        candidate, load, targets = self.candidate, self.candidate.question.load, self.candidate.question.targets
        if load.users is not None:

            def carries(users: int) -> bool:
                state = candidate.replica.at_users(users)
                return not failures(state, targets) and state.waiting < 1

            most = largest(carries, MAX_USERS)
            beyond = failures(candidate.replica.at_users(most + 1), targets)
            return float(most * self.ranks), beyond[0][0] if beyond else "memory"
        full = candidate.replica.full_rate_per_s
        steps = 10**4
        share = largest(lambda n: not failures(candidate.replica.at_rate(full * n / steps), targets), steps - 1)
        beyond = failures(candidate.replica.at_rate(full * (share + 1) / steps), targets)
        stops = beyond[0][0] if beyond else "load"
        if stops == "load":
            stops = "memory" if candidate.replica.full >= candidate.room.admitted else "prompts"
        return full * share / steps * self.ranks, stops


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


def search(question: Question, progress: Callable[[int, int], None] | None = None) -> Answer:
    """Every candidate of every device: memory, then speed and replicas, then money.

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
    """What plans are ranked by; a device without a price (or power) comes last."""
    none = float("inf")
    cost = none if plan.usd_per_hour is None else plan.usd_per_hour
    watts = none if plan.watts is None else plan.watts
    first = {"cost": (cost, plan.devices), "devices": (plan.devices, cost), "energy": (watts, cost)}[sort]
    sharding = plan.candidate.sharding
    return (*first, plan.state.tpot_seconds, sharding.ep, sharding.pp, plan.candidate.formats.kv_dtype is not None)


def _candidates(question: Question, device: Device) -> Iterator[Candidate | Miss]:
    """Layouts x weight formats x cache formats of one device, each with its room, or why not."""
    name = question.engine[0] if question.engine else None
    constants = constants_for("==".join(filter(None, question.engine)) if question.engine else None, device)
    kept = question.as_published
    formats_of = name or ("llamacpp" if question.spec.model_type.startswith("gguf ") else None)
    dtypes = (question.dtype,) if question.dtype or kept else weight_dtypes(question.spec, device, formats_of)
    kvs = (question.kv_dtype,) if question.kv_dtype or kept else kv_dtypes(device, formats_of)
    for sharding in layouts(question.spec, device):
        for dtype in dtypes:
            for kv in kvs:
                formats = Formats(dtype, kv)
                try:
                    found = _candidate(question, device, sharding, formats, constants)
                except UnsupportedModel:
                    raise
                except BadRequest as error:
                    yield Miss("format or layout that the engine does not take", float("inf"), str(error))
                    continue
                if not found.room.admitted:
                    yield _too_large(found)
                else:
                    yield found


def _candidate(
    question: Question, device: Device, sharding: Sharding, formats: Formats, constants: Constants
) -> Candidate:
    chunk = question.chunk_tokens or CHUNK_TOKENS
    request = Request(
        1,
        dtype=formats.dtype,
        k_dtype=formats.kv_dtype,
        v_dtype=formats.kv_dtype,
        sharding=sharding,
        prefill_tokens=chunk,
    )
    capacity = device_capacity(device)
    if question.residents is not None:
        given = replace(request, residents=question.residents, seq_tokens=question.load.longest_tokens)
        request = split_pool(question.spec, given, capacity)
    mine = room(question.spec, request, capacity, question.load)
    if question.engine is None or question.engine[0] == "transformers":  # transformers has no pool of its own
        return Candidate(question, device, sharding, formats, mine, chunk, constants)
    answers = engine_answers(question, mine.found, chunk)
    return Candidate(
        question, device, sharding, formats, engine_room(mine, answers, question.load), chunk, constants, answers[-1][1]
    )


def engine_answers(question: Question, found: Estimate, chunk: int) -> list[tuple[int, EngineAnswer]]:
    """The engine's answer for a short, a middle, a long and the longest request of the load."""
    assert question.engine is not None
    load = question.load
    held = sorted(r.tokens for r in load.residents)
    lengths = sorted({held[len(held) // 10], held[len(held) // 2], held[9 * len(held) // 10], load.longest_tokens})
    name, version = question.engine
    options = replace(question.options, max_model_len=question.options.max_model_len or load.longest_tokens)
    if name in ("vllm", "vllm-v0", "vllm-v1"):
        options = replace(options, max_num_batched_tokens=options.max_num_batched_tokens or chunk)
    if name == "sglang":
        options = replace(options, chunked_prefill_size=options.chunked_prefill_size or chunk)
    return [
        (
            n,
            answer_of(
                name, version, estimate(found.spec, replace(found.request, seq_tokens=n), found.capacity), options
            ),
        )
        for n in lengths
    ]


def _too_large(found: Candidate) -> Miss:
    """What is missing, over what there is."""
    device = device_capacity(found.device)
    need = device.bytes + found.room.short_bytes
    if found.room.pool_bytes <= 0:
        reason, words = "weights do not fit", "weights, activations and overhead alone"
    else:
        reason, words = (
            "the longest request does not fit",
            f"one request of {found.question.load.longest_tokens:,} tokens",
        )
    return Miss(
        reason, need / device.bytes + 1e3, f"{words}: short by {human_bytes(found.room.short_bytes)} on {place(found)}"
    )


def place(found: Candidate, replicas: int = 1) -> str:
    """Devices, layout and formats in words."""
    return f"{found.sharding.devices * replicas} x {found.device.name} ({layout_words(found.sharding)}, {formats_words(found)})"


def layout_words(sharding: Sharding) -> str:
    """
    >>> layout_words(Sharding(tp=8, pp=2)), layout_words(Sharding(dp=8, ep=8)), layout_words(Sharding())
    ('TP 8 PP 2', 'DP 8 EP 8', 'one device')
    """
    names = [
        f"{name.upper()} {getattr(sharding, name)}" for name in ("tp", "pp", "dp", "ep") if getattr(sharding, name) > 1
    ]
    return " ".join(names) or "one device"


def formats_words(found: Candidate) -> str:
    estimate_of = found.room.found
    return f"weights {estimate_of.plan.fmt.name}, KV {estimate_of.fmt.name}"


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

    return smallest(meets, candidate.most_replicas)


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
    words = f"{target}: {has * 1e3:,.0f} ms against {may * 1e3:,.0f} ms with {place(candidate, most)}"
    return Miss(f"{target} missed", ratio, f"{words}, {_share_words(candidate, most)}")


def _share_words(candidate: Candidate, replicas: int) -> str:
    load, ranks = candidate.question.load, replicas * candidate.sharding.dp
    if load.users is not None:
        users = ceil_div(load.users, ranks)
        return f"even with {users:,} user{'s' if users > 1 else ''} a replica"
    assert load.rate_per_s is not None
    return f"even with {load.rate_per_s / ranks:.3g} requests/s a replica"


def neighbours(plan: Plan) -> list[tuple[str, Plan | None, Sequence[tuple[str, float]]]]:
    """One step down and one up: (what changes, what it comes to, targets that it misses)."""
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


def start(plan: Plan) -> tuple[str | None, EngineAnswer | None]:
    """(the start command of one replica, the engine's answer behind it); None where the engine has no server."""
    from planner.deploy_space import GGUF_ENGINES, shares_memory
    from planner.engines.emit import command

    candidate, question = plan.candidate, plan.candidate.question
    gguf = shares_memory(candidate.device) or question.spec.model_type.startswith("gguf ")
    name, version = question.engine or ("llamacpp" if gguf else "vllm", None)
    if name == "transformers":
        return None, None
    found, load = candidate.room.found, question.load
    busiest = plan.state.seen + BUSY_MOMENTS * plan.state.seen**0.5
    most = max(1, min(candidate.room.admitted, 8 * ceil_div(int(busiest) + 1, 8)))
    options = replace(question.options, max_model_len=load.longest_tokens)
    if name.startswith("vllm"):
        options = replace(
            options, max_num_seqs=options.max_num_seqs or most, max_num_batched_tokens=candidate.chunk_tokens
        )
    elif name == "sglang":
        options = replace(options, max_running_requests=most, chunked_prefill_size=candidate.chunk_tokens)
    elif name in GGUF_ENGINES:
        options = replace(options, max_model_len=None, parallel=most, ctx_size=most * load.longest_tokens)
    asked = replace(found.request, seq_tokens=load.longest_tokens, batch=1)
    estimated = estimate(found.spec, asked, found.capacity)
    answer = answer_of(name, version, estimated, options)
    line = command(answer, estimated, options)
    if (
        name in ("vllm", "sglang")
        and estimated.spec.dtype == "bf16"
        and "bf16" not in candidate.device.dense_flops_per_s
    ):
        line += " --dtype half"  # these engines refuse bf16 where the device lacks it
    return line, answer

"""Holds the ranked deployments that `plan` found, and what each was checked for."""

from __future__ import annotations

import shlex
from dataclasses import replace
from functools import cached_property

from planner.deployment.candidate import Candidate, Check, failures
from planner.deployment.cost import TokenCosts, token_costs
from planner.engines.base import EngineAnswer
from planner.engines.registry import answer_of, family
from planner.frozen import dataclass
from planner.memory.estimate import estimate
from planner.memory.limits import largest
from planner.serving.steady_state import State
from planner.speed.drafting import DraftingAsked
from planner.speed.energy import Energy, energy, watt_hours_per_million_tokens
from planner.speed.passes import rates_of
from planner.speed.step import sides_ps
from planner.speed.work import decode_of, work
from planner.units import PS_PER_SECOND, ceil_div

MAX_USERS = 10**6


# Nine in ten of 32 measured rows of tensor parallelism over PCIe took up to this much longer than the speed model expects.
PCIE_SLOWER = 3.3


BUSY_MOMENTS = 5  # standard deviations of a Poisson count: sequences that the server is started for


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
        """Returns the requests a second of all ranks; the fullest has its users rounded up, the others fewer."""
        return self._requests_per_s(self.state)

    def _requests_per_s(self, state: State) -> float:
        users = self.candidate.question.load.users
        return state.rate_per_s * (self.ranks if users is None else users / state.users)

    @property
    def tokens_per_s(self) -> float:
        load = self.candidate.question.load
        return self.requests_per_s * (load.prompt_tokens + load.output_tokens)

    @property
    def watt_hours_per_million_tokens(self) -> float | None:
        return None if self.watts is None else watt_hours_per_million_tokens(self.watts, self.tokens_per_s)

    @property
    def watt_hours_per_million_output_tokens(self) -> float | None:
        """Returns the expectation of `energy`, without its range: what plans are ranked by."""
        if self.watts is None:
            return None
        rate = self.requests_per_s * self.candidate.question.load.output_tokens
        return energy(self.watts, (rate, rate, rate)).watt_hours

    @cached_property
    def energy(self) -> Energy | None:
        """Energy of a million output tokens: all devices, reading prompts too, over what the load makes; None where the
        TDP is not known.

        The ends of the range are the rates where steps are as fast and as slow as theirs says; overloaded, replicas
        whose steps take s times as long make at least 1/s of the tokens.
        """
        if self.watts is None:
            return None
        (fast, slow), (_, factor), expected = self.ends, self._slower, self.requests_per_s
        rates = (
            expected,
            expected / factor if slow is None else self._requests_per_s(slow),
            expected if fast is None else self._requests_per_s(fast),
        )
        question = self.candidate.question
        first, low, high = (rate * question.load.output_tokens for rate in rates)
        return energy(self.watts, (first, low, high), question.grid_grams)

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
        low, high = (candidate.state(self.replicas, candidate.replica.slowed(factor)) for factor in self._slower)
        return low, high

    @property
    def _slower(self) -> tuple[float, float]:
        """Factors on a step at the fast and at the slow end of its range."""
        fast, slow = self.candidate.tpot_range
        return fast, max(slow, PCIE_SLOWER) if self.candidate.over_pcie else slow

    @property
    def tpot_range(self) -> tuple[float, float | None]:
        """Returns TPOT at the fast and at the slow end of its range; None where the load cannot be carried by steps
        that slow.
        """
        low, high = self.ends
        assert low is not None
        return max(low.tpot_seconds, self.tpot_bound_seconds), None if high is None else high.tpot_seconds

    @property
    def ttft_range(self) -> tuple[float, float | None]:
        """The wider of the constants' range, of TTFT under load unless one user is alone, and of what slower or faster
        steps make of the queue."""
        (low, high), c, seconds = self.ends, self.candidate.steps.constants, self.state.ttft_seconds
        assert low is not None
        users = self.candidate.question.load.users
        alone = users is not None and users <= self.ranks
        least, most = (c.ttft_low, c.ttft_high) if alone else (c.queue.low, c.queue.high)
        return min(low.ttft_seconds, seconds * least), None if high is None else max(high.ttft_seconds, seconds * most)

    @cached_property
    def tpot_bound_seconds(self) -> float:
        """What bandwidth and FLOP/s of the device allow a step of so many sequences, nothing else counted."""
        found, load = self.candidate.room.found, self.candidate.question.load
        rates = rates_of(self.candidate.device, found)
        tokens = round(sum(held.tokens * held.share for held in load.held_sequences))
        batch = max(1, int(self.state.seen)) * self.candidate.sharding.dp
        drafts = self.candidate.drafts
        verified = 1 if drafts is None else 1 + drafts.tokens  # all drafts accepted, and made in no time
        step = decode_of(work(found), batch, tokens, last_tokens=tokens, verified=verified)
        return step.seconds(rates.bandwidth_bytes_per_s, rates.flops_per_s) / verified

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
        """Returns (the most users, or requests a second, that these replicas carry within the targets; what stops
        more).
        """
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


def _drafting_words(engine: str, asked: DraftingAsked) -> list[str]:
    """The engine's flags for what is drafted."""
    from planner.engines.drafting import drafting_flags

    model = None if asked.model is None else asked.model.name
    found = drafting_flags(engine, asked.method or "draft-model", tokens=asked.tokens, model=model)
    return [shlex.join(found)] if found else []


def start(plan: Plan) -> tuple[str | None, EngineAnswer | None]:
    """Returns (the start command of one replica, the engine's answer behind it); None where the engine has no server."""
    from planner.deployment.choices import GGUF_ENGINES, shares_memory
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
    if family(name) == "vllm":
        options = replace(
            options, max_num_seqs=options.max_num_seqs or most, max_num_batched_tokens=candidate.chunk_tokens
        )
    elif name == "sglang":
        options = replace(options, max_running_requests=most, chunked_prefill_size=candidate.chunk_tokens)
    elif name in GGUF_ENGINES:
        options = replace(options, max_model_len=None, parallel=most, ctx_size=most * load.longest_tokens)
    asked = replace(found.request, seq_tokens=load.longest_tokens, batch=1)
    estimated = estimate(found.spec, asked, found.capacity)
    answer = answer_of(name, version, estimated, options=options)
    line = command(answer, estimated, options)
    if (
        name in ("vllm", "sglang")
        and estimated.spec.dtype == "bf16"
        and "bf16" not in candidate.device.dense_flops_per_s
    ):
        line += " --dtype half"  # these engines refuse bf16 where the device lacks it
    if question.drafting is not None:
        line = " ".join([line, *_drafting_words(name, question.drafting)])
    return line, answer

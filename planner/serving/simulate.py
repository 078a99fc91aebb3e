"""A deployment under a load, request by request: the model's steps and pool, the run, and the formulas beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

from planner.catalogue.device import Device
from planner.errors import BadRequest
from planner.memory.estimate import SCHEMA_VERSION
from planner.serving.pools import NoRoom
from planner.serving.replica import Policy
from planner.serving.result import Simulation, percentiles
from planner.serving.scheduler import simulate
from planner.serving.server import Server
from planner.serving.steady_state import Replica, State
from planner.speed.speed import tpot_range
from planner.speed.transfer import Link
from planner.units import PS_PER_SECOND, human_bytes
from planner.workloads.load import Load, load, trace_hit_share
from planner.workloads.targets import Targets
from planner.workloads.traces import HASH_TOKENS
from planner.workloads.workload import Workload

SHARES = (0.5, 0.9, 0.95, 0.99)


BARS = 64


GROWING_QUEUE = 0.02  # of all requests still waiting when the last one comes


@dataclass(frozen=True)
class PoolsBeside:
    """What two pools add to an answer: replicas that read prompts and that decode, the link, and the same cards doing both.

    transfer_seconds, link_wait_seconds   of a request, on average
    link_utilisation                      requests a second times the transfer, a lane; 0 where all come at once
    """

    counts: tuple[int, int]
    link: Link
    prefill_utilisation: float
    transfer_seconds: float
    link_wait_seconds: float
    link_utilisation: float
    both: Answer

    def to_dict(self) -> dict[str, Any]:
        """The keys of `pools` in the JSON contract."""
        both = self.both
        return {
            "prefill_replicas": self.counts[0],
            "decode_replicas": self.counts[1],
            "link": self.link.words,
            "link_bytes_per_s": self.link.bytes_per_s,
            "link_latency_seconds": self.link.latency_seconds,
            "prefill_utilisation": self.prefill_utilisation,
            "transfer_seconds_mean": self.transfer_seconds,
            "link_wait_seconds_mean": self.link_wait_seconds,
            "link_utilisation": self.link_utilisation,
            "chunked": {
                "replicas": sum(self.counts),
                "ttft_seconds": _figures(both.ttft_seconds),
                "tpot_seconds": _figures(both.tpot_seconds),
                "requests_per_s": both.run.requests_per_s,
                "meets_targets": not both.misses if both.aimed else None,
            },
        }


@dataclass(frozen=True)
class Answer:
    """A run, what was asked, and what the formulas of `planner.serving.steady_state` say of the same load.

    before_seconds   a request's way in before the scheduler sees it; in every time to first token and latency here
    pools            two pools in place of replicas that do both: `run` and `policy` are then of the one that decodes
    """

    run: Simulation
    server: Server
    workload: Workload
    policy: Policy
    targets: Targets
    device: Device
    analytic: State | None
    why_not: str
    pools: PoolsBeside | None = None

    @property
    def replicas(self) -> int:
        """Replicas of the layout, of both pools together."""
        own = self.policy.replicas // self.server.found.request.sharding.dp
        return own + (0 if self.pools is None else self.pools.counts[0])

    @property
    def aimed(self) -> bool:
        """Whether there is a target."""
        return self.targets.ttft_seconds is not None or self.targets.tpot_seconds is not None

    @property
    def before_seconds(self) -> float:
        return self.server.constants.before_seconds

    @property
    def tpot_range(self) -> tuple[float, float]:
        """Factors of the expectation between which nine of ten measured values lie."""
        low, high = tpot_range(self.server.constants, bool(self.server.model.sums.experts))
        return (low, high) if self.server.drafts is None else self.server.drafts.widened(low, high)

    @cached_property
    def ttft_seconds(self) -> list[float]:
        return [seconds + self.before_seconds for seconds in self.run.ttft_seconds()]

    @cached_property
    def tpot_seconds(self) -> list[float]:
        return self.run.tpot_seconds()

    @cached_property
    def latency_seconds(self) -> list[float]:
        return [seconds + self.before_seconds for seconds in self.run.latency_seconds()]

    @cached_property
    def queueing_seconds(self) -> list[float]:
        return self.run.queueing_seconds()

    @cached_property
    def meeting(self) -> int:
        """Requests that meet both targets."""
        ttft = self.targets.ttft_seconds
        return self.run.meeting(None if ttft is None else ttft - self.before_seconds, self.targets.tpot_seconds)

    @cached_property
    def most_hits(self) -> int | None:
        """Prompt tokens that a cache that forgets nothing would find; None without a trace whose prompts are hashed."""
        trace = self.workload.trace
        if trace is None or not trace.ids:
            return None
        return round(trace_hit_share(trace) * sum(trace.prompt_tokens))

    @cached_property
    def misses(self) -> tuple[str, ...]:
        """Targets that are missed at their percentile (a rejected request misses), with what it is instead."""
        targets, share, found = self.targets, self.targets.ttft_share, []
        for name, wanted, values in (
            ("TTFT", targets.ttft_seconds, self.ttft_seconds),
            ("TPOT", targets.tpot_seconds, self.tpot_seconds),
        ):
            if wanted is not None:
                lost = [float("inf")] * self.run.rejected
                reached = percentiles(values + lost, [share])[0]
                if reached > wanted:
                    at = "rejected requests" if reached == float("inf") else f"{reached:.4g} s"
                    found.append(f"{name} p{100 * share:g} {at}, wanted {wanted:g} s")
        return tuple(found)

    @cached_property
    def overloaded(self) -> bool:
        """Whether the queue grew as long as requests came: half of what runs at once waits when the last one comes."""
        return not self.workload.users and self.run.waiting_at_last > max(
            GROWING_QUEUE * len(self.run.requests), self.policy.replicas * self.seats / 2
        )

    @property
    def seats(self) -> int:
        """Counts the sequences of a mean request that run at once on a replica: as many as its pool holds, at most
        max_num_seqs.
        """
        rows = self.run.requests
        mean = (sum(rows.prompt_tokens) + sum(rows.output_tokens)) // max(1, len(rows))
        return min(self.policy.max_num_seqs, max(1, self.run.pool_bytes // max(1, self.server.pool.held_bytes(mean))))

    @cached_property
    def occupancy(self) -> list[float]:
        """Share of the pool in use, at most 64 equal pieces of the run, each the mean of its samples."""
        samples = self.run.occupancy.samples
        whole = self.run.pool_bytes * self.run.replicas
        pieces = min(BARS, len(samples))
        edges = [len(samples) * i // pieces for i in range(pieces + 1)] if pieces else []
        return [sum(samples[a:b]) / (b - a) / whole for a, b in pairwise(edges)]

    @property
    def mean_occupancy(self) -> float:
        samples = self.run.occupancy.samples
        return sum(samples) / len(samples) / (self.run.pool_bytes * self.run.replicas) if samples else 0.0

    # long: the keys of the JSON contract, one a line
    def to_dict(self) -> dict[str, Any]:
        """The JSON contract: base units, keys that stay."""
        run, server, workload, targets = self.run, self.server, self.workload, self.targets
        sharding = server.found.request.sharding
        rows = run.requests
        computed_prompts = sum(rows.prompt_tokens[i] for i in rows.served)
        aimed = self.aimed
        return {
            "schema_version": SCHEMA_VERSION,
            "model": server.found.spec.name,
            "read_as": server.found.spec.read_as.to_dict() if server.found.spec.read_as else None,
            "device": self.device.name,
            "sharding": {name: getattr(sharding, name) for name in ("tp", "pp", "ep", "dp", "dcp")},
            "replicas": self.replicas,
            "devices": self.replicas * sharding.devices,
            "routing": self.policy.routing,
            "max_num_seqs": self.policy.max_num_seqs,
            "max_num_batched_tokens": self.policy.max_num_batched_tokens,
            "max_model_len": self.policy.longest_tokens,
            "seed": workload.seed,
            "users": workload.users or None,
            "think_seconds": workload.think_seconds if workload.users else None,
            "offered_requests_per_s": workload.offered_per_s,
            "requests": len(rows),
            "served": run.served,
            "rejected": run.rejected,
            "prompt_tokens_mean": _mean(rows.prompt_tokens),
            "output_tokens_mean": _mean(rows.output_tokens),
            "run_seconds": run.seconds,
            "ttft_seconds": _figures(self.ttft_seconds),
            "tpot_seconds": _figures(self.tpot_seconds),
            "latency_seconds": _figures(self.latency_seconds),
            "queueing_seconds": _figures(self.queueing_seconds),
            "requests_per_s": run.requests_per_s,
            "output_tokens_per_s": run.output_tokens_per_s,
            "prompt_tokens_per_s": computed_prompts / run.seconds if run.end_ps else 0.0,
            "utilisation": run.utilisation,
            "mean_concurrency": run.mean_concurrency,
            "rate_times_latency": run.requests_per_s * (_mean(self.latency_seconds) - self.before_seconds),
            "steps": run.steps,
            "schedules": run.events,
            "preemptions": run.preemptions,
            "prefill_tokens": run.prefill_tokens,
            "prefix_hit_tokens": sum(rows.hit_tokens),
            "tier_bytes": server.tier_bytes or None,
            "tier_hit_tokens": run.tier_hit_tokens,
            "tier_block_seconds": self.policy.tier_block_ps / PS_PER_SECOND if self.policy.tier_blocks else None,
            "prefix_hit_tokens_most": self.most_hits,
            "pool_bytes": run.pool_bytes,
            "kv_occupancy_mean": self.mean_occupancy,
            "kv_occupancy_max": run.peak_bytes / run.pool_bytes,
            "kv_occupancy": self.occupancy,
            "waiting_at_last_arrival": run.waiting_at_last,
            "overloaded": self.overloaded,
            "target_ttft_seconds": targets.ttft_seconds,
            "target_tpot_seconds": targets.tpot_seconds,
            "target_share": targets.ttft_share if aimed else None,
            "meets_targets": not self.misses if aimed else None,
            "requests_meeting_targets": self.meeting if aimed else None,
            "goodput_requests_per_s": self.meeting / run.seconds if aimed and run.end_ps else None,
            "pools": None if self.pools is None else self.pools.to_dict(),
            "analytic": None if self.analytic is None else self._analytic(self.analytic),
            "before_seconds": self.before_seconds,
            "tokens_a_step": None if server.drafts is None else server.drafts.tokens_a_step,
            "tpot_range": list(self.tpot_range),
            "ttft_range": [server.constants.ttft_low, server.constants.ttft_high],
            "constants_from": server.constants.origin,
            "assumptions": [*server.words, *workload.words, *server.found.assumptions],
            "warnings": [*self.notes, *server.found.warnings],
        }

    def _analytic(self, state: State) -> dict[str, Any]:
        return {
            "tpot_seconds": state.tpot_seconds,
            "ttft_seconds_mean": state.ttft_mean_seconds,
            f"ttft_seconds_p{100 * self.targets.ttft_share:g}": state.ttft_seconds,
            "requests_per_s": state.rate_per_s * self.policy.replicas,
            "decoding_sequences": state.decoding,
            "utilisation": state.utilisation,
        }

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """What a reader must not miss."""
        lines = []
        if self.overloaded:
            lines.append(
                f"the load is more than it can carry: {self.run.waiting_at_last:,} requests wait when the last one comes, "
                "and times grow with --requests"
            )
        if self.pools is not None and self.pools.link_utilisation >= 1:
            lines.append(
                f"the link is too slow: caches of {self.workload.offered_per_s or 0.0:.3g} requests/s take "
                f"{self.pools.link_utilisation:.2f} of its time, and times grow with --requests"
            )
        if self.run.rejected:
            lines.append(
                f"{self.run.rejected:,} of {len(self.run.requests):,} requests rejected: longer than "
                f"{self.policy.longest_tokens or 0:,} tokens or than the whole pool holds"
            )
        trace = self.workload.trace
        if trace is not None and trace.bad_rows:
            lines.append(f"{trace.bad_rows:,} rows of {trace.words} are no requests: {'; '.join(trace.bad_words)}")
        if trace is not None and trace.ids and not self.server.pool.hash_bytes:
            lines.append(f"prefix hashes are not used: the pool's blocks do not divide {HASH_TOKENS} tokens")
        if self.analytic is None:
            lines.append(f"no formula beside it: {self.why_not}")
        return tuple(lines)

    def rows(self) -> Iterator[dict[str, Any]]:
        """One object a request, for CSV."""
        columns = self.run.requests
        before = self.before_seconds
        for i in range(len(columns)):
            last = columns.last_ps[i]
            first, arrival, output = columns.first_ps[i], columns.arrival_ps[i], columns.output_tokens[i]
            served = last >= 0
            yield {
                "request": i,
                "arrival_seconds": arrival / PS_PER_SECOND,
                "prompt_tokens": columns.prompt_tokens[i],
                "output_tokens": output,
                "replica": columns.replica[i] if served else None,
                "queueing_seconds": (columns.scheduled_ps[i] - arrival) / PS_PER_SECOND if served else None,
                "ttft_seconds": (first - arrival) / PS_PER_SECOND + before if served else None,
                "tpot_seconds": (last - first) / PS_PER_SECOND / (output - 1) if served and output > 1 else None,
                "latency_seconds": (last - arrival) / PS_PER_SECOND + before if served else None,
                "prefix_hit_tokens": columns.hit_tokens[i],
                "preemptions": columns.preemptions[i],
                "rejected": not served,
            }


def _mean(values: Any) -> float:
    return sum(values) / len(values) if len(values) else 0.0


def _figures(values: list[float]) -> dict[str, float]:
    found = percentiles(values, SHARES)
    return {"mean": _mean(values)} | {f"p{100 * share:g}": value for share, value in zip(SHARES, found, strict=True)}


def serve(
    replica: Server,
    workload: Workload,
    *,
    device: Device,
    replicas: int = 1,
    routing: str = "round-robin",
    targets: Targets | None = None,
    progress: Callable[[int], None] | None = None,
) -> Answer:  # parameters: what one run is made of
    """Runs a workload on `replicas` of a layout; each of its data-parallel ranks schedules for itself.

    Raises BadRequest where not one request could be served.
    """
    ranks = replicas * replica.found.request.sharding.dp
    policy = Policy(
        replica.max_num_seqs, replica.max_num_batched_tokens, replica.longest_tokens, ranks, routing, *replica.tier_blocks
    )  # fmt: skip
    before_ps = round(replica.constants.before_seconds * PS_PER_SECOND)
    run = simulate(
        workload.arrivals(),
        replica.model,
        replica.pool,
        policy=policy,
        users=workload.users,
        think_ps=(pause + before_ps for pause in workload.think_ps()),
        progress=progress,
    )
    if not run.served:
        raise NoRoom(
            f"none of the {len(run.requests):,} requests fits: longer than {replica.longest_tokens or 0:,} tokens, or than "
            f"the pool of {human_bytes(run.pool_bytes)} holds"
        )
    wanted = targets or Targets()
    state, why_not = _steady(replica, workload, policy, run=run, targets=wanted)
    return Answer(run, replica, workload, policy, wanted, device, state, why_not)


def steady_load(replica: Server, workload: Workload, run: Simulation) -> tuple[int, Load] | str:
    """Returns (sequences that a replica's pool admits, the load as formulas read it), or why there is no formula for it."""
    rows, longest = run.requests, replica.longest_tokens
    hit = sum(rows.hit_tokens[i] for i in rows.served) / sum(rows.prompt_tokens[i] for i in rows.served)
    offered = workload.offered_per_s
    if not workload.users and offered is None:
        return "all requests come at one time"
    prompts, outputs = workload.mixes
    within, kept = prompts.within(None if longest is None else longest - 1)
    try:
        given = load(
            within,
            outputs,
            users=workload.users or None,
            rate_per_s=None if offered is None else offered * kept,
            think_seconds=workload.think_seconds,
            prefix_share=hit,
            prefix_common=False,
            pairs=workload.pairs(),
        )
    except BadRequest as error:
        return str(error)
    held = sum(item.share * replica.pool.held_bytes(item.tokens) for item in given.held_sequences)
    seats = replica.max_num_seqs
    return max(1, min(seats, int(run.pool_bytes / held) if held else seats)), given


def _steady(
    replica: Server, workload: Workload, policy: Policy, *, run: Simulation, targets: Targets
) -> tuple[State | None, str]:
    """What the formulas say of the same load on one replica, with the share of prompts that were cached in the run."""
    asked = steady_load(replica, workload, run)
    if isinstance(asked, str):
        return None, asked
    (most, given), ranks, offered = asked, policy.replicas, asked[1].rate_per_s
    steady = Replica(
        replica.model, given, chunk_tokens=policy.max_num_batched_tokens, most=most, share=targets.ttft_share,
        before_seconds=replica.constants.before_seconds, queue_scale=replica.constants.queue_scale,
    )  # fmt: skip
    if workload.users:
        return steady.at_users(max(1, round(workload.users / ranks))), ""
    assert offered is not None
    state = steady.at_rate(offered / ranks)
    return (
        state,
        f"{offered / ranks:.3g} requests/s are more than the {steady.full_rate_per_s:.3g} that a replica carries",
    )

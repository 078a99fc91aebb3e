"""Two pools under a load, request by request: prompts are played on the first, sent over the link in the order in which they
are done, and decoded on the second. The rules of both are told in `planner.serving.scheduler`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from planner.memory.estimate import Estimate
from planner.serving.replica import Side
from planner.serving.result import REJECTED, Requests, Simulation
from planner.serving.scheduler import simulate
from planner.serving.two_pools import JoinedSteps
from planner.speed.transfer import Link, sent_bytes
from planner.units import PS_PER_SECOND
from planner.workloads.arrivals import Arrival


@dataclass(frozen=True)
class PoolsRun:
    """What came of a run.

    prefill   the pool that reads prompts; decode: the other, with each request's times from its arrival on
    sent_ps   time that transfers took, all together, and `lane_wait_ps` that they waited for the link
    """

    prefill: Simulation
    decode: Simulation
    sent_ps: int
    lane_wait_ps: int
    lanes: int


def simulate_pools(arrivals: Iterable[Arrival], prefill: Side, decode: Side, *, token_ps: dict[int, int]) -> PoolsRun:
    """Simulates requests on two pools; `token_ps` is the time of a transfer by prompt length, made by the caller for each length.

    One request: a prompt of 100 tokens in one step of 1 s, 2 s on the link, then three steps of 1 s.

    >>> from planner.serving.block_pool import Pool
    >>> from planner.serving.replica import Policy
    >>> from planner.speed.step import Linear
    >>> side = Side(Linear(fixed_ps=10**12), Pool.of_blocks(100), Policy())
    >>> run = simulate_pools([Arrival(0, 100, 3)], side, side, token_ps={100: 2 * 10**12})
    >>> run.decode.ttft_seconds(), run.decode.latency_seconds()
    ([4.0], [6.0])
    """
    asked = list(arrivals)
    first = simulate(
        [one._replace(output_tokens=1) for one in asked], prefill.model, prefill.pool, policy=prefill.policy
    )
    lanes = min(prefill.policy.replicas, decode.policy.replicas)
    come, lane_wait, sent = _sent(first.requests, lanes, token_ps)
    joins = [Arrival(time, asked[i].prompt_tokens, asked[i].output_tokens, asked[i].prompt_tokens) for time, i in come]
    second = simulate(joins, JoinedSteps(decode.model), decode.pool, policy=decode.policy)
    rows = _merged(asked, first.requests, second.requests, order=[i for _, i in come])
    waiting = max(first.waiting_at_last, second.waiting_at_last)
    spent = sum(last - arrival for last, arrival in zip(rows.last_ps, rows.arrival_ps, strict=True) if last != REJECTED)
    whole = replace(
        second, requests=rows, waiting_at_last=waiting, in_system_ps=spent, prefill_tokens=first.prefill_tokens,
        steps=first.steps + second.steps, events=first.events + second.events,
        preemptions=first.preemptions + second.preemptions,
    )  # fmt: skip
    return PoolsRun(first, whole, sent, lane_wait, lanes)


def transfers_ps(arrivals: Iterable[Arrival], link: Link, sides: Sequence[Estimate]) -> dict[int, int]:
    """Computes the picoseconds that the cache of each length of prompt takes over a link between layouts."""
    lengths = {one.prompt_tokens for one in arrivals}
    return {tokens: round(link.seconds(sent_bytes(sides, tokens)) * PS_PER_SECOND) for tokens in lengths}


def _sent(rows: Requests, lanes: int, token_ps: dict[int, int]) -> tuple[list[tuple[int, int]], int, int]:
    """((end of its transfer, row) in order, time waited for the link, time on it), first come first served on each lane."""
    free, found, waited, sent = [0] * lanes, [], 0, 0
    for turn, (done, row) in enumerate(sorted((rows.first_ps[i], i) for i in rows.served)):
        lane, own = turn % lanes, token_ps[rows.prompt_tokens[row]]
        start = max(done, free[lane])
        free[lane] = start + own
        waited, sent = waited + start - done, sent + own
        found.append((start + own, row))
    return sorted(found), waited, sent


def _merged(asked: list[Arrival], first: Requests, second: Requests, *, order: list[int]) -> Requests:
    """A row a request: scheduled and its hits in the first pool, first and last token in the second."""
    rows = Requests()
    place = {row: i for i, row in enumerate(order)}
    for row, arrival in enumerate(asked):
        at = place.get(row)
        rows.add(
            arrival.time_ps,
            arrival.prompt_tokens,
            arrival.output_tokens,
            replica=-1 if at is None else second.replica[at],
        )
        if at is None or second.last_ps[at] == REJECTED:
            continue
        rows.scheduled_ps[row], rows.hit_tokens[row] = first.scheduled_ps[row], first.hit_tokens[row]
        rows.first_ps[row], rows.last_ps[row] = second.first_ps[at], second.last_ps[at]
        rows.preemptions[row] = first.preemptions[row] + second.preemptions[at]
    return rows

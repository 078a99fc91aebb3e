"""A serving replica, or several, under a stream of requests: continuous batching from event to event.

The rule is that of vLLM's V1 scheduler with chunked prefill. Every step has a budget of tokens. First the running
sequences in order of arrival: one token each for those that decode, a chunk for the one whose prompt is under way;
one that finds no free block preempts the latest arrival (its cache is dropped and recomputed later, it waits at the
front). If nothing was preempted, waiting requests follow, first come first served, while budget, `max_num_seqs` and
free blocks last; a prompt longer than the budget left is cut into chunks. The step that computes the last token of a
prompt gives the first token of the output. Steps follow each other without a gap; who arrives during one waits for
its end.

Between two events nothing changes but the lengths, and a step's time is linear in them (`planner.speed.step`), so:

    simulate    arrivals, step ends and starts in order of time, over all replicas
    Replica     start: preempt, prefill, admit -> one step with chunks, or a jump of n steps that only decode
                land:  n steps are done; first tokens, ends of requests, crossings of windows
    Flight      the steps under way: T(n) = n·first + slope·n(n-1)/2, exact in whole picoseconds
    Decoding    sums over the decoding sequences (`planner.serving.decoding`)
    PrefixCache shared prompt blocks (`planner.serving.block_pool`)

A jump ends at the first of: the end of a sequence, a window crossed, the step at which the pool would run out, the
step at which compute overtakes memory (or the reverse), and the first step boundary after an arrival that could be
admitted. Leaves out: time between steps (it belongs in the step model), speculative decoding, priorities, swapping,
requests that are cancelled. A prefix is kept in blocks of 512 tokens; the last block of a prompt is always computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from heapq import heappop, heappush
from itertools import repeat

from planner.errors import BadRequest
from planner.serving.block_pool import Pool
from planner.serving.replica import Policy, Replica, Side
from planner.serving.result import REJECTED, Requests, Simulation, Timeline, summed
from planner.speed.step import StepModel
from planner.workloads.arrivals import Arrival
from planner.workloads.traces import HASH_TOKENS

NEVER = 1 << 200


class _Open:
    """Arrivals at their own times."""

    def __init__(self, arrivals: Iterable[Arrival]) -> None:
        self.rest = iter(arrivals)
        self.head: Arrival | None = None
        self.next_ps = 0
        self._read()

    def take(self, now: int) -> Arrival:
        head = self.head
        assert head is not None
        self._read()
        return head

    def _read(self) -> None:
        self.head = next(self.rest, None)
        before, self.next_ps = self.next_ps, NEVER if self.head is None else self.head.time_ps
        if self.next_ps < before:
            raise BadRequest("requests must come in order of time, from 0 on")

    def done(self, now: int) -> None:
        """Does nothing when a request ends: in an open loop nobody waits for an answer before asking again."""


class _Closed:
    """Users who each ask, wait for the last token, think, and ask again; the arrivals' own times are ignored."""

    def __init__(self, arrivals: Iterable[Arrival], users: int, think_ps: Iterator[int]) -> None:
        self.rest = iter(arrivals)
        self.think_ps = think_ps
        self.times = sorted(next(think_ps) for _ in range(users))
        self.head = next(self.rest, None)

    @property
    def next_ps(self) -> int:
        return self.times[0] if self.times and self.head is not None else NEVER

    def take(self, now: int) -> Arrival:
        head = self.head
        assert head is not None
        heappop(self.times)
        self.head = next(self.rest, None)
        return head

    def done(self, now: int) -> None:
        heappush(self.times, now + next(self.think_ps))


def simulate(  # parameters: what one run is made of
    arrivals: Iterable[Arrival],
    model: StepModel,
    pool: Pool,
    *,
    policy: Policy,
    users: int = 0,
    think_ps: Iterator[int] | None = None,
    progress: Callable[[int], None] | None = None,
    occupancy: bool = True,
) -> Simulation:
    """Runs `arrivals`, in order of time, to the last token.

    pool, model   of one replica
    users         that many ask in a closed loop, each again after its answer and the next of `think_ps` (0 without);
                  `arrivals` then gives lengths alone
    occupancy     whether the pool's use over time is sampled
    progress      called with the number of requests arrived so far, now and then

    One request of 100 tokens and 3 tokens out, a step of 1 second: prefill, then two decode steps.

    >>> from planner.speed.step import Linear
    >>> run = simulate([Arrival(0, 100, 3)], Linear(fixed_ps=10**12), Pool.of_blocks(100), policy=Policy())
    >>> run.ttft_seconds(), run.latency_seconds(), run.steps
    ([1.0], [3.0], 3)

    Raises BadRequest for lengths below 1, arrivals out of order, and runs of more than 106 days (2^63 picoseconds).
    """
    source = _Closed(arrivals, users, repeat(0) if think_ps is None else think_ps) if users else _Open(arrivals)
    try:
        return _Run(source, Side(model, pool, policy), progress, occupancy=occupancy).run()
    except OverflowError:
        raise BadRequest("the run is longer than 106 days; simulate fewer requests, or more load") from None


class _Run:
    """Time over all replicas: what ends at a moment, then who arrives at it, then who starts."""

    def __init__(
        self, source: _Open | _Closed, side: Side, progress: Callable[[int], None] | None, *, occupancy: bool
    ) -> None:
        self.source, self.pool, self.policy, self.progress = source, side.pool, side.policy, progress
        self.rows = Requests()
        lines = [Timeline() if occupancy else Timeline(interval_ps=NEVER) for _ in range(self.policy.replicas)]
        self.replicas = [Replica(side, self.rows, self._done, occupancy=line) for line in lines]
        self.ends: list[tuple[int, int]] = []  # of flights, by replica; one that was cut is there twice
        self.turn = 0
        self.in_system = self.in_system_ps = self.now = 0
        self.waiting_at_last = 0

    def run(self) -> Simulation:
        ends, source, replicas = self.ends, self.source, self.replicas
        while True:
            now = min(source.next_ps, ends[0][0] if ends else NEVER)
            if now == NEVER:
                return self._result()
            self.in_system_ps += self.in_system * (now - self.now)
            self.now = now
            touched = set()
            while ends and ends[0][0] == now:
                number = heappop(ends)[1]
                flight = replicas[number].flight
                if flight is not None and flight.end_ps == now:
                    replicas[number].land()
                    touched.add(number)
            while source.next_ps == now:
                self._deliver(source.take(now), touched)
            for number in sorted(touched):
                self._start(number)

    def _done(self, now: int) -> None:
        self.in_system -= 1
        self.source.done(now)

    def _deliver(self, arrival: Arrival, touched: set[int]) -> None:
        if arrival.prompt_tokens < 1 or arrival.output_tokens < 1:
            raise BadRequest("a request needs at least one prompt token and one output token")
        if self.progress is not None and len(self.rows) % 4096 == 0:
            self.progress(len(self.rows))
        if not self.replicas[0].fits(arrival):
            self.rows.add(self.now, arrival.prompt_tokens, arrival.output_tokens, replica=REJECTED)
            self.source.done(self.now)
            return
        number = self._route()
        replica = self.replicas[number]
        index = self.rows.add(self.now, arrival.prompt_tokens, arrival.output_tokens, replica=number)
        self.in_system += 1
        if replica.arrive(index, arrival, self.now) and replica.flight is not None:
            heappush(self.ends, (replica.flight.end_ps, number))
        touched.add(number)
        if self.source.next_ps == NEVER:
            self.waiting_at_last = sum(len(each.waiting) for each in self.replicas)

    def _route(self) -> int:
        if self.policy.routing == "round-robin":
            self.turn += 1
            return (self.turn - 1) % len(self.replicas)
        return min(range(len(self.replicas)), key=lambda number: self.replicas[number].load)

    def _start(self, number: int) -> None:
        replica = self.replicas[number]
        if replica.flight is None and replica.load:
            replica.start(self.now)
            assert replica.flight is not None
            heappush(self.ends, (replica.flight.end_ps, number))

    def _result(self) -> Simulation:
        def total(name: str) -> int:
            return sum(getattr(replica, name) for replica in self.replicas)

        return Simulation(
            requests=self.rows,
            pool_bytes=self.pool.pool_bytes,
            replicas=len(self.replicas),
            end_ps=self.now,
            busy_ps=total("busy_ps"),
            steps=total("steps"),
            events=total("events"),
            preemptions=total("preemptions"),
            prefill_tokens=total("prefill_tokens"),
            peak_bytes=max(replica.peak_bytes for replica in self.replicas),
            waiting_at_last=self.waiting_at_last,
            in_system_ps=self.in_system_ps,
            occupancy=summed([replica.occupancy for replica in self.replicas]),
            tier_hit_tokens=HASH_TOKENS * total("tier_blocks_back"),
        )

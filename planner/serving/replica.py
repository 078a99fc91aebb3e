"""One serving replica: what waits, what runs, and the steps under way. The rule is told in `planner.serving.scheduler`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from math import isqrt
from operator import mul

from planner.errors import BadRequest
from planner.serving.block_pool import HostTier, Pool, PrefixCache
from planner.serving.decoding import Decoding
from planner.serving.result import Requests, Timeline
from planner.speed.step import StepModel, StepTerms, sides_ps, step_ps
from planner.workloads.arrivals import Arrival
from planner.workloads.traces import HASH_TOKENS

ROUTINGS = ("round-robin", "least-loaded")


@dataclass(frozen=True)
class Policy:
    """How a replica schedules, and how requests reach the replicas.

    max_num_seqs            sequences that run at once
    max_num_batched_tokens  tokens of one step; at least max_num_seqs
    longest_tokens          prompt and output together beyond which a request is rejected (--max-model-len)
    routing                 round-robin in order of arrival, or the replica with the fewest requests, the first of equals
    tier_blocks             blocks of 512 tokens that each replica's host memory holds; tier_block_ps brings one back
    """

    max_num_seqs: int = 256
    max_num_batched_tokens: int = 8192
    longest_tokens: int | None = None
    replicas: int = 1
    routing: str = "round-robin"
    tier_blocks: int = 0
    tier_block_ps: int = 0

    def __post_init__(self) -> None:
        if min(self.max_num_seqs, self.max_num_batched_tokens, self.replicas) < 1:
            raise BadRequest("sequences, batched tokens and replicas are at least 1")
        if self.max_num_batched_tokens < self.max_num_seqs:
            raise BadRequest(
                f"max_num_batched_tokens {self.max_num_batched_tokens} is below max_num_seqs {self.max_num_seqs}: "
                "each running sequence needs a token of every step"
            )
        if self.routing not in ROUTINGS:
            raise BadRequest(f"routing {self.routing!r} is not known; choose one of: {', '.join(ROUTINGS)}")


@dataclass(frozen=True)
class Side:
    """Replicas of a kind as they are simulated: steps, cache and schedule."""

    model: StepModel
    pool: Pool
    policy: Policy


class Sequence:
    """A request in a replica. `computed` of `target` tokens are in the cache while its prompt is under way."""

    __slots__ = ("cached", "computed", "generated", "index", "output", "prompt", "shareable", "shared", "target", "ticket")  # fmt: skip

    def __init__(self, index: int, arrival: Arrival, shares: bool) -> None:
        self.index = index
        self.prompt = self.target = arrival.prompt_tokens
        self.output = arrival.output_tokens
        self.cached = min(arrival.cached_tokens, self.prompt - 1)
        self.shareable = arrival.hash_ids[: (self.prompt - 1) // HASH_TOKENS] if shares else ()
        self.shared = 0
        self.computed = 0
        self.generated = 0
        self.ticket = -1


class Flight:
    """Steps under way; the first takes `first_ps`, each next one `slope_ps` more."""

    __slots__ = ("end_ps", "first_ps", "prefilled", "slope_ps", "start_ps", "steps")

    def __init__(self, start_ps: int, steps: int, first_ps: int, *, slope_ps: int, prefilled: list[Sequence]) -> None:
        self.start_ps = start_ps
        self.steps = steps
        self.first_ps = first_ps
        self.slope_ps = slope_ps
        self.prefilled = prefilled
        self.end_ps = start_ps + self.span_ps(steps)

    def span_ps(self, steps: int) -> int:
        return steps * self.first_ps + self.slope_ps * (steps * (steps - 1) // 2)

    def steps_to(self, span_ps: int) -> int:
        """The fewest steps that take at least `span_ps`: the root of a parabola, then to the exact integer."""
        first, slope = self.first_ps, self.slope_ps
        if not slope:
            return -(-span_ps // first) if first else self.steps
        linear = 2 * first - slope
        steps = max(0, (isqrt(linear * linear + 8 * slope * span_ps) - linear) // (2 * slope))
        while self.span_ps(steps) < span_ps:
            steps += 1
        return steps

    def cut(self, time_ps: int) -> None:
        """Ends with the first step that is over at `time_ps` or later."""
        steps = max(1, self.steps_to(time_ps - self.start_ps))
        if steps < self.steps:
            self.steps = steps
            self.end_ps = self.start_ps + self.span_ps(steps)


class Replica:
    """One engine: what waits, what runs, and the steps under way."""

    def __init__(self, side: Side, rows: Requests, done: Callable[[int], None], *, occupancy: Timeline) -> None:
        model, pool, policy = side.model, side.pool, side.policy
        self.model, self.pool, self.policy, self.rows, self.done = model, pool, policy, rows, done
        self.waiting: deque[Sequence] = deque()
        self.running: dict[int, Sequence] = {}  # by row, in order of arrival
        self.partial: Sequence | None = None  # the last of the running, while its prompt is under way
        self.decoding = Decoding(model.reaches, pool)
        self.by_ticket: dict[int, Sequence] = {}
        self.prefixes = PrefixCache()
        self.tier = HostTier(policy.tier_blocks, policy.tier_block_ps) if policy.tier_blocks else None
        self.loading_ps = self.tier_blocks_back = 0
        self.shared = 0  # uses of shared blocks, all running sequences
        self.flight: Flight | None = None
        self.flight_bytes = 0  # of sequences whose prompt is under way, in the flight
        self.tickets = 0
        self.busy_ps = self.steps = self.events = self.preemptions = self.prefill_tokens = self.peak_bytes = 0
        self.occupancy = occupancy
        self._terms: dict[int, StepTerms] = {}

    @property
    def load(self) -> int:
        return len(self.waiting) + len(self.running)

    # -- arrivals -------------------------------------------------------------------------------------------

    def fits(self, arrival: Arrival) -> bool:
        """Tells whether the request could ever be served: the last token it outputs is never cached."""
        longest, total = self.policy.longest_tokens, arrival.prompt_tokens + arrival.output_tokens
        return (longest is None or total <= longest) and self.pool.held_bytes(total - 1) <= self.pool.pool_bytes

    def arrive(self, index: int, arrival: Arrival, now: int) -> bool:
        """Joins the queue; True where that shortens the flight. Behind others, or with no seat, it changes nothing."""
        seat = not self.waiting and len(self.running) < self.policy.max_num_seqs
        self.waiting.append(Sequence(index, arrival, shares=self.pool.hash_bytes > 0))
        flight = self.flight
        if flight is None or flight.steps == 1 or not seat:
            return False
        before = flight.end_ps
        flight.cut(now)
        return flight.end_ps != before

    # -- memory ---------------------------------------------------------------------------------------------

    def _held_bytes(self, steps: int) -> int:
        """What the pool holds in the step that many from here, prompts under way apart."""
        pool = self.pool
        shared = len(self.prefixes.uses) - self.shared
        return self.decoding.held_bytes(steps) + (pool.hash_bytes * shared if shared else 0)

    def _trim(self, held_bytes: int) -> None:
        if self.prefixes.idle:
            self.prefixes.trim((self.pool.pool_bytes - held_bytes) // self.pool.hash_bytes)

    # -- start: one schedule ----------------------------------------------------------------------------------

    def start(self, now: int) -> None:
        """Schedules at `now` and puts the steps that follow in flight; something must wait or run."""
        self.events += 1
        budget = self.policy.max_num_batched_tokens - self.decoding.count
        partial = self.partial
        chunk = min(budget, partial.target - partial.computed) if partial else 0
        held = self._held_bytes(1) + (self.pool.held_bytes(partial.computed + chunk) if partial else 0)
        if held > self.pool.pool_bytes:
            self._preempt()
            self._single(now, [], [])
            return
        self._trim(held)
        chunks: list[tuple[int, int]] = []
        prefilled: list[Sequence] = []
        self.flight_bytes = 0
        if partial:
            chunks.append((chunk, partial.computed))
            prefilled.append(partial)
            held += self._compute(partial, chunk)
            self.flight_bytes = self.pool.held_bytes(partial.computed)
        if self.waiting and budget > chunk:
            self._admit(now, budget - chunk, held, chunks=chunks, prefilled=prefilled)
        if prefilled:
            self._single(now, chunks, prefilled)
        else:
            steps, first_ps, slope_ps = self._jump()
            self.flight = Flight(now, steps, first_ps, slope_ps=slope_ps, prefilled=[])

    def _single(self, now: int, chunks: list[tuple[int, int]], prefilled: list[Sequence]) -> None:
        duration = step_ps(self.model, self.decoding.count, self.decoding.reached(1), chunks=chunks)
        self.flight = Flight(now, 1, duration + self.loading_ps, slope_ps=0, prefilled=prefilled)
        self.loading_ps = 0

    def _preempt(self) -> None:
        """Drops the latest arrivals until the others' next tokens fit."""
        while True:
            _, victim = self.running.popitem()
            if victim is self.partial:
                self.partial = None
            else:
                victim.generated = self.decoding.leave(victim.ticket) - victim.prompt + 1  # the last is not cached yet
                del self.by_ticket[victim.ticket]
            self._release(victim)
            victim.computed, victim.target = 0, victim.prompt + victim.generated
            self.waiting.appendleft(victim)
            self.preemptions += 1
            self.rows.preemptions[victim.index] += 1
            held = self._held_bytes(1)
            if held <= self.pool.pool_bytes:
                self._trim(held)
                self.flight_bytes = 0
                return

    def _admit(
        self, now: int, budget: int, held: int, *, chunks: list[tuple[int, int]], prefilled: list[Sequence]
    ) -> None:
        """Waiting requests in order, while seats, budget and free blocks last."""
        pool, prefixes, seats = self.pool, self.prefixes, self.policy.max_num_seqs
        while self.waiting and budget and len(self.running) < seats:
            sequence = self.waiting[0]
            hits = prefixes.hits(sequence.shareable) if sequence.shareable else 0
            back = self.tier.hits(sequence.shareable[hits:]) if self.tier is not None else 0
            before = max((hits + back) * HASH_TOKENS, sequence.cached)
            chunk = min(budget, sequence.target - before)
            own = pool.held_bytes(before + chunk)
            needed = own
            if hits:
                needed += pool.hash_bytes * (prefixes.new_uses(sequence.shareable[:hits]) - hits)
            if held + needed > pool.pool_bytes:
                return
            self.waiting.popleft()
            self.running[sequence.index] = sequence
            if back and self.tier is not None:  # the step that works on it waits for its blocks
                self.loading_ps += back * self.tier.block_ps
                self.tier_blocks_back += back
            if hits:
                prefixes.use(sequence.shareable[:hits])
                sequence.shared = hits
                self.shared += hits
            if self.rows.scheduled_ps[sequence.index] < 0:
                self.rows.scheduled_ps[sequence.index] = now
                self.rows.hit_tokens[sequence.index] = before
            sequence.computed = before
            held += needed + self._compute(sequence, chunk)
            self._trim(held)
            self.flight_bytes += own
            chunks.append((chunk, before))
            prefilled.append(sequence)
            budget -= chunk

    def _compute(self, sequence: Sequence, chunk: int) -> int:
        """A chunk is scheduled; whole prompt blocks in it can be shared at once. Bytes by which the pool's use changes."""
        sequence.computed += chunk
        self.prefill_tokens += chunk
        if not sequence.shareable:
            return 0
        until = min(len(sequence.shareable), sequence.computed // HASH_TOKENS)
        made = sequence.shareable[sequence.shared : until]
        if not made:
            return 0
        change = self.prefixes.new_uses(made) - len(made)
        self.prefixes.use(made)
        if self.tier is not None:
            self.tier.store(made)
        self.shared += len(made)
        sequence.shared = until
        return change * self.pool.hash_bytes

    def _jump(self) -> tuple[int, int, int]:
        """(steps that only decode until something else happens, time of the first, growth of each next one)."""
        steps = self._steps_in_memory(self.decoding.next_event())
        model, growing = self.model, self.decoding.growing()
        terms = self._decode_terms()
        memory, compute = sides_ps(model, terms, self.decoding.reached(1))
        memory_slope = sum(map(mul, model.kv_ps, growing))
        compute_slope = sum(map(mul, model.score_ps, growing))
        gap, closing = memory - compute, compute_slope - memory_slope
        if gap * closing > 0:  # the lower line is the steeper one: as far as it stays the lower
            steps = min(steps, gap // closing + 1)
        memory_binds = gap > 0 or (gap == 0 and closing <= 0)
        first = terms.fixed_ps + max(memory, compute)
        return steps, first, memory_slope if memory_binds else compute_slope

    def _steps_in_memory(self, steps: int) -> int:
        """As many of `steps` as the pool holds; and no further than what the first in line may find cached stays."""
        room = self.pool.pool_bytes
        if self.waiting and self.prefixes.idle and self.prefixes.hits(self.waiting[0].shareable):
            room -= len(self.prefixes.idle) * self.pool.hash_bytes
        if self._held_bytes(steps) <= room:
            return steps
        low, high = 1, steps  # the first step fits
        while high - low > 1:
            middle = (low + high) // 2
            if self._held_bytes(middle) <= room:
                low = middle
            else:
                high = middle
        return low

    def _decode_terms(self) -> StepTerms:
        count = self.decoding.count
        terms = self._terms.get(count)
        if terms is None:
            terms = self._terms[count] = self.model.terms(count, ())
        return terms

    # -- land: the steps are done -----------------------------------------------------------------------------

    def land(self) -> None:
        """Ends the flight: its tokens are there, sequences end, others begin to decode."""
        flight = self.flight
        assert flight is not None
        now, self.flight = flight.end_ps, None
        held = self._held_bytes(flight.steps) + self.flight_bytes
        self.peak_bytes = max(self.peak_bytes, held)
        if self.occupancy.next_ps < now:
            self._sample(flight)
        self.busy_ps += now - flight.start_ps
        self.steps += flight.steps
        self._trim(held)
        self.decoding.advance(flight.steps)
        for ticket in self.decoding.ended():
            self.decoding.leave(ticket)
            self._finish(self.by_ticket.pop(ticket), now)
        self.partial = None
        for sequence in flight.prefilled:
            if sequence.computed < sequence.target:
                self.partial = sequence
            else:
                self._first_token(sequence, now)

    def _sample(self, flight: Flight) -> None:
        line = self.occupancy
        line.idle_until(flight.start_ps)
        while line.next_ps < flight.end_ps:
            span = line.next_ps - flight.start_ps
            done = flight.steps_to(span)
            under_way = done + 1 if flight.span_ps(done) == span else done
            line.add(self._held_bytes(under_way) + self.flight_bytes)

    def _first_token(self, sequence: Sequence, now: int) -> None:
        """Its prompt (or what was recomputed) is in the cache: one token more, and it decodes from here."""
        sequence.generated += 1
        if sequence.generated == 1:
            self.rows.first_ps[sequence.index] = now
        left = sequence.output - sequence.generated
        if not left:
            self._finish(sequence, now)
            return
        self.tickets += 1
        sequence.ticket = self.tickets
        self.by_ticket[self.tickets] = sequence
        self.decoding.join(self.tickets, sequence.target, left)

    def _finish(self, sequence: Sequence, now: int) -> None:
        self.rows.last_ps[sequence.index] = now
        del self.running[sequence.index]
        self._release(sequence)
        self.done(now)

    def _release(self, sequence: Sequence) -> None:
        if sequence.shared:
            self.prefixes.release(sequence.shareable[: sequence.shared])
            self.shared -= sequence.shared
            sequence.shared = 0

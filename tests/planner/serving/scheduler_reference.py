"""The scheduler's rule of `planner.serving.scheduler` the plain way: every step, every sequence, every sum from scratch.

Slow, and sharing nothing with the simulator but the inputs: pool, policy, step model, arrivals.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Sequence:
    row: int
    prompt: int
    output: int
    cached: int
    ids: tuple[int, ...]
    generated: int = 0
    computed: int = 0
    target: int = 0
    shared: int = 0

    @property
    def decodes(self) -> bool:
        return self.computed >= self.target


@dataclass
class Engine:
    running: list[Sequence] = field(default_factory=list)
    waiting: list[Sequence] = field(default_factory=list)
    idle_blocks: list[int] = field(default_factory=list)
    ends_at: int | None = None
    began_at: int = 0
    work: list[tuple[Sequence, int]] = field(default_factory=list)
    samples: list[tuple[int, int, int]] = field(default_factory=list)
    peak: int = 0


class Reference:
    def __init__(self, arrivals, model, pool, policy, users=0, think_ps=0):
        self.pool, self.policy, self.model = pool, policy, model
        self.arrivals = list(arrivals)
        self.users, self.think_ps = users, think_ps
        self.engines = [Engine() for _ in range(policy.replicas)]
        self.rows = []
        self.steps = self.preemptions = self.prefill_tokens = self.in_system_ps = self.now = 0
        self.user_times = [think_ps] * users
        self.turn = 0

    # -- memory, from scratch

    def blocks_bytes(self, tokens):
        total = self.pool.sequence_bytes
        for kind in self.pool.kinds:
            kept = min(tokens, kind.limit_tokens) if kind.limit_tokens is not None else tokens
            total += kind.block_bytes * ((kept + kind.block_tokens - 1) // kind.block_tokens)
        return total

    def hash_bytes(self):
        whole = [kind for kind in self.pool.kinds if kind.limit_tokens is None]
        if any(512 % kind.block_tokens for kind in whole):
            return 0
        return sum(512 // kind.block_tokens * kind.block_bytes for kind in whole)

    def used(self, sequences):
        """`sequences`: (sequence, tokens it has in the cache)."""
        own = sum(self.blocks_bytes(tokens) - s.shared * self.hash_bytes() for s, tokens in sequences)
        blocks = {block for s, _ in sequences for block in s.ids[: s.shared]}
        return own + len(blocks) * self.hash_bytes()

    def trim(self, engine, used):
        while engine.idle_blocks and used + len(engine.idle_blocks) * self.hash_bytes() > self.pool.pool_bytes:
            engine.idle_blocks.pop(0)

    def in_use(self, engine):
        return {block for s in engine.running for block in s.ids[: s.shared]}

    def let_go(self, engine, sequence):
        """The sequence is off the running list: those of its blocks that no other uses become idle, last first."""
        ids, sequence.shared = sequence.ids[: sequence.shared], 0
        still = self.in_use(engine)
        for position in reversed(range(len(ids))):
            if ids[position] not in still and ids[position] not in ids[:position]:
                engine.idle_blocks.append(ids[position])

    def share(self, engine, sequence):
        sequence.shared = max(sequence.shared, min(len(sequence.ids), sequence.computed // 512))
        for block in sequence.ids[: sequence.shared]:
            if block in engine.idle_blocks:
                engine.idle_blocks.remove(block)

    # -- one schedule

    def start(self, engine, now):
        policy = self.policy
        decoding = [s for s in engine.running if s.decodes]
        filling = [s for s in engine.running if not s.decodes]
        assert len(filling) <= 1 and (not filling or engine.running[-1] is filling[0])
        work = [(s, 1) for s in decoding]
        if filling:
            left = policy.max_num_batched_tokens - len(decoding)
            work.append((filling[0], min(left, filling[0].target - filling[0].computed)))
        preempted = False
        while self.used([(s, s.computed + n) for s, n in work]) > self.pool.pool_bytes:
            victim, _ = work.pop()
            assert engine.running.pop() is victim
            self.let_go(engine, victim)
            victim.computed, victim.target = 0, victim.prompt + victim.generated
            engine.waiting.insert(0, victim)
            self.rows[victim.row]["preemptions"] += 1
            self.preemptions += 1
            preempted = True
        self.trim(engine, self.used([(s, s.computed + n) for s, n in work]))
        context = [(s, s.computed + n) for s, n in work]
        if filling and not preempted:
            self.schedule_chunk(engine, work[-1], context)
        budget = policy.max_num_batched_tokens - sum(n for _, n in work)
        while not preempted and engine.waiting and budget and len(engine.running) < policy.max_num_seqs:
            head = engine.waiting[0]
            hits = 0
            known = self.in_use(engine) | set(engine.idle_blocks)
            if self.hash_bytes():
                while hits < len(head.ids) and head.ids[hits] in known:
                    hits += 1
            before = max(hits * 512, head.cached)
            chunk = min(budget, head.target - before)
            head.shared = hits
            if self.used([*context, (head, before + chunk)]) > self.pool.pool_bytes:
                head.shared = 0
                break
            engine.waiting.pop(0)
            engine.running.append(head)
            self.share(engine, head)
            if self.rows[head.row]["scheduled"] < 0:
                self.rows[head.row]["scheduled"], self.rows[head.row]["hits"] = now, before
            head.computed = before
            work.append((head, chunk))
            context.append((head, before + chunk))
            self.schedule_chunk(engine, work[-1], context)
            budget -= chunk
        engine.work, engine.began_at = work, now
        engine.ends_at = now + self.duration(work)
        held = self.used(context)
        engine.peak = max(engine.peak, held)
        engine.samples.append((now, engine.ends_at, held))

    def schedule_chunk(self, engine, item, context):
        """Whole prompt blocks of a chunk are shared as soon as it is scheduled."""
        sequence, chunk = item
        self.prefill_tokens += chunk
        if self.hash_bytes():
            sequence.computed += chunk
            self.share(engine, sequence)
            sequence.computed -= chunk
        self.trim(engine, self.used(context))

    def duration(self, work):
        decoding = [s for s, _ in work if s.decodes]
        chunks = [(n, s.computed) for s, n in work if not s.decodes]
        terms = self.model.terms(len(decoding), chunks)
        memory, compute = terms.memory_ps, terms.compute_ps
        for reach, kv, score in zip(self.model.reaches, self.model.kv_ps, self.model.score_ps, strict=True):
            for s in decoding:
                read = s.computed + 1 if reach is None else min(s.computed + 1, reach)
                memory += kv * read
                compute += score * read
        return terms.fixed_ps + max(memory, compute)

    # -- its end

    def land(self, engine, now):
        engine.ends_at = None
        self.steps += 1
        finished = []
        for s, n in engine.work:
            decoded = s.decodes
            s.computed += n
            if decoded:
                s.target = s.computed
            if s.decodes:
                s.generated += 1
                if s.generated == 1:
                    self.rows[s.row]["first"] = now
                if s.generated == s.output:
                    finished.append(s)
        for s in finished:
            engine.running.remove(s)
            self.let_go(engine, s)
            self.rows[s.row]["last"] = now
            if self.users:
                self.user_times.append(now + self.think_ps)

    # -- time

    def next_arrival(self):
        if not self.arrivals:
            return None
        if not self.users:
            return self.arrivals[0].time_ps
        return min(self.user_times) if self.user_times else None

    def deliver(self, now):
        arrival = self.arrivals.pop(0)
        if self.users:
            self.user_times.remove(now)
        total = arrival.prompt_tokens + arrival.output_tokens
        row = {"arrival": now, "scheduled": -1, "first": -1, "last": -1, "hits": 0, "preemptions": 0, "replica": -1}
        self.rows.append(row)
        longest = self.policy.longest_tokens
        if (longest is not None and total > longest) or self.blocks_bytes(total - 1) > self.pool.pool_bytes:
            if self.users:
                self.user_times.append(now + self.think_ps)
            return
        loads = [len(engine.running) + len(engine.waiting) for engine in self.engines]
        if self.policy.routing == "round-robin":
            chosen, self.turn = self.turn % len(loads), self.turn + 1
        else:
            chosen = loads.index(min(loads))
        row["replica"] = chosen
        ids = arrival.hash_ids[: (arrival.prompt_tokens - 1) // 512]
        self.engines[chosen].waiting.append(
            Sequence(len(self.rows) - 1, arrival.prompt_tokens, arrival.output_tokens,
                     min(arrival.cached_tokens, arrival.prompt_tokens - 1), ids, target=arrival.prompt_tokens)
        )  # fmt: skip

    def run(self):
        while True:
            moments = [engine.ends_at for engine in self.engines if engine.ends_at is not None]
            arrival = self.next_arrival()
            if arrival is not None:
                moments.append(arrival)
            if not moments:
                return self
            now = min(moments)
            present = sum(len(engine.running) + len(engine.waiting) for engine in self.engines)
            self.in_system_ps += present * (now - self.now)
            self.now = now
            for engine in self.engines:
                if engine.ends_at == now:
                    self.land(engine, now)
            while self.next_arrival() == now:
                self.deliver(now)
            for engine in self.engines:
                if engine.ends_at is None and (engine.running or engine.waiting):
                    self.start(engine, now)

    def held_at(self, number, time_ps):
        """What a replica's pool held in the step under way at a moment."""
        return next((held for start, end, held in self.engines[number].samples if start <= time_ps < end), 0)

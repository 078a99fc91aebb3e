"""The result of a simulated run: a row a request in whole picoseconds, and what the replicas did meanwhile."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import field

from planner.frozen import dataclass
from planner.units import PS_PER_SECOND

SAMPLES = 1024


FIRST_INTERVAL_PS = PS_PER_SECOND // 1000


REJECTED = -1


def column() -> array[int]:
    return array("q")


@dataclass(frozen=True)
class Requests:
    """A row a request, in order of arrival; times in picoseconds from the start of the run.

    scheduled_ps   the start of the first step that worked on it; -1 in a row that was rejected
    first_ps       the end of the step that gave its first token
    last_ps        the end of the step that gave its last
    hit_tokens     prompt tokens found in the prefix cache when it was first scheduled
    """

    arrival_ps: array[int] = field(default_factory=column)
    prompt_tokens: array[int] = field(default_factory=column)
    output_tokens: array[int] = field(default_factory=column)
    scheduled_ps: array[int] = field(default_factory=column)
    first_ps: array[int] = field(default_factory=column)
    last_ps: array[int] = field(default_factory=column)
    hit_tokens: array[int] = field(default_factory=column)
    preemptions: array[int] = field(default_factory=column)
    replica: array[int] = field(default_factory=column)

    def __len__(self) -> int:
        return len(self.arrival_ps)

    def add(self, arrival_ps: int, prompt_tokens: int, output_tokens: int, *, replica: int) -> int:
        """Adds a row for a request and returns its number."""
        self.arrival_ps.append(arrival_ps)
        self.prompt_tokens.append(prompt_tokens)
        self.output_tokens.append(output_tokens)
        for empty in (self.scheduled_ps, self.first_ps, self.last_ps):
            empty.append(REJECTED)
        self.hit_tokens.append(0)
        self.preemptions.append(0)
        self.replica.append(replica)
        return len(self.arrival_ps) - 1

    @property
    def served(self) -> list[int]:
        """Rows that were not rejected."""
        return [i for i, last in enumerate(self.last_ps) if last != REJECTED]


class Timeline:
    """The pool's use at equal intervals: the interval doubles, and every second sample goes, when there are too many."""

    def __init__(self, samples: int = SAMPLES, interval_ps: int = FIRST_INTERVAL_PS) -> None:
        self.limit = samples
        self.interval_ps = interval_ps
        self.samples: list[int] = []

    @property
    def next_ps(self) -> int:
        return len(self.samples) * self.interval_ps

    def add(self, held_bytes: int) -> None:
        self.samples.append(held_bytes)
        if len(self.samples) == self.limit:
            self.coarsen()

    def idle_until(self, time_ps: int) -> None:
        while self.next_ps < time_ps:
            self.add(0)

    def coarsen(self) -> None:
        self.samples = self.samples[::2]
        self.interval_ps *= 2


def summed(timelines: Sequence[Timeline]) -> Timeline:
    """Adds up all replicas' use, at the coarsest of their intervals.

    >>> one, two = Timeline(4, 1), Timeline(4, 1)
    >>> for held in (1, 2, 3): one.add(held)
    >>> for held in (5, 6, 7, 8): two.add(held)         # the fourth halves them to 5, 7
    >>> summed([one, two]).samples, summed([one, two]).interval_ps
    ([6, 10], 2)
    """
    interval = max(line.interval_ps for line in timelines)
    total = Timeline(interval_ps=interval)
    rows = [line.samples[:: interval // line.interval_ps] for line in timelines]
    length = max(map(len, rows))
    total.samples = [sum(row[i] for row in rows if i < len(row)) for i in range(length)]
    return total


@dataclass(frozen=True)
class Simulation:
    """What came of a run.

    end_ps          when the last request was done
    busy_ps         time in steps, all replicas
    steps           forward steps, all replicas
    events          how often a schedule was made: the work of the simulation
    peak_bytes      the most that one replica's pool held
    waiting_at_last requests that waited when the last one arrived: a queue that grows says the load is too much
    tier_hit_tokens prompt tokens that were brought back from host memory
    in_system_ps    the time integral of the number of requests that wait or run
    """

    requests: Requests
    pool_bytes: int
    replicas: int
    end_ps: int
    busy_ps: int
    steps: int
    events: int
    preemptions: int
    prefill_tokens: int
    peak_bytes: int
    waiting_at_last: int
    in_system_ps: int
    occupancy: Timeline
    tier_hit_tokens: int = 0

    @property
    def rejected(self) -> int:
        return sum(1 for last in self.requests.last_ps if last == REJECTED)

    @property
    def served(self) -> int:
        return len(self.requests) - self.rejected

    @property
    def seconds(self) -> float:
        return self.end_ps / PS_PER_SECOND

    @property
    def requests_per_s(self) -> float:
        return self.served / self.seconds if self.end_ps else 0.0

    @property
    def output_tokens_per_s(self) -> float:
        rows = self.requests
        return sum(rows.output_tokens[i] for i in rows.served) / self.seconds if self.end_ps else 0.0

    @property
    def utilisation(self) -> float:
        """Share of the time that a replica spends in steps."""
        return self.busy_ps / (self.end_ps * self.replicas) if self.end_ps else 0.0

    @property
    def mean_concurrency(self) -> float:
        """Requests that wait or run, on the mean over the run."""
        return self.in_system_ps / self.end_ps if self.end_ps else 0.0

    def ttft_seconds(self) -> list[float]:
        """Time to first token of each served request, from its arrival."""
        rows = self.requests
        return [(rows.first_ps[i] - rows.arrival_ps[i]) / PS_PER_SECOND for i in rows.served]

    def tpot_seconds(self) -> list[float]:
        """(last - first) / (output - 1) of each served request of two tokens or more."""
        rows = self.requests
        return [
            (rows.last_ps[i] - rows.first_ps[i]) / (rows.output_tokens[i] - 1) / PS_PER_SECOND
            for i in rows.served
            if rows.output_tokens[i] > 1
        ]

    def latency_seconds(self) -> list[float]:
        """Arrival to last token of each served request."""
        rows = self.requests
        return [(rows.last_ps[i] - rows.arrival_ps[i]) / PS_PER_SECOND for i in rows.served]

    def queueing_seconds(self) -> list[float]:
        """Arrival to the first step that works on it, of each served request."""
        rows = self.requests
        return [(rows.scheduled_ps[i] - rows.arrival_ps[i]) / PS_PER_SECOND for i in rows.served]

    def meeting(self, ttft_seconds: float | None, tpot_seconds: float | None) -> int:
        """Served requests that meet both targets; None is no target, and a single token has no TPOT to miss."""
        rows, met = self.requests, 0
        for i in rows.served:
            first, steps = rows.first_ps[i], rows.output_tokens[i] - 1
            in_time = ttft_seconds is None or first - rows.arrival_ps[i] <= ttft_seconds * PS_PER_SECOND
            at_pace = tpot_seconds is None or rows.last_ps[i] - first <= tpot_seconds * steps * PS_PER_SECOND
            met += in_time and at_pace
        return met


def percentiles(values: Iterable[float], shares: Sequence[float]) -> list[float]:
    """Finds percentiles by nearest rank: the smallest value that at least that share of them does not exceed; 0 of nothing.

    >>> percentiles([5.0, 1.0, 4.0, 2.0, 3.0], [0.5, 0.9])
    [3.0, 5.0]
    """
    ordered = sorted(values)
    if not ordered:
        return [0.0 for _ in shares]
    ranks = [max(1, -int(-share * len(ordered) // 1)) for share in shares]
    return [ordered[min(rank, len(ordered)) - 1] for rank in ranks]

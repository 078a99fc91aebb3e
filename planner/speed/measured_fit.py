"""Fits the constants of a speed to several measured points, each constant held to its shipped value by what is known.

    minimise  Σ (ln predicted - ln measured)² / NOISE²  +  Σ (ln multiplier)² / prior²

A multiplier stretches one kind of time (`KNOBS`): a single point moves what it depends on, many points part reading
from computing and both from what a step takes whatever its size. It is tried with reading that hides computing, as GPUs
do, and with the two one after the other, as processors do (`Constants.serial`): the way that is not the device's own where
it meets the points better by `SERIAL_BETTER`. Gauss-Newton steps with damping, derivatives by
differences. Each point is then left out and predicted from the others: that error is the range of every answer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from planner.catalogue.device import Device
from planner.errors import BadRequest
from planner.frozen import dataclass
from planner.memory.estimate import Estimate
from planner.speed.constants import OF_THE_FIT, Constants
from planner.speed.measured_point import MEASURED_SPREAD
from planner.speed.observed import Observed
from planner.speed.passes import Rates, rates_of
from planner.speed.speed import Case, model_constants
from planner.speed.work import Work, work

NOISE = 0.04  # of a mean over a few requests, as a share
MOST_POINTS = 200
LEAST_SPREAD = 1.05
MANY = 8  # fewer points say little of batches and lengths far from theirs: then the range of a single point holds, too
STEPS, STEPS_LEFT_OUT, MOST_FOLDS = 25, 6, 12

# What a multiplier stretches (efficiencies are divided by it, seconds multiplied), and how far it may be from the shipped
# value, in logarithms: three times the spread of that constant among the shipped fits. Engines and devices differ little
# in the share of the bandwidth that they reach (0.1), much in products of a step, in attention and in fixed times (0.5 to
# 0.9): so what grows with the batch at one length is not blamed on reading the cache.
KNOBS: tuple[tuple[float, tuple[str, ...]], ...] = (
    (0.35, ("memory_efficiency", "packed_efficiency", "expert_efficiency")),
    (0.3, ("cache_efficiency",)),
    (2.0, ("compute_efficiency", "expert_compute_efficiency")),
    (
        0.7,
        ("prefill_efficiency", "packed_prefill_efficiency", "narrow_prefill_efficiency", "expert_prefill_efficiency"),
    ),
    (2.0, ("attention_efficiency",)),
    (0.5, ("mixed_efficiency", "prompt_layer_seconds")),
    (1.5, ("layer_seconds", "expert_layer_seconds")),
    (1.5, ("step_seconds",)),
    (1.5, ("sequence_seconds",)),
    (1.2, ("request_seconds",)),
    (1.0, ("queue",)),
)
QUEUE, REQUEST = (
    next(i for i, (_, names) in enumerate(KNOBS) if name in names) for name in ("queue", "request_seconds")
)
READS = ("memory_efficiency", "packed_efficiency", "expert_efficiency", "cache_efficiency")
COMPUTES = (
    "compute_efficiency", "expert_compute_efficiency", "prefill_efficiency", "packed_prefill_efficiency", "narrow_prefill_efficiency",
    "expert_prefill_efficiency", "attention_efficiency", "mixed_efficiency",
)  # fmt: skip
# A server may be given a few cores of a processor: tried parts of its FLOP/s, then of its bandwidth, of which one core reaches more.
COMPUTE_PARTS, READ_PARTS = (1, 4, 16, 64, 256), (1, 2, 4, 8, 16, 32)
SERIAL_POINTS, SERIAL_BETTER = 3, 2.0  # points that can tell; what one more choice costs by Akaike's criterion


@dataclass(frozen=True)
class LeftOutErrors:
    """How far predictions of points were that had been left out, as shares of what was measured.

    points   that were left out; 0 where there were too few
    """

    points: int
    mean: float
    worst: float

    def words(self) -> str:
        """In a few words, for the line that says where a speed is from."""
        if not self.points:
            return "too few points to leave one out"
        return f"{100 * self.mean:.0f} % off on average and at most {100 * self.worst:.0f} % when left out"


@dataclass(frozen=True)
class Fitted:
    """Constants of one engine on one machine, with the points they are from and how those did when left out.

    logs   of the multiplier of each of `KNOBS`
    part   the server had one in so many of the device's bandwidth and of its FLOP/s: a few cores of a processor
    """

    constants: Constants
    points: int
    sources: tuple[str, ...]
    tpot: LeftOutErrors
    ttft: LeftOutErrors
    logs: tuple[float, ...] = ()
    part: tuple[int, int] = (1, 1)

    def applied(self, base: Constants) -> Constants:
        """Other constants of the same engine and device, stretched alike."""
        return stretched(of_part(replace(base, serial=self.constants.serial), *self.part), self.logs)

    @property
    def words(self) -> str:
        """Points, files and errors in a few words."""
        shown = ", ".join(self.sources[:3]) + (f" and {len(self.sources) - 3} more" if len(self.sources) > 3 else "")
        named = (("TPOT", self.tpot), ("TTFT", self.ttft))
        errors = "; ".join(f"{name} {errors.words()}" for name, errors in named if errors.points)
        return f"{self.points} measured point{'s' * (self.points > 1)} given ({shown}), {errors or self.tpot.words()}"

    def to_dict(self) -> dict[str, Any]:
        """The JSON contract."""
        return {
            "points": self.points,
            "sources": list(self.sources),
            **{
                f"{name}_left_out": {"points": found.points, "mean": found.mean, "worst": found.worst}
                for name, found in (("tpot", self.tpot), ("ttft", self.ttft))
            },
        }


@dataclass(frozen=True)
class _Point:
    case: Case
    observed: Observed

    def logs(self, constants: Constants) -> list[float]:
        """ln(predicted / measured) of TPOT and TTFT, as far as they were measured."""
        case, found = replace(self.case, constants=constants), []
        if self.observed.tpot_seconds:
            value = max(case.tpot_bound(), sum(case.tpot_parts().values()))
            found.append(math.log(value / self.observed.tpot_seconds))
        if self.observed.ttft_seconds:
            value, bound = case.ttft()
            found.append(math.log(max(bound, value) / self.observed.ttft_seconds))
        return found


def fitted(points: Sequence[Observed], estimate: Estimate, device: Device, *, base: Constants) -> Fitted:
    """Fits constants to measured points, from those in `base`: each point is met as nearly as the points agree with one
    another.

    `estimate` is of the model, formats and layout that were measured, `device` the one it ran on. Raises BadRequest for
    no point, more than `MOST_POINTS`, and a time below the bound of the device.
    """
    if not points:
        raise BadRequest("--measured: no point says a time, its requests at once and its lengths")
    if len(points) > MOST_POINTS:
        raise BadRequest(f"--measured: {len(points):,} points; at most {MOST_POINTS} are fitted at once")
    sums, rates = work(estimate), rates_of(device, estimate)
    base = model_constants(base, sums)
    known = [
        _Point(_case(point, sums, rates, base=base, source_tokens=estimate.source_tokens), point) for point in points
    ]
    for point in known:
        _check(point, device)
    processor = (device.vendor or "").upper() == "CPU"
    part = _part(known, base) if processor and len(points) >= SERIAL_POINTS else (1, 1)
    base, found = _best(known, of_part(base, *part), processor=processor)
    tpot, ttft = _left_out(known, base, found)
    sources = tuple(dict.fromkeys(point.source for point in points))
    constants = replace(stretched(base, found), **(OF_THE_FIT | _spread(tpot, ttft, len(points))))
    constants = _queued(constants, low=constants.ttft_low, high=constants.ttft_high)
    made = Fitted(constants, len(points), sources, tpot, ttft, tuple(found), part)
    return replace(made, constants=replace(constants, origin=f"{made.words}; beside: {base.origin}"))


def of_part(base: Constants, reads: int, computes: int) -> Constants:
    """Makes the constants of a server that has one in so many of a device's bandwidth and of its FLOP/s."""
    values: Mapping[str, float] = vars(base)
    parts = {name: values[name] / reads for name in READS} | {name: values[name] / computes for name in COMPUTES}
    return replace(base, **parts)  # type: ignore[arg-type]


def _part(points: Sequence[_Point], base: Constants) -> tuple[int, int]:
    """The part of a processor that the points like best: of its FLOP/s with a root of that of its bandwidth, then of that."""

    def cost(part: tuple[int, int]) -> float:
        made = replace(of_part(base, *part), serial=1.0)
        return sum(e**2 for e in _errors(points, made, _fit(points, made, [0.0] * len(KNOBS), steps=STEPS_LEFT_OUT)))

    computes = min(((math.isqrt(part), part) for part in COMPUTE_PARTS), key=cost)[1]
    return min(((part, computes) for part in READ_PARTS), key=cost)


def _best(points: Sequence[_Point], base: Constants, *, processor: bool) -> tuple[Constants, list[float]]:
    """(base, logs of the multipliers): as shipped, or with reading and computing one after the other, as on a processor."""
    start = [0.0] * len(KNOBS)
    found = _fit(points, base, start, steps=STEPS)
    if len(points) < SERIAL_POINTS:
        return base, found
    other = replace(base, serial=1.0)
    serial = _fit(points, other, start, steps=STEPS)
    sums = [sum(e**2 for e in _errors(points, b, logs)) for b, logs in ((base, found), (other, serial))]
    return (other, serial) if sums[1] < sums[0] + (SERIAL_BETTER if processor else -SERIAL_BETTER) else (base, found)


def _case(point: Observed, sums: Work, rates: Rates, *, base: Constants, source_tokens: int) -> Case:
    load = point.load if point.output_tokens > 1 else "static"
    return Case(sums, rates, base, point.prompt_tokens, point.output_tokens, point.batch, load, source_tokens)


def _check(point: _Point, device: Device) -> None:
    """Refuse a time that the device cannot reach."""
    for name, seconds, bound in (
        ("tpot", point.observed.tpot_seconds, point.case.tpot_bound()),
        ("ttft", point.observed.ttft_seconds, point.case.ttft()[1]),
    ):
        if seconds is not None and seconds < bound:
            raise BadRequest(
                f"--measured {point.observed.source}: {name} {seconds * 1e3:.3g} ms, and {device.name} cannot be faster "
                f"than {bound * 1e3:.3g} ms there by its bandwidth and FLOP/s; check model, dtype, layout and units"
            )


def stretched(base: Constants, logs: Sequence[float]) -> Constants:
    """Scales the constants of `base`: each knob's times become exp(log) as long."""
    values: Mapping[str, float] = vars(base)
    changed = {
        name: values[name] / math.exp(log) if name.endswith("efficiency") else values[name] * math.exp(log)
        for (_, names), log in zip(KNOBS, logs, strict=True)
        for name in names
        if name != "queue"
    }
    queues = {
        name: replace(
            queue,
            share=queue.share * math.exp(logs[QUEUE]),
            seconds=queue.seconds * math.exp(logs[REQUEST]),
        )
        for name, queue in (("queue", base.queue), ("experts_queue", base.experts_queue))
    }
    return replace(base, queue_scale=math.exp(logs[QUEUE]), **changed, **queues)  # type: ignore[arg-type]


def _queued(base: Constants, **changed: float) -> Constants:
    """`base`, of one model, with another queue."""
    queue = replace(base.queue, **changed)
    return replace(base, queue=queue, experts_queue=queue)


def _errors(points: Sequence[_Point], base: Constants, logs: Sequence[float]) -> list[float]:
    constants = stretched(base, logs)
    return [value / NOISE for point in points for value in point.logs(constants)] + [
        log / prior for (prior, _), log in zip(KNOBS, logs, strict=True)
    ]


def _fit(points: Sequence[_Point], base: Constants, start: Sequence[float], *, steps: int) -> list[float]:
    """Gauss-Newton with damping: a step that makes it worse is tried again with a larger one."""
    logs, damping, delta = list(start), 1e-2, 1e-4
    errors = _errors(points, base, logs)
    cost = sum(error**2 for error in errors)
    for _ in range(steps):
        columns = []
        for i in range(len(logs)):
            moved = [*logs[:i], logs[i] + delta, *logs[i + 1 :]]
            columns.append([(b - a) / delta for a, b in zip(errors, _errors(points, base, moved), strict=True)])
        square = [[sum(a * b for a, b in zip(one, other, strict=True)) for other in columns] for one in columns]
        slope = [-sum(a * b for a, b in zip(column, errors, strict=True)) for column in columns]
        for _ in range(6):
            step = _solve(
                [[v + damping * v * (i == j) for j, v in enumerate(row)] for i, row in enumerate(square)], slope
            )
            moved = [log + max(-1.0, min(1.0, change)) for log, change in zip(logs, step, strict=True)]
            tried = _errors(points, base, moved)
            new = sum(error**2 for error in tried)
            if new < cost:
                break
            damping *= 8
        else:
            return logs
        better, logs, errors, cost, damping = cost - new, moved, tried, new, damping / 4
        if better < 1e-3:
            return logs
    return logs


def _solve(square: list[list[float]], right: Sequence[float]) -> list[float]:
    """The solution of a positive definite system, by elimination.

    >>> _solve([[2.0, 0.0], [0.0, 4.0]], [2.0, 2.0])
    [1.0, 0.5]
    """
    rows = [[*row, value] for row, value in zip(square, right, strict=True)]
    for i, pivot in enumerate(rows):
        for row in rows[i + 1 :]:
            factor = row[i] / pivot[i]
            for j in range(i, len(row)):
                row[j] -= factor * pivot[j]
    found = [0.0] * len(rows)
    for i in range(len(rows) - 1, -1, -1):
        found[i] = (rows[i][-1] - sum(rows[i][j] * found[j] for j in range(i + 1, len(rows)))) / rows[i][i]
    return found


def _left_out(points: Sequence[_Point], base: Constants, found: Sequence[float]) -> tuple[LeftOutErrors, LeftOutErrors]:
    """Each point predicted from the others; of more than `MOST_FOLDS` points, as many groups in turn."""
    off: dict[str, list[float]] = {"tpot": [], "ttft": []}
    folds = min(len(points), MOST_FOLDS)
    for fold in range(folds if len(points) > 2 else 0):
        others = [point for i, point in enumerate(points) if i % folds != fold]
        constants = stretched(base, _fit(others, base, found, steps=STEPS_LEFT_OUT))
        for point in points[fold::folds]:
            names = [n for n, s in (("tpot", point.observed.tpot_seconds), ("ttft", point.observed.ttft_seconds)) if s]
            for name, log in zip(names, point.logs(constants), strict=True):
                off[name].append(math.expm1(log))
    return tuple(  # type: ignore[return-value]
        LeftOutErrors(
            len(errors), sum(map(abs, errors)) / len(errors) if errors else 0.0, max(map(abs, errors), default=0.0)
        )
        for errors in off.values()
    )


def _spread(tpot: LeftOutErrors, ttft: LeftOutErrors, points: int) -> dict[str, Any]:
    """The range: as far as the worst point that was left out, either way; of few points, no narrower than of one."""
    ends = dict[str, Any]()
    for name, errors, known in (
        ("tpot", tpot, "tpot"),
        ("experts", tpot, "tpot of experts"),
        ("ttft", ttft, "ttft"),
    ):
        least = LEAST_SPREAD if points >= MANY and errors.points else MEASURED_SPREAD[known]
        factor = max(least, 1 + errors.worst)
        ends |= {f"{name}_low": 1 / factor, f"{name}_high": factor}
    return ends

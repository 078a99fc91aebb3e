"""Fits the constants of the speed model on measured rows, says how far it is off, and writes model_configs/speed.json.

    python benchmarks/fit_speed.py            # errors, printed
    python benchmarks/fit_speed.py --write    # and the constants and errors, shipped with the package

Rows: tests/cases/serving_speed.csv and llamacpp_speed.csv. What is minimised is the absolute error of log(ours /
measured), each source weighed by the root of its rows, with a prior that keeps a constant near the fit of all engines
together where an engine's own rows say nothing about it. Errors are of rows that were left out: a fifth of the rows
("device seen"), all rows of a device, all rows of a model.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property, lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import speed_groups
from planner.catalogue.entries import find_device
from planner.model.parameters import parameters
from planner.speed.constants import DEFAULT, UBATCH_TOKENS, Constants, Queue, Shape, constants_of, serves
from planner.speed.passes import Pass, Prompt, decode_parts, decode_pass, prefill_pass, prefill_seconds, rates_of
from planner.speed.populations import CURRENT, OLD, Population, population
from planner.speed.speed import prompt_range, tpot_range
from planner.speed.work import work
from planner.units import ceil_div
from tests.speed_truth import DECODE, PP, PREFILL, QUEUED, REQUEST, TG, Row, llamacpp_rows, serving_rows

OUT = ROOT / "model_configs" / "speed.json"
LLAMA = "llamacpp"
GEMV = "autoawq-gemv"
GEMV_PREFILL = (
    0.08  # of the peak: its kernels multiply a few rows at a time, prompts too, and read all weights for them
)

# Constant -> (how far, in logarithms, it may be from what all engines together say; its largest value).
FITTED = {
    "memory_efficiency": (0.15, 0.95),
    "packed_efficiency": (0.2, 0.95),
    "cache_efficiency": (0.3, 0.95),
    "compute_efficiency": (1.2, 0.9),
    "prefill_efficiency": (0.2, 0.7),  # what data-centre parts reach end to end at 1,000 tokens and more
    "packed_prefill_efficiency": (0.5, 0.95),
    "narrow_prefill_efficiency": (0.2, 0.7),
    "attention_efficiency": (0.7, 0.9),
    "mixed_efficiency": (0.5, 0.95),
    "layer_seconds": (0.7, 1e-2),
    "step_seconds": (1.5, 1e-1),
    "sequence_seconds": (1.0, 1e-2),
    "all_reduce_seconds": (1.2, 1e-3),
    "large_reduce_seconds": (0.7, 1e-4),
    "prompt_layer_seconds": (0.7, 1e-2),
    "unshared_reads": (2.5, 1.0),  # of engines to 2024 alone
    "link_efficiency": (0.5, 0.95),
    "request_seconds": (1.5, 1.0),
    "power_share": (0.7, 1.0),  # of llama.cpp and of engines to 2024, whose prompts were measured alone
}
# Fitted on models with experts, with the constants above as the dense rows have them.
OF_EXPERTS = {
    "expert_efficiency": (0.4, 0.95),
    "expert_compute_efficiency": (0.7, 0.9),
    "expert_prefill_efficiency": (0.5, 0.9),
    "expert_layer_seconds": (1.0, 1e-2),
    "expert_pad_rows": (1.0, 256.0),
    "expert_power_share": (0.7, 1.0),
    "early_experts": (1.0, 10.0),  # of llama.cpp alone
}
FEW_STEPS = 15  # of a search that starts where a fit of nearly the same rows ended
SOFT = 0.03  # errors below this weigh as squares: no row is measured better
ROWS_OF_A_SCALE = 5  # a device's factor is believed by half when it has as many rows
LARGEST_SCALE = 2.0
FOLDS = 5
SPREAD = (
    "lengths spread"  # requests that end one at a time, so that nobody waits in a wave: not the load of these formulas
)
RANGE = (0.05, 0.95)


# -- rows as arrays ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Data:
    """Rows with their passes stacked, so that one call of the model's formula predicts them all."""

    rows: tuple[Row, ...]
    decode: Pass
    prefill: Pass
    others: Pass
    output: np.ndarray
    kind: np.ndarray
    seconds: np.ndarray
    bound: np.ndarray
    weight: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def where(self, mask: Sequence[bool] | np.ndarray) -> Data:
        kept = np.asarray(mask, bool)
        part = lambda p: Pass(**{f.name: getattr(p, f.name)[kept] for f in fields(Pass)})  # noqa: E731
        places = np.flatnonzero(kept)
        rows = tuple(self.rows[i] for i in places)
        made = Data(rows, part(self.decode), part(self.prefill), part(self.others), self.output[kept],
                    self.kind[kept], self.seconds[kept], self.bound[kept], self.weight[kept])  # fmt: skip
        made.__dict__["populations"] = [self.populations[i] for i in places]  # slow to find out again for each part
        made.__dict__["routed"] = self.routed[kept]
        made.__dict__["shapes"] = [self.shapes[i] for i in places]
        return made

    def at(self, index: np.ndarray) -> Data:
        mask = np.zeros(len(self), bool)
        mask[index] = True
        return self.where(mask)

    @cached_property
    def populations(self) -> list[Population]:
        return [population(row.engine, row.load, row.device) for row in self.rows]

    @cached_property
    def routed(self) -> np.ndarray:
        return np.array([not row.dense for row in self.rows])

    @cached_property
    def early(self) -> np.ndarray:
        return np.array([asked.early for asked in self.populations])

    @cached_property
    def shapes(self) -> list[str]:
        return [work(row.answer).shape for row in self.rows]

    @cached_property
    def of_prefill(self) -> np.ndarray:
        return np.isin(self.kind, (2, 3))

    def predicted(self, constants: Constants) -> np.ndarray:
        """Seconds of what each row measured, by the model's own formulas."""
        if constants.shapes:
            factors = dict(constants.shapes)
            each = [factors.get(shape, Shape()) for shape in self.shapes]
            constants = replace(
                constants, shapes=(), roof_scale=np.array([one.roof for one in each]),
                fixed_scale=np.array([one.fixed for one in each]), prompts_scale=np.array([one.prompts for one in each]),
            )  # fmt: skip
        if constants.early_experts != 1.0:
            slower = np.where(self.early, constants.early_experts, 1.0)
            constants = replace(constants, expert_prefill_efficiency=constants.expert_prefill_efficiency / slower)
        step = sum(
            decode_parts(self.decode, self.others, self.output, constants=constants, maximum=np.maximum).values()
        )
        prefill = prefill_seconds(self.prefill, constants, np.maximum)
        first = prefill + constants.request_seconds
        request = first + (self.output - 1) * step
        found = np.select([self.kind == 0, self.kind == 1, self.kind == 2], [step, request, first], prefill)
        return np.maximum(found, self.bound)

    def errors(self, constants: Constants) -> np.ndarray:
        """log(ours / measured)."""
        return np.log(self.predicted(constants) / self.seconds)


def data_of(rows: Iterable[Row]) -> Data:
    kept = tuple(rows)
    passes = [_passes(row) for row in kept]
    stack = lambda i: Pass(**{f.name: np.array([float(getattr(p[i], f.name)) for p in passes]) for f in fields(Pass)})  # noqa: E731
    sizes: dict[tuple[str, bool], int] = {}  # models with experts are fitted apart
    for row in kept:
        sizes[row.source, row.dense] = sizes.get((row.source, row.dense), 0) + 1
    return Data(
        kept,
        stack(0),
        stack(1),
        stack(2),
        np.array([float(row.output) for row in kept]),
        np.array([_kind(row) for row in kept]),
        np.array([row.seconds for row in kept]),
        np.array([row.predicted(DEFAULT).bound for row in kept]),
        np.array([sizes[row.source, row.dense] ** -0.5 for row in kept]),
    )


def _passes(row: Row) -> tuple[Pass, Pass, Pass]:
    sums, rates = work(row.answer), rates_of(row.device, row.answer)
    serving = row.load == "serving"
    decode = decode_pass(sums, rates, row.running, first_tokens=row.prompt + 1, last_tokens=row.prompt + row.output)
    pieces = row.ubatch or UBATCH_TOKENS if population(row.engine, row.load, row.device).engine == LLAMA else None
    prompts = 1 if serving else ceil_div(row.batch, sums.sharding.dp)
    prefill = prefill_pass(sums, rates, prompts, prompt=Prompt(row.prompt, row.cached), ubatch=pieces)
    nothing = Pass(0, 0, 0, 0, 0, 0, 0, 0, packed=sums.packed)
    return decode, prefill, prefill if serving else nothing


def _kind(row: Row) -> int:
    """0 a decode step, 1 a request, 2 a first token, 3 a prefill alone."""
    if row.kind in (DECODE, TG):
        return 0
    if row.kind == REQUEST:
        return 1
    return 2 if row.is_first else 3


# -- fitting -----------------------------------------------------------------------------------------------

NAMES = (*FITTED, *OF_EXPERTS)
PRIORS = FITTED | OF_EXPERTS
WIDTHS = np.array([PRIORS[name][0] for name in NAMES])
CAPS = np.log([PRIORS[name][1] for name in NAMES])
PAD_ROWS = 16.0  # of an expert, where the search begins
HALF_POWER = 0.5  # where the search for a share of power begins
STILL = 1e-3  # width of a constant that rows say nothing about
ROUTED = np.array([name in OF_EXPERTS for name in NAMES])


def logs(constants: Constants) -> np.ndarray:
    return np.log([getattr(constants, name) for name in NAMES])


def from_logs(x: np.ndarray) -> Constants:
    values = {field.name: getattr(DEFAULT, field.name) for field in fields(Constants)}
    return Constants(**{**values, **dict(zip(NAMES, np.exp(x).tolist(), strict=True))})


def fit(data: Data, prior: Constants, *, start: Constants | None = None, steps: int = 30) -> Constants:
    """The better of two starts: where memory takes longest at first, the rate of products has no slope to follow. One,
    where `start` says where to begin.

    Rows of one sequence at a time do not show that rate (what they lack is explained as well by reading slowly): it
    stays where the prior has it.
    """
    centre = np.minimum(logs(prior), CAPS)
    slow, widths, compute = centre.copy(), WIDTHS.copy(), NAMES.index("compute_efficiency")
    free = ROUTED if data.routed.all() else ~ROUTED
    unshared = NAMES.index("unshared_reads")
    if not data.routed.all() and any(asked.generation == OLD for asked in data.populations):
        centre[unshared] = slow[unshared] = math.log(0.02)
    else:
        free = free & (np.arange(len(NAMES)) != unshared)
    power = NAMES.index("power_share")
    if any(asked.generation == CURRENT and asked.engine != LLAMA for asked in data.populations):
        free = free & (np.arange(len(NAMES)) != power)  # hardly a row of theirs is a prompt alone
    elif prior.power_share <= DEFAULT.power_share:
        centre[power] = slow[power] = math.log(HALF_POWER)
    widths[~free] = STILL
    if data.routed.all():
        pads = NAMES.index("expert_pad_rows")
        centre[pads] = max(centre[pads], math.log(PAD_ROWS))
        share = NAMES.index("expert_power_share")
        if all(asked.engine == LLAMA for asked in data.populations):  # few rows: as its dense prompts
            centre[share], widths[share] = logs(prior)[NAMES.index("power_share")], STILL
        else:
            widths[NAMES.index("early_experts")] = STILL
            centre[share] = max(centre[share], math.log(HALF_POWER))
        begin = centre if start is None else np.where(ROUTED, np.minimum(logs(start), CAPS), centre)
        return from_logs(_descend(data, centre, begin, widths, steps)[1])
    slow[compute] += math.log(0.06)
    starts = (centre, slow)
    if not np.any(data.decode.sequences[data.kind < 2] > 1):
        widths[compute], starts = 1e-3, (centre,)
    if start is not None:
        starts = (np.where(widths > STILL, np.minimum(logs(start), CAPS), centre),)
    found = [_descend(data, centre, begin, widths, steps) for begin in starts]
    return from_logs(min(found, key=lambda pair: pair[0])[1])


def _descend(
    data: Data, centre: np.ndarray, start: np.ndarray, widths: np.ndarray, steps: int
) -> tuple[float, np.ndarray]:
    """Levenberg-Marquardt on sqrt(error² + SOFT²), weighted, with a Gaussian prior around `centre` in logarithms."""

    def cost(x: np.ndarray) -> tuple[float, np.ndarray]:
        e = data.errors(from_logs(x))
        return float(np.sum(data.weight * np.sqrt(e * e + SOFT**2)) + 0.05 * np.sum(((x - centre) / widths) ** 2)), e

    x, damping = start.copy(), 1e-2
    now, e = cost(x)
    free = widths > STILL
    each_way = np.eye(len(x))
    for _ in range(steps):
        slopes = [
            (data.errors(from_logs(x + 1e-4 * row)) - e) / 1e-4 if moves else np.zeros(len(e))
            for row, moves in zip(each_way, free, strict=True)
        ]
        jacobian = np.stack(slopes, axis=1)
        each = data.weight / np.sqrt(e * e + SOFT**2)
        square = jacobian.T @ (jacobian * each[:, None]) + 0.1 * np.diag(1 / widths**2)
        slope = jacobian.T @ (each * e) + 0.1 * (x - centre) / widths**2
        for _ in range(8):
            move = -np.linalg.solve(square + damping * np.diag(np.diag(square)), slope)
            there = np.minimum(x + np.clip(move, -1, 1), CAPS)
            then, found = cost(there)
            if then < now:
                break
            damping *= 4
        else:
            break
        done = now - then < (2e-5 if steps > FEW_STEPS else 2e-4) * now
        x, now, e, damping = there, then, found, max(damping / 3, 1e-6)
        if done:
            break
    return now, x


# -- entries of the shipped file -----------------------------------------------------------------------------

FEWEST_ROWS = 3  # of a group with constants of its own
FEWEST_ON_A_DEVICE = 3
WIDE = {"tpot_low": 0.5, "tpot_high": 2.0, "ttft_low": 0.4, "ttft_high": 3.0}
_fitted: dict[tuple[bytes, bytes], Constants] = {}
_first: dict[tuple[str, ...], Constants] = {}


def fit_once(data: Data, prior: Constants, index: np.ndarray, name: tuple[str, ...]) -> Constants:
    """`fit`, kept for the next split that leaves these rows (by their numbers) as they are.

    The first fit of a name is where the search for the later ones starts: they differ by the rows that are left out.
    """
    key = (index.tobytes(), logs(prior).tobytes())
    if key not in _fitted:
        _fitted[key] = fit(data, prior, start=_first.get(name), steps=FEW_STEPS if name in _first else 30)
        _first.setdefault(name, _fitted[key])
    return _fitted[key]


def group_of(asked: Population) -> tuple[str, str, str]:
    """(engine, generation, classes) that a row is fitted with; llama.cpp's kernels differ by kind of memory, too."""
    split = asked.engine in GENERATIONS
    classes = asked.device_class if asked.engine == LLAMA else asked.device_class.split()[0]
    return asked.engine, asked.generation if split else "", classes


Plan = tuple[tuple[str, str, str], list[int], Callable[[], Constants]]  # key, rows, what a fit starts from


def build(data: Data, kept: np.ndarray, wanted: Iterable[int] | None = None) -> list[dict[str, Any]]:
    """The entries from the rows `kept` (by number), the nearest first, with ranges still wide: all of them, or those
    that the rows `wanted` are answered by."""
    routed = [int(i) for i in kept if data.routed[i]]
    plans = _plans(data, [int(i) for i in kept if not data.routed[i]])
    every_plans = {False: plans[-1], True: next((plan for plan in plans if plan[0] == (LLAMA, "", "")), plans[-1])}
    if wanted is not None:
        asked = {data.populations[i] for i in wanted}
        nearest = {next(n for n, plan in enumerate(plans) if serves(_header(plan[0]), one)) for one in asked}
        plans = [plan for n, plan in enumerate(plans) if n in nearest]
    entries = [_entry(data, rows, prior(), key) for key, rows, prior in plans]
    if wanted is None or any(data.routed[i] for i in wanted):

        @lru_cache(maxsize=2)
        def every(llama: bool) -> Constants:
            """Experts of all servers, or of llama.cpp on all devices, beside the constants of their dense rows."""
            key, rows, prior = every_plans[llama]
            dense = fit_once(data.at(np.array(sorted(rows))), prior(), np.array(sorted(rows)), key)
            index = np.array([i for i in routed if (data.populations[i].engine == LLAMA) == llama])
            name = ("experts of llama.cpp",) if llama else ("experts of all",)
            return fit_once(data.at(index), dense, index, name) if len(index) else DEFAULT

        entries = [with_experts(data, entry, routed, every) for entry in entries]
    return [entry | {"shapes": shape_factors(data, entry, kept)} for entry in entries]


def _plans(data: Data, kept: Sequence[int]) -> list[Plan]:
    """Which entries the dense rows `kept` make, the nearest first."""
    groups: dict[tuple[str, str, str], list[int]] = {}
    for i in kept:
        groups.setdefault(group_of(data.populations[i]), []).append(i)
    servers = [i for key, rows in groups.items() for i in rows if key[0] != LLAMA]
    llamas = [i for key, rows in groups.items() for i in rows if key[0] == LLAMA]
    classes: dict[str, list[int]] = {}  # of llama.cpp, builds of all years
    for i in llamas:
        classes.setdefault(data.populations[i].device_class, []).append(i)

    def still() -> Constants:
        return DEFAULT

    def gemv() -> Constants:
        return replace(DEFAULT, packed_prefill_efficiency=GEMV_PREFILL)

    def fitted_on(
        rows: list[int], prior: Callable[[], Constants], key: tuple[str, str, str]
    ) -> Callable[[], Constants]:
        index = np.array(sorted(rows))
        return lambda: fit_once(data.at(index), prior(), index, key)

    llama = fitted_on(llamas, still, (LLAMA, "", "")) if llamas else still
    kinds = {kind: fitted_on(rows, llama, (LLAMA, "", kind)) for kind, rows in sorted(classes.items())}
    plans: list[Plan] = [
        (key, rows, kinds[key[2]] if key[0] == LLAMA else gemv if key[0] == GEMV else still)
        for key, rows in sorted(groups.items())
        if key[0] and len(rows) >= FEWEST_ROWS
    ]
    plans += [((LLAMA, "", kind), rows, llama) for kind, rows in sorted(classes.items()) if len(rows) >= FEWEST_ROWS]
    plans += [((LLAMA, "", ""), llamas, still)] if llamas else []
    pooled: dict[tuple[str, str, str], list[int]] = {}
    for i in servers:
        asked = data.populations[i]
        vendor = asked.device_class.split()[0]
        if vendor != "nvidia":
            pooled.setdefault(("", "", vendor), []).append(i)
        elif asked.engine in GENERATIONS:
            pooled.setdefault(("", asked.generation, vendor), []).append(i)
    plans += [(key, rows, still) for key, rows in sorted(pooled.items()) if len(rows) >= FEWEST_ROWS]
    if "apple" in classes:
        plans.append((("", "", "apple"), classes["apple"], llama))
    return [*plans, (("", "", ""), servers, still)]


def _header(key: tuple[str, str, str]) -> dict[str, Any]:
    """What `serves` asks of an entry."""
    engine, generation, classes = key
    return {"engine": engine, "generation": generation, "classes": CLASSES.get(classes, [classes])}


FEWEST_OF_A_SHAPE = 5
MOST_STRETCH = 4.0
STRAY = 0.5  # how far, in logarithms, a part of TPOT may be from what all models of the entry say
STRAY_OF_FIRST = 0.3  # the same of the parts of TTFT under load
Shapes = dict[str, dict[str, dict[str, float]]]  # shape -> device, "" for all -> factors of its parts


def shape_factors(data: Data, entry: dict[str, Any], kept: np.ndarray) -> Shapes:
    """Factors of the parts of TPOT that rows of models of one shape and weight format show beside this engine's
    constants: on all devices, and on each that has rows enough, drawn to those on all."""
    if not (entry["engine"] and entry["generation"] and entry["classes"]):
        return {}
    mine = [int(i) for i in kept if serves(entry, data.populations[i]) and not data.of_prefill[i]]
    devices = [row.device.name for row in data.rows]
    parts = step_parts(data, entry | {"shapes": {}}, mine)
    return factors_of(parts, [(data.shapes[i], devices[i]) for i in mine], STRAY, ("roof", "fixed", "prompts"))


@dataclass(frozen=True)
class Parts:
    """Measured seconds of rows, and ours: the parts that a model may stretch, and what stands still."""

    times: np.ndarray  # rows x parts
    still: np.ndarray
    bound: np.ndarray
    seconds: np.ndarray

    def __len__(self) -> int:
        return len(self.seconds)

    def where(self, rows: Sequence[int] | np.ndarray) -> Parts:
        return Parts(self.times[rows], self.still[rows], self.bound[rows], self.seconds[rows])

    def errors(self, logs: np.ndarray) -> np.ndarray:
        """log(ours / measured) with the parts exp(logs) as long; `logs` of all rows, or a line for each."""
        ours = np.maximum(self.still + (self.times * np.exp(logs)).sum(axis=1), self.bound)
        return np.log(ours / self.seconds)


def step_parts(data: Data, entry: dict[str, Any], rows: Sequence[int]) -> Parts:
    """Reading and computing, fixed times, and prompts of others of each row's steps (of a request: of all its steps)."""
    times, still = np.zeros((len(rows), 3)), np.zeros(len(rows))
    places = np.array([row.device.name for row in data.rows])[rows] if len(rows) else np.array([])
    for name in sorted(set(places)):
        where = np.flatnonzero(places == name)
        part = data.at(np.array(rows)[where])
        constants = constants_of(entry, part.rows[0].device, part.populations[0])
        found = decode_parts(part.decode, part.others, part.output, constants=constants, maximum=np.maximum)
        roof, others = found.pop("roofline"), found.pop("prefill of others")
        request = part.kind == 1
        steps = np.where(request, part.output - 1, 1)
        times[where] = np.stack([roof, sum(found.values()), others], axis=1) * steps[:, None]
        first = prefill_seconds(part.prefill, constants, np.maximum) + constants.request_seconds
        still[where] = np.where(request, first, 0.0)
    index = np.array(rows, int)
    return Parts(times, still, data.bound[index], data.seconds[index])


def factors_of(parts: Parts, names: Sequence[tuple[str, str]], stray: float, fields_: Sequence[str]) -> Shapes:
    """Factors for each (shape, device) of the rows, and under "" for each shape on all devices."""
    found: Shapes = {}
    by_shape: dict[str, dict[str, list[int]]] = {}
    for i, (shape, device) in enumerate(names):
        by_shape.setdefault(shape, {}).setdefault(device, []).append(i)
    for shape, devices in sorted(by_shape.items()):
        rows = [i for own in devices.values() for i in own]
        if len(rows) < FEWEST_OF_A_SHAPE:
            continue
        every = stretched(parts.where(rows), np.zeros(len(fields_)), stray)
        logs = {"": every}
        for device, own in sorted(devices.items()):
            if len(own) >= FEWEST_OF_A_SHAPE:
                logs[device] = stretched(parts.where(own), every, stray)
        found[shape] = {
            device: {name: round(math.exp(log), 4) for name, log in zip(fields_, each, strict=True)}
            for device, each in logs.items()
        }
    return found


def stretched(parts: Parts, centre: np.ndarray, stray: float) -> np.ndarray:
    """Logarithms of the factors that bring the rows nearest, each drawn to `centre`: as `_descend`, of a few parts."""

    def cost(x: np.ndarray) -> tuple[float, np.ndarray]:
        e = parts.errors(x)
        return float(np.sum(np.sqrt(e * e + SOFT**2)) + 0.05 * np.sum(((x - centre) / stray) ** 2)), e

    x, damping = centre.copy(), 1e-2
    now, e = cost(x)
    for _ in range(25):
        times = parts.times * np.exp(x)
        slopes = times / (parts.still + times.sum(axis=1))[:, None]
        each = 1 / np.sqrt(e * e + SOFT**2)
        square = slopes.T @ (slopes * each[:, None]) + 0.1 / stray**2 * np.eye(len(x))
        slope = slopes.T @ (each * e) + 0.1 * (x - centre) / stray**2
        for _ in range(6):
            move = -np.linalg.solve(square + damping * np.diag(np.diag(square)), slope)
            there = x + np.clip(move, -0.7, 0.7)
            then, found = cost(there)
            if then < now:
                break
            damping *= 4
        else:
            break
        done = now - then < 1e-5 * now
        x, now, e, damping = there, then, found, max(damping / 3, 1e-6)
        if done:
            break
    return np.clip(x, -math.log(MOST_STRETCH), math.log(MOST_STRETCH))


FEWEST_OF_EXPERTS = 20
FEWEST_OF_LLAMA = 5  # of llama.cpp on a class of devices: drawn to what all its rows with experts say


def with_experts(
    data: Data, entry: dict[str, Any], routed: Sequence[int], every: Callable[[bool], Constants]
) -> dict[str, Any]:
    """The entry with constants of experts from those of `routed` that it serves; where they are few, `every`: of all."""
    mine = [i for i in routed if serves(entry, data.populations[i])]
    if not routed:
        return entry
    index = np.array(mine)
    enough = len(mine) >= (FEWEST_OF_LLAMA if entry["engine"] == LLAMA else FEWEST_OF_EXPERTS) and entry["engine"]
    if enough:
        name = ("experts", entry["engine"], entry["generation"], *entry["classes"])
        prior = entry["fit"]
        if entry["engine"] == LLAMA:  # few rows on many devices: what all of them say, where these say nothing
            prior = replace(prior, **{name: getattr(every(True), name) for name in OF_EXPERTS})
        found = fit_once(data.at(index), prior, index, name)
    else:
        found = every(entry["engine"] == LLAMA)
    rounded = {name: float(f"{getattr(found, name):.4g}") for name in OF_EXPERTS}
    if entry["engine"] == LLAMA:
        rounded["expert_power_share"] = entry["constants"]["power_share"]
    words = entry["words"] + (f" and {len(mine):,} with experts" if enough else "")
    constants, devices = entry["constants"] | rounded, dict(entry["devices"])
    if enough:
        for name, scales in expert_scales(data.at(np.array(mine)), replace(DEFAULT, **constants), devices).items():
            devices[name] = {"tpot_scale": 1.0, "ttft_scale": 1.0} | devices.get(name, {}) | scales
    return entry | {
        "constants": constants, "words": words, "expert_rows": len(mine), "devices": devices,
        "fit": replace(entry["fit"], **rounded),
    }  # fmt: skip


def expert_scales(
    data: Data, constants: Constants, devices: dict[str, dict[str, float]]
) -> dict[str, dict[str, float]]:
    """Each device's factors of TPOT and of prompts of models with experts, beside its factors of dense ones."""
    found = {}
    for name in sorted({row.device.name for row in data.rows}):
        mine = data.where([row.device.name == name for row in data.rows])
        if len(mine) >= FEWEST_ON_A_DEVICE:
            dense = devices.get(name, {})
            errors = mine.errors(replace(constants, **dense))
            found[name] = {
                "experts_scale": round(scale_of(errors[~mine.of_prefill]), 4),
                "experts_prompt_scale": round(scale_of(errors[mine.of_prefill]), 4),
            }
    return found


CLASSES = {"": [], "nvidia": ["nvidia hbm", "nvidia gddr"]}
SERVERS = ("vllm", "tensorrt-llm", "sglang", "lmdeploy")
GENERATIONS = ("vllm", "tensorrt-llm", "sglang", LLAMA)


def _entry(data: Data, rows: Sequence[int], prior: Constants, key: tuple[str, str, str]) -> dict[str, Any]:
    engine, generation, classes = key
    index = np.array(sorted(rows))
    mine = data.at(index)
    fitted = fit_once(mine, prior, index, key)
    rounded = {name: float(f"{getattr(fitted, name):.4g}") for name in NAMES}
    constants = replace(DEFAULT, **rounded)
    return {
        "engine": engine,
        "generation": generation,
        "classes": CLASSES.get(classes, [classes]),
        "rows": len(index),
        "words": words_of(mine, key),
        "constants": rounded,
        "devices": device_scales(mine, constants) if engine and classes else {},
        "range_seen": WIDE,
        "range_unseen": WIDE,
        "shapes": {},
        "fit": fitted,
    }


LABELS = {
    "vllm": "vLLM", "tensorrt-llm": "TensorRT-LLM", "sglang": "SGLang", "lmdeploy": "LMDeploy", LLAMA: "llama.cpp",
    "deepspeed": "DeepSpeed", "deepspeed-mii": "DeepSpeed-MII", "fastertransformer": "FasterTransformer",
    "megatron-lm": "Megatron-LM", "tgi": "TGI", "exllama": "ExLlama", "autoawq": "AutoAWQ (GEMM)",
    "autoawq-gemv": "AutoAWQ (GEMV)", "tinychat": "TinyChat", "mlc": "MLC LLM", "transformers": "transformers", "": "all engines",
}  # fmt: skip
MAKERS = {"nvidia": "NVIDIA", "nvidia hbm": "NVIDIA with HBM", "nvidia gddr": "NVIDIA with GDDR", "amd": "AMD",
          "gaudi": "Gaudi", "apple": "Apple", "intel": "Intel", "cpu": "processors", "": "any device"}  # fmt: skip


def words_of(data: Data, key: tuple[str, str, str]) -> str:
    engine, generation, classes = key
    era = {"": "", "current": " of 2025 and later", "to 2024": " of 2023 and 2024"}[generation]
    label = LABELS.get(engine, engine) + era
    return f"fitted on {len(data)} rows of {label} on {MAKERS.get(classes, classes)}"


def scale_of(errors: np.ndarray, believed: float = ROWS_OF_A_SCALE) -> float:
    """measured / ours of a device or a shape: its median, drawn towards 1 while rows are few."""
    if not len(errors):
        return 1.0
    factor = math.exp(-float(np.median(errors)) * len(errors) / (len(errors) + believed))
    return min(max(factor, 1 / LARGEST_SCALE), LARGEST_SCALE)


APART = 0.3  # how far devices are from one another, in logarithms


def scale_of_kind(errors: np.ndarray) -> float:
    """measured / ours of one kind of prompt on a device: its median, drawn towards 1 by how far its rows disagree."""
    if len(errors) < 2:
        return 1.0
    spread = max(0.1, 1.48 * float(np.median(np.abs(errors - np.median(errors)))))
    return scale_of(errors, believed=1 + (spread / APART) ** 2)


def device_scales(data: Data, constants: Constants) -> dict[str, dict[str, float]]:
    """Each device's factors, of decode steps first, then of prefills."""
    scales = {}
    for name in sorted({row.device.name for row in data.rows}):
        mine = data.where([row.device.name == name for row in data.rows])
        if len(mine) < FEWEST_ON_A_DEVICE:
            continue
        steps = scale_of(mine.errors(constants)[~mine.of_prefill])
        scaled = constants.scaled(tpot=steps)
        first = scale_of(mine.errors(scaled)[mine.of_prefill])
        rest = mine.errors(constants.scaled(tpot=steps, ttft=first))
        packed = mine.prefill.packed.astype(bool)  # kernels of their own, beside those for plain weights
        plain, unpacked = (scale_of_kind(rest[mine.of_prefill & kind]) for kind in (~packed, packed))
        scales[name] = {
            "tpot_scale": round(steps, 4), "ttft_scale": round(first * plain, 4),
            "packed_prompt_scale": round(unpacked / plain, 4),
        }  # fmt: skip
    return scales


# -- how far off it is -------------------------------------------------------------------------------------------


def entry_of(entries: Sequence[dict[str, Any]], asked: Population) -> dict[str, Any]:
    """The entry that a question gets, as `constants_for` finds it; `constants_of` makes its constants for a device."""
    return next(entry for entry in entries if serves(entry, asked))


def errors_of(data: Data, entries: Sequence[dict[str, Any]], index: np.ndarray) -> np.ndarray:
    """log(ours / measured) of the rows `index`, each by the constants that it would get."""
    found = np.full(len(data), np.nan)
    together: dict[tuple[int, str, bool], list[int]] = {}
    for i in index:
        entry = entry_of(entries, data.populations[i])
        key = (id(entry), data.rows[i].device.name, data.populations[i].early)
        together.setdefault(key, []).append(int(i))
    for rows in together.values():
        where = np.array(rows)
        first, asked = data.rows[where[0]], data.populations[where[0]]
        constants = constants_of(entry_of(entries, asked), first.device, asked)
        found[where] = data.at(where).errors(constants)
    return found[index]


def folds_of(rows: int) -> np.ndarray:
    """Which fifth of the rows each is left out with."""
    return np.random.default_rng(1).integers(0, FOLDS, rows)


def left_out(data: Data, usable: np.ndarray, part: Callable[[int], str]) -> np.ndarray:
    """Errors of every row under constants that rows of its part (device, model, fold) had no share in."""
    errors = np.full(len(data), np.nan)
    parts: dict[str, list[int]] = {}
    for i in range(len(data)):
        parts.setdefault(part(i), []).append(i)
    for rows in parts.values():
        kept = np.setdiff1d(usable, rows)
        errors[rows] = errors_of(data, build(data, kept, rows), np.array(rows))
    return errors


BELIEVED = 20  # rows of a circle at which its range counts as much as that of the wider circle around it
NARROWEST = math.log(1.015)


def levels(rows: int) -> tuple[float, float]:
    """The percentiles of so many rows between which a further one lies as often as RANGE says: further out where they are
    few, all of them below 24 (as conformal prediction has it)."""
    high = min(1.0, RANGE[1] * (rows + 1) / rows)
    return 1 - high, high


def drawn(circles: Sequence[np.ndarray]) -> tuple[float, float]:
    """The ends of measured / ours that hold nine of ten rows, from errors in circles, the widest first: the percentiles of
    each circle are drawn to those of the circle around it, by half where it has BELIEVED rows."""
    ends = np.array([-NARROWEST, NARROWEST])
    for number, errors in enumerate(circles):
        own = np.quantile(-errors, levels(len(errors))) if len(errors) else ends
        ends = own if number == 0 else (len(errors) * own + BELIEVED * ends) / (len(errors) + BELIEVED)
    return round(math.exp(min(ends[0], -NARROWEST)), 3), round(math.exp(max(ends[1], NARROWEST)), 3)


KINDS = (DECODE, REQUEST, PREFILL, TG, PP)
SPLITS = ("fitted", "rows left out", "device left out", "model left out", "engine left out")


@dataclass(frozen=True, eq=False)
class Fitted:
    """The shipped entries, and every row's error under each way of leaving rows out."""

    data: Data
    entries: list[dict[str, Any]]
    errors: dict[str, np.ndarray]
    usable: np.ndarray
    dense: np.ndarray


_asked: dict[str, Any] = {}  # what the processes of `fitted` inherit


def _left_out(split: int) -> np.ndarray:
    return left_out(_asked["data"], _asked["usable"], _asked["parts"][split])


def fitted(rows: Sequence[Row]) -> Fitted:
    data = data_of(rows)
    dense = np.array([row.dense for row in rows])
    usable = np.flatnonzero([not row.apart for row in rows])
    everything = np.arange(len(data))
    folds = folds_of(len(data))
    entries = build(data, usable)
    parts: list[Callable[[int], str]] = [
        lambda i: str(folds[i]),
        lambda i: rows[i].device.name,
        lambda i: rows[i].model,
        lambda i: data.populations[i].engine,
    ]
    _asked.update(data=data, usable=usable, parts=parts)
    with ProcessPoolExecutor(2, mp_context=get_context("fork")) as pool:
        splits = pool.map(_left_out, range(len(parts)))
        errors = dict(zip(SPLITS, (errors_of(data, entries, everything), *splits), strict=True))
    return give_ranges(Fitted(data, entries, errors, usable, dense), np.ones(len(data), bool))


KINDS_OF_RANGE = ("tpot", "request", "experts", "experts_request", "ttft")


def give_ranges(found: Fitted, use: np.ndarray) -> Fitted:
    """The same with the ranges of every entry, from the rows `use` (a mask) where they were left out of the fit.

    Each kind of answer (TPOT and whole requests of dense models, of those with experts, prompts, prompts through several
    cards) has one, and a device one of its own. Seen: rows left out. Unseen: devices left out, or for entries of any engine, engines. New: models.
    """
    ranged = replace(found, entries=[_with_ranges(found, entry, use) for entry in found.entries])
    return replace(found, entries=[entry | {"widths": _widths(ranged, entry, use)} for entry in ranged.entries])


def _widths(found: Fitted, entry: dict[str, Any], use: np.ndarray) -> dict[str, float]:
    """How much wider the range is for each format of weights: the percentile of errors in units of the range's end that holds
    nine of ten rows, drawn to 1 as a range is to that of the wider circle."""
    data, masks = found.data, _masks(found)
    scores: dict[str, list[float]] = {}
    for i in np.flatnonzero(use & masks["fits"]):
        asked = data.populations[i]
        if not serves(entry, asked) or entry_of(found.entries, asked) is not entry:
            continue
        if not found.dense[i] and data.kind[i] == 1:
            continue  # few: they have the width of all
        kind = (
            "prompts "
            if data.of_prefill[i]
            else "experts "
            if not found.dense[i]
            else "requests "
            if data.kind[i] == 1
            else ""
        )
        ratio = -found.errors[SPLITS[1]][i]
        low, high = _range_of(found, i, SPLITS[1])
        scores.setdefault(kind + data.shapes[i].split()[1], []).append(ratio / math.log(high if ratio > 0 else low))
    made = {}
    for name, each in sorted(scores.items()):
        level = min(1.0, (RANGE[1] - RANGE[0]) * (len(each) + 1) / len(each))
        width = (len(each) * float(np.quantile(each, level)) + BELIEVED) / (len(each) + BELIEVED)
        made[name] = round(max(width, 0.1), 3)
    return made


def _with_ranges(found: Fitted, entry: dict[str, Any], use: np.ndarray) -> dict[str, Any]:
    data, masks = found.data, _masks(found)
    fits = use & masks["fits"]
    mine = fits & np.array([serves(entry, asked) for asked in data.populations])
    vendors = {name.split()[0] for name in entry["classes"]}
    near = np.array([not vendors or asked.device_class.split()[0] in vendors for asked in data.populations])
    kin = fits & (masks["llama"] == (entry["engine"] == LLAMA))
    places = np.array([row.device.name for row in data.rows])
    several = len(set(places[mine])) > 1

    def ends(split: str, name: str, *inner: np.ndarray) -> tuple[float, float]:
        kind, exact = masks[name.replace("request", "tpot").replace("experts_tpot", "experts")], masks[f"{name} alone"]
        circles = [circle & kind for circle in (kin, kin & near, *inner[:1])] + [circle & exact for circle in inner]
        return drawn([found.errors[split][circle] for circle in circles])

    seen, unseen, new = dict[str, float](), dict[str, float](), dict[str, float]()
    devices = {name: dict(factors) for name, factors in entry["devices"].items()}
    for name in KINDS_OF_RANGE:
        seen |= _named(name, ends(SPLITS[1], name, mine))
        unseen |= _named(name, ends(SPLITS[2] if entry["engine"] else SPLITS[4], name, mine & several))
        for device, factors in devices.items():
            own = mine & (places == device)
            if (own & masks[f"{name} alone"]).any():
                factors |= _named(name, ends(SPLITS[1], name, mine, own))
    for name, kind in (("new", masks["tpot"]), ("new_experts", masks["experts"])):
        new |= _named(name, drawn([found.errors[SPLITS[3]][circle & kind] for circle in (kin, kin & near, mine)]))
    if entry["engine"] == LLAMA:
        staged = drawn([found.errors[SPLITS[1]][kin & masks["ttft"]], found.errors[SPLITS[1]][kin & masks["stages"]]])
        seen |= _named("stages", staged)
        unseen |= _named("stages", staged)
    ranges = {"range_seen": seen, "range_unseen": wider(seen, unseen), "range_new": new}
    return entry | ranges | {"devices": devices}


def _named(name: str, ends: tuple[float, float]) -> dict[str, float]:
    return {f"{name}_low": ends[0], f"{name}_high": ends[1]}


@lru_cache(maxsize=8)
def _masks(found: Fitted) -> dict[str, np.ndarray]:
    """Which rows are of each kind of answer, of llama.cpp, and not set apart."""
    data = found.data
    staged = np.array([row.answer.request.sharding.pp > 1 for row in data.rows])
    llama = np.array([asked.engine == LLAMA for asked in data.populations])
    whole = data.kind == 1
    return {
        "tpot alone": ~data.of_prefill & found.dense & ~whole,
        "request alone": ~data.of_prefill & found.dense & whole,
        "experts alone": ~data.of_prefill & ~found.dense & ~whole,
        "experts_request alone": ~data.of_prefill & ~found.dense & whole,
        "ttft alone": data.of_prefill & ~(staged & llama),
        "fits": np.array([not row.apart for row in data.rows]),
        "llama": llama,
        "tpot": ~data.of_prefill & found.dense,
        "experts": ~data.of_prefill & ~found.dense,
        "ttft": data.of_prefill & ~(staged & llama),
        "stages": data.of_prefill & staged & llama & found.dense,
    }


def wider(seen: dict[str, float], unseen: dict[str, float]) -> dict[str, float]:
    """The range of a device that no row has: never narrower than that of one that has some."""
    return {name: (min if name.endswith("_low") else max)(value, seen[name]) for name, value in unseen.items()}


def covered_apart(found: Fitted, folds: np.ndarray) -> np.ndarray:
    """Whether each row lies in the range that the rows of other folds make, so that a range is counted on rows that had no
    share in it either."""
    inside = np.zeros(len(found.data), bool)
    for fold in range(FOLDS):
        out = folds == fold
        inside[out] = covered(give_ranges(found, ~out), SPLITS[1])[out]
    return inside


@lru_cache(maxsize=8)  # each table asks anew
def covered(found: Fitted, split: str) -> np.ndarray:
    """Whether each measured value lies in the range that the entry prints for it."""
    inside = np.zeros(len(found.data), bool)
    for i in range(len(found.data)):
        low, high = _range_of(found, i, split)
        inside[i] = low <= math.exp(-found.errors[split][i]) <= high
    return inside


def _range_of(found: Fitted, i: int, split: str) -> tuple[float, float]:
    """The range that row `i` gets, with its device or its model unseen where it was left out."""
    row, asked = found.data.rows[i], found.data.populations[i]
    entry = entry_of(found.entries, asked)
    shape, experts = found.data.shapes[i], not found.dense[i]
    constants = _constants(found, entry["words"], row.device.name, asked)
    if split not in SPLITS[:2] or row.device.name not in entry["devices"]:
        constants = replace(constants, **entry["range_unseen"])
    if split == SPLITS[3]:  # a model that was left out is new
        kept = tuple((name, factors) for name, factors in constants.shapes if name != shape)
        constants = replace(constants, shapes=kept)
    made = constants.of_model(shape, experts=experts)
    if found.data.of_prefill[i]:
        return prompt_range(made, row.answer.request.sharding.pp)
    if found.data.kind[i] == 1 and made.request_low:
        return made.request_low, made.request_high
    return tpot_range(made, experts)


@lru_cache(maxsize=1 << 14)
def _constants(found: Fitted, words: str, device: str, asked: Population) -> Constants:
    """`constants_of` of the entry with these words, made once for rows that are alike."""
    entry = next(entry for entry in found.entries if entry["words"] == words and serves(entry, asked))
    return constants_of(entry, find_device(device), asked)


def table(found: Fitted, mask: np.ndarray, label: str) -> list[dict[str, Any]]:
    lines = []
    for split in SPLITS[:4]:
        e = found.errors[split][mask]
        if not len(e):
            continue
        share = round(100 * float(covered(found, split)[mask].mean()), 1)
        lines.append({"population": label, "split": split, **_figures(e), "in_range_percent": share})
    return lines


def errors_by_population(found: Fitted) -> list[dict[str, Any]]:
    rows, kept = found.data.rows, np.zeros(len(found.data), bool)
    kept[found.usable] = True
    kept &= found.dense
    kind = np.array([row.kind for row in rows])
    tpot = np.array([row.measured == "tpot_ms" for row in rows])
    lines = []
    one = np.array([row.answer.request.sharding.devices == 1 for row in rows])
    for name in KINDS:
        lines += table(found, kept & (kind == name), name)
        if name == PREFILL:
            served = np.isin([asked.engine for asked in found.data.populations], SERVERS)
            lines += table(found, kept & served & (kind == name), f"{PREFILL}: {', '.join(LABELS[e] for e in SERVERS)}")
        if name == TG:
            lines += table(found, kept & one & (kind == TG), f"{TG}: one device")
        if name == PP:
            lines += table(found, kept & ~one & (kind == PP), f"{PP}: several devices")
        if name == DECODE:
            lines += table(found, kept & tpot, f"{DECODE}: TPOT alone")
            lines += table(found, found.dense & (kind == name), f"{DECODE}: with those set apart")
    routed = ~found.dense & np.array([not row.apart for row in rows])
    lines += table(found, routed & (kind == DECODE), "MoE: TPOT and decode steps")
    lines += table(found, routed & (kind == REQUEST), "MoE: whole static requests")
    lines += table(found, routed & (kind == TG), f"MoE: {TG}")
    lines += table(found, routed & (kind == PP), f"MoE: {PP}")
    return lines


def errors_by_entry(found: Fitted) -> list[dict[str, Any]]:
    lines = []
    fits = np.zeros(len(found.data), bool)
    fits[found.usable] = True
    fits &= found.dense
    for entry in found.entries:
        if not entry["engine"]:
            continue
        mine = fits & np.array([serves(entry, asked) and entry_of(found.entries, asked) is entry
                                for row, asked in zip(found.data.rows, found.data.populations, strict=True)])  # fmt: skip
        steps = mine & ~found.data.of_prefill
        for split in (SPLITS[1], SPLITS[2], SPLITS[3]):
            lines += [line for line in table(found, steps, entry["words"]) if line["split"] == split]
    return lines


@dataclass(frozen=True)
class Queued:
    """TTFT under load with the queue open: seconds + (own + share·others^power)·prompt + steps, and what waits in line."""

    prompt: np.ndarray
    steps: np.ndarray
    line: np.ndarray  # factor of the first token's own time where a batch beyond memory waits, 1 where none does
    after: np.ndarray  # seconds of decoding that it waits for besides
    others: np.ndarray
    seconds: np.ndarray

    def where(self, mask: np.ndarray) -> Queued:
        return Queued(*(getattr(self, field.name)[mask] for field in fields(Queued)))

    def errors(self, queue: Queue) -> np.ndarray:
        return self.parts(queue).errors(np.zeros(2))

    def parts(self, queue: Queue) -> Parts:
        """Way in and shared steps, prompts; the wait of a batch beyond memory stands still."""
        prompts = (queue.own + queue.share * self.others**queue.power) * self.prompt
        times = np.stack([queue.seconds + self.steps, prompts], axis=1) * self.line[:, None]
        return Parts(times, self.after, np.zeros(len(self.seconds)), self.seconds)


def queued_of(rows: Sequence[Row], entries: Sequence[dict[str, Any]]) -> Queued:
    """The parts of each row's TTFT, by the constants that it gets."""
    parts = []
    for row in rows:
        asked = population(row.engine, row.load, row.device)
        constants = constants_of(entry_of(entries, asked), row.device, asked)

        def first(queue: Queue, constants: Constants = constants, row: Row = row) -> float:
            return row.predicted(replace(constants, queue=queue, experts_queue=queue)).value

        far, still = 1e6, Queue(0.0, 0.0, 0.0, 1.0)
        nothing, one = first(still), first(replace(still, own=far))
        line = max(1.0, row.batch / row.running)
        after = (line - 1) * (row.output - 1) * row.asked(constants).tpot_seconds.value
        prompt = (one - nothing) / far / line
        parts.append((prompt, (nothing - after) / line, line, after, float(max(1, row.running - 1)), row.seconds))
    return Queued(*np.array(parts).T)


QUEUES = {  # what each constant of the queue may be
    "seconds": [0.0, *np.geomspace(2e-3, 0.6, 24)],
    "own": np.geomspace(0.5, 4.0, 22),
    "share": np.geomspace(2e-3, 3.0, 30),
    "power": np.linspace(0.2, 1.4, 13),
}
STARTS = (Queue(), Queue(0.1, 1.0, 0.05, 1.0), Queue(0.02, 1.0, 0.4, 0.5))


def fit_queue(queued: Queued) -> Queue:
    """The queue with the smallest mean error, one constant at a time; the default where there are few rows.

    The error is the mean of that in logarithms and that in percent: the first alone forgives a TTFT of twice the measured.
    """
    if len(queued.seconds) < FEWEST_OF_EXPERTS:
        return Queue()

    def cost(queue: Queue) -> float:
        errors = queued.errors(queue)
        off = 0.5 * np.abs(errors) + 0.5 * np.minimum(np.abs(np.expm1(errors)), 3)
        return float(np.mean(off)) + 0.01 * abs(math.log(queue.own))

    ends = []
    for best in STARTS:
        before, now = math.inf, cost(best)
        while now < before - 1e-5:
            before = now
            for name, values in QUEUES.items():
                tried = [replace(best, **{name: float(f"{value:.3g}")}) for value in values]
                costs = [cost(queue) for queue in tried]
                if min(costs) < now:
                    now, best = min(costs), tried[int(np.argmin(costs))]
        ends.append((now, best))
    return min(ends, key=lambda end: end[0])[1]


@dataclass(frozen=True)
class OfQueue:
    """A queue with its factors of shapes, and the errors of rows that were left out a fold at a time."""

    queue: Queue
    shapes: Shapes
    errors: np.ndarray
    plain: np.ndarray  # the same without factors of shapes
    known: np.ndarray  # rows whose shape has factors without them


def queue_of(queued: Queued, names: Sequence[tuple[str, str]], own: np.ndarray, folds: np.ndarray) -> OfQueue:
    """The queue of the rows `own`, whose shapes and devices are `names`; its range is still wide."""
    errors, plain, known = np.full(len(own), np.nan), np.full(len(own), np.nan), np.zeros(len(own), bool)
    for fold in range(FOLDS):
        out, kept = own & (folds == fold), own & (folds != fold)
        queue = fit_queue(queued.where(kept))
        shapes = factors_of(
            queued.where(kept).parts(queue), [names[i] for i in np.flatnonzero(kept)], STRAY_OF_FIRST, FIRST
        )
        left, places = queued.where(out).parts(queue), np.flatnonzero(out)
        plain[out], errors[out] = left.errors(np.zeros(2)), left.errors(_logs(shapes, [names[i] for i in places]))
        known[out] = [names[i][0] in shapes for i in places]
    queue = fit_queue(queued.where(own))
    shapes = factors_of(queued.where(own).parts(queue), [names[i] for i in np.flatnonzero(own)], STRAY_OF_FIRST, FIRST)
    return OfQueue(queue, shapes, errors, plain, known)


def queue_ends(of: OfQueue, all_errors: np.ndarray, mine: np.ndarray, use: np.ndarray) -> dict[str, float]:
    """The range of a queue from the rows `use`: of an entry's own rows `mine`, drawn to those of all. `low` and `high` with
    factors of shapes, `new_low` and `new_high` without."""
    low, high = drawn([all_errors[use], of.errors[mine & use & of.known]])
    new_low, new_high = drawn([all_errors[use], of.plain[mine & use]])
    return {"low": low, "high": high, "new_low": min(low, new_low), "new_high": max(high, new_high)}


FIRST = ("waiting", "prompt")


def _logs(shapes: Shapes, names: Sequence[tuple[str, str]]) -> np.ndarray:
    """Logarithms of the factors of TTFT for each row."""
    found = [shapes.get(shape, {"": {}}) for shape, _ in names]
    each = [one.get(device, one[""]) for one, (_, device) in zip(found, names, strict=True)]
    return np.log([[one.get(name, 1.0) for name in FIRST] for one in each]).reshape(len(names), len(FIRST))


def _merged(steps: Shapes, first: Shapes) -> Shapes:
    """Factors of TPOT and of TTFT of each shape, on every device that either has."""
    both: Shapes = {}
    for shape in sorted({*steps, *first}):
        a, b = steps.get(shape, {"": {}}), first.get(shape, {"": {}})
        both[shape] = {name: a.get(name, a[""]) | b.get(name, b[""]) for name in sorted({*a, *b})}
    return both


def under_load(entries: Sequence[dict[str, Any]], rows: Sequence[Row]) -> tuple[list[dict[str, Any]], np.ndarray]:
    """Gives each entry its queues and their ranges. Errors of TTFT under closed loop, on rows left out of that fit, and which
    of the rows lie in the range that the other folds make."""
    folds = folds_of(len(rows))
    queued, dense = queued_of(rows, entries), np.array([row.dense for row in rows])
    asked = [population(row.engine, row.load, row.device) for row in rows]
    chosen = np.array([id(entry_of(entries, who)) for who in asked])
    names = [(work(row.answer).shape, row.device.name) for row in rows]
    found: dict[bytes, OfQueue] = {}  # entries with few rows share those of all
    lines, inside = [], np.zeros(len(rows), bool)
    for label, name, kind in ((QUEUED, "queue", dense), (f"MoE: {QUEUED}", "experts_queue", ~dense)):
        parts = []
        for entry in entries:
            mine = (chosen == id(entry)) & kind
            own = mine if mine.sum() >= FEWEST_OF_EXPERTS else kind
            if own.tobytes() not in found:
                found[own.tobytes()] = queue_of(queued, names, own, folds)
            parts.append((entry, mine, found[own.tobytes()]))
        errors = np.full(len(rows), np.nan)
        for _, mine, of in parts:
            errors[mine] = of.errors[mine]
        for entry, mine, of in parts:
            entry[name] = asdict(replace(of.queue, **queue_ends(of, errors, mine, kind)))
            if entry["engine"] and mine.sum() >= FEWEST_OF_EXPERTS:
                entry["shapes"] = _merged(entry["shapes"], of.shapes)
            for fold in range(FOLDS):
                out = mine & (folds == fold)
                ends, ratio = queue_ends(of, errors, mine, kind & (folds != fold)), np.exp(-of.errors[out])
                low = np.where(of.known[out], ends["low"], ends["new_low"])
                high = np.where(of.known[out], ends["high"], ends["new_high"])
                inside[out] = (low <= ratio) & (ratio <= high)
        share = round(100 * float(inside[kind].mean()), 1)
        lines.append({"population": label, "split": SPLITS[1], **_figures(errors[kind]), "in_range_percent": share})
    return lines, inside


def under_waves(row: Row) -> bool:
    """Whether a first token was timed under the load that the queue stands for: several in flight, of one length."""
    return row.kind == QUEUED and row.batch > 1 and row.apart != SPREAD


def not_fitted(entries: Sequence[dict[str, Any]], rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Errors of first tokens that no queue is fitted on, by the shipped constants: one request in flight, and lengths that
    are spread."""
    kinds = {
        "TTFT of one request in flight, not fitted on": lambda row: row.batch == 1,
        "TTFT under load where lengths are spread from 1 to N, not fitted on": lambda row: row.apart == SPREAD,
    }
    lines, first = [], [row for row in rows if row.kind == QUEUED]
    for name, belongs in kinds.items():
        errors, inside = [], []
        for row in filter(belongs, first):
            asked = population(row.engine, row.load, row.device)
            figure = row.predicted(constants_of(entry_of(entries, asked), row.device, asked))
            errors.append(math.log(figure.value / row.seconds))
            inside.append(figure.low <= row.seconds <= figure.high)
        share = round(100 * float(np.mean(inside)), 1)
        lines.append({"population": name, "split": SPLITS[0], **_figures(np.array(errors)), "in_range_percent": share})
    return lines


def natural_groups(found: Fitted, queued: Sequence[Row], in_queue: np.ndarray) -> list[dict[str, Any]]:
    """Coverage of each natural group of rows, left out of the fit and of the range."""
    inside, rows = covered_apart(found, folds_of(len(found.data))), found.data.rows
    kept = [(rows[i], bool(inside[i])) for i in found.usable] + list(zip(queued, in_queue.tolist(), strict=True))
    return speed_groups.groups([row for row, _ in kept], [holds for _, holds in kept], LABELS)


def by_plain_roofline(found: Fitted) -> list[dict[str, Any]]:
    """What max(bytes / 0.75 bandwidth, FLOPs / 0.55 peak) alone says of the same rows."""
    still = dict.fromkeys(
        ("layer_seconds", "step_seconds", "sequence_seconds", "all_reduce_seconds", "request_seconds"), 0.0
    )
    reached = dict.fromkeys(("memory_efficiency", "packed_efficiency", "cache_efficiency"), 0.75)
    products = [
        name for name in NAMES if name.endswith("efficiency") and name not in reached and name != "link_efficiency"
    ]
    plain = replace(DEFAULT, **still, **reached, **dict.fromkeys(products, 0.55), link_efficiency=1e9)
    errors = found.data.errors(plain)
    kind = np.array([row.kind for row in found.data.rows])
    lines = []
    for name in KINDS:
        e = errors[found.usable][(kind == name)[found.usable] & found.dense[found.usable]]
        lines.append({"population": name, "split": "plain roofline", **_figures(e)})
    return lines


def _figures(errors: np.ndarray) -> dict[str, Any]:
    off = np.abs(np.expm1(errors))
    return {
        "rows": len(errors),
        "median_percent": round(100 * float(np.median(off)), 1),
        "p90_percent": round(100 * float(np.quantile(off, 0.9)), 1),
        "ratio": round(float(np.exp(np.median(errors))), 3),
    }


def where_it_fails(found: Fitted) -> list[dict[str, Any]]:
    """Kinds of rows that are far off, fitted on or set apart, by the shipped constants."""
    rows, errors = found.data.rows, found.errors[SPLITS[0]]
    inside = covered(found, SPLITS[0])
    times = [row.kind in (DECODE, REQUEST, TG) for row in rows]

    def shared_pcie(row: Row) -> bool:
        return row.answer.request.sharding.tp > 1 and rates_of(row.device, row.answer).rank_seconds > 0

    kinds: dict[str, Callable[[Row], bool]] = {
        "models below 1 B parameters, where the host's work for a step decides": lambda row: (
            row.dense and parameters(row.answer.spec) < 1e9
        ),
        "tensor parallel over PCIe": lambda row: row.dense and not row.apart and shared_pcie(row),
        "tensor parallel over PCIe, set apart: builds of 2023": lambda row: (
            row.dense and row.apart == "2023 build" and shared_pcie(row)
        ),
        "vLLM of 2023 and 2024 on AMD": lambda row: (
            "vllm" in row.engine.lower()
            and row.device.vendor == "AMD"
            and population(row.engine, row.load, row.device).generation == "to 2024"
        ),
        "prompts at least ten times as long as the answers, under load": lambda row: (
            row.dense and row.load == "serving" and row.prompt >= 10 * row.output
        ),
        "set apart: 2023 servers, of which an engine is only assumed": lambda row: row.apart == "engine assumed",
        "set apart: builds of 2023": lambda row: row.apart == "2023 build",
        "set apart: power-capped devices": lambda row: row.apart == "power capped",
        "experts": lambda row: not row.dense and not row.apart,
    }
    lines = []
    for name, belongs in kinds.items():
        mine = np.array([keep and belongs(row) for keep, row in zip(times, rows, strict=True)])
        if mine.any():
            share = round(100 * float(inside[mine].mean()), 1)
            lines.append({"population": name, "split": SPLITS[0], **_figures(errors[mine]), "in_range_percent": share})
    return lines


def show(lines: Iterable[dict[str, Any]]) -> None:
    for line in lines:
        print(
            f"{line['population'][:70]:70} {line['split']:16} {line['rows']:5} rows  median {line['median_percent']:5.1f} %"
            f"  P90 {line['p90_percent']:5.1f} %  ours/measured {line['ratio']:.2f}"
            + (f"  in range {line['in_range_percent']:.0f} %" if "in_range_percent" in line else "")
        )


def main(arguments: list[str]) -> int:
    serving, llama = serving_rows(), llamacpp_rows()
    for name, count in sorted(serving.unknown.items(), key=lambda pair: -pair[1]):
        print(f"{count} rows left out: {name}")
    queued = [row for row in serving.rows if under_waves(row)]
    found = fitted([row for row in (*serving.rows, *llama.rows) if row.kind != QUEUED])
    by_population, by_entry = errors_by_population(found), errors_by_entry(found)
    loaded, in_queue = under_load(found.entries, queued)
    by_population += loaded
    plain, fails = by_plain_roofline(found), where_it_fails(found)
    fails += not_fitted(found.entries, serving.rows)
    by_group = natural_groups(found, queued, in_queue)
    for lines in (by_population, plain, fails, by_entry):
        show(lines)
        print()
    for line in by_group:
        print(speed_groups.words(line))
    print(speed_groups.summary(by_group))
    if "--write" in arguments:
        fits = [{key: value for key, value in entry.items() if key != "fit"} for entry in found.entries]
        unknown = [{"name": name, "rows": count} for name, count in sorted(serving.unknown.items())]
        made = {"fits": fits, "errors": by_population, "errors_by_fit": by_entry, "plain": plain, "fails": fails,
                "groups": by_group, "unknown": unknown}  # fmt: skip
        text = json.dumps(made, indent=1)
        OUT.write_text(text + "\n", encoding="utf-8")
        print(f"wrote {OUT.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

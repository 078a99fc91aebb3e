"""What this machine was measured to do, and the speed model on top of it. No torch: the file is plain JSON.

    step = per-step time + Σ layers (products + attention + everything else of a layer)

Each term is looked up in a table of measured operator times: exact at shapes and rows that were measured, between
them linear in logarithms. It is a sum, not a maximum: on the machines tried so far one operator waits for the
other. A model whose whole steps were measured at a few points (`probes`) gets the ratio of those steps to the sum
as a correction; any other model gets the median of these ratios.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from itertools import pairwise
from statistics import median
from typing import Any

from planner.errors import BadRequest, KvplanError, one_line
from planner.files.read import check_kind, decode, figure, parse_json, read_text
from planner.model.spec import ModelSpec
from planner.speed.operators import AttentionRead, Matmul, head_matmul, layer_attention, layer_matmuls

SCHEMA_VERSION = 1


KIND = "kvplan device file"


FILE_NAME = "local-device.json"


MAX_FILE_BYTES = 16 << 20


SHORTEST_SECONDS = 1e-12
"""Below any time that a machine takes for an operator; figures of a device file lie above it."""
LONGEST_SECONDS = 1e6


class BadDeviceFile(KvplanError):
    """A device file that cannot be read, or that is not one."""


def interpolate(points: Sequence[tuple[float, float]], x: float) -> float:
    """Returns y at x, linear between the logarithms of neighbours; flat below the first, proportional above the last.

    Times behave so: below some size they are all overhead, above it they grow with the work.

    >>> round(interpolate([(1.0, 10.0), (4.0, 40.0)], 2.0), 9)
    20.0
    >>> interpolate([(1.0, 10.0), (4.0, 40.0)], 0.5), interpolate([(1.0, 10.0), (4.0, 40.0)], 8.0)
    (10.0, 80.0)
    """
    if x <= points[0][0]:
        return points[0][1]
    if x >= points[-1][0]:
        return points[-1][1] * x / points[-1][0]
    for (x0, y0), (x1, y1) in pairwise(points):
        if x <= x1:
            share = math.log(x / x0) / math.log(x1 / x0)
            return math.exp(math.log(y0) * (1 - share) + math.log(y1) * share)
    raise AssertionError(x)


@dataclass(frozen=True)
class MatmulTime:
    """x [rows, inputs] times W [outputs, inputs] with W not in any cache."""

    dtype: str
    linear: str
    outputs: int
    inputs: int
    rows: int
    seconds: float


@dataclass(frozen=True)
class AttentionTime:
    """One layer's attention: `new_tokens` queries of `batch` sequences over `context_tokens`."""

    dtype: str
    batch: int
    kv_heads: int
    groups: int
    dim: int
    context_tokens: int
    new_tokens: int
    seconds: float


@dataclass(frozen=True)
class LayerTime:
    """All of a layer but products and attention (norms, activation, residuals, cache append), and of a step but layers."""

    dtype: str
    style: str
    rows: int
    hidden: int
    layer_seconds: float
    step_seconds: float


@dataclass(frozen=True)
class Probe:
    """A whole step of a real model: decode with `new_tokens` 1, prefill with more."""

    model: str
    dtype: str
    linear: str
    batch: int
    context_tokens: int
    new_tokens: int
    seconds: float


@dataclass(frozen=True)
class WholeStep:
    """Whole steps over the sum of their operators, the median of the probes; `phase` is decode or prefill."""

    dtype: str
    linear: str
    phase: str
    ratio: float


@dataclass(frozen=True)
class HeldBack:
    """A point that was measured and not used, beside what was predicted for it."""

    model: str
    what: str
    dtype: str
    linear: str
    batch: int
    context_tokens: int
    predicted_seconds: float
    measured_seconds: float

    @property
    def error(self) -> float:
        return self.predicted_seconds / self.measured_seconds - 1


@dataclass(frozen=True)
class Rate:
    """Bytes or operations a second with the middle half of the repeats."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Calibration:
    """A device file. `environment` says on what and when; `bandwidth` and `peak` are rates by name."""

    environment: Mapping[str, Any]
    rates: Mapping[str, Rate] = field(default_factory=dict)
    matmuls: tuple[MatmulTime, ...] = ()
    attention: tuple[AttentionTime, ...] = ()
    layers: tuple[LayerTime, ...] = ()
    probes: tuple[Probe, ...] = ()
    whole_steps: tuple[WholeStep, ...] = ()
    held_back: tuple[HeldBack, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def date(self) -> str:
        return str(self.environment.get("date", ""))[:10]

    @property
    def read_bytes_per_s(self) -> float | None:
        rate = self.rates.get("read_bytes_per_s")
        return rate.value if rate else None

    def flops_per_s(self, dtype: str) -> float | None:
        rate = self.rates.get(f"{dtype}_flops_per_s")
        return rate.value if rate else None

    def words(self) -> str:
        """One line for people: what was measured, when, and how far it spread."""
        rate = self.rates.get("read_bytes_per_s")
        spread = f", {100 * (rate.high - rate.low) / rate.value:.0f} % spread" if rate and rate.value else ""
        return f"measured here on {self.date} with {self.environment.get('threads', '?')} threads{spread}"

    def serves(self, dtype: str, linear: str = "plain") -> bool:
        """Whether steps in this dtype and layout can be predicted."""
        return any(m.dtype == dtype and m.linear == linear for m in self.matmuls)

    @cached_property
    def _shapes(self) -> dict[tuple[str, str], dict[tuple[int, int], list[tuple[float, float]]]]:
        """(dtype, linear) -> (outputs, inputs) -> (rows, seconds) by rows."""
        tables: dict[tuple[str, str], dict[tuple[int, int], list[tuple[float, float]]]] = {}
        for time in sorted(self.matmuls, key=lambda t: t.rows):
            shapes = tables.setdefault((time.dtype, time.linear), {})
            shapes.setdefault((time.outputs, time.inputs), []).append((time.rows, time.seconds))
        return tables

    def matmul_seconds(self, matmul: Matmul, rows: float, dtype: str, *, linear: str) -> float:
        """All of `matmul.count` products for a step of `rows` tokens."""
        shapes = self._shapes.get((dtype, linear))
        if shapes is None:
            raise BadRequest(
                f"the device file has no products in {dtype}, {linear}: run kvplan calibrate --dtype {dtype}"
            )
        each = matmul.rows_each(rows)
        known = shapes.get((matmul.outputs, matmul.inputs))
        if known is not None:
            return matmul.used(rows) * interpolate(known, each)
        by_size: dict[int, list[float]] = {}
        for (outputs, inputs), times in shapes.items():
            by_size.setdefault(outputs * inputs, []).append(interpolate(times, each))
        points = sorted((float(size), sum(found) / len(found)) for size, found in by_size.items())
        return matmul.used(rows) * interpolate(points, matmul.outputs * matmul.inputs)

    def attention_seconds(self, read: AttentionRead, batch: int, context: int, *, new: int, dtype: str) -> float:
        """One layer's attention, from the nearest kind that was measured (grouped or not), scaled by width."""
        kind = [t for t in self.attention if t.dtype == dtype and (t.new_tokens > 1) == (new > 1)]
        grouped = read.heads > read.kv_heads and not (read.expands and new > 1)
        alike = [t for t in kind if (t.groups > 1) == grouped] or kind
        if not alike:
            return 0.0
        reach = read.reach(context)
        heads = read.heads if new > 1 else read.kv_heads
        width = read.prefill_width if new > 1 else read.k_dim + read.v_dim
        scaled = []
        for time in alike:
            lanes = time.batch * time.kv_heads * (time.groups if new > 1 else 1)
            scaled.append((lanes, time.context_tokens, time.seconds / time.dim))
        seconds = plane(scaled, batch * heads, reach)
        return seconds * width / 2

    def layer_time(self, style: str, rows: float, hidden: int, *, dtype: str) -> tuple[float, float]:
        """(rest of a layer, rest of a step) in seconds."""
        alike = [t for t in self.layers if t.dtype == dtype and t.style == style] or [
            t for t in self.layers if t.dtype == dtype
        ]
        if not alike:
            return 0.0, 0.0
        scaled = [(t.rows, t.hidden, t.layer_seconds) for t in alike]
        steps = [(t.rows, t.hidden, t.step_seconds) for t in alike]
        return plane(scaled, rows, hidden), plane(steps, rows, hidden)

    def step_seconds(
        self, spec: ModelSpec, *, batch: int, context_tokens: int, new_tokens: int = 1, dtype: str, linear: str = "plain",
        corrected: bool = True,  # parameters: the quantities of its equation, each by name
    ) -> float:  # fmt: skip
        """One forward pass: decode (`new_tokens` 1, the last of `context_tokens`) or prefill of `new_tokens`."""
        rows, style = batch * new_tokens, style_of(spec)
        layer_rest, step_rest = self.layer_time(style, rows, spec.hidden, dtype=dtype)
        total = step_rest + self.matmul_seconds(head_matmul(spec), batch, dtype, linear=linear)
        for layer, count in spec.groups:
            products = sum(self.matmul_seconds(m, rows, dtype, linear=linear) for m in layer_matmuls(layer))
            reads = sum(
                self.attention_seconds(a, batch, context_tokens, new=new_tokens, dtype=dtype)
                for a in layer_attention(layer)
            )
            total += count * (products + reads + layer_rest)
        return total * (
            self.correction(spec, batch, context_tokens, new=new_tokens, dtype=dtype, linear=linear)
            if corrected
            else 1.0
        )

    def correction(self, spec: ModelSpec, batch: int, context: int, *, new: int, dtype: str, linear: str) -> float:
        """Measured over summed: between the probes of this model; of a model without, the median of the one probed.

        A whole step takes longer than its operators alone, by much the same share in every model of one machine.
        """
        key = (spec.name, dtype, linear, new > 1)
        if key not in self._ratios:
            self._ratios[key] = [
                (probe.batch, probe.context_tokens, probe.seconds / self._summed(spec, probe))
                for probe in self.probes
                if (probe.model, probe.dtype, probe.linear, probe.new_tokens > 1) == key
            ]
        if ratios := self._ratios[key]:
            return plane(ratios, batch, context, clamp=True)
        phase = phase_of(new)
        return next((w.ratio for w in self.whole_steps if (w.dtype, w.linear, w.phase) == (dtype, linear, phase)), 1.0)

    def with_whole_steps(self, spec: ModelSpec) -> Calibration:
        """The same file with the medians of the probes of `spec`, by dtype, layout and phase."""
        found: dict[tuple[str, str, str], list[float]] = {}
        for probe in self.probes:
            if probe.model == spec.name:
                key = (probe.dtype, probe.linear, phase_of(probe.new_tokens))
                found.setdefault(key, []).append(probe.seconds / self._summed(spec, probe))
        return replace(self, whole_steps=tuple(WholeStep(*key, median(ratios)) for key, ratios in found.items()))

    def _summed(self, spec: ModelSpec, probe: Probe) -> float:
        return self.step_seconds(
            spec, batch=probe.batch, context_tokens=probe.context_tokens, new_tokens=probe.new_tokens, dtype=probe.dtype,
            linear=probe.linear, corrected=False,
        )  # fmt: skip

    @cached_property
    def _ratios(self) -> dict[tuple[str, str, str, bool], list[tuple[float, float, float]]]:
        return {}

    def to_json(self) -> str:
        from dataclasses import asdict

        raw = {"kind": KIND, "schema_version": SCHEMA_VERSION, **asdict(self)}
        return json.dumps(raw, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def plane(points: Iterable[tuple[float, float, float]], x: float, y: float, *, clamp: bool = False) -> float:
    """Returns z at (x, y): between measured x the values that `interpolate` gives along y at each.

    clamp: outside the measured range the value of the edge (for ratios); else as `interpolate` (for times).

    >>> grid = [(1, 64, 1.0), (1, 256, 4.0), (4, 64, 4.0), (4, 256, 16.0)]
    >>> round(plane(grid, 2, 128), 9), plane(grid, 8, 256), plane(grid, 8, 256, clamp=True)
    (4.0, 32.0, 16.0)
    """
    columns: dict[float, list[tuple[float, float]]] = {}
    for px, py, pz in points:
        columns.setdefault(px, []).append((py, pz))
    edges = []
    for px, column in sorted(columns.items()):
        column.sort()
        edges.append((px, interpolate(column, _within(y, column[0][0], column[-1][0]) if clamp else y)))
    return interpolate(edges, _within(x, edges[0][0], edges[-1][0]) if clamp else x)


def _within(x: float, low: float, high: float) -> float:
    return min(max(x, low), high)


def phase_of(new_tokens: int) -> str:
    """Names the phase of a step: decode for one new token a sequence, else prefill."""
    return "prefill" if new_tokens > 1 else "decode"


def style_of(spec: ModelSpec) -> str:
    """Names which small operators a layer runs: "learned" (LayerNorm, GELU, learned positions) or "rope"."""
    tables = [weight for weight in spec.before if weight.part == "embedding" and weight.cols == spec.hidden]
    return "learned" if len(tables) > 1 else "rope"


def speedup(  # parameters: the quantities of its equation, each by name
    calibration: Calibration, spec: ModelSpec, *, batch: int, prompt_tokens: int, new_tokens: int, dtype: str, linear: str = "plain"
) -> float:  # fmt: skip
    """Computes seconds of uncached generation over cached: every step a prefill of all so far, against prefill and
    decode steps.
    """

    def step(context: int, new: int) -> float:
        return calibration.step_seconds(
            spec, batch=batch, context_tokens=context, new_tokens=new, dtype=dtype, linear=linear
        )

    lengths = range(prompt_tokens, prompt_tokens + new_tokens)
    cached = step(prompt_tokens, prompt_tokens) + sum(step(length, 1) for length in lengths[1:])
    return sum(step(length, length) for length in lengths) / cached


def device_file_path() -> str:
    """Returns where `kvplan calibrate` writes and `--gpu local` reads: the user's config folder."""
    from planner.catalogue.entries import user_folder

    return os.path.join(user_folder(), FILE_NAME)


AGAIN = "; the file is damaged: run kvplan calibrate again"


def load_calibration(path: str | None = None) -> Calibration | None:
    """Return the device file, None where there is none yet; BadDeviceFile, in one line, when it is damaged or foreign."""
    path = path or device_file_path()
    if not os.path.lexists(path):
        return None
    text = read_text(path, most_bytes=MAX_FILE_BYTES, what="a device file of kvplan calibrate", error=BadDeviceFile)
    return calibration_from_json(text, one_line(path, 120))


def calibration_from_json(text: str, where: str) -> Calibration:
    """Return the calibration in `text`; raises BadDeviceFile for what is damaged, foreign or newer."""
    found = parse_json(text, where, error=BadDeviceFile, again=AGAIN)
    try:
        raw = check_kind(
            found, KIND, SCHEMA_VERSION, where=where, what="a device file of kvplan calibrate", error=BadDeviceFile
        )
        values = {name: raw[name] for name in (item.name for item in fields(Calibration)) if name in raw}
        made = decode(Calibration, values, where, error=BadDeviceFile)
        _refuse_nothing(made, where)
    except BadDeviceFile as error:
        again = "" if "update kvplan" in str(error) else AGAIN
        raise BadDeviceFile(f"{error}{again}") from None
    assert isinstance(made, Calibration)
    return made


def _refuse_nothing(found: Calibration, where: str) -> None:
    """Every number is above zero and every text can be printed: a time of nothing would predict nonsense."""
    for name, value in found.environment.items():
        _check_value(value, f"{where}.environment.{one_line(name, 40)}", least=None)
    for name, rate in found.rates.items():
        _check_row(rate, f"{where}.rates.{one_line(name, 40)}", 1e24)
    for table in ("matmuls", "attention", "layers", "probes", "whole_steps", "held_back"):
        for index, row in enumerate(getattr(found, table)):
            _check_row(row, f"{where}.{table}[{index}]", 1e15)


def _check_row(row: Any, where: str, most: float) -> None:
    for item in fields(row):
        limit = LONGEST_SECONDS if item.name.endswith("seconds") else most
        _check_value(getattr(row, item.name), f"{where}.{item.name}", least=SHORTEST_SECONDS, most=limit)


def _check_value(value: Any, where: str, *, least: float | None, most: float = 1e24) -> None:
    if isinstance(value, str):
        if not value.isprintable() or len(value) > 300:
            raise BadDeviceFile(f"{where}: holds a character that cannot be shown, or is too long")
    elif value is not None and not isinstance(value, bool):
        figure(value, where, low=-1e24 if least is None else least, high=most, error=BadDeviceFile)

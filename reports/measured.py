"""What runs found, as data frames: every reading of every point, and every check beside its prediction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from planner.errors import KvplanError
from planner.lookup import model_spec
from planner.memory.estimate import estimate
from planner.memory.request import Request
from planner.model.spec import ModelSpec
from planner.speed.work import Step, decode_step, prefill_step
from profiler.results import Check, Point, Reading
from reports.roofs import ROOFLINE
from reports.runs import Run, reach

PLACE = ["run", "model", "device", "what", "cache", "batch", "context_tokens", "new_tokens", "dtype", "linear", "mode"]
READING_COLUMNS = [*PLACE, "reading", "value", "low", "high", "exactness", "repeats", "note"]
CHECK_COLUMNS = [
    "run", "model", "quantity", "unit", "where", "predicted", "measured", "error_share", "verdict", "predicted_is",
    "measured_is", "low", "high", "reason",
]  # fmt: skip
QUANTITIES = {"kv": "KV cache", "kv_allocated": "KV cache, allocated", "weight": "weights"}
PREDICTED_IS = {"exact": "exact", "close": "exact", "estimated": "estimated", "shown": "estimated"}
NO_PROOF = "no proof"  # a check that is shown and proves nothing, such as the growth of the resident set


def readings(runs: Sequence[Run]) -> pd.DataFrame:
    """Returns one row a reading of a point that was done."""
    rows = [
        [
            *_place(run, point),
            name,
            reading.value,
            reading.low,
            reading.high,
            reading.kind,
            reading.repeats,
            reading.note,
        ]
        for run in runs
        for point in run.found.points
        if point.status == "done"
        for name, reading in point.readings.items()
    ]
    frame = pd.DataFrame(rows, columns=READING_COLUMNS)
    return frame.astype({"low": "float64", "high": "float64"})


def _place(run: Run, point: Point) -> list[Any]:
    return [
        run.name,
        run.found.model,
        run.found.environment.device,
        point.what,
        point.cache,
        point.batch,
        point.context_tokens,
        point.new_tokens,
        point.dtype or run.found.dtype,
        point.linear,
        point.mode,
    ]


def missing(runs: Sequence[Run]) -> pd.DataFrame:
    """Returns the points that were not done, and why."""
    rows = [
        [*_place(run, point), point.status, point.note]
        for run in runs
        for point in run.found.points
        if point.status != "done"
    ]
    return pd.DataFrame(rows, columns=[*PLACE, "status", "note"])


def checks(runs: Sequence[Run]) -> pd.DataFrame:
    """Puts each prediction beside what was measured, with the error and what kind of prediction it was."""
    rows = [_check(run, check) for run in runs for check in run.found.checks]
    frame = pd.DataFrame(rows, columns=CHECK_COLUMNS)
    return frame.astype({name: "float64" for name in ("predicted", "measured", "error_share", "low", "high")})


def _check(run: Run, check: Check) -> list[Any]:
    quantity, _, unit = check.name.rpartition("_")
    if not quantity:
        quantity, unit = check.name, "ratio"
    measured_is = "not measured" if check.measured is None else "measured"
    return [
        run.name, run.found.model, QUANTITIES.get(quantity, quantity.replace("_", " ")), unit, check.where, check.predicted, check.measured,
        check.error, check.verdict, PREDICTED_IS.get(check.expect, check.expect), measured_is, check.low, check.high,
        check.reason,
    ]  # fmt: skip


def error_summary(table: pd.DataFrame) -> pd.DataFrame:
    """Counts by quantity how many predictions came true, and how far the others were off."""
    columns = ["quantity", "predicted_is", "checks", "exact", "within_2_percent", "in_range", "off", "not_measured",
               "median_error_share", "worst_error_share"]  # fmt: skip
    rows = []
    for (quantity, kind), part in table[table["verdict"] != NO_PROOF].groupby(["quantity", "predicted_is"], sort=True):
        errors = part["error_share"].dropna().abs()
        counts = part["verdict"].value_counts()
        rows.append(
            [quantity, kind, len(part)]
            + [int(counts.get(name, 0)) for name in ("exact", "within 2 %", "in range", "off", "not measured")]
            + [float(errors.median()) if len(errors) else None, float(errors.max()) if len(errors) else None]
        )
    return pd.DataFrame(rows, columns=columns)


def prediction_scatter(runs: Sequence[Run]) -> pd.DataFrame:
    """Returns the checks that have both numbers: bytes and seconds."""
    table = checks(runs)
    both = (
        (table["verdict"] != NO_PROOF) & table["measured"].notna() & (table["predicted"] > 0) & (table["measured"] > 0)
    )
    return table[both & table["unit"].isin(["bytes", "seconds"])].reset_index(drop=True)


def _of(runs: Sequence[Run], what: Sequence[str], reading: str) -> pd.DataFrame:
    table = readings(runs)
    return table[table["what"].isin(list(what)) & (table["reading"] == reading)].reset_index(drop=True)


def speed_vs_output(runs: Sequence[Run]) -> pd.DataFrame:
    """Returns tokens a second of whole generations with and without a cache, and the length from which the cache pays."""
    table = _of(runs, ("generate", "generate_uncached"), "tokens_per_s")
    table.insert(0, "role", "line")
    crossings = []
    for run in runs:
        found = run.found.figures.get("crossing_tokens")
        if found is None:
            continue
        row: dict[str, Any] = {name: None for name in table.columns}
        row |= {
            "role": "crossing",
            "run": run.name,
            "model": run.found.model,
            "new_tokens": int(found.value),
            "exactness": found.kind,
        }
        crossings.append(row)
    if not crossings:
        return table
    return pd.concat(
        [table, pd.DataFrame(crossings, columns=table.columns).astype(table.dtypes, errors="ignore")], ignore_index=True
    )


def speedup(runs: Sequence[Run]) -> pd.DataFrame:
    """Returns seconds without a cache over seconds with it, at each output length; predicted where the run has that."""
    table = _of(runs, ("speedup",), "speedup")
    table.insert(0, "role", "measured")
    rows = []
    for run in runs:
        for check in run.found.checks:
            if check.name != "speedup" or not check.where.split(" ", 1)[0].isdigit():
                continue
            row: dict[str, Any] = {name: None for name in table.columns}
            row |= {"role": "predicted", "run": run.name, "model": run.found.model, "reading": "speedup",
                    "new_tokens": int(check.where.split(" ", 1)[0]), "value": check.predicted, "low": check.low,
                    "high": check.high, "exactness": "estimated"}  # fmt: skip
            rows.append(row)
    return pd.concat([table, pd.DataFrame(rows, columns=table.columns)], ignore_index=True) if rows else table


def ttft_vs_context(runs: Sequence[Run]) -> pd.DataFrame:
    """Returns seconds to the first token against prompt length."""
    return _of(runs, ("prefill",), "ttft_seconds")


def tpot_vs_context(runs: Sequence[Run]) -> pd.DataFrame:
    """Returns seconds a token against context."""
    return _of(runs, ("decode",), "step_seconds")


def tpot_vs_batch(runs: Sequence[Run]) -> pd.DataFrame:
    """Returns seconds a token against sequences at once; empty where one batch alone was run."""
    table = _of(runs, ("decode",), "step_seconds")
    return table if table["batch"].nunique() > 1 else table.iloc[:0]


def bandwidth_share(runs: Sequence[Run]) -> pd.DataFrame:
    """Returns the share of the machine's read bandwidth that decode steps reach; where one read faster, that is the
    roof.
    """
    table = _of(runs, ("decode",), "read_share")
    for run in runs:
        mine = table["run"] == run.name
        most = float(table.loc[mine, "value"].max()) if mine.any() else 0.0
        if most > 1:
            table.loc[mine, ["value", "low", "high"]] /= most
            table.loc[mine, "note"] = "share of the most that was read here: above what kvplan calibrate found"
    return table


def measured_roofline(runs: Sequence[Run]) -> pd.DataFrame:
    """Returns the roofs that each machine was measured to reach, and its prefill and decode points."""
    rows: list[list[Any]] = []
    for run in runs:
        bandwidth, peak = reach(run.found)
        if bandwidth and peak:
            rows.append(
                [
                    "roof",
                    run.name,
                    run.found.environment.device,
                    "measured roof" + (f", {run.name}" if len(runs) > 1 else ""),
                    None,
                    peak,
                    bandwidth,
                    "measured",
                ]
            )
        spec = spec_of(run)
        if spec is None:
            continue
        for point in (*run.found.of("prefill"), *run.found.of("decode")):
            step, seconds = _step(run, spec, point), _seconds(point)
            if step is None or seconds is None:
                continue
            name = f"{point.what}, batch {point.batch}" + (f", {run.name}" if len(runs) > 1 else "")
            rows.append(
                [
                    "point",
                    run.name,
                    run.found.environment.device,
                    name,
                    step.intensity,
                    step.flops / seconds.value,
                    None,
                    seconds.kind,
                ]
            )
    return pd.DataFrame(rows, columns=ROOFLINE)


def _seconds(point: Point) -> Reading | None:
    found = point.readings.get("ttft_seconds" if point.what == "prefill" else "step_seconds")
    return found if found is not None and found.value > 0 else None


def _step(run: Run, spec: ModelSpec, point: Point) -> Step | None:
    try:
        answer = estimate(spec, Request(point.context_tokens, point.batch, point.dtype or run.found.dtype))
        return (prefill_step if point.what == "prefill" else decode_step)(answer, point.batch)
    except KvplanError:
        return None


def spec_of(run: Run) -> ModelSpec | None:
    """Finds the model of a run at the depth that was run; None where the catalogue does not know it."""
    try:
        spec = model_spec(run.found.model)
    except (KvplanError, OSError):
        return None
    if run.found.layers_run < len(spec.layers):
        return replace(spec, layers=spec.layers[: run.found.layers_run])
    return spec


def environments(runs: Sequence[Run]) -> pd.DataFrame:
    """Returns where and when each run was made."""
    rows = []
    for run in runs:
        found, where = run.found, run.found.environment
        rows.append(
            {
                "run": run.name,
                "model": found.model,
                "dtype": found.dtype,
                "linear": found.linear,
                "weights": found.weights,
                "layers_run": found.layers_run,
                "device": where.device,
                "kind": where.device_kind,
                "memory_bytes": where.memory_bytes,
                "threads": where.threads,
                "torch": where.torch,
                "driver": where.driver,
                "python": where.python,
                "platform": where.platform,
                "kvplan": where.kvplan + (f" {where.commit}" if where.commit else ""),
                "date": where.date,
                "complete": found.complete,
            }
        )
    frame = pd.DataFrame(rows)
    return frame.astype({"memory_bytes": "Int64"}) if rows else frame

"""The figures by name: the frame behind each, how it is drawn, and what it says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure

from planner.errors import BadRequest, UsageError
from planner.units import human_tokens
from reports import compare, headline, measured, plans, plots, plots_answers, plots_plan, roofs, tables, words
from reports.question import Question

MODELS, RUNS, TWO_RUNS, PLANS = "models", "runs", "two runs", "plans"
MOST_RUNS = 4  # lines that can still be told apart


@dataclass(frozen=True)
class Kind:
    """One kind of figure.

    needs   models (and devices), runs, two runs, or plans
    per     what one figure is about where a question gives several: "" all, "device", "model and device", "plan"
    """

    name: str
    title: str
    needs: str
    frame: Callable[..., pd.DataFrame]
    draw: Callable[[pd.DataFrame], Figure]
    sees: Callable[[pd.DataFrame], str]
    alt: Callable[[pd.DataFrame], str]
    per: str = ""


def _bounds_on(q: Question, place: int = 0) -> pd.DataFrame:
    table = roofs.step_bounds(q)
    return table[table["device"] == q.places[place].name].reset_index(drop=True)


_ms = 1e-3
KINDS = {
    kind.name: kind
    for kind in (
        Kind("memory-vs-length", "Memory against context", MODELS, tables.memory_vs_length, plots.memory_vs_length, words.curve_sees, words.curve_alt),
        Kind("memory-vs-batch", "Memory against batch", MODELS, tables.memory_vs_batch, plots.memory_vs_batch, words.curve_sees, words.curve_alt),
        Kind("memory-bars", "What fills each device", MODELS, tables.memory_parts, plots.memory_bars, words.parts_sees, words.parts_alt),
        Kind("bytes-per-token", "Cache bytes a token", MODELS, tables.bytes_per_token, plots.bytes_per_token, words.token_sees, words.token_alt),
        Kind("feasible-region", "What fits: batch x context", MODELS, tables.feasible_region, plots.feasible_region, words.region_sees, words.region_alt, "model and device"),
        Kind("most-sequences", "How many fit at each length", MODELS, tables.sequences_by_length, plots_answers.most_sequences, words.sequences_sees, words.sequences_alt),
        Kind("user-speed", "Expected speed of each user", MODELS, headline.user_speeds, plots_answers.user_speed, words.users_sees, words.users_alt),
        Kind("kv-dtype-savings", "What a smaller KV dtype saves", MODELS, tables.kv_dtype_savings, plots.kv_dtype_savings, words.savings_sees, words.savings_alt),
        Kind("step-bounds", "The least time of a decode step", MODELS, _bounds_on, plots.step_bounds, words.bounds_sees, words.bounds_alt, "device"),
        Kind("roofline", "Roofline", MODELS, roofs.roofline, plots.roofline, words.roofline_sees, words.roofline_alt),
        Kind("prediction", "Prediction against measurement", RUNS, measured.prediction_scatter, plots.prediction_scatter, words.scatter_sees, words.scatter_alt),
        Kind("speed-vs-output", "Speed with and without a cache", RUNS, measured.speed_vs_output, plots.speed_vs_output, words.output_sees,
             words.lines_alt("tokens a second against output length", "new_tokens", 1.0, unit="tokens/s")),
        Kind("speedup", "Speedup by the cache", RUNS, measured.speedup, plots.speedup, words.speedup_sees,
             words.lines_alt("speedup by the cache against output length", "new_tokens", 1.0, unit="times")),
        Kind("ttft-vs-context", "Time to first token", RUNS, measured.ttft_vs_context, plots.ttft_vs_context, words.ttft_sees,
             words.lines_alt("time to first token against prompt length", "context_tokens", _ms, unit="ms")),
        Kind("tpot-vs-context", "Time a token", RUNS, measured.tpot_vs_context, plots.tpot_vs_context, words.tpot_sees,
             words.lines_alt("time of a decode step against context", "context_tokens", _ms, unit="ms")),
        Kind("tpot-vs-batch", "Time a token against batch", RUNS, measured.tpot_vs_batch, plots.tpot_vs_batch, words.batch_sees,
             words.lines_alt("time of a decode step against batch", "batch", _ms, unit="ms")),
        Kind("bandwidth-share", "Share of the bandwidth reached", RUNS, measured.bandwidth_share, plots.bandwidth_share, words.share_sees,
             words.lines_alt("share of read bandwidth in percent against context", "context_tokens", 0.01, unit="%")),
        Kind("measured-roofline", "Roofline, measured", RUNS, measured.measured_roofline, plots.roofline, words.roofline_sees, words.roofline_alt),
        Kind("comparison", "Run A against run B", TWO_RUNS, compare.comparison, plots.comparison, words.comparison_sees, words.comparison_alt),
        Kind("cost-vs-tpot", "Cost against time a token", PLANS, plans.points, plots_plan.cost_against_tpot, plans.front_sees, plans.front_alt, "plan"),
    )
}  # fmt: skip


def about(kind: Kind, q: Question, *, model: int = 0, place: int = 0) -> str:
    """Says what a figure is of, for its title: models, devices and load; of runs the model, machine and day."""
    if kind.needs in (RUNS, TWO_RUNS):
        runs = q.runs[:MOST_RUNS]
        said = [
            f"{r.found.model} in {r.found.dtype} on {r.found.environment.device}, {r.found.environment.date[:10]}"
            for r in runs
        ]
        busy = "; the machine was busy" if any(run.busy for run in runs) else ""
        return f"{words.listing(dict.fromkeys(said), 2)}{busy}"
    if kind.needs == PLANS:
        return q.plans[place].asked
    models = q.names[model] if kind.per == "model and device" else q.titles
    devices = q.places[place].name if kind.per else words.listing([found.name for found in q.places], 4)
    length, batch = human_tokens(q.request.seq_tokens), q.request.batch
    loads = {
        "memory-vs-length": f"batch {batch:,}",
        "memory-vs-batch": f"{length} tokens each",
        "feasible-region": "",
        "most-sequences": "",
    }
    load = loads.get(kind.name, q.load)
    return "; ".join(part for part in (models, devices, load) if part)


def find_kind(name: str) -> Kind:
    """Finds the kind called `name`; names close ones where there is none."""
    key = name.strip().lower().replace("_", "-")
    if key in KINDS:
        return KINDS[key]
    from difflib import get_close_matches

    from planner.errors import one_line

    close = get_close_matches(key[:60], KINDS, n=1)
    hint = f"; did you mean {close[0]}?" if close else f"; choose one of {', '.join(KINDS)}"
    raise UsageError(f"no figure {one_line(name, 40)!r}{hint}")


def frame_of(kind: Kind, q: Question, model: int = 0, *, place: int = 0) -> pd.DataFrame:
    """Returns the frame of one figure for a question; raises BadRequest where the question does not hold what it needs."""
    if kind.needs == MODELS:
        if not q.specs:
            raise BadRequest(f"{kind.name} wants a MODEL")
        if kind.per == "model and device":
            found = kind.frame(q, model, place)
        elif kind.per == "device":
            found = kind.frame(q, place)
        else:
            found = kind.frame(q)
    elif kind.needs == RUNS:
        if not q.runs:
            raise BadRequest(f"{kind.name} wants a run of `kvplan profile`: --run RESULT.json")
        found = kind.frame(q.runs[:MOST_RUNS])
    elif kind.needs == PLANS:
        if not q.plans:
            raise BadRequest(f"{kind.name} wants an answer of `kvplan plan --json`: --plan PLAN.json")
        found = kind.frame(q.plans[place])
    else:
        if len(q.runs) != 2:
            raise BadRequest(f"{kind.name} wants two runs: --run A.json --run B.json")
        found = kind.frame(*q.runs)
    if kind.needs == MODELS and len(q.names) > 1:
        found.attrs["models"] = list(q.names.values())
    if empty(found):
        raise BadRequest(f"{kind.name}: there is nothing to draw; {_why_empty(kind)}")
    return found


def empty(frame: pd.DataFrame) -> bool:
    """Tells whether nothing could be drawn: no rows, or limits and roofs alone."""
    if "role" in frame:
        return bool(frame[frame["role"].isin(["line", "point", "measured"])].empty)
    return bool(frame.empty)


def _why_empty(kind: Kind) -> str:
    if kind.needs == MODELS:
        return "the model keeps no cache, or the device's bandwidth and FLOP/s are not known"
    if kind.needs == PLANS:
        return "no device of the plan has a price, or none carries the load"
    return "the runs hold no such points"

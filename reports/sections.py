"""The sections of a report, from memory to reproduction."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from reports import compare, measured, plans, roofs, tables, words
from reports.blocks import Block, Lines, Picture, Section, Table
from reports.cells import cell, heading
from reports.kinds import KINDS, MOST_RUNS, RUNS, about, empty, frame_of
from reports.question import Question
from reports.runs import Run

RUNS_AS_COLUMNS = 3
BOUND_DEVICES = 1


def picture(kind: str, q: Question, model: int = 0, *, place: int = 0, suffix: str = "") -> Picture | None:
    """Draws the figure of a kind, None where the question holds nothing to draw."""
    found = KINDS[kind]
    if found.needs == RUNS:
        frame = found.frame(q.runs[:MOST_RUNS])
        if empty(frame):
            return None
    else:
        try:
            frame = frame_of(found, q, model, place=place)
        except Exception as error:
            if type(error).__name__ != "BadRequest":
                raise
            return None
    title = found.title
    if found.per == "model and device":
        title = f"What fits: {q.names[model]} on {q.places[place].name}"
    elif found.per == "device":
        title = f"{title}, {q.places[place].name}"
    return Picture(
        kind + suffix,
        title,
        found.sees(frame),
        found.alt(frame),
        frame,
        found,
        about(found, q, model=model, place=place),
    )


def _kept(*blocks: Block | None) -> tuple[Block, ...]:
    return tuple(
        block
        for block in blocks
        if block is not None
        and not (isinstance(block, Table) and block.frame.empty)
        and not (isinstance(block, Lines) and not block.items)
    )


def memory_section(q: Question, verdicts: pd.DataFrame) -> Section:
    """Shows the memory at each length and batch, and what the parts of it are."""
    exact = "Bytes of weights and cache are exact; activations and overhead are estimated, with a range."
    curve = picture("memory-vs-length", q)
    blocks = _kept(
        Table("verdicts", "Each model on each device", f"For {q.load}: what fits, how many sequences and how long a context, and what binds first.", verdicts,
              ("model", "device", "fits", "total_bytes", "capacity_bytes", "free_bytes", "most_sequences", "longest_tokens", "fewest_devices", "binds_first")),
        Table("changes", "What would make it fit", "Each change by itself, with the flags that ask for it and what it gains on each device.", tables.changes(q)),
        Table("models", "The models", f"{exact} One load: {q.load}.", tables.model_rows(q),
              ("model", "attention", "layers", "parameters", "active_parameters", "weight_dtype", "weight_bytes", "kv_dtype", "kv_bytes", "state_bytes", "exactness")),
        picture("memory-bars", q),
        curve,
        picture("memory-vs-batch", q),
        picture("user-speed", q),
        picture("bytes-per-token", q),
    )  # fmt: skip
    crossings = _crossing_table(q, [block for block in blocks if isinstance(block, Picture)])
    return Section("memory", "Memory", "Where the bytes go, and where they stop fitting.", (*blocks, *_kept(crossings)))


def _crossing_table(q: Question, pictures: Sequence[Picture]) -> Table | None:
    """The crossing points of both curves, named."""
    parts = []
    for shown in pictures:
        if shown.name in ("memory-vs-length", "memory-vs-batch"):
            part = shown.frame[shown.frame["role"] == "crossing"].drop(columns=["role"])
            name = "context_tokens" if "context_tokens" in part else "batch"
            other = q.request.batch if name == "context_tokens" else q.request.seq_tokens
            parts.append(part.assign(**{"batch" if name == "context_tokens" else "context_tokens": other}))
    found = [part for part in parts if len(part)]
    if not found:
        return None
    frame = pd.concat(found, ignore_index=True)[
        ["series", "device", "context_tokens", "batch", "total_bytes", "cache_bytes"]
    ]
    return Table(
        "crossings",
        "Crossing points",
        "The last length and the last batch of each line that still fit a device.",
        frame,
    )


def region_section(q: Question, verdicts: pd.DataFrame) -> Section:
    """Shows how many fit at each length: of one model on one device as a heat map, of several as lines."""
    index = {name: m for m, name in q.names.items()}
    place = {found.name: p for p, found in enumerate(q.places)}
    fitting = [
        (index[row["model"]], place[row["device"]])
        for row in verdicts[verdicts["longest_tokens"] > 0].to_dict("records")
    ]
    first = {m: (m, p) for m, p in reversed(fitting)}
    pairs = [*sorted(first.values()), *(pair for pair in fitting if pair not in first.values())]
    several = len(pairs) > 1
    drawing = (
        [picture("most-sequences", q)]
        if several
        else [
            picture(
                "feasible-region", q, m, place=p, suffix=f"-{m + 1}-{p + 1}" if len(q.names) * len(q.places) > 1 else ""
            )
            for m, p in pairs[:1]
        ]
    )
    notes = []
    if never := [name for m, name in q.names.items() if m not in first]:
        notes.append(f"Not one sequence fits on one of these devices of {words.listing(never)}: nothing to draw.")
    table = Table("kv-dtypes", "KV dtypes", "Bytes of the numbers and of their scales, in each dtype that the model's heads allow.", tables.kv_dtype_savings(q),
                  ("model", "kv_dtype", "kv_bytes", "code_bytes", "scale_bytes", "ratio"))  # fmt: skip
    return Section("region", "What fits", "Batch and context trade against each other; a smaller KV dtype moves the border.",
                   _kept(*drawing, Lines("", tuple(notes)), picture("kv-dtype-savings", q), table))  # fmt: skip


def accuracy_section(q: Question) -> Section:
    """Holds each measured size and time against its prediction."""
    checks = measured.checks(q.runs)
    summary = Table("errors", "Errors by quantity", "How many predictions came true, by what they are about; an error is measured / predicted - 1.",
                    measured.error_summary(checks), ("quantity", "predicted_is", "checks", "exact", "within_2_percent", "in_range", "off", "not_measured",
                                                     "median_error_share", "worst_error_share"))  # fmt: skip
    whole = Table("checks", "Every prediction beside its measurement", "Each row says what the prediction is (exact, or an estimate) and whether it was measured.",
                  checks, ("run", "quantity", "where", "predicted", "predicted_is", "measured", "measured_is", "error_share", "verdict", "reason"))  # fmt: skip
    return Section(
        "accuracy",
        "Prediction against measurement",
        _accuracy_words(checks),
        _kept(*_scatters(q), summary, whole),
    )


def _scatters(q: Question) -> list[Picture]:
    """Bytes and seconds in figures of their own."""
    kind, frame = KINDS["prediction"], measured.prediction_scatter(q.runs[:MOST_RUNS])
    found = []
    for unit in ("bytes", "seconds"):
        part = frame[frame["unit"] == unit].reset_index(drop=True)
        if len(part) > 1:  # one point is no picture of errors
            title = f"Measured against predicted, {unit}"
            found.append(
                Picture(f"prediction-{unit}", title, kind.sees(part), kind.alt(part), part, kind, about(kind, q))
            )
    return found


def _accuracy_words(checks: pd.DataFrame) -> str:
    exact = checks[(checks["predicted_is"] == "exact") & checks["measured"].notna()]
    right = int((exact["verdict"] == "exact").sum())
    if exact.empty:
        return "What was predicted beside what was found."
    return f"{right:,} of {len(exact):,} sizes that should be exact are equal to the byte."


SPEEDS = (
    "speed-vs-output",
    "speedup",
    "ttft-vs-context",
    "tpot-vs-context",
    "tpot-vs-batch",
    "bandwidth-share",
    "measured-roofline",
)


def speed_section(q: Question) -> Section:
    """Shows what the runs measured: cached against uncached, prefill, decode."""
    table = measured.readings(q.runs)
    points = Table("points", "Every measured point", "Median of the repeats with their middle half (low to high); estimated where it says so.", table,
                   ("run", "what", "cache", "batch", "context_tokens", "new_tokens", "reading", "value", "low", "high", "exactness"))  # fmt: skip
    missing = Table("missing", "Points not measured", "What was skipped, ran out of memory or failed, and why.", measured.missing(q.runs),
                    ("run", "what", "cache", "batch", "context_tokens", "new_tokens", "status", "note"))  # fmt: skip
    note = None
    if len(q.runs) > MOST_RUNS:
        names = [run.name for run in q.runs[:MOST_RUNS]]
        note = Lines(
            "",
            (
                f"Figures show the first {MOST_RUNS} of {len(q.runs)} runs ({words.listing(names, MOST_RUNS)}); tables hold all.",
            ),
        )
    return Section("speed", "Speed, measured", "What the machine did: with a cache each new token costs one pass over the weights, without one a pass over everything so far.",
                   _kept(note, *(picture(kind, q) for kind in SPEEDS), missing, points))  # fmt: skip


def bounds_section(q: Question) -> Section:
    """Shows what bounds a decode step on each device."""
    table = roofs.step_bounds(q)
    devices = list(dict.fromkeys(table["device"]))
    index = {place.name: i for i, place in enumerate(q.places)}
    shown = [picture("step-bounds", q, 0, place=index[name], suffix="") for name in devices[-BOUND_DEVICES:]]
    rows = Table("bounds", "Bounds of prefill and decode steps", "max(bytes / bandwidth, FLOPs / rate) by the device's published rates, or those a run measured: a bound, not a prediction.", table,
                 ("model", "device", "step", "batch", "context_tokens", "read_bytes", "flops", "bound_seconds", "bound_tokens_per_s", "bound_by", "fits"))  # fmt: skip
    return Section("bounds", "Speed, bounds", "How fast a device could be at best by its bandwidth and arithmetic. Real engines stay below.",
                   _kept(*shown, picture("roofline", q), rows) if len(table) else ())  # fmt: skip


def plans_section(q: Question) -> Section:
    """Shows the ranking of each plan, and its front."""
    kind = KINDS["cost-vs-tpot"]
    blocks: list[Block] = []
    for i, plan in enumerate(q.plans):
        suffix = f"-{i + 1}" if len(q.plans) > 1 else ""
        frame = plans.points(plan)
        if not empty(frame):
            title = kind.title
            blocks.append(
                Picture(kind.name + suffix, title, kind.sees(frame), kind.alt(frame), frame, kind, plan.asked)
            )
        blocks.append(Table(f"plan{suffix}", f"The plans: {plan.asked}", plans.best_words(plan), plans.rows(plan)))
    return Section(
        "plan",
        "Deployment",
        "What would carry a load within its targets, by cost; speeds are estimates with a range.",
        _kept(*blocks),
    )


def comparison_section(a: Run, b: Run) -> Section:
    """Puts two runs side by side, with the change in percent."""
    table = compare.comparison(a, b)
    kind = KINDS["comparison"]
    times = table[table["quantity"].isin(["ttft_seconds", "step_seconds", "total_seconds"])]
    said = f"A: {a.name}, {a.found.model} on {a.found.environment.device}; B: {b.name}, {b.found.model} on {b.found.environment.device}"
    shown = Picture(kind.name, kind.title, kind.sees(table), kind.alt(table), table, kind, said) if len(times) else None
    apart = Table(
        "differences",
        "How the runs differ",
        f"A is {a.name}, B is {b.name}; what is the same in both is left out.",
        compare.differences(a, b),
    )
    rows = Table("comparison", "Change from A to B", "Beyond the spread: the middle halves of the repeats do not touch, and the change is at least 1 %.", table,
                 ("what", "cache", "batch", "context_tokens", "new_tokens", "quantity", "a_value", "b_value", "change_share", "verdict", "better", "exactness"))  # fmt: skip
    return Section(
        "comparison",
        f"{a.name} against {b.name}",
        "The same points of two runs, with the change in percent.",
        _kept(shown, apart, rows),
    )


def equations_section(q: Question) -> Section:
    """Writes the equations with their numbers."""
    table = Table("equations", "The equation of each group of layers", f"For {q.load}. Every factor comes from the config fields named at its right.",
                  tables.equation_rows(q), ("model", "layers", "keeps", "equation", "bytes", "config_fields", "exactness"))  # fmt: skip
    symbols = sorted(set(table.frame["symbols"]) - {""})
    return Section("equations", "How the cache is worked out", "The formula with its numbers: anyone can check it by hand.",
                   _kept(table, Lines("The factors in order", tuple(symbols))))  # fmt: skip


def environment_section(q: Question, pair: tuple[Run, Run] | None, skipped: Sequence[str]) -> Section:
    """Lists what the runs were made on, and what was left out."""
    runs = list({run.path: run for run in (*q.runs, *(pair or ()))}.values())
    found = measured.environments(runs)
    if 0 < len(found) <= RUNS_AS_COLUMNS:
        turned = found.set_index("run").astype(object).T
        turned.insert(0, "what", [heading(str(name)) for name in turned.index])
        for name in turned.columns[1:]:
            turned[name] = [cell(str(key), value) for key, value in zip(found.columns[1:], turned[name], strict=True)]
        found = turned.reset_index(drop=True)
    table = Table("environments", "Where it was measured", "Device, versions and date of each run.", found)
    said = [f"{run.name}: {line}" for run in runs for line in (*run.found.warnings, *run.found.notes)]
    return Section("environment", "Environment", "What this report was made with, and where its runs were made.",
                   _kept(table, Lines("Run files left out", tuple(skipped)), Lines("What the runs say", tuple(said[:40])), Lines("", tuple(q.notes))))  # fmt: skip


NOT_MODELLED = (
    "What a serving engine reserves ahead: blocks, padding, pools, CUDA graphs. The cache here is what the sequences need.",
    "Workspaces of kernels and fragments beyond the stated allowances: activations are within half and twice the estimate.",
    "Bounds of speed count weights, cache and products; kernels, launches, communication and scheduling come on top.",
    "Requests that share a prefix, and requests of different lengths: every sequence is counted at the full length.",
)


def limits_section(q: Question) -> Section:
    """Lists what was assumed, and what is not modelled."""
    assumed: dict[str, list[str]] = {}
    for m in q.names:
        answer = q.answer(m, None)
        for line in (*answer.assumptions, *answer.warnings):
            assumed.setdefault(line, []).append(q.names[m])
    lines = []
    for line, names in assumed.items():
        everywhere = len(names) == len(q.names) and len(names) > 1
        lines.append(line if everywhere or len(q.names) == 1 else f"{words.listing(names, 4)}: {line}")
    return Section("limits", "Assumed, and not modelled", "What was taken as given, and what the numbers leave out.",
                   _kept(Lines("Assumed, and worth knowing", tuple(lines)), Lines("Not modelled", NOT_MODELLED)))  # fmt: skip


def reproduce_section(commands: Sequence[str]) -> Section:
    """Lists the commands that make this report again."""
    return Section("reproduce", "How to reproduce this", "The same input gives the same report, except for the date above.",
                   _kept(Lines("", tuple(commands), code=True)))  # fmt: skip

"""What a report holds, from question to reproduction; how it is written down is for html.py and markdown.py."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from planner.options.lengths import lengths_of
from planner.units import human_bytes, human_tokens, plural
from reports import compare, headline, measured, plans, tables, words
from reports.cells import cell, heading
from reports.kinds import KINDS, MOST_RUNS, RUNS, Kind, about, empty, frame_of
from reports.question import Question
from reports.runs import Run
from reports.style import number, save, titled

MODELS_SUMMED = 6
RUNS_AS_COLUMNS = 3
BOUND_DEVICES = 1
ROWS_SHOWN = 60


@dataclass(frozen=True, eq=False)
class Picture:
    """A figure with its sentence and its text for those who cannot see it."""

    name: str
    title: str
    sees: str
    alt: str
    frame: pd.DataFrame
    kind: Kind
    about: str = ""

    def figure(self) -> Figure:
        return titled(self.kind.draw(self.frame), self.title, self.about)

    @cached_property
    def files(self) -> dict[str, bytes]:
        drawn = self.figure()
        return {kind: save(drawn, kind) for kind in ("svg", "png")}


@dataclass(frozen=True, eq=False)
class Table:
    """A table with its sentence. `columns` of it are shown, the first `rows` of them; files hold it all."""

    name: str
    title: str
    sees: str
    frame: pd.DataFrame
    columns: tuple[str, ...] = ()
    rows: int = ROWS_SHOWN
    view: pd.DataFrame | None = None  # what people read in place of the frame that files hold

    @property
    def shown(self) -> pd.DataFrame:
        if self.view is not None:
            return self.view
        return self.frame[list(self.columns) if self.columns else list(self.frame.columns)].head(self.rows)

    @property
    def left_out(self) -> int:
        return max(0, len(self.frame) - self.rows)


@dataclass(frozen=True)
class Lines:
    """A list of sentences, or of command lines."""

    title: str
    items: tuple[str, ...]
    code: bool = False


Block = Picture | Table | Lines


@dataclass(frozen=True)
class Section:
    name: str
    title: str
    sees: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Card:
    """One device or model of the summary: what it says first, and the lines below."""

    title: str
    good: bool | None
    answer: str
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """`made` is the only thing that differs between two reports of the same input."""

    title: str
    question: str
    answer: str
    cards: tuple[Card, ...]
    summary: tuple[str, ...]
    sections: tuple[Section, ...]
    made: tuple[tuple[str, str], ...]
    headline: Table | None = None
    files: dict[str, bytes] = field(default_factory=dict, hash=False)

    @property
    def pictures(self) -> list[Picture]:
        return [block for section in self.sections for block in section.blocks if isinstance(block, Picture)]

    @property
    def tables(self) -> list[Table]:
        first = [] if self.headline is None else [self.headline]
        return first + [block for section in self.sections for block in section.blocks if isinstance(block, Table)]


def report(
    q: Question,
    *,
    pair: tuple[Run, Run] | None = None,
    skipped: Sequence[str] = (),
    commands: Sequence[str] = (),
    made: Sequence[tuple[str, str]] = (),
) -> Report:
    """Builds the whole report for a question, the runs in it, and a pair of runs to compare."""
    sections: list[Section] = []
    asked, answer, cards, summary = "", "", (), ()  # type: tuple[str, str, tuple[Card, ...], tuple[str, ...]]
    first: Table | None = None
    if q.specs:
        verdicts = tables.verdicts(q)
        rows = headline.headline(q)
        asked, answer, first = tables.asked_words(q), headline.counted(rows), _headline(q, rows)
        cards, summary = _cards(q, verdicts, rows), _summary(q, verdicts)
        sections += [_memory(q, verdicts), _region(q, verdicts)]
    if q.runs:
        sections += [_accuracy(q), _speed(q)]
    if q.specs:
        sections.append(_bounds(q))
    if q.plans:
        sections.append(_plans(q))
        asked = asked or f"Which devices for {words.listing([plan.asked for plan in q.plans], 2)}?"
        answer = answer or plans.best_words(q.plans[0])
    if pair is not None:
        sections.append(_comparison(*pair))
        asked = asked or f"What changed from {pair[0].name} to {pair[1].name}?"
        answer = answer or words.comparison_sees(compare.comparison(*pair))
    if q.specs:
        sections.append(_equations(q))
    sections += [_environment(q, pair, skipped), _limits(q), _reproduce(commands)]
    named = words.listing([plan.name for plan in q.plans], 3) or "runs"
    title = q.titles or (f"{pair[0].name} against {pair[1].name}" if pair else named)
    asked = asked or f"What did {words.listing([run.name for run in q.runs], 3)} find?"
    kept = tuple(section for section in sections if section.blocks or section.name == "environment")
    return Report(f"kvplan: {title}", asked, answer, cards, summary, kept, tuple(made), first)


# Summary


COLUMNS_AS_QUESTIONS = 4


def _headline(q: Question, rows: pd.DataFrame) -> Table:
    """One row a question while its columns are few, else one row a model and device."""
    prompt, answer = lengths_of(q.request.seq_tokens)
    engines = words.listing(dict.fromkeys(name for name in rows["engine"] if name), 3) or "memory alone"
    sees = (
        f"{q.load[0].upper()}{q.load[1:]}: a prompt of {prompt:,} and an answer of {answer:,}. Users at once are those that the pool of "
        f"{engines} holds; speeds are estimates with a range for this load, the cost of a million tokens is with all users at once; prices are the lowest of the catalogue."
    )
    columns = (
        "model",
        "device",
        "fits",
        "users_at_once",
        "user_tokens_per_s",
        "ttft_seconds",
        "usd_per_h",
        "usd_per_million_tokens",
        "why",
    )
    view = headline.questions(rows) if len(rows) <= COLUMNS_AS_QUESTIONS else None
    return Table("headline", "The answer", sees, rows, columns, view=view)


def _cards(q: Question, verdicts: pd.DataFrame, answers: pd.DataFrame) -> tuple[Card, ...]:
    """A card a device: what fits on it, by the same rows as the headline."""
    cards = []
    for place in q.places:
        rows = verdicts[verdicts["device"] == place.name].to_dict("records")
        for row, first in zip(rows, answers[answers["device"] == place.name].to_dict("records"), strict=True):
            row |= {
                "memory_fits": row["fits"],
                "fits": first["fits"] == headline.YES,
                "users": first["users_at_once"],
                "why": first["why"],
            }
        good = [row for row in rows if row["fits"]]
        if len(rows) == 1:
            row = rows[0]
            answer = f"fits, {human_bytes(int(row['free_bytes']))} free" if good else _no(row)
        else:
            answer = f"{len(good)} of {len(rows)} models fit"
        lines = []
        for row in good[:MODELS_SUMMED]:
            whole = " (all its positions)" if row["longest_tokens"] == row["max_tokens"] else ""
            longest = f"{human_tokens(int(row['longest_tokens']))} tokens{whole} at batch {q.request.batch:,}"
            users = "any number of users" if pd.isna(row["users"]) else plural(int(row["users"]), "user")
            lines.append(f"{row['model']}: {users} at once, or {longest}")
        for row in [row for row in rows if not row["fits"]][:MODELS_SUMMED]:
            if row["memory_fits"] or row["free_bytes"] >= 0:
                lines.append(f"{row['model']}: {row['why']}")
                continue
            devices = row["fewest_devices"]
            more = (
                "more than 64 such devices" if pd.isna(devices) else f"{int(devices):,} such devices ({row['layout']})"
            )
            lines.append(f"{row['model']}: needs {human_bytes(int(row['total_bytes']))}, that is {more}")
        cards.append(
            Card(
                f"{place.name}, {human_bytes(place.capacity.bytes)}",
                len(good) == len(rows) if len(good) in (0, len(rows)) else None,
                answer,
                tuple(lines),
            )
        )
    return tuple(cards)


def _no(row: dict[Hashable, Any]) -> str:
    if row["free_bytes"] < 0:
        return f"does not fit, short by {human_bytes(-int(row['free_bytes']))}"
    return f"no: {row['why']}"


def _summary(q: Question, verdicts: pd.DataFrame) -> tuple[str, ...]:
    """The set-up to rent, what binds first, and what would change the answer: a line a model."""
    lines = []
    for found in headline.set_ups(q)[:MODELS_SUMMED]:
        start = f"; start: {found.command}" if found.command else ""
        lines.append(
            f"Recommended for {found.model} ({q.load}, TTFT within {headline.TARGET_TTFT}, TPOT within {headline.TARGET_TPOT}): {found.words}{start}"
        )
    lines += [f"{run.name}: {run.busy}" for run in q.runs if run.busy]
    if q.usual:
        lines.append(
            f"No device was named: three usual ones are shown ({words.listing([p.name for p in q.places])}). --gpu names others."
        )
    changed = tables.changes(q)
    for name in list(q.names.values())[:MODELS_SUMMED]:
        rows = verdicts[verdicts["model"] == name]
        if rows["fits"].any():
            lines.append(_binds(name, rows[rows["fits"]].to_dict("records")))
        if len(mine := changed[changed["model"] == name]):
            lines.append(_helps(name, mine))
    if len(q.names) > MODELS_SUMMED:
        lines.append("The tables below hold the other models.")
    for row in (
        verdicts[verdicts["fits"] & (verdicts["total_bytes_high"] > verdicts["capacity_bytes"])]
        .head(3)
        .to_dict("records")
    ):
        lines.append(f"{row['model']} on {row['device']} is tight: with estimates at their highest it does not fit.")
    lines += [_found(run) for run in q.runs[:RUNS_AS_COLUMNS]]
    if len(q.runs) > RUNS_AS_COLUMNS:
        lines.append(f"{len(q.runs) - RUNS_AS_COLUMNS} more runs are in the tables.")
    return tuple(lines)


def _found(run: Run) -> str:
    """What a run found, in a sentence."""
    found = run.found
    sizes = [check for check in found.checks if check.expect == "exact" and check.measured is not None]
    said = []
    if sizes:
        right = sum(check.verdict == "exact" for check in sizes)
        said.append(f"{right} of {len(sizes)} sizes that should be exact are, to the byte")
    generated = found.of("generate")
    if generated:
        longest = max(generated, key=lambda point: (point.new_tokens, point.cache == "static"))
        said.append(
            f"{number(longest.readings['tokens_per_s'].value)} tokens/s with a {longest.cache} cache over {longest.new_tokens:,} new tokens"
        )
    if crossing := found.figures.get("crossing_tokens"):
        said.append(f"the cache pays from {int(crossing.value):,} new token{'s' if crossing.value > 1 else ''}")
    where = found.environment
    return f"{found.model} in {found.dtype}, measured on {where.device} ({where.date[:10]}): {'; '.join(said) or 'nothing to the end'}."


def _binds(name: str, rows: Sequence[dict[Hashable, Any]]) -> str:
    """What binds first on each device as sequences are added, and what a step waits for at the batch asked."""
    full = [f"{row['most_sequences']:,} sequences on {row['device']}" for row in rows if row["binds_first"] == "memory"]
    turns = [
        f"batch {int(row['compute_bound_batch']):,} on {row['device']}"
        for row in rows
        if row["binds_first"] == "compute"
    ]
    said = []
    if full:
        said.append(f"memory alone binds first: it is full at {words.listing(full, 4)}")
    if turns:
        said.append(f"compute binds first: decode waits for arithmetic from {words.listing(turns, 4)}")
    waits = sorted({str(row["step_bound_by"]) for row in rows if row["step_bound_by"]})
    until = f"; at the batch asked a decode step waits for {' or '.join(waits)}" if waits else ""
    return f"{name}: {'; '.join(said)}{until}."


def _helps(name: str, changed: pd.DataFrame) -> str:
    """What would make it fit where it does not."""
    helped, hopeless = [], []
    for device, part in changed.groupby("device", sort=False):
        ways = [f"{r['change']} ({r['flags']})" for r in part[part["fits"]].to_dict("records")]
        if ways:
            helped.append(f"on {device} with {' or '.join(ways[:2])}")
        else:
            hopeless.append(str(device))
    said = [f"would fit {'; '.join(helped)}"] if helped else []
    if hopeless:
        said.append(f"no change that kvplan knows of makes it fit on {words.listing(hopeless)}")
    return f"{name}: {'; '.join(said)}." if hopeless else f"{name} {said[0]}."


# Sections


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


def _memory(q: Question, verdicts: pd.DataFrame) -> Section:
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


def _region(q: Question, verdicts: pd.DataFrame) -> Section:
    """How many fit at each length: of one model on one device as a heat map, of several as lines."""
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


def _accuracy(q: Question) -> Section:
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


def _speed(q: Question) -> Section:
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


def _bounds(q: Question) -> Section:
    table = tables.step_bounds(q)
    devices = list(dict.fromkeys(table["device"]))
    index = {place.name: i for i, place in enumerate(q.places)}
    shown = [picture("step-bounds", q, 0, place=index[name], suffix="") for name in devices[-BOUND_DEVICES:]]
    rows = Table("bounds", "Bounds of prefill and decode steps", "max(bytes / bandwidth, FLOPs / rate) by the device's published rates, or those a run measured: a bound, not a prediction.", table,
                 ("model", "device", "step", "batch", "context_tokens", "read_bytes", "flops", "bound_seconds", "bound_tokens_per_s", "bound_by", "fits"))  # fmt: skip
    return Section("bounds", "Speed, bounds", "How fast a device could be at best by its bandwidth and arithmetic. Real engines stay below.",
                   _kept(*shown, picture("roofline", q), rows) if len(table) else ())  # fmt: skip


def _plans(q: Question) -> Section:
    """The ranking of each plan, and its front."""
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


def _comparison(a: Run, b: Run) -> Section:
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


def _equations(q: Question) -> Section:
    table = Table("equations", "The equation of each group of layers", f"For {q.load}. Every factor comes from the config fields named at its right.",
                  tables.equation_rows(q), ("model", "layers", "keeps", "equation", "bytes", "config_fields", "exactness"))  # fmt: skip
    symbols = sorted(set(table.frame["symbols"]) - {""})
    return Section("equations", "How the cache is worked out", "The formula with its numbers: anyone can check it by hand.",
                   _kept(table, Lines("The factors in order", tuple(symbols))))  # fmt: skip


def _environment(q: Question, pair: tuple[Run, Run] | None, skipped: Sequence[str]) -> Section:
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


def _limits(q: Question) -> Section:
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


def _reproduce(commands: Sequence[str]) -> Section:
    return Section("reproduce", "How to reproduce this", "The same input gives the same report, except for the date above.",
                   _kept(Lines("", tuple(commands), code=True)))  # fmt: skip


__all__ = ["Card", "Lines", "Picture", "Report", "Section", "Table", "picture", "report"]

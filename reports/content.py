"""What a report holds, from question to reproduction; how it is written down is for html.py and markdown.py."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import pandas as pd

from planner.options.lengths import lengths_of
from planner.units import human_bytes, human_tokens, plural
from reports import compare, headline, plans, sections, tables, words
from reports.blocks import Card, Report, Section, Table
from reports.question import Question
from reports.runs import Run
from reports.style import number

MODELS_SUMMED = 6
RUNS_AS_COLUMNS = 3


def report(
    q: Question,
    *,
    pair: tuple[Run, Run] | None = None,
    skipped: Sequence[str] = (),
    commands: Sequence[str] = (),
    made: Sequence[tuple[str, str]] = (),
) -> Report:
    """Builds the whole report for a question, the runs in it, and a pair of runs to compare."""
    shown: list[Section] = []
    asked, answer, cards, summary = "", "", (), ()  # type: tuple[str, str, tuple[Card, ...], tuple[str, ...]]
    first: Table | None = None
    if q.specs:
        verdicts = tables.verdicts(q)
        rows = headline.headline(q)
        asked, answer, first = tables.asked_words(q), headline.counted(rows), _headline(q, rows)
        cards, summary = _cards(q, verdicts, rows), _summary(q, verdicts)
        shown += [sections.memory_section(q, verdicts), sections.region_section(q, verdicts)]
    if q.runs:
        shown += [sections.accuracy_section(q), sections.speed_section(q)]
    if q.specs:
        shown.append(sections.bounds_section(q))
    if q.plans:
        shown.append(sections.plans_section(q))
        asked = asked or f"Which devices for {words.listing([plan.asked for plan in q.plans], 2)}?"
        answer = answer or plans.best_words(q.plans[0])
    if pair is not None:
        shown.append(sections.comparison_section(*pair))
        asked = asked or f"What changed from {pair[0].name} to {pair[1].name}?"
        answer = answer or words.comparison_sees(compare.comparison(*pair))
    if q.specs:
        shown.append(sections.equations_section(q))
    shown += [
        sections.environment_section(q, pair, skipped),
        sections.limits_section(q),
        sections.reproduce_section(commands),
    ]
    named = words.listing([plan.name for plan in q.plans], 3) or "runs"
    title = q.titles or (f"{pair[0].name} against {pair[1].name}" if pair else named)
    asked = asked or f"What did {words.listing([run.name for run in q.runs], 3)} find?"
    kept = tuple(section for section in shown if section.blocks or section.name == "environment")
    return Report(f"kvplan: {title}", asked, answer, cards, summary, kept, tuple(made), first)


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

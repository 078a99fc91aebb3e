"""A server as one page: where memory went, how fast it is beside what is expected, its load, what one flag would change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from planner.answers.advice import Advice
from planner.answers.measured_beside import Beside, place
from planner.answers.server import ServerAnswer
from planner.answers.speed import speed_on
from planner.reconcile.ledger import Ledger
from planner.reconcile.vllm import set_by_hand
from planner.speed.speed import Figure as Expected
from planner.units import human_seconds, plural
from reports.blocks import Block, Card, Lines, Picture, Report, Section, Table
from reports.kinds import RUNS, Kind
from reports.plots_server import expected_curve
from reports.words import listing

MOST_LENGTHS = 0.25  # points of other lengths than the curve's are left out of it
ENDS = ("value", "low", "high", "bound")


def server_report(found: ServerAnswer, *, title: str, answer: str, made: Sequence[tuple[str, str]] = ()) -> Report:
    """Builds the page of what `kvplan reconcile` found; `title` and `answer` are its first two lines."""
    sections = [_memory(ledger) for ledger in found.ledgers]
    if found.speeds:
        sections.append(_speed(found))
    if found.load is not None:
        sections.append(_load(found))
    if found.advice is not None:
        sections.append(_advice(found.advice))
    asked = f"What does this server do, and what should it do? From {listing(found.files, 4)}."
    return Report(f"kvplan: {title}", asked, answer, _cards(found), (), tuple(sections), tuple(made))


def _cards(found: ServerAnswer) -> tuple[Card, ...]:
    """A card a part: memory, speed, load, advice."""
    cards = []
    for made in found.ledgers:
        agreeing = sum(figure.agrees for figure in made.figures)
        good, words = _closes(made)
        cards.append(Card("Memory", good, words, (f"{agreeing} of {len(made.figures)} figures of the log agree",)))
    places = [place(seconds, figure) for one in found.speeds for _, seconds, figure in one.pairs()]
    if places:
        inside = places.count("inside")
        cards.append(Card("Speed", inside == len(places), f"{inside} of {len(places)} times as expected"))
    if found.load is not None:
        missed = found.load.missed
        cards.append(Card("Load", not missed, f"misses {listing(missed)}" if missed else "meets its targets"))
    if found.advice is not None and found.advice.changes:
        first = found.advice.changes[0]
        cards.append(Card("Best change", None, first.flags, (_gain_words(found.advice, 0),)))
    return tuple(cards)


def _closes(made: Ledger) -> tuple[bool | None, str]:
    """Whether the ledger closes, None where that cannot be told, and the words for it."""
    if made.stopped is not None:
        return False, made.stopped.text
    if made.closes is not None:
        return made.closes, "closes" if made.closes else "does not close"
    if made.run is not None and set_by_hand(made.run):
        return None, "the pool was set by hand"
    return None, "the log does not print enough to close it"


def _memory(made: Ledger) -> Section:
    rows = [
        {
            "where": entry.name, "logged_bytes": entry.logged,
            "expected_bytes": None if entry.predicted is None else entry.predicted.bytes,
            "expected_bytes_low": None if entry.predicted is None else entry.predicted.low,
            "expected_bytes_high": None if entry.predicted is None else entry.predicted.high, "why": entry.reason,
        }
        for entry in made.entries
        if entry.logged is not None or entry.predicted is not None
    ]  # fmt: skip
    blocks: list[Block] = [Table("memory", "Where memory went", "Of one device; as logged, and as expected of this model and these flags.", pd.DataFrame(rows))]  # fmt: skip
    figures = [
        {"figure": f.name, "logged": f.logged, "expected_low": f.low, "expected_high": f.high, "agrees": "yes" if f.agrees else "no", "why": f.reason}
        for f in made.figures
    ]  # fmt: skip
    if figures:
        blocks.append(Table("figures", "Figures of the log", "Counts that the log prints, beside ours.", pd.DataFrame(figures)))  # fmt: skip
    if made.notes or made.missing:
        blocks.append(Lines("Notes", (*(f"not in the log: {line}" for line in made.missing), *made.notes)))
    return Section("memory", "Memory", "The start-up log, line by line.", tuple(blocks))


def _speed(found: ServerAnswer) -> Section:
    rows = [row for one in found.speeds for row in _row(one)]
    blocks: list[Block] = []
    picture = curve(found)
    if picture is not None:
        blocks.append(picture)
    if rows:
        blocks.append(Table("speed", "Measured beside expected", "What is expected has not seen these files.", pd.DataFrame(rows)))  # fmt: skip
    reasons = dict.fromkeys(f"{one.point.source}: {one.why_not}" for one in found.speeds if one.why_not)
    if reasons or found.notes:
        blocks.append(Lines("Notes", (*reasons, *found.notes)))
    return Section("speed", "Speed", "Benchmarks of this server.", tuple(blocks))


def _row(one: Beside) -> list[dict[str, Any]]:
    """One row for each time that was measured."""
    return [
        {
            "tool": one.point.tool, "at once": one.expected.batch if one.expected else None,
            "prompt_tokens": one.point.prompt_tokens, "answer_tokens": one.point.output_tokens, "time": name,
            "measured_seconds": seconds, "expected_seconds": figure.value, "expected_seconds_low": figure.low,
            "expected_seconds_high": figure.high, "place": place(seconds, figure), "file": one.point.source,
        }
        for name, seconds, figure in one.pairs()
    ]  # fmt: skip


def curve(found: ServerAnswer) -> Picture | None:
    """Draws TPOT by requests at once: the range that is expected, the bound, the points; None of fewer than two loads."""
    frame = curve_frame(found.speeds)
    if frame is None:
        return None
    kind = Kind(
        "expected-curve", "Time a token: measured and expected", RUNS, pd.DataFrame, expected_curve, _sees, _alt
    )
    first = found.speeds[0].expected
    about = f"{found.gpu}; {frame.attrs['lengths']}" if first else found.gpu or ""
    return Picture(kind.name, kind.title, _sees(frame), _alt(frame), frame, kind, about)


def curve_frame(speeds: Sequence[Beside]) -> pd.DataFrame | None:
    """Returns rows of role "expected" (batch, value, low, high, bound) and "measured" (batch, value), in seconds.

    The lengths are those that most points have; the curve is computed between the fewest and the most at once.
    """
    known = [one for one in speeds if one.expected is not None and one.point.tpot_seconds]
    if not known:
        return None
    alike = max(([other for other in known if _near(one, other)] for one in known), key=len)
    batches = sorted({one.expected.batch for one in alike if one.expected})
    if len(batches) < 2:
        return None
    rows: list[dict[str, Any]] = [
        {"role": "expected", "batch": batch, **{end: getattr(figure, end) for end in ENDS}}
        for batch, figure in _expected(alike[0], batches)
    ]
    rows += [{"role": "measured", "batch": one.expected.batch, "value": one.point.tpot_seconds} for one in alike if one.expected]  # fmt: skip
    frame = pd.DataFrame(rows)
    left = len(known) - len(alike)
    said = alike[0].expected
    assert said is not None
    frame.attrs["lengths"] = f"prompts of {said.prompt_tokens:,}, answers of {said.output_tokens:,} tokens" + (
        f"; of other lengths: {plural(left, 'point')} in the table" if left else ""
    )
    return frame


def _near(one: Beside, other: Beside) -> bool:
    """Whether two points have the same lengths, or nearly."""
    a, b = one.expected, other.expected
    assert a is not None and b is not None
    pairs = ((a.prompt_tokens, b.prompt_tokens), (a.output_tokens, b.output_tokens))
    return a.load == b.load and all(abs(x - y) <= MOST_LENGTHS * max(x, y) for x, y in pairs)


def _expected(one: Beside, batches: Sequence[int]) -> list[tuple[int, Expected]]:
    """The same deployment at the loads between the first and the last."""
    low, high, steps = batches[0], batches[-1], 24
    grid = sorted({*batches, *(round(low * (high / low) ** (i / steps)) for i in range(steps + 1))})
    assert one.asked is not None
    question = replace(one.asked, batches=tuple(grid))
    return [(made.batch, made.tpot_seconds) for made in speed_on(question.devices[0], question).speeds]


def _sees(frame: pd.DataFrame) -> str:
    points, band = frame[frame["role"] == "measured"], frame[frame["role"] == "expected"].set_index("batch")
    inside = sum(band.loc[row.batch, "low"] <= row.value <= band.loc[row.batch, "high"] for row in points.itertuples())
    return f"{inside} of {len(points)} measured points lie in the range; the dashed line is what the device allows."


def _alt(frame: pd.DataFrame) -> str:
    points = frame[frame["role"] == "measured"]
    said = ", ".join(f"{human_seconds(row.value)} at {row.batch:,}" for row in points.itertuples())
    return f"Time between tokens against requests at once, with the expected range and the bound. Measured: {said}."


def _load(found: ServerAnswer) -> Section:
    assert found.load is not None
    now = found.load.served
    counts = (("running", now.running), ("waiting", now.waiting), ("preemptions", now.preemptions))
    shares = (("cache in use", now.cache_share), ("prefix hits", now.prefix_hit_share))
    tokens = (("pool", now.pool_tokens), ("prompts", now.prompt_tokens), ("answers", now.output_tokens))
    times = (
        ("TTFT", now.ttft_seconds), ("TTFT, p95", now.ttft_p95_seconds), ("TPOT", now.tpot_seconds),
        ("TPOT, p95", now.tpot_p95_seconds),
    )  # fmt: skip
    said = [(name, None if value is None else f"{value:,.0f}") for name, value in counts]
    said += [(name, None if value is None else f"{100 * value:.0f} %") for name, value in shares]
    said += [(name, None if value is None else f"{value:,.0f} tokens") for name, value in tokens]
    said += [(name, None if value is None else human_seconds(value)) for name, value in times]
    said += [("output", None if now.output_tokens_per_s is None else f"{now.output_tokens_per_s:,.0f} tokens/s")]
    frame = pd.DataFrame([{"what": name, "measured": value} for name, value in said if value is not None])
    most = found.load.most_users
    sees = "What /metrics says of its requests." + (f" {most:,} at once until {found.load.by} ends it." if most else "")
    return Section("load", "Load", sees, (Table("load", "What it does", "Means since it started, or between two reads.", frame),))  # fmt: skip


def _advice(found: Advice) -> Section:
    rows = [
        {
            "with": one.flags or "as it is", "devices": one.devices, "most at once": one.most_users, "ends by": one.by,
            "output_tokens_per_s": one.tokens_per_s, "gain_share": None if (gain := found.gain(one)) is None or one is found.now else gain - 1,
            "tpot_seconds": one.tpot_seconds, "ttft_seconds": one.ttft_seconds,
        }
        for one in (found.now, *found.changes)
    ]  # fmt: skip
    sees = f"Each flag answered anew, speeds scaled by {found.points} points of this server. TTFT and TPOT at {found.load.batch:,} at once."
    table = Table("advice", "What one flag would change", sees, pd.DataFrame(rows))
    return Section("advice", "Advice", "In order of gain: output tokens a second of a device, within the targets.", (table,))  # fmt: skip


def _gain_words(found: Advice, at: int) -> str:
    one = found.changes[at]
    gain = found.gain(one)
    more = "meets the targets" if gain is None else f"{100 * (gain - 1):+,.0f} % output tokens/s a device"
    return f"{more}; {one.most_users:,} at once, {found.now.most_users:,} now"

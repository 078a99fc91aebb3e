"""What `kvplan reconcile` asks and prints; `kvplan/reconcile.py` is the command, which can draw it, too."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

from planner.answers.server import Read, ServerAnswer, model_of, server_answer, with_log
from planner.commands.pages.advice import advice_page, best
from planner.commands.pages.measured import measured_page, verdict
from planner.commands.pages.watch import page as load_page
from planner.errors import KvplanError, one_line
from planner.files.write import locked
from planner.measured.metrics import Reading
from planner.measured.metrics_text import read_metrics
from planner.measured.points import BadMeasured, MeasuredFile, MeasuredPoint
from planner.measured.reader import MOST_BYTES, read_measured
from planner.measured.record import merged_points
from planner.options.reconcile import ServerAsked
from planner.options.running import Running
from planner.reconcile.facts import Log, engines_of, identity
from planner.reconcile.ledger import Given, Ledger
from planner.reconcile.reader import Source
from planner.reconcile.record import merged
from planner.reconcile.runs import ledger_of
from planner.reconcile.vllm import set_by_hand
from planner.terminal.output import write_whole
from planner.terminal.progress import Progress
from planner.terminal.tables import bad, bold, dim, good, table
from planner.units import gib, human_bytes


def answered(log: Sequence[str], asked: ServerAsked) -> ServerAnswer:
    """Reads what the files say of a server, and answers with it beside what is expected; rows are added to a case file
    where one is named.
    """
    ledgers, points, notes, metrics = list[Ledger](), list[MeasuredPoint](), list[str](), list[tuple[str, Reading]]()
    for name in log:
        found = _ledgers(name, asked.given)
        if isinstance(found, Reading):
            metrics.append((name, found))
        elif isinstance(found, MeasuredFile):
            points += found.points
            notes += [f"{name}: {note}" for note in found.notes]
        elif found:
            ledgers += found
            if asked.record:
                with locked(asked.record):  # several may record at once: nothing that one added is lost
                    write_whole(asked.record, merged(asked.record, found, name, gpu=asked.running.gpu), "--record")
    read = Read(tuple(ledgers), tuple(points), tuple(metrics), tuple(notes))
    answer = server_answer(log, read, asked.running, targets=asked.targets)
    if asked.record and answer.speeds:
        _record_points(answer, asked.running, asked.record)
    return answer


def _record_points(answer: ServerAnswer, running: Running, path: str) -> None:
    """Adds the measured times to a case file of speeds, with what flags and log say of the server."""
    said = with_log(running, answer.ledgers)
    taken = next((model_of(made) for made in answer.ledgers), None)
    name, _, version = (said.engine or "").partition("==")
    known = {
        "model": running.model or taken, "gpu": running.gpu, "tp": said.tp, "pp": said.pp,
        "weight_dtype": running.dtype, "kv_dtype": said.kv_dtype, "engine": name, "engine_version": version,
    }  # fmt: skip
    with locked(path):
        points = [one.point for one in answer.speeds]
        write_whole(path, merged_points(path, points, known), "--record")


def pages(found: ServerAnswer) -> list[str]:
    """Writes the page in its parts: a summary where there are several, memory, speed, load, advice."""
    parts = ["\n".join(_page(made)) for made in found.ledgers]
    parts += ["\n".join(measured_page(found.speeds, found.gpu or "", found.notes))] if found.speeds else []
    parts += ["\n".join(load_page(found.load, with_advice=False))] if found.load is not None else []
    whole = ["\n".join(summary(found))] if len(parts) > 1 else []
    parts += ["\n".join(advice_page(found.advice, found.no_advice))] if found.advice or found.no_advice else []
    return whole + parts


def summary(found: ServerAnswer) -> list[str]:
    """Says who the server is, and the verdict of each part in a line."""
    made = found.ledgers[0] if found.ledgers else None
    name = next(iter([*(model_of(m) for m in found.ledgers), *(one.point.model for one in found.speeds)]), None)
    engine = made.engine if made else next((one.point.engine for one in found.speeds if one.point.engine), None)
    verdicts = [f"memory {_verdict(made).rstrip('.')}" for made in found.ledgers]
    verdicts += [f"speed: {verdict(found.speeds).partition('. ')[0]}".rstrip(".")] if found.speeds else []
    missed = found.load.missed if found.load else ()
    verdicts += [f"load: {f'misses {missed[0]}' if missed else 'meets its targets'}"] if found.load else []
    verdicts += [best(found.advice)] if found.advice else []
    return [
        bold(" ".join(filter(None, (engine, name or "a server", f"on {found.gpu}" if found.gpu else "")))),
        "; ".join(verdicts) + ".",
    ]


def _ledgers(log: str, given: Given) -> list[Ledger] | MeasuredFile | Reading:
    """The ledgers of a log, the points of a benchmark's file, or what /metrics says; KvplanError where it is none."""
    progress = Progress(_size(log))
    source = Source(log, lambda size: progress.step("reading", size))
    try:
        found = Log().read(source.lines())
    finally:
        progress.close()
    runs = engines_of(found)
    if not runs:
        bench = _benchmark(log)
        if bench is not None:
            return bench
        if _is_metrics(log):
            return read_metrics(log)
        raise KvplanError(_nothing(log, source, found))
    ledgers = []
    for run in runs:
        made, starts = ledger_of(run, given), found.starts.get(identity(run), 1)
        if starts > 1:
            words = f"{starts} starts of it in this file; the last whole one is shown"
            made = replace(made, notes=(words, *made.notes))
        ledgers.append(made)
    return ledgers


def _is_metrics(name: str) -> bool:
    """Whether a file begins as Prometheus' text does."""
    try:
        with open(name, "rb") as file:
            return file.read(7) in (b"# HELP ", b"# TYPE ")
    except (OSError, ValueError):
        return False


def _benchmark(name: str) -> MeasuredFile | None:
    """The points of a benchmark's file; None where it is none."""
    if name == "-" or _size(name) > MOST_BYTES:
        return None
    try:
        return read_measured(name)
    except BadMeasured:
        return None


def _size(log: str) -> int:
    """Bytes to read, for the progress alone: 0 where it cannot be told."""
    try:
        return 0 if log == "-" else os.stat(log).st_size
    except (OSError, ValueError):
        return 0


def _nothing(log: str, source: Source, found: Log) -> str:
    """Why a file has no ledger."""
    shown = "standard input" if log == "-" else one_line(log, 80)
    if not source.read_bytes:
        return f"{shown} is empty; name a server's log"
    if source.zero_bytes * 1000 > source.read_bytes:
        return f"{shown} is not a text log; name a server's log"
    if unread := next((run.unread_words for run in found.current.values() if run.unread), ""):
        return f"{shown}: {unread}; a log from the start of the server is wanted"
    if found.known and not any(run.values for run in found.current.values()):
        what = ", ".join(f"{count} of {name}" for name, count in found.known.items())
        return f"{shown} has lines that are known and say nothing of memory ({what}); a log from the start of the server is wanted"
    if found.lines:
        seen = ", ".join(sorted(found.current))
        return f"{shown} has lines of {seen}, but none that says how much cache it got; a log from the start of the server is wanted"
    return (
        f"{shown} ({human_bytes(source.read_bytes)}) has no start-up line of vLLM, SGLang, llama.cpp, ollama, TensorRT-LLM, "
        "LMDeploy, TabbyAPI or mlx-lm; a log from the start of the server is wanted, of llama-server's newest builds with -lv 4"
    )


def _page(made: Ledger) -> list[str]:
    head = bold(f"{made.engine} {made.version or ''}".strip())
    model = made.model or "model not named"
    taken = f" (taken as {made.taken_as})" if made.taken_as and made.taken_as != made.model else ""
    layout = f", TP {made.tp}" * (made.tp > 1) + f", PP {made.pp}" * (made.pp > 1)
    first = f"{head}  {model}{taken}{layout}" + (f", KV in {made.kv_dtype}" if made.kv_dtype else "")
    lines = [first, _verdict(made), ""]
    rows = []
    for entry in made.entries:
        ours = entry.predicted
        if ours is None and entry.logged is None:
            continue
        logged = "-" if entry.logged is None else gib(entry.logged)
        predicted = "-" if ours is None else gib(ours.bytes)
        if ours is not None and ours.low != ours.high:
            predicted += f" ({gib(ours.low).removesuffix(' GiB')} to {gib(ours.high)})"
        difference = "-" if ours is None or entry.logged is None else _signed(entry.logged - ours.bytes)
        rows.append([f"  {entry.name}", logged, predicted, difference])
    if rows:
        lines.append(table(["  where it went", "logged", "predicted", "difference"], rows))
    shown = [entry for entry in made.entries if entry.logged is not None or entry.predicted is not None]
    lines += [dim(f"  {entry.name}: {entry.reason}") for entry in shown if entry.reason]
    if made.readings:
        lines.append(
            "  the log says: " + "; ".join(f"{name} {_number(value)}" for name, value in made.readings.items())
        )
    for figure in made.figures:
        span = _number(figure.low) if figure.low == figure.high else f"{_number(figure.low)} to {_number(figure.high)}"
        paint = good if figure.agrees else bad
        verdict = paint("agrees" if figure.agrees else "differs")
        lines.append(f"  {figure.name}: logged {_number(figure.logged)}, predicted {span}: {verdict}, {figure.reason}")
    if made.more_room:
        lines += ["", "  what would give more room"]
        for room in made.more_room:
            tokens = f"about {room.gain_tokens:,} tokens" if room.gain_tokens else ""
            size = gib(room.gain_bytes) if room.gain_bytes else ""
            lines.append(f"    {room.flags}: {' = '.join(part for part in (size, tokens) if part)} more a device")
    lines += [bad("  not in the log: ") + line for line in made.missing]
    return lines + [dim(f"  note: {line}") for line in made.notes]


def _verdict(made: Ledger) -> str:
    """Why the server stopped, else whether the ledger closes, and how many of the log's figures agree."""
    agreeing = sum(figure.agrees for figure in made.figures)
    figures = f"; {agreeing} of {len(made.figures)} figures of the log agree" if made.figures else ""
    if len(made.figures) == 1:
        figures = f"; the figure of the log {'agrees' if agreeing else 'differs'}"
    if made.stopped is not None:
        return bad(f"STOPPED: {made.stopped}")
    if made.unexplained is None and made.run is not None and set_by_hand(made.run):
        return f"POOL SET BY HAND: no budget was cut, so there is none to close{figures}."
    if made.unexplained is None:
        return f"NOT CLOSED: the log does not print enough to close the ledger{figures}."
    if not made.closes:
        return bad(f"DOES NOT CLOSE: {_signed(made.unexplained)} not accounted for{figures}.")
    paint = good if agreeing == len(made.figures) else bad
    return paint(f"CLOSES: {_signed(made.unexplained)} left over{figures}.")


def _signed(size: int) -> str:
    return f"-{gib(-size)}" if size < 0 else gib(size)


def _number(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.2f}"

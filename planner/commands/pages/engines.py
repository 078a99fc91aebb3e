"""How engines side by side look on the screen."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from planner.answers.engines import EngineRow, EnginesAnswer
from planner.commands.pages.assumed import assumed_lines
from planner.commands.pages.model_line import named
from planner.dtypes.names import float_dtype
from planner.engines.base import Pool
from planner.memory.estimate import Estimate
from planner.options.model import Output
from planner.terminal.tables import bad, dim, good, table
from planner.units import gib, human_bytes, human_tokens


def page(answer: EnginesAnswer, output: Output) -> list[str]:
    """Writes a table, a row an engine; with `explain` what each prints and why it differs."""
    explain = output.explain
    one = answer.estimate
    count = one.request.sharding.devices
    where = f" on {f'{count:,} x ' if count > 1 else ''}{one.capacity.name}" if one.capacity else ""
    head = f"{where}, requests of {human_tokens(one.request.seq_tokens)} tokens, KV in {one.fmt.name}"
    cells = [_cells(row) for row in answer.engines]
    header = ["engine", "a request", "pool", "tokens", "estimated range", "at once"]
    lines = [named(one.spec) + head, _verdict(answer), "", table(header, cells), ""]
    lines += _stored(answer)
    for row in answer.engines:
        if explain or row.answer is None:
            lines += _remarks(row)
    refusals = dict.fromkeys(
        row.answer.refusal.text for row in answer.engines if row.answer is not None and row.answer.refusal
    )
    if not answer.held and len(refusals) == 1:
        lines += [bad(f"  {text}") for text in refusals]
    logical = next((row.answer.logical_bytes for row in answer.engines if row.answer is not None), None)
    if logical is not None:
        lines.append(f"  logical, before any engine rounds it: {human_bytes(logical)} a request")
    if not explain:
        lines.append(dim("  what each prints, and why they differ: --explain"))
    lines += [bad("  note: ") + line for line in one.warnings]
    own = [line for row in answer.engines if row.answer is not None for line in row.answer.assumptions]
    return lines + assumed_lines([*one.assumptions, *(own if output.verbose else ())], output.verbose)


def _stored(answer: EnginesAnswer) -> list[str]:
    """Which engines store K and V in another form than the first line says; f16 of llama.cpp is 16 bit like bf16."""
    usual = {answer.estimate.fmt.name, "f16" if float_dtype(answer.estimate.fmt.name) else None, None}
    others = [row for row in answer.engines if row.kv_dtype not in usual]
    names = dict.fromkeys(row.kv_dtype for row in others)
    return [f"  stored in {name}: {', '.join(row.label for row in others if row.kv_dtype == name)}" for name in names]


def several_page(answers: Sequence[EnginesAnswer], verbose: bool = False) -> list[str]:
    """Writes a row for each engine on each device, at each length and batch."""
    one = answers[0].estimate
    held = sum(bool(answer.held) for answer in answers)
    said = (
        f"YES on {held} of {len(answers)}: some engine holds a request."
        if held
        else f"NONE of the engines holds a request on any of these {len(answers)}."
    )
    names: dict[str, Callable[[Estimate], str]] = {
        "device": lambda found: found.capacity.name if found.capacity else "-",
        "tokens": lambda found: f"{found.request.seq_tokens:,}",
        "batch": lambda found: f"{found.request.batch:,}",
    }
    differ = [name for name, read in names.items() if len({read(answer.estimate) for answer in answers}) > 1]
    rows = [
        [*(names[name](answer.estimate) for name in differ), *(_cells(row)[cell] for cell in (0, 1, 2, 5))]
        for answer in answers
        for row in answer.engines
        if row.answer is not None
    ]
    where = f" on {one.capacity.name}" if one.capacity is not None and "device" not in differ else ""
    length = f"requests of {human_tokens(one.request.seq_tokens)} tokens, " if "tokens" not in differ else ""
    notes = dict.fromkeys(line for answer in answers for line in answer.estimate.warnings)
    return [
        named(one.spec) + f"{where}, {length}KV in {one.fmt.name}",
        (good if held == len(answers) else bad)(said),
        "",
        table([*differ, "engine", "a request", "pool", "at once"], rows, left=len(differ) + 1),
        *(bad("  note: ") + line for line in notes),
        *assumed_lines(one.assumptions, verbose),
    ]


def _verdict(answer: EnginesAnswer) -> str:
    """How many of the engines hold a request, and the most that one of them does."""
    held = answer.held
    if not held:
        return bad("NONE of these engines holds one request of this length.")
    best = max(held, key=lambda row: row.answer.most_requests or 0 if row.answer is not None else 0)
    assert best.answer is not None
    return good(
        f"{len(held)} of {len(answer.engines)} hold it; the most at once: {best.label}, {best.answer.most_requests:,}."
    )


def _cells(row: EngineRow) -> list[str]:
    answer = row.answer
    if answer is None:
        return [row.label, "-", "-", "-", "-", "-"]
    pool = answer.ranged.pool if answer.ranged else None
    ends = (answer.ranged.low.tokens, answer.ranged.high.tokens) if answer.ranged else (0, 0)
    return [
        row.label,
        human_bytes(answer.request_bytes),
        gib(pool.bytes) if pool else "-",
        f"{pool.tokens:,}" if pool else "-",
        _range(pool, *ends),
        "-" if answer.most_requests is None else f"{answer.most_requests:,}",
    ]


def _remarks(row: EngineRow) -> list[str]:
    """What the engine prints, and why it differs from the others."""
    if row.answer is None:
        return [dim(f"  {row.label}: {row.refused}")]
    lines = [f"  {row.label} prints: {line}" for line in row.answer.lines[:2]]
    return lines + ([dim(f"  {row.label}: {'; '.join(row.answer.reasons)}")] if row.answer.reasons else [])


def _range(pool: Pool | None, low: int, high: int) -> str:
    if low != high:
        return f"{low:,} to {high:,}"
    return "exact" if pool is not None and pool.bytes else "-"

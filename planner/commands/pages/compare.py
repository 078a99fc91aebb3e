"""How several models, devices or batches side by side look on the screen."""

from __future__ import annotations

from planner.answers.estimate import EstimateAnswer
from planner.answers.several import Answers
from planner.commands.pages.assumed import assumed_lines
from planner.commands.pages.estimate import FITS
from planner.terminal.tables import bad, good, table
from planner.units import gib, human_bytes, human_count, human_tokens, plural

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Cell = Callable[[EstimateAnswer], str]


def page(answers: Answers[EstimateAnswer], verbose: bool = False) -> list[str]:
    """Writes what is compared, how many of them fit, and a row each: bytes a token, cache, weights, verdict."""
    names = {answer.spec.name for answer in answers}
    lines = [_question(answers, len(names)), _verdict(answers), "", _table(answers, len(names) > 1)]
    notes = dict.fromkeys(f"{answer.spec.name}: {line}" for answer in answers for line in answer.warnings)
    lines += [bad("  note: ") + line for line in notes]
    if verbose:
        lines += assumed_lines((f"{one.spec.name}: {line}" for one in answers for line in one.assumptions), verbose)
    return lines


def _question(answers: Answers[EstimateAnswer], models: int) -> str:
    first = answers[0]
    who = plural(models, "model") if models > 1 else first.spec.name
    batches = {answer.request.batch for answer in answers}
    lengths = {answer.request.seq_tokens for answer in answers}
    many = plural(first.request.batch, "sequence") if len(batches) == 1 else "sequences"
    long = f" of {human_tokens(first.request.seq_tokens)} tokens" if len(lengths) == 1 else ""
    rooms = {answer.capacity.name: answer.capacity.bytes for answer in answers if answer.capacity is not None}
    where = "".join(f" on {name} ({gib(size)})" for name, size in rooms.items()) if len(rooms) == 1 else ""
    read = dict.fromkeys(found.words for answer in answers if (found := answer.spec.read_as))
    said = "".join(f"; {words}" for words in read)
    return f"{who}, {many}{long}{where or (f' on {len(rooms)} devices' if rooms else '')}{said}"


def _verdict(answers: Answers[EstimateAnswer]) -> str:
    """How many fit or start; without a device, which cache is the smallest."""
    said = [answer.verdict for answer in answers if answer.verdict is not None]
    if answers[0].capacity is None and answers[0].engine is None:
        least = min(answers, key=lambda answer: answer.kv_bytes + answer.state_bytes)
        most = max(answers, key=lambda answer: answer.kv_bytes + answer.state_bytes)
        small, large = (human_bytes(one.kv_bytes + one.state_bytes) for one in (least, most))
        line = f"KV cache {small} ({_name(least, answers)}) to {large} ({_name(most, answers)})."
        late = sum(answer.too_long is not None for answer in answers)
        return f"{line} {bad(f'TOO LONG for {late} of {len(answers)}.')}" if late else line
    held = sum(verdict.ok for verdict in said)
    word, verb = ("START", "STARTS") if answers[0].engine is not None else ("FIT", "FITS")
    if held == len(said):
        return good(f"ALL {held} {word}.")
    return (
        bad(f"{held} of {len(said)} {verb if held == 1 else word}.")
        if held
        else bad(f"NONE of these {len(said)} {verb}.")
    )


def _name(answer: EstimateAnswer, answers: Answers[EstimateAnswer]) -> str:
    """What tells an answer from the others: its model, else its batch."""
    alone = len({one.spec.name for one in answers}) == 1
    return f"batch {answer.request.batch:,}" if alone else answer.spec.name


def _table(answers: Answers[EstimateAnswer], models: bool) -> str:
    """The columns that differ, then the figures."""
    most = max(answer.kv_bytes + answer.state_bytes for answer in answers) or 1
    columns: dict[str, Cell] = {}
    if models:
        columns["model"] = lambda one: one.spec.name
    rooms = {answer.capacity.name for answer in answers if answer.capacity is not None}
    if len(rooms) > 1:
        columns["device"] = lambda one: one.capacity.name if one.capacity is not None else ""
    left = max(1, len(columns))
    for name, value in (("batch", "batch"), ("tokens", "seq_tokens")):
        if len({getattr(answer.request, value) for answer in answers}) > 1:
            columns[name] = lambda one, value=value: f"{getattr(one.request, value):,}"  # type: ignore[misc]
    if models:
        columns["parameters"] = lambda one: human_count(one.parameters)
    columns["next token"] = lambda one: human_bytes(one.kv_bytes_per_token)
    columns["KV cache"] = lambda one: human_bytes(one.kv_bytes)
    if any(answer.state_bytes for answer in answers):
        columns["state"] = lambda one: human_bytes(one.state_bytes) if one.state_bytes else "-"
    if not rooms:
        columns[""] = lambda one: _bar(one.kv_bytes + one.state_bytes, most)
    columns["weights"] = lambda one: gib(one.weight_bytes)
    columns |= _where(answers)
    rows = [[cell(answer) for cell in columns.values()] for answer in answers]
    return table(list(columns), rows, left=left, drop=("parameters", "weights"))


def _where(answers: Answers[EstimateAnswer]) -> dict[str, Cell]:
    """On a device: the total and whether it fits; of an engine, whether it starts and how many requests it holds."""
    if answers[0].capacity is None and answers[0].engine is None:
        late = any(answer.too_long is not None for answer in answers)
        return {"so long?": lambda one: "no" if one.too_long else "yes"} if late else {}
    if answers[0].engine is None:
        return {"total a device": lambda one: gib(one.per_device.total_bytes), "fits": lambda one: FITS[one.held]}
    return {
        "at once": lambda one: f"{one.engine.most_requests or 0:,}" if one.engine is not None else "",
        "verdict": lambda one: one.verdict.word if one.verdict is not None else "",
    }


def _bar(size: int, most: int) -> str:
    return ("#" * max(1, round(16 * size / most)) if size else "").ljust(16)

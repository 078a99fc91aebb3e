"""How `kvplan check` looks on the screen: the verdict, then every flag, then what to change."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from planner.answers.check import CheckAnswer
from planner.answers.check_words import engine_words, layout_words, verdict_text
from planner.answers.verdict import SCALED, TOO_LONG
from planner.commands.pages.assumed import assumed_lines
from planner.launch.question import Said
from planner.launch.secrets import shown
from planner.launch.table import MATTERS, QUIET, UNKNOWN, USED
from planner.lookup.plain import plain_name
from planner.speed.speed import Figure, Speed
from planner.terminal.tables import bad, bold, good, wrapped
from planner.units import gib, human_bytes, human_seconds, human_tokens, significant

WIDTH = 80


def page(answer: CheckAnswer, verbose: bool = False) -> list[str]:
    """Writes the whole answer; its first two lines are what was read and the verdict."""
    lines = [*_read(answer), *_verdict(answer), ""]
    lines += _memory(answer)
    lines += _flags(answer)
    if answer.advice:
        title = (
            "More requests with" if answer.starts else "It takes them with" if _too_long(answer) else "It starts with"
        )
        lines += ["", bold(title), *(_advice_line(one.change, one.requests, one.seq_tokens) for one in answer.advice)]
    elif not answer.starts:
        lines += [
            "",
            *_wrap(
                f"no single change was found that makes it {'take them' if _too_long(answer) else 'start'}: a smaller model, fewer bits a weight, or more memory",
                "",
                "  ",
            ),
        ]
    notes = [*answer.setup.notes, *([answer.no_speed] if answer.no_speed else [])]
    if answer.speed is not None and answer.speed.backend is not None and not answer.speed.backend.is_own:
        notes.append(answer.speed.backend.words())
    if notes or answer.engine.assumptions:
        lines.append("")
    lines += [line for note in notes for line in _wrap(f"note: {note}", "  ", "    ")]
    return lines + [wrapped(line, WIDTH) for line in assumed_lines(answer.engine.assumptions, verbose)]


def _too_long(answer: CheckAnswer) -> bool:
    return answer.verdict in (TOO_LONG, SCALED)


def _wrap(text: str, first: str = "", rest: str = "") -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False) or [""]


def _read(answer: CheckAnswer) -> list[str]:
    """Model, formats and devices in one line; the name in the text where it is not plainly the model's."""
    shorter = f"{_name(answer)}, weights {answer.found.plan.fmt.name}, KV {answer.kv_dtype}"
    line = f"{shorter}, {engine_words(answer)}, {layout_words(answer)}"
    return [line if len(line) <= WIDTH else shorter]


def _name(answer: CheckAnswer) -> str:
    name, asked = answer.setup.spec.name, answer.setup.question.model
    if not asked or plain_name(asked).lower().rpartition("/")[2] == name.lower():
        return name
    return f"{name} (from {shown(plain_name(asked), 60)})"


def _verdict(answer: CheckAnswer) -> list[str]:
    """Starts or not, how many requests, how fast."""
    paint = bold if answer.unsure else good if answer.starts else bad
    lines = [paint(line) for line in _wrap(verdict_text(answer), "", "  ")]
    for found in answer.speed.speeds if answer.speed is not None else ():
        lines += _wrap(_speed(found), "  ", "    ")
    if answer.speed is not None and answer.plain_speed is not None:
        lines += _wrap(_drafts(answer.speed.speeds, answer.plain_speed.speeds), "  ", "    ")
    return lines


def _drafts(with_drafts: Sequence[Speed], without: Sequence[Speed]) -> str:
    """Tokens a step, and the time between two tokens with drafts and without."""
    drafts = with_drafts[0].drafts
    assert drafts is not None
    each = ", ".join(
        f"{human_seconds(a.tpot_seconds.value)} for {'one user' if a.batch == 1 else f'{a.batch:,} users'} "
        f"({human_seconds(b.tpot_seconds.value)} without)"
        for a, b in zip(with_drafts, without, strict=True)
    )
    accepted = f"{drafts.method}, {drafts.tokens} a step, {drafts.low:g} to {drafts.high:g} of them accepted"
    return f"drafts ({accepted}): {drafts.tokens_a_step:.3g} tokens a step; a token takes {each}"


def _speed(found: Speed) -> str:
    users = "one user" if found.batch == 1 else f"{found.batch:,} users"
    each = "" if found.batch == 1 else " each"
    total = "" if found.batch == 1 else f", {significant(found.decode_tokens_per_s.value)} together"
    return (
        f"{users}: {_rate(found.tpot_seconds)} tok/s{each}{total}, first token after "
        f"{_seconds(found.ttft_seconds)} (prompt {human_tokens(found.prompt_tokens)})"
    )


def _rate(figure: Figure) -> str:
    """Tokens a second with the range: 42 (35 to 50)."""
    return f"{significant(1 / figure.value)} ({significant(1 / figure.high)} to {significant(1 / figure.low)})"


def _seconds(figure: Figure) -> str:
    return human_seconds(figure.value)


def _memory(answer: CheckAnswer) -> list[str]:
    """Where the device's bytes go, in one line."""
    pool = answer.engine.ranged.pool if answer.engine.ranged is not None else None
    where = answer.placed
    away = answer.offloaded_bytes if where is None else where.host_weight_bytes
    weights = answer.found.per_device.weight_bytes - away if where is None else where.device_weight_bytes
    pieces = [f"weights {gib(weights)}" + (" on the devices" if where is not None and answer.setup.devices > 1 else "")]
    if away:
        pieces.append(f"{gib(away)} of weights on the host")
    if pool is not None:
        pieces.append(f"cache {gib(pool.bytes)}{_ends(answer)}, {pool.tokens:,} tokens")
    pieces.append(f"a request {human_bytes(answer.engine.request_bytes)}")
    if where is not None and len(where.cards) == 1:
        pieces.append(f"buffers {gib(where.cards[0].other_bytes)}")
    if where is not None and len(where.cards) > 1:
        pieces += [
            f"card {number} {gib(card.bytes)} of {gib(card.capacity_bytes or 0)}"
            for number, card in enumerate(where.cards, 1)
        ]
    else:
        pieces.append(f"{gib(answer.capacity.bytes)} a device")
    if says := answer.engine.extra.get("ollama_ps"):
        pieces.append(f"ollama ps: {says}")
    return _wrap("memory: " + "; ".join(pieces), "", "  ")


def _ends(answer: CheckAnswer) -> str:
    """The least and the most that the cache may get, "" where it is exact."""
    ranged = answer.engine.ranged
    if ranged is None or ranged.low.bytes == ranged.high.bytes:
        return ""
    return f" ({gib(ranged.low.bytes)} to {gib(ranged.high.bytes)})"


def _flags(answer: CheckAnswer) -> list[str]:
    """Every flag and variable, by what it does."""
    asked = answer.setup.question
    said = (*asked.flags, *asked.environment)
    lines: list[str] = []
    for title, kind in (("used", USED), ("no effect on memory or speed", QUIET)):
        lines += _list(title, [one for one in said if one.kind == kind])
    matters = [one for one in said if one.kind == MATTERS]
    if matters:
        lines.append("not counted, and what it changes:")
        for one in matters:
            lines += _wrap(f"{one.text()}: {one.effect}", "  ", "    ")
    unknown = _list("not known", [one for one in said if one.kind == UNKNOWN])
    return lines + [bad(line) for line in unknown]


def _list(title: str, said: Iterable[Said]) -> list[str]:
    # A flag stays in one piece with its value.
    words = [one.text().replace(" ", "\0") for one in said]
    if not words:
        return []
    return [line.replace("\0", " ") for line in _wrap(f"{title}: " + ", ".join(words), "", "  ")]


def _advice_line(change: str, requests: int, tokens: int) -> str:
    many = "request" if requests == 1 else "requests"
    return f"  {change}: {requests:,} {many} of {human_tokens(tokens)} tokens"

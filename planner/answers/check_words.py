"""Says the verdict on a start command in words: what the screen, the page and HTTP have in common."""

from __future__ import annotations

from planner.answers.check import CheckAnswer
from planner.answers.verdict import NAMES, SCALED, STARTS_TIGHT, TOO_LONG, UNCERTAIN, interval
from planner.units import human_tokens

_NAMES = {**NAMES, "vllm-v0": "vLLM V0", "vllm-v1": "vLLM V1"}


def engine_words(answer: CheckAnswer) -> str:
    """Names the engine and its version."""
    version = answer.engine.version
    numbered = version[:1].isdigit() or version[:1] in ("b", "v")
    return f"{_NAMES.get(answer.engine.name, answer.engine.name)} {version if numbered else ''}".rstrip()


def layout_words(answer: CheckAnswer) -> str:
    """Names the devices and the layout over them."""
    sharding, count = answer.setup.request.sharding, answer.setup.devices
    ranks = ", ".join(
        f"{name.upper()} {getattr(sharding, name)}"
        for name in ("tp", "pp", "ep", "dp", "dcp")
        if getattr(sharding, name) > 1
    )
    device, alike = answer.capacity.name, not answer.setup.memories
    return (f"{count} x {device}" if count > 1 and alike else device) + (f" ({ranks})" if ranks else "")


def verdict_text(answer: CheckAnswer) -> str:
    """Says in one sentence whether the server starts and how many requests it holds: the screen's line 2, the page's first."""
    where = f"{engine_words(answer)} on {layout_words(answer)}"
    if answer.unsure:
        return f"{where} AT MOST, MAY START: the weights or the cache are an upper bound, see `kvplan estimate`."
    if not answer.starts:
        ends = interval(answer.engine, "its log and kvplan reconcile") if answer.verdict == UNCERTAIN else ""
        colon = ":" if answer.verdict in (TOO_LONG, SCALED) else ""
        return f"{where}{colon} {answer.verdict.upper()}: {'; '.join(answer.reasons)}{ends}."
    many = "request" if answer.requests == 1 else "requests"
    held = f"{answer.requests:,} {many} of {human_tokens(answer.setup.request.seq_tokens)} tokens at once"
    if answer.verdict != STARTS_TIGHT:
        return f"{where} STARTS: {held}."
    ends = interval(answer.engine, "its log and kvplan reconcile")
    return f"{where} STARTS, TIGHTLY: {held}; at the low end of the estimate it may not{ends}."

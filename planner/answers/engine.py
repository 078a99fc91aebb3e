"""Answers with an engine named: what it allocates, how many requests it admits, and whether it starts."""

from __future__ import annotations

from dataclasses import replace

from planner.dtypes.names import kv_format
from planner.engines.base import EngineAnswer
from planner.engines.device_memory import NAMED_WITH_TOWER, named_with_tower
from planner.engines.kv_formats import KV_FORMATS
from planner.engines.registry import answer_of
from planner.errors import BadRequest
from planner.memory.estimate import Estimate
from planner.memory.estimate import estimate as estimate_of
from planner.memory.limits import largest
from planner.options.engine import EngineAsked
from planner.options.tables import LLAMA
from planner.units import MAX_TOKENS


def engine_answer(asked: EngineAsked, estimate: Estimate) -> EngineAnswer:
    """What the engine makes of an estimate; refuses formats that it does not have."""
    name, version, options = asked
    known = KV_FORMATS.get(name)
    for given in (estimate.request.k_dtype, estimate.request.v_dtype):
        if known and given and kv_format(given).name not in known:
            raise BadRequest(f"{name} has no KV dtype {kv_format(given).name}; choose one of: {', '.join(known)}")
    answer = answer_of(name, version, estimate, options)
    if answer.overhead is not None and named_with_tower(estimate):
        answer = replace(answer, assumptions=(*answer.assumptions, NAMED_WITH_TOWER))
    return _unsure(answer) if estimate.bounded and answer.fits is False else answer


def with_own_length(asked: EngineAsked, estimate: Estimate, answer: EngineAnswer) -> EngineAnswer:
    """The answer, which says besides where a server without the length among its flags would refuse to start.

    A question of 32k tokens is answered for a server that is started for 32k; left alone it takes the model's positions.
    """
    given, own = asked.options.max_model_len, estimate.spec.max_positions
    if given is None or own is None or given >= own or answer.refusal is not None or estimate.capacity is None:
        return answer
    alone = answer_of(asked.name, asked.version, estimate, replace(asked.options, max_model_len=None))
    if alone.refusal is None or not alone.refusal.sure:
        return answer
    flag = "--context-length" if asked.name == "sglang" else "--max-model-len"
    said = f"started for {given:,} tokens: without {flag} it takes the model's {own:,} and refuses, for {alone.refusal.text}"
    return replace(answer, assumptions=(*answer.assumptions, said))


def _unsure(answer: EngineAnswer) -> EngineAnswer:
    """An upper bound is never turned into a refusal to start: the engine's verdict is not known."""
    lines = tuple(
        f"at most: {line.removeprefix('refuses to start: ')}" if line.startswith("refuses to start") else line
        for line in answer.lines
    )
    refusal = None if answer.refusal is None else replace(answer.refusal, sure=False)
    reasons = (*answer.reasons, "the weights or the cache are an upper bound: whether it starts is not known")
    return replace(answer, fits=None, lines=lines, refusal=refusal, reasons=reasons)


def longest_request(asked: EngineAsked, estimate: Estimate) -> int:
    """The longest context at the asked batch in this engine's pool, 0 where none fits."""
    ceiling = estimate.spec.max_positions or MAX_TOKENS

    def holds(length: int) -> bool:
        longest = None if asked.name in LLAMA else max(length, asked.options.max_model_len or 0)
        own = asked._replace(options=replace(asked.options, max_model_len=longest))
        longer = replace(estimate.request, seq_tokens=length)
        return bool(engine_answer(own, estimate_of(estimate.spec, longer, estimate.capacity)).fits)

    return largest(holds, ceiling)

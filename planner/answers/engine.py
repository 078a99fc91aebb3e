"""Answers with an engine named: what it allocates, how many requests it admits, and whether it starts."""

from __future__ import annotations

import re
from dataclasses import replace

from planner.catalogue.entries import known_device
from planner.dtypes.names import kv_format
from planner.engines.base import EngineAnswer
from planner.engines.device_memory import NAMED_WITH_TOWER, named_with_tower
from planner.engines.kv_formats import KV_FORMATS
from planner.engines.placement import HOST_BYTES_PER_S, Placed, Placement
from planner.engines.positions import asked_tokens, beyond, within_positions
from planner.engines.registry import answer_of
from planner.engines.stored import stored_format
from planner.errors import BadRequest
from planner.memory.estimate import Estimate
from planner.memory.estimate import estimate as estimate_of
from planner.memory.limits import largest
from planner.memory.request import Capacity
from planner.options.engine import STARTED_FOR, EngineAsked
from planner.options.tables import LLAMA
from planner.units import MAX_TOKENS


def engine_answer(asked: EngineAsked, estimate: Estimate) -> EngineAnswer:
    """Asks the engine what it makes of an estimate; refuses formats that it does not have."""
    name, version, options = asked
    known = KV_FORMATS.get(name)
    for given in (estimate.request.k_dtype, estimate.request.v_dtype):
        if known and given and kv_format(given).name not in known:
            raise BadRequest(f"{name} has no KV dtype {kv_format(given).name}; choose one of: {', '.join(known)}")
    answer = answer_of(name, version, estimate, options=options)
    if answer.overhead is not None and named_with_tower(estimate):
        answer = replace(answer, assumptions=(*answer.assumptions, NAMED_WITH_TOWER))
    if estimate.bounded and answer.fits is False:
        answer = _unsure(answer)
    return limited(asked, estimate, answer)


def limited(asked: EngineAsked, estimate: Estimate, answer: EngineAnswer) -> EngineAnswer:
    """Returns the answer, or the engine's refusal of a request that is longer than the model's positions."""
    name, version, options = asked
    found = beyond(answer, estimate, asked_tokens(estimate, options))
    if found is None:
        return answer
    at_most = None
    if name in STARTED_FOR:
        request = replace(estimate.request, seq_tokens=min(estimate.request.seq_tokens, found.positions))
        shorter = estimate_of(estimate.spec, request, estimate.capacity)
        at_most = answer_of(name, version, shorter, options=replace(options, max_model_len=found.positions))
    return within_positions(answer, estimate, options, at_most=at_most)


def with_own_length(asked: EngineAsked, estimate: Estimate, answer: EngineAnswer) -> EngineAnswer:
    """Adds to the answer where a server without the length among its flags would refuse to start.

    A question of 32k tokens is answered for a server that is started for 32k; left alone it takes the model's positions.
    """
    given, own = asked.options.max_model_len, estimate.spec.max_positions
    if given is None or own is None or given >= own or answer.refusal is not None or estimate.capacity is None:
        return answer
    alone = answer_of(asked.name, asked.version, estimate, options=replace(asked.options, max_model_len=None))
    if alone.refusal is None or not alone.refusal.sure:
        return answer
    flag = "--context-length" if asked.name == "sglang" else "--max-model-len"
    said = f"started for {given:,} tokens: without {flag} it takes the model's {own:,} and refuses, for {alone.refusal.text}"
    return replace(answer, assumptions=(*answer.assumptions, said))


def as_stored(asked: EngineAsked | None, estimate: Estimate) -> Estimate:
    """Returns the estimate in the formats in which the engine that is named stores K and V."""
    if asked is None:
        return estimate
    fmt = stored_format(asked.name, asked.version, estimate)
    return estimate if fmt == estimate.fmt else replace(estimate, fmt=fmt)


def kv_name(estimate: Estimate, engine: str | None) -> str:
    """Names the type of K and V; llama.cpp's family keeps f16 unless told otherwise, whatever the model runs in."""
    asked = estimate.request.k_dtype or estimate.request.v_dtype
    return "f16" if engine in LLAMA and not asked else estimate.fmt.name


def host_bound(where: Placed | None, capacity: Capacity | None) -> tuple[float, float] | None:
    """Computes the most tokens a second of one sequence where the host computes, by host memory at its usual ends.

    None where the host only looks up embeddings, or where a card's bandwidth is not known. Of unlike cards the fastest counts.
    """
    if where is None or capacity is None or not where.token_bytes[1]:
        return None
    names = [re.sub(r"^\d+x ", "", name) for name in capacity.name.split(" + ")]
    rates = [device.bandwidth_bytes_per_s for device in map(known_device, names) if device is not None]
    fastest = max((rate for rate in rates if rate), default=None)
    if fastest is None:
        return None
    slow, fast = (where.most_tokens_per_s(fastest, rate) for rate in HOST_BYTES_PER_S)
    return slow, fast


MOST_SLOTS = 256
"""Sequences that llama.cpp takes at most. Source: src/llama-cparams.h, LLAMA_MAX_SEQ."""
ONE_SLOT = ("koboldcpp",)


def with_most_slots(asked: EngineAsked, estimate: Estimate) -> EngineAsked:
    """Gives the engine as many slots of the asked length as its cards hold, where it takes slots and no flag sets them.

    llama.cpp allocates what its flags ask for, so the question is how many to ask for: -np N -c N times the length. Where
    not one is held, host memory may take what is left: then for the asked batch.
    """
    options, tokens = asked.options, estimate.request.seq_tokens
    if asked.name not in LLAMA or asked.name in ONE_SLOT or options.pool_bytes is not None or estimate.capacity is None:
        return asked
    if options.parallel is not None or options.ctx_size is not None or options.max_model_len is not None:
        return asked

    def slots(count: int, host_bytes: int | None = None) -> EngineAsked:
        ctx = min(tokens * count, MAX_TOKENS)
        return asked._replace(options=replace(options, parallel=count, ctx_size=ctx, host_bytes=host_bytes))

    placement = options.placement or Placement()
    if placement.cache_on_host and options.host_bytes is None:
        return slots(estimate.request.batch)  # nothing says how much the host holds
    host = None if placement.open else options.host_bytes
    high = 1 if estimate.spec.encoder else min(MOST_SLOTS, MAX_TOKENS // tokens or 1)  # T5 runs in one stream
    most = largest(lambda n: engine_answer(slots(n, host), estimate).refusal is None, high)
    return slots(most, host) if most else slots(estimate.request.batch, options.host_bytes)


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
    """Finds the longest context at the asked batch in this engine's pool, 0 where none fits.

    With host memory given: without it where the asked length needs none, else with the split of the asked length.
    """
    ceiling = estimate.spec.max_positions or MAX_TOKENS
    if asked.options.host_bytes is not None:
        split = engine_answer(asked, estimate).placed
        placement = None if split is None else split.placement
        asked = asked._replace(options=replace(asked.options, host_bytes=None, placement=placement))

    def holds(length: int) -> bool:
        longest = None if asked.name in LLAMA else max(length, min(asked.options.max_model_len or 0, ceiling))
        own = asked._replace(options=replace(asked.options, max_model_len=longest))
        longer = replace(estimate.request, seq_tokens=length)
        return bool(engine_answer(own, estimate_of(estimate.spec, longer, estimate.capacity)).fits)

    return ceiling if holds(ceiling) else largest(holds, ceiling, estimate.request.seq_tokens)

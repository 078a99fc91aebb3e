"""Reads what `kvplan estimate` asks."""

from __future__ import annotations

from dataclasses import replace

from planner.errors import BadRequest, UsageError
from planner.frozen import dataclass
from planner.memory.request import Capacity, Request
from planner.model.spec import ModelSpec
from planner.options.model import capacity_of, each, request_of, spec_of, usual_tokens, with_ranks
from planner.options.readers import MAX_ITEMS
from planner.options.tables import ESTIMATE, LLAMA, engine_flags_given, read_values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from planner.options.engine import EngineAsked


@dataclass(frozen=True, eq=False, repr=False)
class EstimateAsked:
    """A model, and a request for each length asked.

    engine   whose terms it is answered in; None: kvplan's own
    emit     the form in which the engine's start command is wanted too: command, compose or k8s
    """

    spec: ModelSpec
    requests: tuple[Request, ...]
    capacity: Capacity | None = None
    engine: EngineAsked | None = None
    emit: str | None = None


def estimate_questions(values: Mapping[str, Any]) -> tuple[EstimateAsked, ...]:
    """Reads the questions of several models, devices or batches, one for each combination; one where none of them is
    several.

    Several models are compared at one length: where none is asked, at the shortest of their usual ones.
    """
    given = each(values, "model", "gpu", "batch")
    found = tuple(estimate_asked(one) for one in given)
    if len(found) > 1:
        if values.get("emit") or values.get("explain"):
            name = "--emit" if values.get("emit") else "--explain"
            raise UsageError(f"{name} is of one question; name one model, one device and one batch")
        lengths = {one.requests[0].seq_tokens for one in found}
        if values.get("seq") is None and len(lengths) > 1:
            return tuple(estimate_asked({**one, "seq": min(lengths)}) for one in given)
    return found


def estimate_asked(values: Mapping[str, Any]) -> EstimateAsked:
    """Reads the question of `estimate` from its flags."""
    given = with_ranks(read_values(ESTIMATE, values))
    engine = None
    if engine_flags_given(given):
        from planner.options.engine import engine_of, laid_out  # only where an engine is named

        engine = engine_of(given)
    if given["host_memory"] is not None and (engine is None or engine.name not in LLAMA):
        raise UsageError(
            "--host-memory is for what llama.cpp's cards do not hold: add --engine llamacpp; kvplan fit takes it for idle sessions"
        )
    spec, beside = spec_of(given), None
    drafts = engine is not None and engine.options.num_speculative_tokens
    if given["mmproj"] is not None or drafts:
        from planner.options.extras import (  # only where something lies beside the model
            extras_of,
            with_drafter,
            without_towers,
        )

        named: Mapping[str, Any] = {name: given.get(name) for name in ("mmproj", "flash_attn")}
        spec = without_towers(spec) if given["mmproj"] is not None else spec
        named, engine = with_drafter(named, spec, engine)
        beside = extras_of(named, spec, engine=None if engine is None else engine.name)
    lengths = _lengths(spec, given["seq"], engine)
    if engine is not None and given["seq"] is not None:
        from planner.options.engine import started_for

        engine = started_for(engine, max(lengths))
    requests = tuple(request_of(given, length) for length in lengths)
    if engine is not None:
        requests = tuple(laid_out(request, spec, engine) for request in requests)
    if beside is not None:
        requests = tuple(replace(request, extras=beside) for request in requests)
    return EstimateAsked(
        spec=spec,
        requests=requests,
        capacity=capacity_of(given),
        engine=engine,
        emit=given["emit"],
    )


def _lengths(spec: ModelSpec, asked: tuple[int, ...] | None, engine: EngineAsked | None) -> tuple[int, ...]:
    """As asked, else what an engine's flags name, else what every command takes: 8k, or the model's limit below it."""
    if asked is not None:
        if len(asked) > MAX_ITEMS:
            raise BadRequest(f"--seq names {len(asked):,} lengths; {MAX_ITEMS:,} at most")
        return asked
    return ((engine.longest_tokens if engine is not None else None) or usual_tokens(spec),)

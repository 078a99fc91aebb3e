"""Answers for what shares the device: adapters, a drafter, other models, idle sessions."""

from __future__ import annotations

from typing import Any

from planner.catalogue.device import Device
from planner.errors import KvplanError
from planner.extras.idle_sessions import Tiers, idle_answer
from planner.extras.shared_device import extras_dict, extras_of
from planner.memory.estimate import Estimate


def extras_block(estimate: Estimate, tiers: Tiers | None, device: Device | None) -> dict[str, Any]:
    """Returns the `extras` of an answer, from the estimate of one sequence."""
    extras = extras_of(estimate.request)
    found = extras_dict(estimate) if extras is not None else {}
    if tiers is not None:
        idle = idle_answer(estimate, tiers).to_dict()
        kept = extras.idle_sessions if extras is not None else 0
        if kept:
            idle |= {"device_sessions": kept, "sessions_left": 0}
        found["idle"] = idle | {"recompute_seconds": _recompute_seconds(estimate, device)}
    return found


def _recompute_seconds(estimate: Estimate, device: Device | None) -> float | None:
    """What computing a session's cache again takes, as the speed model expects it; None where that is not known."""
    if device is None:
        return None
    from planner.speed.speed import speed  # only of idle sessions

    try:
        found = speed(
            estimate, device, prompt_tokens=estimate.request.seq_tokens, output_tokens=1, batch=1, load="static"
        )
    except KvplanError:
        return None
    return found.ttft_seconds.value

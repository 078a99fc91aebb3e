"""Speculative drafting in an engine's terms: whose layers lie in the pool, and how many tokens a step proposes.

A drafter is given in two ways: by engine flags alone (`--num-speculative-tokens`, `--draft-layers`), which count layers
like the model's own, or as what shares the device (`--drafter MODEL`, mtp, eagle, eagle3), whose own layers and weights
are then counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from planner.engines.base import Options
from planner.errors import BadRequest
from planner.memory.estimate import Estimate
from planner.model.cache import Cache

if TYPE_CHECKING:
    from planner.memory.request import Drafts


def drafter_of(estimate: Estimate) -> Drafts | None:
    """Returns the drafter that shares the devices; None where flags alone, or nothing, say that tokens are drafted."""
    extras = estimate.request.extras
    return None if extras is None else extras.drafter


def draft_tokens(estimate: Estimate, options: Options) -> int:
    """Counts the tokens that a step proposes: the flag's number, else the drafter's own default."""
    drafter = drafter_of(estimate)
    return options.num_speculative_tokens or (0 if drafter is None else drafter.draft_tokens)


def drafted_caches(estimate: Estimate) -> list[Cache]:
    """Lists the caches of a drafter's layers as one tensor-parallel rank holds them; nothing without a drafter."""
    drafter = drafter_of(estimate)
    if drafter is None:
        return []
    sharding = estimate.request.sharding
    return [sharding.on_rank(cache) for cache, count in drafter.caches for _ in range(count)]


def drafter_weights(estimate: Estimate) -> int:
    """Counts the bytes of the drafter's weights on one rank; 0 without one."""
    drafter = drafter_of(estimate)
    return 0 if drafter is None else drafter.weight_bytes(estimate.request.sharding)[0]


def refuse_draft_model(estimate: Estimate, engine: str) -> None:
    """Raises BadRequest where the drafter is a model of its own, which `engine` does not run beside another."""
    drafter = drafter_of(estimate)
    if drafter is not None and drafter.kind == "model":
        raise BadRequest(
            f"--drafter {drafter.name}: {engine} runs no draft model beside another; name mtp, eagle or eagle3, or a later version"
        )

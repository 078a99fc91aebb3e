"""Speculative drafting in an engine's terms: whose layers lie in the pool, and how many tokens a step proposes.

A drafter is given in two ways: by engine flags alone (`--num-speculative-tokens`, `--draft-layers`), which count layers
like the model's own, or as what shares the device (`--drafter MODEL`, mtp, eagle, eagle3), whose own layers and weights
are then counted.
"""

from __future__ import annotations

import json
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


def drafting_flags(engine: str, method: str, *, tokens: int, model: str | None = None) -> list[str]:
    """An engine's flags for drafts of `tokens` by ngram, mtp, eagle3 or a draft model; [] where it has none for it.

    A head or model that nobody named stands as a place to fill in.

    >>> drafting_flags("vllm", "mtp", tokens=1)
    ['--speculative-config', '{"method": "mtp", "num_speculative_tokens": 1}']
    >>> drafting_flags("llamacpp", "draft-model", tokens=4, model="draft.gguf")
    ['--model-draft', 'draft.gguf', '--draft-max', '4']
    """
    named = model or ("EAGLE3-HEAD" if method == "eagle3" else "DRAFT-MODEL")
    if engine.startswith("vllm"):
        config: dict[str, object] = {} if method == "draft-model" else {"method": method}
        config |= {"model": named} if method in ("eagle3", "draft-model") else {}
        config |= {"num_speculative_tokens": tokens} | ({"prompt_lookup_max": 4} if method == "ngram" else {})
        return ["--speculative-config", json.dumps(config)]
    if engine == "sglang":
        algorithm = {"ngram": "NGRAM", "mtp": "EAGLE", "eagle3": "EAGLE3", "draft-model": "STANDALONE"}[method]
        words = ["--speculative-algorithm", algorithm]
        words += ["--speculative-draft-model-path", named] if method in ("eagle3", "draft-model") else []
        if method != "ngram":
            words += ["--speculative-num-steps", str(tokens), "--speculative-eagle-topk", "1"]
        return [*words, "--speculative-num-draft-tokens", str(tokens + (method != "ngram"))]
    if engine == "llamacpp" and method == "draft-model":
        return ["--model-draft", named, "--draft-max", str(tokens)]
    return []


def refuse_draft_model(estimate: Estimate, engine: str) -> None:
    """Raises BadRequest where the drafter is a model of its own, which `engine` does not run beside another."""
    drafter = drafter_of(estimate)
    if drafter is not None and drafter.kind == "model":
        raise BadRequest(
            f"--drafter {drafter.name}: {engine} runs no draft model beside another; name mtp, eagle or eagle3, or a later version"
        )

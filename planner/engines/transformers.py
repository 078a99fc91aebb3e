"""transformers 5: caches of its own `generate`, no pool: dynamic, static, sliding (window - 1), quantised."""

from __future__ import annotations

from planner.dtypes.kinds import CacheFormat
from planner.dtypes.names import kv_format
from planner.engines.base import EngineAnswer, Options, layer_caches, stage_ranges
from planner.engines.vllm import logical_bytes
from planner.errors import BadRequest
from planner.memory.estimate import Estimate
from planner.model.cache import Cache, Full
from planner.model.windows import most_kept

IMPLEMENTATIONS = ("dynamic", "static", "quantized")
RESIDUAL_TOKENS = 128


def answer(
    estimate: Estimate, options: Options, version: str | None, generation: str | None = None
) -> EngineAnswer:  # parameters: as every engine
    """Answers for transformers: what `generate(cache_implementation=...)` keeps for the batch on the fullest stage.

    dynamic: what was fed; a window layer keeps window - 1 tokens between steps. static: max_cache_len from the
    first token, windows too up to their width. quantized: all but the newest 128 tokens in 4 bits (HQQ, Quanto).
    Source: transformers 5.23.0 `cache_utils.py` (DynamicSlidingWindowLayer, StaticLayer, QuantizedLayer).
    """
    kind = options.cache_implementation or "dynamic"
    if kind not in IMPLEMENTATIONS:
        raise BadRequest(f"--cache-implementation is one of {', '.join(IMPLEMENTATIONS)}")
    seq = estimate.request.seq_tokens
    length = max(seq, options.max_model_len or seq) if kind == "static" else seq
    stages = stage_ranges(len(estimate.spec.layers), pp=estimate.request.sharding.pp)
    caches = layer_caches(estimate)
    one = max(
        sum(_layer_bytes(cache, length, kind, estimate=estimate) for index, cache in caches if index in stage)
        for stage in stages
    )
    reasons = {
        "dynamic": ("a window layer keeps window - 1 tokens between steps",),
        "static": (f"{length:,} tokens are allocated from the first one on",),
        "quantized": (f"4 bits with scales but for the newest {RESIDUAL_TOKENS} tokens",),
    }[kind]
    held = one * estimate.request.sharding.sequences_on_rank(estimate.request.batch)
    return EngineAnswer(
        name="transformers",
        version=version or "5",
        request_tokens=seq,
        request_bytes=one,
        logical_bytes=logical_bytes(estimate),
        ranged=None,
        activation=estimate.per_device.activation,
        fits=estimate.fits,
        reasons=reasons,
        assumptions=(f"transformers {version or '5'}, {kind} cache; no pool: the cache grows with the batch",),
        extra={"cache_implementation": kind, "kv_bytes": held},
    )


def _layer_bytes(cache: Cache, length: int, kind: str, *, estimate: Estimate) -> int:
    fmt, source = estimate.fmt, estimate.source_tokens
    if kind == "quantized" and type(cache) is Full and length > RESIDUAL_TOKENS:
        four = CacheFormat(kv_format("int4"), kv_format("int4"), fmt.model_dtype_bytes)
        return cache.kv_bytes(length - RESIDUAL_TOKENS, source, four) + cache.kv_bytes(RESIDUAL_TOKENS, source, fmt)
    return _kept(cache, length, fmt, source=source, static=kind == "static") + cache.state_bytes(fmt)


def _kept(cache: Cache, length: int, fmt: CacheFormat, *, source: int, static: bool) -> int:
    limit = most_kept(cache)
    if limit is not None and not static:
        length = min(length, limit - 1)
    return cache.kv_bytes(length, source, fmt)

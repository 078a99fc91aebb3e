"""What is known of a compressed cache (DeepSeek-V4) in SGLang, whose pages are not modelled."""

from __future__ import annotations

from planner.memory.estimate import Estimate
from planner.model.cache import Cache
from planner.model.sparse_attention import Compressed
from planner.model.windows import SlidingWindow
from planner.units import human_bytes, human_tokens

RECORD_BYTES = 584  # of 512 numbers: 448 in fp8, 64 of the rotary part in bf16, 7 scales and a byte to fill
INDEX_BYTES = 132  # of 128 numbers: fp8 and a scale


def least_bytes(estimate: Estimate, tokens: int) -> int:
    """Returns the bytes that the records of one sequence take on each rank, before pages and open blocks: a lower end.

    floor(S / rate) · (584 [+ 132 of the indexer]) of a compressing layer, min(S, window) · 584 of its window.
    Source: vLLM 0.33.0 deepseek_v4/attention.py (`state_content_bytes=584`), v1/attention/backends/mla/sparse_swa.py;
    SGLang 0.5.23 pool_configurator.py, DSV4PoolConfigurator.
    """
    return sum(count * sum(_records(cache, tokens) for cache in layer.caches) for layer, count in estimate.spec.groups)


def _records(cache: Cache, tokens: int) -> int:
    if isinstance(cache, Compressed):
        return tokens // cache.rate * (RECORD_BYTES + INDEX_BYTES * (len(cache.widths) - 1))
    return min(tokens, cache.window) * RECORD_BYTES if isinstance(cache, SlidingWindow) else 0


def compressed_words(estimate: Estimate) -> str:
    """Returns what a refusal adds where layers compress their past; an empty text for any other model."""
    if not any(isinstance(cache, Compressed) for layer, _ in estimate.spec.groups for cache in layer.caches):
        return ""
    tokens = estimate.request.seq_tokens
    return (
        f"; its records in fp8, {RECORD_BYTES} B each and {INDEX_BYTES} B of index keys, take at least "
        f"{human_bytes(least_bytes(estimate, tokens))} for {human_tokens(tokens)} tokens on each rank, and a prompt in "
        "flight takes more"
    )

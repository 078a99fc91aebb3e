"""ExLlamaV2 and ExLlamaV3, as TabbyAPI starts them: one cache of so many tokens, allocated with the layers.

Source: exllamav3 1.4.1 `cache/fp16.py`, `quant.py`, `mla.py`, `modules/sliding_attn.py`, `gated_delta_net.py`, `short_conv.py`,
`model/model_ls.py`; exllamav2 0.3.2 `cache.py`; TabbyAPI `backends/exllamav3/model.py`, `config_sample.yml` (August 2026).
cache_size is --ctx-size here, max_batch_size --parallel, chunk_size --ubatch-size.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from fractions import Fraction

from planner.dtypes.kinds import CacheFormat
from planner.engines.base import EngineAnswer, Options, Pool, Ranged, Refusal, layer_caches, stage_ranges, want
from planner.engines.device_memory import forward_bytes
from planner.engines.vllm import logical_bytes
from planner.errors import UnsupportedModel
from planner.memory.activations import Estimated
from planner.memory.estimate import Estimate
from planner.memory.limits import largest
from planner.model.cache import Cache, Full, Shared
from planner.model.cross_attention import Cross
from planner.model.latent_attention import Latent
from planner.model.recurrent import Recurrent
from planner.model.windows import Chunked, SlidingWindow
from planner.units import MAX_TOKENS, MIB, ceil_div, human_bytes

PAGE = 256
CHUNK = 2048
RESERVE = 96 * MIB  # autosplit_reserve, of the first card
BATCH, BATCH_WITH_STATES = 128, 4
CONTEXT = Estimated(400 * MIB, 250 * MIB, 800 * MIB, "CUDA context and kernels, not fitted")
WINDOWS_KEPT = ("afmoe", "gemma4", "gpt_oss", "laguna", "step3")
"""Model types whose window layers keep a ring of their own (`SlidingAttention`); all others keep windows in full."""
BEYOND_WINDOW = 2 * PAGE
SCALE_BYTES, GROUP = 2, 32
_BITS = re.compile(r"exl3_q(\d)")


@dataclass(frozen=True)
class Kept:
    """What rings and states are held for: `slots` (max_batch_size) requests, each with `drafts` drafted tokens; `second` is ExLlamaV2."""

    slots: int
    drafts: int = 0
    second: bool = False


# long: a field of the answer a line
def answer(
    estimate: Estimate, options: Options, version: str | None, generation: str | None = None
) -> EngineAnswer:  # parameters: as every engine
    """Answers for ExLlama under TabbyAPI: weights + cache of cache_size tokens + a chunk's activations + reserve <= card."""
    second = generation == "exllamav2"
    name, seq = generation or "exllamav3", estimate.request.seq_tokens
    taken = ceil_div(seq, PAGE) * PAGE
    size = ceil_div(want(options.ctx_size, taken * estimate.request.batch, "--ctx-size"), PAGE) * PAGE
    slots = want(options.parallel, default_batch(estimate), "--parallel")
    chunk = ceil_div(max(PAGE, want(options.ubatch_size, CHUNK, "--ubatch-size")), PAGE) * PAGE
    kept = Kept(slots, options.num_speculative_tokens, second)
    cache = cache_bytes(estimate, size, kept)
    activation = _activation(estimate, chunk)
    held = max(0, estimate.per_device.weight_bytes - embedding_bytes(estimate)) + RESERVE
    left = None
    if estimate.capacity is not None and options.pool_bytes is None:
        ends = [(activation.bytes, CONTEXT.bytes), (activation.high, CONTEXT.high), (activation.low, CONTEXT.low)]
        left = [max(0, estimate.capacity.bytes - held - act - context) for act, context in ends]
    elif options.pool_bytes is not None:
        left = [options.pool_bytes] * 3
    fixed = options.ctx_size is not None
    refusal = _refusal(estimate, cache, left=left, options=options)
    ranged = None
    if left is not None:
        ranged = Ranged(
            *(_pool(estimate, min(room, cache) if fixed else room, taken=taken, kept=kept) for room in left)
        )
    most = None
    if ranged is not None:
        tokens = 0 if refusal is not None else size if fixed else ranged.pool.tokens
        most = min(slots, tokens // taken)
    return EngineAnswer(
        name=name,
        version=version or "as modelled",
        request_tokens=seq,
        request_bytes=cache_bytes(estimate, taken, replace(kept, slots=1)),
        logical_bytes=logical_bytes(estimate),
        ranged=ranged,
        block_tokens=PAGE,
        activation=activation,
        overhead=CONTEXT,
        fits=None if most is None else most >= estimate.request.sharding.sequences_on_rank(estimate.request.batch),
        most_requests=most,
        lines=(f"Using configured cache_size: {size} tokens.",),
        reasons=_reasons(estimate, second),
        assumptions=(
            f"{'ExLlamaV2' if second else 'ExLlamaV3'} {version or 'of 2026'} under TabbyAPI: cache_size {size:,}, "
            f"max_batch_size {slots}, chunk_size {chunk:,}, autosplit_reserve 96 MiB",
        ),
        refusal=refusal,
        extra={"kv_bytes": cache, "cache_size": size, "max_batch_size": slots},
    )


def embedding_bytes(estimate: Estimate) -> int:
    """Returns the bytes of the embedding, which ExLlama keeps in host memory; 0 where it is the head as well.

    exllamav2 `embedding.py` and exllamav3 `modules/embedding.py` look tokens up on the processor. A model of 32 B at 4.0 bits
    with 8,192 tokens takes 18,665 MiB by oobabooga/textgen PR 6903.
    """
    if estimate.spec.tied:
        return 0
    if estimate.spec.stored is not None:
        return estimate.spec.stored.bytes_of("embedding")
    return estimate.plan.total((weight, 1) for weight in estimate.spec.before if weight.part == "embedding")


def default_batch(estimate: Estimate) -> int:
    """Returns TabbyAPI's max_batch_size: 4 where layers keep a state or a ring for every request, else 128."""
    rings = any(_kept_as_ring(estimate, cache) for _, cache in layer_caches(estimate))
    states = any(isinstance(cache, Recurrent) for _, cache in layer_caches(estimate))
    return BATCH_WITH_STATES if rings or states else BATCH


def cache_bytes(estimate: Estimate, tokens: int, kept: Kept) -> int:
    """Counts the cache of `tokens` tokens on the stage with most.

    Σ layers with attention: tokens · (K + V of a token); rings and states: max_batch_size · a layer's own. ExLlamaV2's quantised
    caches keep one layer's K and V in fp16 beside them.
    """
    caches = layer_caches(estimate)
    most = 0
    for stage in stage_ranges(len(estimate.spec.layers), pp=estimate.request.sharding.pp):
        layers = [cache for index, cache in caches if index in stage]
        total = sum(_layer_bytes(estimate, cache, tokens=tokens, kept=kept) for cache in layers)
        if kept.second and bits_of(estimate.fmt) != (None, None):
            total += max((_fp16_bytes(cache) * tokens for cache in layers), default=0)
        most = max(most, total)
    return most


def token_bytes(numbers: int, bits: int | None) -> int:
    """Returns the bytes of one token's K (or V) of a layer: 2 B a number, or int32 words of `bits` planes and a scale for 32 numbers.

    numbers // 32 · (4 · bits + 2), numbers = KV heads · head_dim. Source: exllamav3 `CacheLayer_quant.qshape_k`, `qshape_s`.

    >>> token_bytes(1024, None), token_bytes(1024, 8), token_bytes(1024, 4)     # Llama 3.1 8B: 16, 8.5 and 4.5 bits a number
    (2048, 1088, 576)
    """
    return numbers * 2 if bits is None else numbers // GROUP * (4 * bits + SCALE_BYTES)


def latent_bytes(latent: int, rope: int, bits: int | None) -> int:
    """Returns the bytes of one token of a latent layer: the latent as K is kept, the rope key always in fp16.

    >>> [latent_bytes(512, 64, bits) for bits in (None, 8, 6, 4)]     # as exllamav3's own text has them
    [1152, 672, 544, 416]
    """
    return token_bytes(latent, bits) + rope * 2


def ring_tokens(window: int) -> int:
    """Returns the tokens that a ring of a window holds: the window and two pages, whole pages.

    >>> ring_tokens(128), ring_tokens(1024)     # gpt-oss, Gemma 4
    (768, 1536)
    """
    return ceil_div(window + BEYOND_WINDOW, PAGE) * PAGE


def bits_of(fmt: CacheFormat) -> tuple[int | None, int | None]:
    """Reads the bits of K and V from their formats; None is fp16. TabbyAPI's "8,4" is exl3_q8 and exl3_q4."""
    found = [_BITS.fullmatch(one.name) for one in (fmt.k, fmt.v)]
    k, v = (None if one is None else int(one.group(1)) for one in found)
    return k, v


def _layer_bytes(estimate: Estimate, cache: Cache, *, tokens: int, kept: Kept) -> int:
    second = kept.second
    k, v = bits_of(estimate.fmt)
    if isinstance(cache, Shared) or cache.kind == "no cache":
        return 0
    if isinstance(cache, Latent) and not cache.indexer_dim and not second:
        return tokens * latent_bytes(cache.latent_dim, cache.rope_dim, k)
    if isinstance(cache, Recurrent) and not second:
        return kept.slots * _state_bytes(cache, estimate.fmt, kept.drafts)
    if isinstance(cache, Full) and not isinstance(cache, (Cross, Chunked)):
        if not second and _kept_as_ring(estimate, cache):
            return (
                kept.slots * ring_tokens(cache.window) * _fp16_bytes(cache) if isinstance(cache, SlidingWindow) else 0
            )
        pair = (cache.kv_heads * cache.k_dim, cache.kv_heads * cache.v_dim)
        if second and k == v == 6:  # its Q6 keeps K in 8 bit and V in 4
            k, v = 8, 4
        return tokens * (token_bytes(pair[0], k) + token_bytes(pair[1], v))
    raise UnsupportedModel(
        f"{estimate.spec.name}: how ExLlama{'V2' if second else 'V3'} keeps {cache.kind} is not modelled; leave --engine out"
    )


def _fp16_bytes(cache: Cache) -> int:
    """K and V of one token in fp16."""
    return 2 * cache.kv_heads * (cache.k_dim + cache.v_dim) if isinstance(cache, Full) else 0


def _kept_as_ring(estimate: Estimate, cache: Cache) -> bool:
    kind = str(estimate.spec.config.get("model_type") or "")
    return isinstance(cache, SlidingWindow) and kind.startswith(WINDOWS_KEPT)


def _state_bytes(cache: Recurrent, fmt: CacheFormat, drafts: int) -> int:
    """A state for every draft and one more; a convolution's columns and one for every draft."""
    total = 0
    for part in cache.parts:
        size = part.bytes(fmt)
        total += size * (part.columns + drafts) // part.columns if part.columns else size * (drafts + 1)
    return total


def _activation(estimate: Estimate, chunk: int) -> Estimated:
    """A forward pass of a chunk, which the loader runs to see what is left; logits of the newest token alone."""
    given = estimate.request.activation_override
    if given is not None:
        return Estimated(given, given, given, "as given")
    size = forward_bytes(estimate, chunk) + 4 * estimate.spec.vocab
    return Estimated(
        size, size // 2, 3 * size, f"a chunk of {chunk:,} tokens, not fitted: no log of ExLlama stands behind it"
    )


def _pool(estimate: Estimate, room: int, *, taken: int, kept: Kept) -> Pool:
    """What the room holds in whole pages, every state and ring counted."""
    pages = largest(lambda n: cache_bytes(estimate, n * PAGE, kept) <= room, MAX_TOKENS // PAGE)
    return Pool(room, pages * PAGE, pages, PAGE, at_once=Fraction(pages * PAGE, taken))


def _refusal(estimate: Estimate, cache: int, *, left: list[int] | None, options: Options) -> Refusal | None:
    if left is None or cache <= left[0]:
        return None
    card = estimate.capacity.bytes if estimate.capacity is not None else left[0]
    mends = ("cache_mode 4,4 (--kv-dtype exl3_q4)",) if bits_of(estimate.fmt) == (None, None) else ()
    return Refusal(
        f"a cache of {human_bytes(cache)} beside weights and a chunk's activations is more than the {human_bytes(left[0])} "
        f"left of {human_bytes(card)}",
        ("a smaller cache_size", *mends, "chunk_size 512") if options.ctx_size else (*mends, "chunk_size 512"),
        sure=cache > left[2],
    )


def _reasons(estimate: Estimate, second: bool) -> tuple[str, ...]:
    caches = [cache for _, cache in layer_caches(estimate)]
    found = [f"pages of {PAGE} tokens; the cache is allocated whole at the start"]
    if any(isinstance(cache, SlidingWindow) for cache in caches):
        kept = not second and any(_kept_as_ring(estimate, cache) for cache in caches)
        found.append(
            "window layers keep a ring in fp16 for each of max_batch_size requests"
            if kept
            else "windows are kept at full length"
        )
    if any(isinstance(cache, Recurrent) for cache in caches):
        found.append("states are held for each of max_batch_size requests")
    if second and bits_of(estimate.fmt) != (None, None):
        found.append("one layer's K and V stand in fp16 beside the quantised cache")
    return tuple(found)

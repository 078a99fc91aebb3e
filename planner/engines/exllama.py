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
from planner.engines.base import (
    LATEST,
    EngineAnswer,
    Options,
    Pool,
    Ranged,
    Refusal,
    Version,
    layer_caches,
    parse_version,
    stage_ranges,
    want,
)
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
HEAD_BITS = 6  # a tied head is quantised by itself; 6 is the converters' default
MOST_DEQUANTISED = 512 * 1024**2  # ExLlamaV2's max_dq_size: numbers of a matrix that it unpacks at once
WINDOWS_SINCE: Version = (0, 0, 30)  # SlidingAttention, of April 2026; before windows are kept in full
WINDOWS_KEPT = ("afmoe", "gemma4", "gpt_oss", "laguna", "step3")
"""Model types whose window layers keep a ring of their own (`SlidingAttention`); all others keep windows in full."""
BEYOND_WINDOW = 2 * PAGE
SCALE_BYTES, GROUP = 2, 32
_BITS = re.compile(r"exl3_q(\d)")


@dataclass(frozen=True)
class Kept:
    """What rings and states are held for: `slots` (max_batch_size) requests, each with `drafts` drafted tokens; `second` is ExLlamaV2.

    rings   whether window layers keep a ring of their own
    """

    slots: int
    drafts: int = 0
    second: bool = False
    rings: bool = True


# long: a field of the answer a line
def answer(
    estimate: Estimate, options: Options, version: str | None, generation: str | None = None
) -> EngineAnswer:  # parameters: as every engine
    """Answers for ExLlama under TabbyAPI: weights + cache of cache_size tokens + a chunk's activations + reserve <= card."""
    second = generation == "exllamav2"
    name, seq = generation or "exllamav3", estimate.request.seq_tokens
    taken = ceil_div(seq, PAGE) * PAGE
    size = ceil_div(want(options.ctx_size, taken * estimate.request.batch, "--ctx-size"), PAGE) * PAGE
    rings = not second and ((parse_version(version) if version else None) or LATEST) >= WINDOWS_SINCE
    slots = want(options.parallel, default_batch(estimate, rings), "--parallel")
    chunk = ceil_div(max(PAGE, want(options.ubatch_size, CHUNK, "--ubatch-size")), PAGE) * PAGE
    kept = Kept(slots, options.num_speculative_tokens, second, rings)
    cache = cache_bytes(estimate, size, kept)
    activation = _activation(estimate, chunk, second)
    held = max(0, estimate.per_device.weight_bytes - away_bytes(estimate, options)) + RESERVE
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
        reasons=_reasons(estimate, kept),
        assumptions=(
            f"{'ExLlamaV2' if second else 'ExLlamaV3'} {version or 'of 2026'} under TabbyAPI: cache_size {size:,}, "
            f"max_batch_size {slots}, chunk_size {chunk:,}, autosplit_reserve 96 MiB",
        ),
        refusal=refusal,
        extra={"kv_bytes": cache, "cache_size": size, "max_batch_size": slots},
    )


def away_bytes(estimate: Estimate, options: Options) -> int:
    """Counts the weights that are not on the card: embedding, tables of n-grams, an image encoder, experts of some layers.

    TabbyAPI loads the encoder with `vision: true` alone (options.mm_items), rows of n-grams come from disk, and experts of
    `cpu_moe_offload_layers` (options.host_expert_layers) are computed on the processor.
    """
    spec, plan = estimate.spec, estimate.plan
    away = embedding_bytes(estimate)
    if options.mm_items is None and spec.stored is None:
        away += plan.total((weight, 1) for weight in spec.towers)
    away += plan.total(
        (weight, count) for layer, count in spec.groups for weight in layer.weights if weight.is_row_table
    )
    if options.host_expert_layers:
        sizes = [
            plan.total((weight, 1) for weight in layer.weights if weight.part == "experts") for layer in spec.layers
        ]
        away += sum([size for size in sizes if size][: options.host_expert_layers])
    return away


def embedding_bytes(estimate: Estimate) -> int:
    """Returns the bytes of the embedding, which ExLlama keeps in host memory, less those of a head of its own where it is tied.

    exllamav2 `embedding.py` and exllamav3 `modules/embedding.py` look tokens up on the processor; of a tied model the converters
    store a head beside it, in 6 bits. A model of 32 B at 4.0 bits with 8,192 tokens takes 18,665 MiB by oobabooga/textgen PR
    6903, Gemma 3 27B at 5.0 bits with 2,048 tokens 17,404 MiB by exllamav3 issue 50.
    """
    spec, stored = estimate.spec, estimate.spec.stored
    if stored is not None:
        return stored.bytes_of("embedding") if not spec.tied or stored.bytes_of("lm_head") else 0
    whole = estimate.plan.total((weight, 1) for weight in spec.before if weight.part == "embedding")
    return whole - (spec.vocab * spec.hidden * HEAD_BITS // 8 if spec.tied else 0)


def default_batch(estimate: Estimate, kept_as_rings: bool = True) -> int:
    """Returns TabbyAPI's max_batch_size: 4 where layers keep a state or a ring for every request, else 128."""
    rings = kept_as_rings and any(_kept_as_ring(estimate, cache) for _, cache in layer_caches(estimate))
    states = estimate.spec.has_states
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
        if kept.rings and _kept_as_ring(estimate, cache):
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


def _activation(estimate: Estimate, chunk: int, second: bool) -> Estimated:
    """A forward pass of a chunk, which the loader runs to see what is left; logits of the newest token alone.

    ExLlamaV2 holds a buffer besides, from the start: the largest matrix unpacked to fp16, at most 1 GiB of it, the head's in
    most models (`temp_dq_size`, `scratch_space_fixed`).
    """
    given = estimate.request.activation_override
    if given is not None:
        return Estimated(given, given, given, "as given")
    size = forward_bytes(estimate, chunk) + 4 * estimate.spec.vocab
    words = f"a chunk of {chunk:,} tokens, not fitted: no log of ExLlama stands behind it"
    if not second:
        return Estimated(size, size // 2, 3 * size, words)
    fixed = 2 * min(estimate.spec.vocab * estimate.spec.hidden, MOST_DEQUANTISED)
    return Estimated(fixed + size, fixed + size // 2, fixed + 3 * size, f"the head unpacked, and {words}")


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


def _reasons(estimate: Estimate, held: Kept) -> tuple[str, ...]:
    second = held.second
    caches = [cache for _, cache in layer_caches(estimate)]
    found = [f"pages of {PAGE} tokens; the cache is allocated whole at the start"]
    if any(isinstance(cache, SlidingWindow) for cache in caches):
        kept = held.rings and any(_kept_as_ring(estimate, cache) for cache in caches)
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

"""What each way of keeping K and V costs in memory: the ways that `profiler.caches` builds for real.

`cache_kinds` says which numbers one sequence needs; a strategy says how they lie in memory: grown by
copying, preallocated, rolled over, cut into blocks, in fewer bits. Bytes are those of tensor storages;
an allocator may round each up (CUDA: to 512 B and more).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from planner.dtypes.kinds import KvFormat
from planner.dtypes.names import kv_format
from planner.errors import BadRequest, UnsupportedModel
from planner.memory.sharding import Sharding
from planner.model.cache import Full
from planner.model.latent_attention import Latent
from planner.model.spec import ModelSpec
from planner.model.windows import SlidingWindow
from planner.units import ceil_div

STRATEGIES = ("none", "concat", "static", "sliding", "paged", "int8", "int4")


BLOCK_TOKENS = 16  # vLLM's default block


TABLE_ENTRY_BYTES = 4  # a block number is an int32


@dataclass(frozen=True)
class LayerShape:
    """What one layer keeps for one token: `kv_heads` keys of k_dim and values of v_dim, within `window` tokens.

    Latent attention keeps one key (latent and rope part together) and no value.
    """

    kv_heads: int
    k_dim: int
    v_dim: int
    window: int | None = None


def layer_shapes(spec: ModelSpec, tp: int = 1) -> tuple[LayerShape, ...]:
    """Returns the shape of each layer's cache on the fullest of `tp` ranks.

    Raises UnsupportedModel for layers that keep something else (states, chunks, another layer's cache).
    """
    shapes = []
    for layer in spec.layers:
        for cache in layer.caches:
            share = Sharding(tp=tp).on_rank(cache)
            if type(share) is Full:
                shapes.append(LayerShape(share.kv_heads, share.k_dim, share.v_dim))
            elif isinstance(share, SlidingWindow):
                shapes.append(LayerShape(share.kv_heads, share.k_dim, share.v_dim, share.window))
            elif isinstance(share, Latent) and not share.indexer_dim:
                shapes.append(LayerShape(1, share.latent_dim + share.rope_dim, 0))
            else:
                raise UnsupportedModel(f"{spec.name}: no cache strategy is written for a layer with {cache.kind}")
    return tuple(shapes)


def concat_bytes(  # parameters: the shape of a cache and what is asked of it
    *, batch: int, tokens: int, kv_heads: int, k_dim: int, v_dim: int, element_bytes: int, window: int | None = None
) -> int:
    """Counts the bytes of a layer whose K and V grow by concatenation: exactly what is kept, min(tokens, window).

    bytes = batch · min(tokens, window) · kv_heads · (k_dim + v_dim) · element_bytes

    >>> concat_bytes(batch=1, tokens=1024, kv_heads=12, k_dim=64, v_dim=64, element_bytes=2) * 12     # GPT-2
    37748736
    """
    kept = tokens if window is None else min(tokens, window)
    return batch * kept * kv_heads * (k_dim + v_dim) * element_bytes


def concat_peak_bytes(*, before: Sequence[int], after: Sequence[int], old_kept: bool = False) -> int:
    """Returns the most bytes alive while every tensor of the cache is replaced by a longer copy.

    `before`, `after`: bytes of each tensor (K and V of each layer, in the order they are replaced).
    old_kept   all old tensors stay until the last new one is there (a tuple of the past, as tutorials pass
               it): sum(before) + sum(after), about twice the cache
    otherwise  each old tensor is freed when its copy exists: max over i of after[..i] + before[i..],
               about 1 + 1 / (2 · layers)
    The copy's workspace and the new tokens' own K and V are left out.

    >>> concat_peak_bytes(before=[100] * 24, after=[101] * 24, old_kept=True)
    4824
    >>> concat_peak_bytes(before=[100] * 24, after=[101] * 24)        # 24 · 101 + 100
    2524
    """
    if len(before) != len(after):
        raise ValueError(f"{len(before)} tensors before and {len(after)} after; as many are wanted")
    if old_kept:
        return sum(before) + sum(after)
    grown, left = accumulate(after), accumulate(reversed(before))
    return max((new + old for new, old in zip(grown, reversed(list(left)), strict=True)), default=0)


def static_bytes(*, batch: int, max_tokens: int, kv_heads: int, k_dim: int, v_dim: int, element_bytes: int) -> int:
    """Counts the bytes of a layer preallocated for its longest length, window or not: the bytes are there from the first token.

    bytes = batch · max_tokens · kv_heads · (k_dim + v_dim) · element_bytes

    >>> static_bytes(batch=4, max_tokens=2048, kv_heads=8, k_dim=128, v_dim=128, element_bytes=2)
    33554432
    """
    return batch * max_tokens * kv_heads * (k_dim + v_dim) * element_bytes


def sliding_bytes(  # parameters: the shape of a cache and what is asked of it
    *, batch: int, max_tokens: int, window: int | None, kv_heads: int, k_dim: int, v_dim: int, element_bytes: int
) -> int:
    """Counts the bytes of a preallocated ring of min(max_tokens, window) tokens; without a window, as static.

    >>> sliding_bytes(batch=1, max_tokens=8192, window=4096, kv_heads=8, k_dim=128, v_dim=128, element_bytes=2)
    16777216
    """
    length = max_tokens if window is None else min(max_tokens, window)
    return static_bytes(
        batch=batch, max_tokens=length, kv_heads=kv_heads, k_dim=k_dim, v_dim=v_dim, element_bytes=element_bytes
    )


def paged_blocks(*, lengths: Sequence[int], block_tokens: int = BLOCK_TOKENS) -> int:
    """Counts the blocks that sequences of these lengths take from the pool: each rounded up on its own.

    >>> paged_blocks(lengths=[1, 16, 17])
    4
    """
    return sum(ceil_div(length, block_tokens) for length in lengths)


def paged_bytes(
    *, blocks: int, kv_heads: int, k_dim: int, v_dim: int, element_bytes: int, block_tokens: int = BLOCK_TOKENS
) -> int:
    """Counts the bytes of one layer's blocks in a shared pool (windows are not used to free blocks).

    bytes = blocks · block_tokens · kv_heads · (k_dim + v_dim) · element_bytes

    >>> paged_bytes(blocks=4, kv_heads=8, k_dim=128, v_dim=128, element_bytes=2)
    262144
    """
    return blocks * block_tokens * kv_heads * (k_dim + v_dim) * element_bytes


def paged_table_bytes(*, sequences: int, max_tokens: int, block_tokens: int = BLOCK_TOKENS) -> int:
    """Counts the bytes of the block table, one for all layers: a row a sequence, an int32 for each block it could have.

    >>> paged_table_bytes(sequences=3, max_tokens=100)
    84
    """
    return sequences * ceil_div(max_tokens, block_tokens) * TABLE_ENTRY_BYTES


def quantised_bytes(  # parameters: the shape of a cache and what is asked of it
    *, batch: int, max_tokens: int, kv_heads: int, k_dim: int, v_dim: int, k_format: KvFormat, v_format: KvFormat
) -> int:
    """Counts the bytes of a layer preallocated in fewer bits: codes, scales and zero points counted.

    bytes = batch · max_tokens · kv_heads · (k_format.vector_bytes(k_dim) + v_format.vector_bytes(v_dim));
    reading dequantises into a copy in the model's dtype, which is not counted here.

    >>> int8, int4 = kv_format("int8"), kv_format("int4")
    >>> quantised_bytes(batch=1, max_tokens=1, kv_heads=1, k_dim=128, v_dim=128, k_format=int8, v_format=int4)
    202
    """
    pair = k_format.vector_bytes(k_dim) + (v_format.vector_bytes(v_dim) if v_dim else 0)
    return batch * max_tokens * kv_heads * pair


def strategy_bytes(  # parameters: the shape of a cache and what is asked of it
    shapes: Sequence[LayerShape],
    strategy: str,
    *,
    tokens: int,
    max_tokens: int,
    batch: int = 1,
    lengths: Sequence[int] | None = None,
    element_bytes: int = 2,
    block_tokens: int = BLOCK_TOKENS,
) -> int:
    """Counts the bytes of the whole cache of `batch` sequences under one strategy, all layers.

    tokens      how many each holds now (concat, and the blocks of paged); `lengths` when they differ (paged):
                for a whole pool, the lengths it was made for
    max_tokens  how many it was made for (static, sliding, paged table, int8, int4)

    >>> gpt2 = [LayerShape(12, 64, 64)] * 12
    >>> strategy_bytes(gpt2, "concat", tokens=1000, max_tokens=1024, element_bytes=4)
    73728000
    >>> strategy_bytes(gpt2, "paged", tokens=1000, max_tokens=1024, element_bytes=4)      # 63 blocks, 64 in the table
    74318080
    """
    if strategy == "none":
        return 0
    if strategy not in STRATEGIES:
        raise BadRequest(f"cache strategy {strategy!r} is not known; choose one of: {', '.join(STRATEGIES)}")
    total = 0
    blocks = paged_blocks(lengths=lengths or [tokens] * batch, block_tokens=block_tokens)
    if strategy == "paged":
        total = paged_table_bytes(sequences=batch, max_tokens=max_tokens, block_tokens=block_tokens)
    for shape in shapes:
        heads, k, v, window = shape.kv_heads, shape.k_dim, shape.v_dim, shape.window
        if strategy == "concat":
            total += concat_bytes(
                batch=batch, tokens=tokens, kv_heads=heads, k_dim=k, v_dim=v, element_bytes=element_bytes, window=window
            )
        elif strategy == "static":
            total += static_bytes(
                batch=batch, max_tokens=max_tokens, kv_heads=heads, k_dim=k, v_dim=v, element_bytes=element_bytes
            )
        elif strategy == "sliding":
            total += sliding_bytes(
                batch=batch, max_tokens=max_tokens, window=window, kv_heads=heads, k_dim=k, v_dim=v,
                element_bytes=element_bytes,
            )  # fmt: skip
        elif strategy == "paged":
            total += paged_bytes(
                blocks=blocks, kv_heads=heads, k_dim=k, v_dim=v, element_bytes=element_bytes, block_tokens=block_tokens
            )
        else:
            fmt = kv_format(strategy)
            length = max_tokens if window is None else min(max_tokens, window)
            total += quantised_bytes(
                batch=batch, max_tokens=length, kv_heads=heads, k_dim=k, v_dim=v, k_format=fmt, v_format=fmt
            )
    return total

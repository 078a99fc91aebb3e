"""Defines what a layer keeps for one sequence: a curve of bytes over tokens, never bytes per token.

Every kind of cache, here and in the files of the mixers beside this one, answers the same five questions:

- `kv_bytes(tokens, source_tokens, fmt)`  what grows with the length (K and V, latent, cross)
- `state_bytes(fmt)`                      what is there from the first token and does not grow
- `tokens_kept(tokens, source_tokens)`    positions held
- `on_rank(tp)`                           the same cache on the fullest of `tp` tensor-parallel ranks
- `equation(batch, tokens, source_tokens, fmt)`  the factors, for people

All are frozen and hashable: equal layers are counted once and multiplied.
"""

from __future__ import annotations

from dataclasses import replace

from planner.dtypes.kinds import CacheFormat
from planner.errors import BadRequest
from planner.frozen import dataclass
from planner.units import ceil_div


def heads_on_rank(heads: int, tp: int) -> int:
    """Counts the KV heads on the fullest rank: split while there are enough, then copied.

    >>> heads_on_rank(8, 4), heads_on_rank(8, 16), heads_on_rank(1, 8)
    (2, 1, 1)

    Source: vLLM `max(1, total_num_kv_heads // tensor_parallel_size)`; where the ranks do not divide the
    heads (engines refuse it) the fullest rank would hold the ceiling.
    """
    return max(1, ceil_div(heads, tp))


class Cache:
    """Base of all kinds: keeps nothing."""

    @property
    def kind(self) -> str:
        return "no cache"

    @property
    def symbols(self) -> str:
        """What the factors of `equation` are."""
        return ""

    @property
    def copied(self) -> bool:
        """Every tensor-parallel rank holds all of it (a latent)."""
        return False

    @property
    def spreads_over_context(self) -> bool:
        """Decode context parallelism can spread its tokens over ranks."""
        return False

    @property
    def cycle(self) -> int:
        """Tokens after which the bytes of a growing past have the same shape again: 1, or those of a compressed block."""
        return 1

    def kv_bytes(self, tokens: int, source_tokens: int, fmt: CacheFormat) -> int:
        return 0

    def state_bytes(self, fmt: CacheFormat) -> int:
        return 0

    def tokens_kept(self, tokens: int, source_tokens: int) -> int:
        return 0

    def elements(self, tokens: int, source_tokens: int) -> int:
        """Cached numbers, without scales."""
        return 0

    def on_rank(self, tp: int) -> Cache:
        return self

    def equation(
        self, batch: int, tokens: int, source_tokens: int, fmt: CacheFormat
    ) -> str:  # parameters: as every cache
        return "0"


class Shared(Cache):
    """A layer that attends over an earlier layer's cache and stores none of its own."""

    @property
    def kind(self) -> str:
        return "shared with an earlier layer"


@dataclass(frozen=True, repr=False)
class Full(Cache):
    """K and V of every token.

    bytes = tokens · kv_heads · (vector_bytes(k_dim) + vector_bytes(v_dim));
    with k_dim = v_dim = d and plain dtypes this is the familiar 2 · S · H_kv · d · bytes.

    >>> from planner.dtypes.kinds import CacheFormat
    >>> from planner.dtypes.names import kv_format
    >>> fp16 = CacheFormat(kv_format("fp16"), kv_format("fp16"))
    >>> Full(32, 128, 128).kv_bytes(8192, 0, fp16) * 32        # LLaMA-7B at 8192: 4 GiB
    4294967296
    """

    kv_heads: int
    k_dim: int
    v_dim: int

    @property
    def kind(self) -> str:
        return "full attention"

    @property
    def symbols(self) -> str:
        return "2 (K and V) x batch x tokens x KV heads x head_dim x bytes x layers"

    @property
    def spreads_over_context(self) -> bool:
        return type(self) is Full

    def tokens_kept(self, tokens: int, source_tokens: int) -> int:
        return tokens

    def vector_pair_bytes(self, fmt: CacheFormat) -> int:
        """One token, one head: K and V together."""
        for side in (fmt.k, fmt.v):
            if side.name == "fp8_ds_mla":
                raise BadRequest("KV dtype fp8_ds_mla is for latent attention (MLA) layers only; choose fp8")
        return fmt.k.vector_bytes(self.k_dim) + fmt.v.vector_bytes(self.v_dim)

    def kv_bytes(self, tokens: int, source_tokens: int, fmt: CacheFormat) -> int:
        return self.tokens_kept(tokens, source_tokens) * self.kv_heads * self.vector_pair_bytes(fmt)

    def elements(self, tokens: int, source_tokens: int) -> int:
        return self.tokens_kept(tokens, source_tokens) * self.kv_heads * (self.k_dim + self.v_dim)

    def on_rank(self, tp: int) -> Cache:
        heads = heads_on_rank(self.kv_heads, tp)
        return self if heads == self.kv_heads else replace(self, kv_heads=heads)

    def equation(
        self, batch: int, tokens: int, source_tokens: int, fmt: CacheFormat
    ) -> str:  # parameters: as every cache
        kept = self.tokens_kept(tokens, source_tokens)
        k, v = fmt.k, fmt.v
        if self.k_dim == self.v_dim and k == v and not k.group_bytes and k.bits % 8 == 0:
            return f"2 x {batch} x {kept} x {self.kv_heads} x {self.k_dim} x {k.bits // 8} B"
        pair = f"({k.vector_bytes(self.k_dim)} + {v.vector_bytes(self.v_dim)}) B"
        return f"{batch} x {kept} x {self.kv_heads} x {pair}"

"""What a layer mixes tokens with besides plain attention: cross and latent attention, recurrent mixers.

Each mixer knows its weights (parameter formulas, shapes as [out, in]) and what it caches.
"""

from __future__ import annotations

from dataclasses import dataclass

from planner.attention import Attention, Mixer
from planner.cache_kinds import Cache, Cross, Latent, Recurrent, StatePart
from planner.weights import Weight, linear, vector

__all__ = ["Attention", "CrossAttention", "EncoderAttention", "LatentAttention", "Mixer", "StateMixer"]


@dataclass(frozen=True)
class EncoderAttention(Attention):
    """Attention inside an encoder: it runs once over the whole source and keeps nothing."""

    def cache(self) -> Cache:
        return Cache()


@dataclass(frozen=True)
class CrossAttention(Attention):
    """Attention over the encoder's output; `source_width` is the width of what k and v read."""

    source_width: int = 0
    fixed_tokens: int | None = None
    part: str = "cross_attention"

    def weights(self) -> tuple[Weight, ...]:
        source = self.source_width or self.hidden
        k_bias = self.qkv_bias if self.k_bias is None else self.k_bias
        kv_heads, split = self.kv_heads, "kv"
        q = linear(self.part, self.heads * self.head_dim, self.hidden, bias=self.qkv_bias, split="rows",
                   units=self.heads)  # fmt: skip
        k = linear(self.part, kv_heads * self.head_dim, source, bias=k_bias, split=split, units=kv_heads)
        v = linear(self.part, kv_heads * self.value_dim, source, bias=self.qkv_bias, split=split, units=kv_heads)
        out = linear(self.part, self.hidden, self.heads * self.value_dim, bias=self.out_bias, split="cols",
                     units=self.heads)  # fmt: skip
        return q + k + v + out + self._norms()

    def cache(self) -> Cache:
        return Cross(self.kv_heads, self.head_dim, self.value_dim, self.fixed_tokens)


@dataclass(frozen=True)
class LatentAttention(Mixer):
    """MLA: q through an optional low rank, k and v through a latent of kv_rank plus a shared rope key.

    q_a [q_rank, hidden], q_b [heads·(nope + rope), q_rank] (or q [heads·(nope + rope), hidden]),
    kv_a [kv_rank + rope, hidden], kv_b [heads·(nope + v_dim), kv_rank], o [hidden, heads·v_dim];
    norms of q_rank and kv_rank. Source: arXiv:2405.04434 and transformers DeepseekV3Attention.

    The sparse indexer (DeepSeek-V3.2) adds wq_b [ih·id, q_rank], wk [id, hidden], a LayerNorm of id and
    weights_proj [ih, hidden], and caches one key of `id` a token.
    """

    hidden: int
    heads: int
    q_rank: int | None
    kv_rank: int
    nope_dim: int
    rope_dim: int
    v_dim: int
    bias: bool = False
    indexer_heads: int = 0
    indexer_dim: int = 0

    def weights(self) -> tuple[Weight, ...]:
        part, heads = "attention", self.heads
        q_out = heads * (self.nope_dim + self.rope_dim)
        if self.q_rank is None:
            q = linear(part, q_out, self.hidden, split="rows", units=heads)
        else:
            q = (
                *linear(part, self.q_rank, self.hidden, bias=self.bias),
                vector("norm", self.q_rank),
                *linear(part, q_out, self.q_rank, split="rows", units=heads),
            )
        kv = (
            *linear(part, self.kv_rank + self.rope_dim, self.hidden, bias=self.bias),
            vector("norm", self.kv_rank),
            *linear(part, heads * (self.nope_dim + self.v_dim), self.kv_rank, split="rows", units=heads),
        )
        out = linear(part, self.hidden, heads * self.v_dim, bias=self.bias, split="cols", units=heads)
        return q + kv + out + self._indexer()

    def _indexer(self) -> tuple[Weight, ...]:
        if not self.indexer_dim:
            return ()
        return (
            *linear("indexer", self.indexer_heads * self.indexer_dim, self.q_rank or self.hidden),
            *linear("indexer", self.indexer_dim, self.hidden),
            vector("indexer", self.indexer_dim, 2),
            *linear("indexer", self.indexer_heads, self.hidden),
        )

    @property
    def activation_width(self) -> int:
        """q, k of nope + rope and v, output of v_dim for each head."""
        return 2 * self.heads * (self.nope_dim + self.rope_dim + self.v_dim)

    @property
    def score_heads(self) -> int:
        return self.heads

    def cache(self) -> Cache:
        return Latent(self.kv_rank, self.rope_dim, self.indexer_dim)


@dataclass(frozen=True)
class StateMixer(Mixer):
    """A recurrent mixer given by its weights and state parts; makers in `planner.recurrent` name the formulas."""

    label: str
    weight_list: tuple[Weight, ...]
    parts: tuple[StatePart, ...]

    def weights(self) -> tuple[Weight, ...]:
        return self.weight_list

    def cache(self) -> Cache:
        return Recurrent(self.label, self.parts)

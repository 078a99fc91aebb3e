"""Describes encoder layers and attention to an encoder's output, whose cache grows with the source alone."""

from __future__ import annotations

from dataclasses import dataclass

from planner.model.attention import Attention
from planner.model.cache import Cache, Full
from planner.model.weights import Weight, linear


@dataclass(frozen=True)
class Cross(Full):
    """K and V of the encoder's output: source_tokens long, computed once, no growth with the answer.

    `fixed_tokens`: the encoder's own length when the input is padded to it (Whisper: 1500).
    """

    fixed_tokens: int | None = None

    @property
    def kind(self) -> str:
        return "cross attention"

    def tokens_kept(self, tokens: int, source_tokens: int) -> int:
        return source_tokens


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
                   units=self.heads, name="q_proj")  # fmt: skip
        k = linear(self.part, kv_heads * self.head_dim, source, bias=k_bias, split=split, units=kv_heads,
                   name="k_proj")  # fmt: skip
        v = linear(self.part, kv_heads * self.value_dim, source, bias=self.qkv_bias, split=split, units=kv_heads,
                   name="v_proj")  # fmt: skip
        out = linear(self.part, self.hidden, self.heads * self.value_dim, bias=self.out_bias, split="cols",
                     units=self.heads, name="o_proj|out_proj")  # fmt: skip
        return q + k + v + out + self._norms()

    def cache(self) -> Cache:
        return Cross(self.kv_heads, self.head_dim, self.value_dim, self.fixed_tokens)

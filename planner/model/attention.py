"""Describes softmax attention, the mixer of most layers of most models: its weights, and the K and V that it keeps.

What a layer keeps is a curve of bytes over tokens, never bytes per token. It stands apart from the other mixers
so that an answer about a plain model loads nothing else. All classes are frozen and hashable: equal layers are
counted once and multiplied.
"""

from __future__ import annotations

from planner.frozen import dataclass
from planner.model.cache import Cache, Full, Shared
from planner.model.weights import Weight, linear, vector


class Mixer:
    """Base: mixes nothing, keeps nothing."""

    def weights(self) -> tuple[Weight, ...]:
        return ()

    def cache(self) -> Cache:
        return Cache()

    @property
    def activation_width(self) -> int:
        """Elements that one token has alive while it is mixed."""
        return sum(weight.rows for weight in self.weights() if weight.cols > 1)

    @property
    def score_heads(self) -> int:
        """Heads that each hold a row of attention scores when attention is not fused."""
        return 0


@dataclass(frozen=True, repr=False)
class Repeated(Mixer):
    """A mixer that runs once more in a later pass over the same layer: the same weights, and a cache of its own."""

    mixer: Mixer

    def cache(self) -> Cache:
        return self.mixer.cache()


@dataclass(frozen=True, repr=False)
class Attention(Mixer):
    """Softmax attention: MHA (kv_heads = heads), GQA, MQA (kv_heads = 1).

    q [heads·head_dim, hidden], k [kv_heads·head_dim, hidden], v [kv_heads·v_dim, hidden],
    o [hidden, heads·v_dim].

    qk_norm   "" none, "head" one gain of head_dim for q and for k, "full" gains over all heads,
              "per_head" a gain for each head apart
    gate      0, or how many extra outputs per head the query projection has (Qwen3-Next: head_dim)
    sinks     one learned logit a head (gpt-oss)
    window / chunk   limits what is attended and kept
    shares_cache     attends over an earlier layer's K and V and has no k, v projection of its own
    k_is_v    values are the keys: no v projection, but both are cached (Gemma 4 global layers)
    """

    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    v_dim: int = 0
    qkv_bias: bool = False
    out_bias: bool = False
    qk_norm: str = ""
    qk_norm_bias: bool = False
    gate: int = 0
    sinks: bool = False
    window: int | None = None
    chunk: int | None = None
    shares_cache: bool = False
    k_is_v: bool = False
    k_bias: bool | None = None
    part: str = "attention"

    @property
    def value_dim(self) -> int:
        return self.v_dim or self.head_dim

    def weights(self) -> tuple[Weight, ...]:
        def project(
            name: str, width: int, heads: int, split: str, bias: bool
        ) -> tuple[Weight, ...]:  # parameters: what it makes is made of, each by name
            return linear(self.part, width * heads, self.hidden, bias=bias, split=split, units=heads, name=name)

        out = linear(
            self.part,
            self.hidden,
            self.heads * self.value_dim,
            bias=self.out_bias,
            split="cols",
            units=self.heads,
            name="o_proj",
        )
        weights = project("q_proj", self.head_dim + self.gate, self.heads, "rows", self.qkv_bias) + out
        if not self.shares_cache:
            k_bias = self.qkv_bias if self.k_bias is None else self.k_bias
            weights += project("k_proj", self.head_dim, self.kv_heads, "kv", k_bias)
            if not self.k_is_v:
                weights += project("v_proj", self.value_dim, self.kv_heads, "kv", self.qkv_bias)
        return weights + self._norms() + ((vector(self.part, self.heads, split="rows"),) if self.sinks else ())

    def _norms(self) -> tuple[Weight, ...]:
        copies = 2 if self.qk_norm_bias else 1
        kv = 0 if self.shares_cache else 1
        if self.qk_norm == "head":
            return (vector("norm", self.head_dim, copies * (1 + kv)),)
        if self.qk_norm in ("full", "per_head"):
            q_width, k_width = self.heads * self.head_dim, self.kv_heads * self.head_dim
            return (vector("norm", q_width, copies), vector("norm", k_width, copies * kv))
        return ()

    @property
    def activation_width(self) -> int:
        """q + k + v + output: heads·(d + v) + kv_heads·(d + v)."""
        return (self.heads + self.kv_heads) * (self.head_dim + self.value_dim)

    @property
    def score_heads(self) -> int:
        return self.heads

    def cache(self) -> Cache:
        if self.shares_cache:
            return Shared()
        shape = (self.kv_heads, self.head_dim, self.value_dim)
        if self.window is None and self.chunk is None:
            return Full(*shape)
        from planner.model.windows import Chunked, SlidingWindow  # only where a layer keeps less than all

        if self.window is not None:
            return SlidingWindow(*shape, self.window)
        assert self.chunk is not None
        return Chunked(*shape, self.chunk)

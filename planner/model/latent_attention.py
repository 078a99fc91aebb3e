"""Describes latent attention (MLA): its weights, and the one latent a token that its cache keeps."""

from __future__ import annotations

from planner.dtypes.kinds import CacheFormat
from planner.frozen import dataclass
from planner.model.attention import Mixer
from planner.model.cache import Cache
from planner.model.weights import Weight, linear, vector
from planner.units import ceil_div


@dataclass(frozen=True)
class Latent(Cache):
    """Multi-head latent attention: one compressed vector and one rope key a token, stored once, not twice.

    bytes = tokens · (vector_bytes(latent + rope) + indexer key). Every tensor-parallel rank holds it all.
    fp8_ds_mla: latent·1 B + 4 B per 128 + rope·2 B (656 B for 512 + 64). Source: DeepSeek-V2,
    arXiv:2405.04434; vLLM MLAAttentionSpec.

    >>> from planner.dtypes.kinds import CacheFormat
    >>> from planner.dtypes.names import kv_format
    >>> bf16, ds = kv_format("bf16"), kv_format("fp8_ds_mla")
    >>> Latent(512, 64).kv_bytes(1, 0, CacheFormat(bf16, bf16)), Latent(512, 64).kv_bytes(1, 0, CacheFormat(ds, ds))
    (1152, 656)
    """

    latent_dim: int
    rope_dim: int
    indexer_dim: int = 0

    @property
    def kind(self) -> str:
        return "latent (MLA) + indexer" if self.indexer_dim else "latent (MLA)"

    @property
    def symbols(self) -> str:
        return "batch x tokens x (latent + rope [+ indexer]) x bytes x layers, stored once"

    @property
    def copied(self) -> bool:
        return True

    @property
    def spreads_over_context(self) -> bool:
        return True

    def tokens_kept(self, tokens: int, source_tokens: int) -> int:
        return tokens

    def token_bytes(self, fmt: CacheFormat) -> int:
        if fmt.k.name == "fp8_ds_mla":
            record = self.latent_dim + 4 * ceil_div(self.latent_dim, 128) + 2 * self.rope_dim
            indexer = self.indexer_dim + 4 * ceil_div(self.indexer_dim, 128)
            return record + indexer
        indexer = fmt.k.vector_bytes(self.indexer_dim) if self.indexer_dim else 0
        return fmt.k.vector_bytes(self.latent_dim + self.rope_dim) + indexer

    def kv_bytes(self, tokens: int, source_tokens: int, fmt: CacheFormat) -> int:
        return tokens * self.token_bytes(fmt)

    def elements(self, tokens: int, source_tokens: int) -> int:
        return tokens * (self.latent_dim + self.rope_dim + self.indexer_dim)

    def equation(
        self, batch: int, tokens: int, source_tokens: int, fmt: CacheFormat
    ) -> str:  # parameters: as every cache
        widths = f"{self.latent_dim} + {self.rope_dim}" + (f" + {self.indexer_dim}" if self.indexer_dim else "")
        if fmt.k.group_bytes or fmt.k.bits % 8 or fmt.k.name == "fp8_ds_mla":
            return f"{batch} x {tokens} x {self.token_bytes(fmt)} B"
        return f"{batch} x {tokens} x ({widths}) x {fmt.k.bits // 8} B"


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
            q = linear(part, q_out, self.hidden, split="rows", units=heads, name="q_proj")
        else:
            q = (
                *linear(part, self.q_rank, self.hidden, bias=self.bias, name="q_a_proj"),
                vector("norm", self.q_rank),
                *linear(part, q_out, self.q_rank, split="rows", units=heads, name="q_b_proj"),
            )
        kv = (
            *linear(part, self.kv_rank + self.rope_dim, self.hidden, bias=self.bias, name="kv_a_proj_with_mqa"),
            vector("norm", self.kv_rank),
            *linear(
                part, heads * (self.nope_dim + self.v_dim), self.kv_rank, split="rows", units=heads, name="kv_b_proj"
            ),
        )
        out = linear(part, self.hidden, heads * self.v_dim, bias=self.bias, split="cols", units=heads, name="o_proj")
        return q + kv + out + self._indexer()

    def _indexer(self) -> tuple[Weight, ...]:
        if not self.indexer_dim:
            return ()
        return (
            *linear("indexer", self.indexer_heads * self.indexer_dim, self.q_rank or self.hidden, name="wq_b"),
            *linear("indexer", self.indexer_dim, self.hidden, name="wk"),
            vector("indexer", self.indexer_dim, 2),
            *linear("indexer", self.indexer_heads, self.hidden, name="weights_proj"),
        )

    @property
    def activation_width(self) -> int:
        """q, k of nope + rope and v, output of v_dim for each head."""
        return 2 * self.heads * (self.nope_dim + self.rope_dim + self.v_dim)

    @property
    def score_heads(self) -> int:
        return self.heads

    @property
    def reach(self) -> int | None:
        """Returns how many of the newest tokens a query attends to; None: all."""
        return None

    def cache(self) -> Cache:
        return Latent(self.kv_rank, self.rope_dim, self.indexer_dim)

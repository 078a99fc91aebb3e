"""Sparse attention: the small keys that an indexer searches, and DeepSeek-V4's compressed past.

A sparse layer still keeps what it may attend to; beside it stands a second mixer with what choosing needs.
The shapes are those that transformers 5.23.0 allocates.
"""

from __future__ import annotations

from dataclasses import dataclass

from planner.dtypes.kinds import CacheFormat
from planner.model.attention import Mixer
from planner.model.cache import Cache
from planner.model.weights import Weight, linear, vector
from planner.model.windows import SlidingWindow
from planner.units import ceil_div

INDEXER = "indexer"


COMPRESSOR = "compressor"


@dataclass(frozen=True)
class IndexKeys(Cache):
    """One vector of `width` a token, searched by all heads of an indexer: every rank holds it all.

    bytes = tokens · vector_bytes(width); in fp8_ds_mla 1 B a number and 4 B per 128.

    >>> IndexKeys(128).elements(64, 0)
    8192
    """

    width: int

    @property
    def kind(self) -> str:
        return "indexer keys"

    def tokens_kept(self, tokens: int, source_tokens: int) -> int:
        return tokens

    def token_bytes(self, fmt: CacheFormat) -> int:
        if fmt.k.name == "fp8_ds_mla":
            return self.width + 4 * ceil_div(self.width, 128)
        return fmt.k.vector_bytes(self.width)

    def kv_bytes(self, tokens: int, source_tokens: int, fmt: CacheFormat) -> int:
        return tokens * self.token_bytes(fmt)

    def elements(self, tokens: int, source_tokens: int) -> int:
        return tokens * self.width

    def equation(
        self, batch: int, tokens: int, source_tokens: int, fmt: CacheFormat
    ) -> str:  # parameters: as every cache
        return f"{batch} x {tokens} x {self.token_bytes(fmt)} B [{self.width}]"


@dataclass(frozen=True)
class CompressedPast(Cache):
    """A long past of which one entry of `widths` stays for every `rate` tokens, and what a block that is open keeps.

    bytes = floor(S / rate) · (bytes of an entry) + bytes that wait. Every rank holds it all. What waits is each kind's
    own, and what an engine pages of one kind it may not page of another.
    """

    rate: int
    widths: tuple[int, ...]

    @property
    def kind(self) -> str:
        return f"compressed 1:{self.rate}"

    @property
    def cycle(self) -> int:
        return self.rate

    def tokens_kept(self, tokens: int, source_tokens: int) -> int:
        return tokens // self.rate

    def waiting(self, tokens: int) -> int:
        """Counts the elements that the open block keeps."""
        raise NotImplementedError

    def waiting_bytes(self, tokens: int, fmt: CacheFormat) -> int:
        """Counts the bytes that the open block keeps."""
        raise NotImplementedError

    def entry_bytes(self, fmt: CacheFormat) -> int:
        return sum(fmt.k.vector_bytes(width) for width in self.widths)

    def kv_bytes(self, tokens: int, source_tokens: int, fmt: CacheFormat) -> int:
        return tokens // self.rate * self.entry_bytes(fmt) + self.waiting_bytes(tokens, fmt)

    def elements(self, tokens: int, source_tokens: int) -> int:
        return tokens // self.rate * sum(self.widths) + self.waiting(tokens)


@dataclass(frozen=True)
class Compressed(CompressedPast):
    """DeepSeek-V4's long past: an entry of `widths` for every `rate` tokens, and the tokens of an open block.

    elements = floor(S / rate)·w + 2·(S mod rate)·s·w, w = sum(widths); a waiting token keeps value and gate.
    `overlap` (s = 2, else 1): two series, of which the last closed block's first series stays, 2·rate·w.
    The waiting part empties whenever a block closes, so the curve dips there: it is exact, not an envelope.
    Entries take the KV dtype; what waits takes the model's, but for the gate of the block before, which is fp32 from
    transformers 5.24 on (it has the positions' fp32 bias in it). Every rank holds it all.
    Source: transformers DeepseekV4HCACache, DeepseekV4CSACache.

    >>> Compressed(128, (512,)).elements(136, 0), Compressed(4, (512, 128), overlap=True).elements(136, 0)
    (8704, 26880)
    """

    overlap: bool = False

    def waiting(self, tokens: int) -> int:
        """Elements of the open block and, with overlap, of the block before it."""
        open_block = 2 * (tokens % self.rate) * sum(self.widths) * (2 if self.overlap else 1)
        return open_block + 2 * self.overlapping(tokens)

    def overlapping(self, tokens: int) -> int:
        """Elements that the last closed block leaves of its values; its gates are as many."""
        return self.rate * sum(self.widths) if self.overlap and tokens >= self.rate else 0

    def waiting_bytes(self, tokens: int, fmt: CacheFormat) -> int:
        gates = self.overlapping(tokens)
        return (self.waiting(tokens) - gates) * fmt.model_dtype_bytes + gates * max(4, fmt.model_dtype_bytes)

    def equation(
        self, batch: int, tokens: int, source_tokens: int, fmt: CacheFormat
    ) -> str:  # parameters: as every cache
        entries = f"{tokens // self.rate} x {self.entry_bytes(fmt)} B"
        gates = self.overlapping(tokens)
        wide = f" + {gates} x {max(4, fmt.model_dtype_bytes)} B" if gates else ""
        return f"{batch} x ({entries} + {self.waiting(tokens) - gates} x {fmt.model_dtype_bytes} B{wide})"


@dataclass(frozen=True)
class BlockIndexer(Mixer):
    """MiniMax-M3, Qwen4-Exp: q [heads·dim, hidden] and k [dim, hidden], each with a norm of dim; caches k.

    `pool`: tokens whose keys are pooled to one when it is searched (Qwen4-Exp; 1: none); 0 of MiniMax-M3, which
    chooses blocks. What an engine keeps of the pools is its own.
    """

    hidden: int
    heads: int
    dim: int
    pool: int = 0

    def weights(self) -> tuple[Weight, ...]:
        q = linear(INDEXER, self.heads * self.dim, self.hidden, name="wq")
        return (*q, *linear(INDEXER, self.dim, self.hidden, name="wk"), vector("norm", self.dim, 2))

    def cache(self) -> Cache:
        return IndexKeys(self.dim)


@dataclass(frozen=True)
class PooledIndexer(Mixer):
    """GLM-5.3: DeepSeek's indexer over pools of `pool` tokens, rebuilt from what each token left behind.

    q [heads·dim, q_rank], k and pool gate [dim, hidden], a LayerNorm of dim, pool positions [pool, dim],
    head weights [heads, hidden]. Caches key, gate score and a mark for padding: 2·dim + 1 a token.
    """

    hidden: int
    q_rank: int
    heads: int
    dim: int
    pool: int

    def weights(self) -> tuple[Weight, ...]:
        return (
            *linear(INDEXER, self.heads * self.dim, self.q_rank, name="wq_b"),
            *linear(INDEXER, 2 * self.dim, self.hidden, name="wk"),
            vector(INDEXER, self.dim, 2),
            Weight(INDEXER, self.pool, self.dim, linear=False),
            *linear(INDEXER, self.heads, self.hidden, name="weights_proj"),
        )

    def cache(self) -> Cache:
        return IndexKeys(2 * self.dim + 1)


@dataclass(frozen=True)
class SharedKvAttention(Mixer):
    """DeepSeek-V4's core: one vector a token that is key and value at once, for the newest `window` tokens.

    q_a [q_rank, hidden], q_b [heads·dim, q_rank], kv [dim, hidden]; output in `out_groups` groups of heads:
    o_a [out_groups·out_rank, heads·dim / out_groups], o_b [hidden, out_groups·out_rank]; norms of q_rank and
    dim, a sink a head. `copies` 2: the cache stores the vector as key and as value.
    """

    hidden: int
    heads: int
    dim: int
    q_rank: int
    out_groups: int
    out_rank: int
    window: int
    copies: int = 1

    def weights(self) -> tuple[Weight, ...]:
        part, groups = "attention", self.out_groups
        return (
            *linear(part, self.q_rank, self.hidden, name="wq_a|q_a_proj"),
            *linear(part, self.heads * self.dim, self.q_rank, split="rows", units=self.heads, name="wq_b|q_b_proj"),
            *linear(part, self.dim, self.hidden, name="wkv|kv_proj"),
            *linear(
                part,
                groups * self.out_rank,
                self.heads * self.dim // groups,
                split="rows",
                units=groups,
                name="wo_a|o_a_proj",
            ),
            *linear(part, self.hidden, groups * self.out_rank, split="cols", units=groups, name="wo_b|o_b_proj"),
            vector("norm", self.q_rank + self.dim),
            vector(part, self.heads, split="rows"),
        )

    def cache(self) -> Cache:
        return SlidingWindow(1, self.dim, (self.copies - 1) * self.dim, self.window)


@dataclass(frozen=True)
class Compressor(Mixer):
    """DeepSeek-V4's compressor of `rate` tokens into one entry of `dim`, with an indexer where `indexer_dim`.

    With s = 2 series where blocks overlap, else 1: kv and gate [s·dim, hidden], positions [rate, s·dim] and a
    norm of dim. The indexer has a compressor of its own width, q [indexer_heads·indexer_dim, q_rank] and head weights
    [indexer_heads, hidden].
    """

    hidden: int
    dim: int
    rate: int
    overlap: bool = False
    q_rank: int = 0
    indexer_heads: int = 0
    indexer_dim: int = 0

    def weights(self) -> tuple[Weight, ...]:
        own = self._compressor(COMPRESSOR, self.dim)
        if not self.indexer_dim:
            return own
        return (
            *own,
            *self._compressor(INDEXER, self.indexer_dim),
            *linear(INDEXER, self.indexer_heads * self.indexer_dim, self.q_rank, name="wq_b"),
            *linear(INDEXER, self.indexer_heads, self.hidden, name="weights_proj|scorer.weights_proj"),
        )

    def _compressor(self, part: str, dim: int) -> tuple[Weight, ...]:
        wide = 2 * dim if self.overlap else dim
        positions = Weight(part, self.rate, wide, linear=False)
        return (
            *linear(part, wide, self.hidden, name="wkv|kv_proj"),
            *linear(part, wide, self.hidden, name="wgate|gate_proj"),
            positions,
            vector("norm", dim),
        )

    def cache(self) -> Cache:
        widths = (self.dim, self.indexer_dim) if self.indexer_dim else (self.dim,)
        return Compressed(self.rate, widths, self.overlap)


def hyper_connection(hidden: int, streams: int) -> tuple[Weight, ...]:
    """Describes one manifold-constrained hyper-connection over `streams` residual streams m.

    projection [(2 + m)·m, m·hidden], its base and three scales; kept in float.
    Source: transformers DeepseekV4HyperConnection, Glm5NextTextHyperConnection.
    """
    rows = (2 + streams) * streams
    projection = Weight("hyper_connection", rows, streams * hidden, linear=False)
    return (projection, vector("hyper_connection", rows + 3))

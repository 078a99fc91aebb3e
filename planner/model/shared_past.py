"""DeepSeek-V4.1's past: a few layers compress it, and the layers behind each of them read what it keeps."""

from __future__ import annotations

from dataclasses import dataclass

from planner.dtypes.kinds import CacheFormat
from planner.model.attention import Mixer
from planner.model.cache import Cache, Shared
from planner.model.sparse_attention import COMPRESSOR, INDEXER, CompressedPast
from planner.model.weights import Weight, linear, vector


@dataclass(frozen=True)
class PooledPast(CompressedPast):
    """An entry of widths (latent, index key) for every `rate` tokens; of a pair that is open, value and score in fp32.

    elements = floor(S / rate) · (latent + key) + 2 · (S mod rate) · latent.
    Source: vLLM 0.33.0 deepseek_v41/compressor.py (`CompressorStateCache` of 2 · head_dim, float32).

    >>> PooledPast(2, (512, 128)).elements(65, 0)
    21504
    """

    def waiting(self, tokens: int) -> int:
        return 2 * (tokens % self.rate) * self.widths[0]

    def waiting_bytes(self, tokens: int, fmt: CacheFormat) -> int:
        return 4 * self.waiting(tokens)

    def equation(
        self, batch: int, tokens: int, source_tokens: int, fmt: CacheFormat
    ) -> str:  # parameters: as every cache
        return f"{batch} x ({tokens // self.rate} x {self.entry_bytes(fmt)} B + {self.waiting(tokens)} x 4 B)"


@dataclass(frozen=True)
class SharedPast(Mixer):
    """What a layer has for the past beyond its window: a compressor where it is a source, an indexer where it chooses.

    Source: kv [dim, hidden], where pairs are pooled a gate of the same shape, a norm of dim. Chooser: q [heads·key,
    q_rank], head weights [heads, hidden]; a source that chooses has the key's projection [key, dim] and its norm.
    """

    hidden: int
    dim: int
    rate: int
    q_rank: int
    heads: int
    key: int
    is_source: bool
    chooses: bool

    def weights(self) -> tuple[Weight, ...]:
        found: tuple[Weight, ...] = ()
        if self.is_source:
            found += (*linear(COMPRESSOR, self.dim, self.hidden, name="wkv"), vector("norm", self.dim))
            found += linear(COMPRESSOR, self.dim, self.hidden, name="wgate") if self.rate > 1 else ()
        if self.chooses:
            found += linear(INDEXER, self.heads * self.key, self.q_rank, name="wq_b")
            found += linear(INDEXER, self.heads, self.hidden, name="weights_proj|scorer.weights_proj")
        if self.is_source and self.chooses:
            found += (*linear(INDEXER, self.key, self.dim, name="wk"), vector("norm", self.key))
        return found

    def cache(self) -> Cache:
        return PooledPast(self.rate, (self.dim, self.key)) if self.is_source else Shared()

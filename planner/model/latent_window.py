"""Describes latent attention over a window (dots.note): the latent of the newest tokens alone."""

from __future__ import annotations

from dataclasses import dataclass

from planner.dtypes.kinds import CacheFormat
from planner.model.cache import Cache
from planner.model.latent_attention import Latent, LatentAttention


@dataclass(frozen=True)
class LatentWindow(Cache):
    """Keeps one latent and one rope key of the newest `window` tokens: min(tokens, window) · vector_bytes(latent + rope).

    Every tensor-parallel rank holds it all. It is no `Latent`: what an engine pages of a latent it may not page of this.

    >>> LatentWindow(1024, 64, 512).elements(8192, 0)
    557056
    """

    latent_dim: int
    rope_dim: int
    window: int

    @property
    def kind(self) -> str:
        return f"latent (MLA), sliding window {self.window}"

    @property
    def symbols(self) -> str:
        return "batch x tokens in the window x (latent + rope) x bytes x layers, stored once"

    @property
    def copied(self) -> bool:
        return True

    def tokens_kept(self, tokens: int, source_tokens: int) -> int:
        return min(tokens, self.window)

    def _all(self) -> Latent:
        return Latent(self.latent_dim, self.rope_dim)

    def kv_bytes(self, tokens: int, source_tokens: int, fmt: CacheFormat) -> int:
        return self._all().kv_bytes(min(tokens, self.window), source_tokens, fmt)

    def elements(self, tokens: int, source_tokens: int) -> int:
        return self._all().elements(min(tokens, self.window), source_tokens)

    def equation(
        self, batch: int, tokens: int, source_tokens: int, fmt: CacheFormat
    ) -> str:  # parameters: as every cache
        return self._all().equation(batch, min(tokens, self.window), source_tokens, fmt)


@dataclass(frozen=True)
class WindowedLatentAttention(LatentAttention):
    """MLA whose cache keeps the newest `window` tokens; weights as those of any MLA."""

    window: int = 0

    @property
    def reach(self) -> int | None:
        return self.window

    def cache(self) -> Cache:
        return LatentWindow(self.kv_rank, self.rope_dim, self.window)

"""Caches of softmax attention that keep less than every token: a window, or one chunk.

They stand apart so that an answer about a model that keeps everything loads nothing of them.
"""

from __future__ import annotations

from dataclasses import dataclass

from planner.model.cache import Cache, Full


@dataclass(frozen=True)
class SlidingWindow(Full):
    """As Full, but only the newest `window` tokens: min(tokens, window).

    transformers 5 keeps window - 1 after a forward pass (the next token makes it full); the curve counts
    the window that attention needs.
    """

    window: int

    @property
    def kind(self) -> str:
        return f"sliding window {self.window}"

    def tokens_kept(self, tokens: int, source_tokens: int) -> int:
        return min(tokens, self.window)


@dataclass(frozen=True, repr=False)
class Chunked(Full):
    """Attention inside chunks of `chunk` tokens (Llama 4): at most one chunk is needed."""

    chunk: int

    @property
    def kind(self) -> str:
        return f"chunked {self.chunk}"

    def tokens_kept(self, tokens: int, source_tokens: int) -> int:
        return min(tokens, self.chunk)


def most_kept(cache: Cache) -> int | None:
    """Returns the most tokens that a window or a chunk keeps; None of a cache that is neither.

    >>> most_kept(SlidingWindow(8, 128, 128, 4096)), most_kept(Chunked(8, 128, 128, 8192)), most_kept(Full(8, 128, 128))
    (4096, 8192, None)
    """
    if isinstance(cache, SlidingWindow):
        return cache.window
    return cache.chunk if isinstance(cache, Chunked) else None

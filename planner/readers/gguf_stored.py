"""Mixers and MLPs with the weights that a file holds, in place of those that their widths would give."""

from __future__ import annotations

from dataclasses import dataclass

from planner.model.attention import Attention
from planner.model.cross_attention import CrossAttention, EncoderAttention
from planner.model.latent_attention import LatentAttention
from planner.model.latent_window import WindowedLatentAttention
from planner.model.mlp import Mlp
from planner.model.moe import Moe
from planner.model.sparse_attention import BlockIndexer, Compressor, SharedKvAttention
from planner.model.weights import Weight


@dataclass(frozen=True)
class StoredAttention(Attention):
    """Attention with the weights that the file holds."""

    held: tuple[Weight, ...] = ()

    def weights(self) -> tuple[Weight, ...]:
        return self.held


@dataclass(frozen=True)
class StoredEncoderAttention(EncoderAttention):
    """Attention inside an encoder with the weights that the file holds."""

    held: tuple[Weight, ...] = ()

    def weights(self) -> tuple[Weight, ...]:
        return self.held


@dataclass(frozen=True)
class StoredCross(CrossAttention):
    """Attention to an encoder's output with the weights that the file holds."""

    held: tuple[Weight, ...] = ()

    def weights(self) -> tuple[Weight, ...]:
        return self.held


@dataclass(frozen=True)
class StoredLatentWindow(WindowedLatentAttention):
    """MLA over a window with the weights that the file holds."""

    held: tuple[Weight, ...] = ()

    def weights(self) -> tuple[Weight, ...]:
        return self.held


@dataclass(frozen=True)
class StoredLatent(LatentAttention):
    """MLA with the weights that the file holds."""

    held: tuple[Weight, ...] = ()

    def weights(self) -> tuple[Weight, ...]:
        return self.held


@dataclass(frozen=True)
class StoredIndexer(BlockIndexer):
    """A block indexer with the weights that the file holds."""

    held: tuple[Weight, ...] = ()

    def weights(self) -> tuple[Weight, ...]:
        return self.held


@dataclass(frozen=True)
class StoredShared(SharedKvAttention):
    """DeepSeek-V4's core with the weights that the file holds."""

    held: tuple[Weight, ...] = ()

    def weights(self) -> tuple[Weight, ...]:
        return self.held


@dataclass(frozen=True)
class StoredCompressor(Compressor):
    """Its compressor and indexer with the weights that the file holds."""

    held: tuple[Weight, ...] = ()

    def weights(self) -> tuple[Weight, ...]:
        return self.held


@dataclass(frozen=True)
class StoredMlp(Mlp):
    """One MLP with the weights that the file holds."""

    held: tuple[Weight, ...] = ()

    def weights(self) -> tuple[Weight, ...]:
        return self.held


@dataclass(frozen=True)
class StoredMoe(Moe):
    """Experts with the weights that the file holds."""

    held: tuple[Weight, ...] = ()

    def weights(self) -> tuple[Weight, ...]:
        return self.held

"""ModelSpec: embeddings plus layers, each layer what it mixes with plus its MLP.

A spec says nothing about bytes, devices or lengths; those come from `planner.memory.estimate`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from functools import cached_property

from planner.frozen import dataclass
from planner.model.attention import Mixer
from planner.model.cache import Cache
from planner.model.mlp import Mlp
from planner.model.weights import Weight

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from planner.model.moe import Moe
    from planner.model.read_as import ReadAs
    from planner.model.stored import StoredWeights

# The readers' mark in a quantisation config that stands in the text model's section: it says nothing of the towers.
TEXT_ONLY = "of the text model alone"


@dataclass(frozen=True, repr=False)
class Layer:
    """One decoder layer. `extra` holds norms and whatever else is neither mixer nor MLP.

    `config_fields`: the config keys that decided its cache, for `kvplan show`.
    """

    mixers: tuple[Mixer, ...]
    mlps: tuple[Mlp | Moe, ...] = ()
    extra: tuple[Weight, ...] = ()
    config_fields: tuple[str, ...] = ()

    @cached_property
    def caches(self) -> tuple[Cache, ...]:
        return tuple(mixer.cache() for mixer in self.mixers)

    @cached_property
    def weights(self) -> tuple[Weight, ...]:
        own = tuple(weight for piece in (*self.mixers, *self.mlps) for weight in piece.weights())
        return own + self.extra


@dataclass(frozen=True, eq=False, repr=False)
class ModelSpec:
    """A model as kvplan knows it.

    before / after   weights on the first and on the last pipeline stage (embedding; final norm, head)
    tied             the head is the embedding: counted once, but both pipeline ends hold it
    encoder          layers that run once over the source and cache nothing
    towers           vision / audio weights, named by part
    max_positions    longest sequence, with the config's own RoPE scaling; None where nothing says it
    rope_factor      what --rope-scaling multiplied them by
    mtp              multi-token-prediction weights: on disk, not built by transformers, not in `parameters`
    again            weights of layers that run more than once (HRM-Text), with how often beyond the first: a step reads them anew
    partial          a part that is loaded (a tower) is named and not counted: its weights are a lower bound
    weights_known    false for a model described by hand without its widths: only the cache is answered
    notes            what the reader implied, in words, each with its source
    config           the config as read, for those who need more of it (the profiler)
    stored           what the headers of its checkpoint say, where there is one: it decides the weights
    read_as          what its name was taken for, where the name is not the catalogue's own
    """

    name: str
    model_type: str
    hidden: int
    vocab: int
    layers: tuple[Layer, ...]
    before: tuple[Weight, ...] = ()
    after: tuple[Weight, ...] = ()
    tied: bool = False
    encoder: tuple[Layer, ...] = ()
    encoder_extra: tuple[Weight, ...] = ()
    towers: tuple[Weight, ...] = ()
    mtp: tuple[Weight, ...] = ()
    max_positions: int | None = None
    rope_factor: float = 1.0
    source_tokens: int | None = None
    dtype: str | None = None
    quantization: Mapping[str, Any] | None = field(default=None, compare=False, hash=False)
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    again: tuple[tuple[Weight, int], ...] = ()
    upper_bound: bool = False
    partial: bool = False
    weights_known: bool = True
    config: Mapping[str, Any] = field(default_factory=dict, compare=False, hash=False, repr=False)
    stored: StoredWeights | None = field(default=None, repr=False)
    read_as: ReadAs | None = None

    def __repr__(self) -> str:
        return f"ModelSpec({self.name!r}, model_type={self.model_type!r}, layers={len(self.layers)})"

    @cached_property
    def groups(self) -> tuple[tuple[Layer, int], ...]:
        """Equal layers with how many there are, in order of first appearance."""
        counts: dict[Layer, int] = {}
        for layer in self.layers:
            counts[layer] = counts.get(layer, 0) + 1
        return tuple(counts.items())

    @property
    def has_cross_attention(self) -> bool:
        return any(cache.kind == "cross attention" for layer, _ in self.groups for cache in layer.caches)

    @property
    def has_states(self) -> bool:
        """Tells whether layers keep a recurrent state (`planner.model.recurrent`, which a plain answer need not load)."""
        return any(cache.kind.startswith("state ") for layer, _ in self.groups for cache in layer.caches)

"""What a model type is: a few declarative lines that the one builder in `decoder.py` reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field

from planner.frozen import dataclass
from planner.model.spec import ModelSpec
from planner.model.weights import Weight
from planner.readers.fields import Fields

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from planner.model.attention import Mixer
    from planner.model.mlp import Mlp
    from planner.model.moe import Moe

LayerKinds = Callable[[Fields], list[str]]


MixerMaker = Callable[[Fields, int], "tuple[Mixer, ...]"]


MlpMaker = Callable[[Fields, int], "tuple[Mlp | Moe, ...]"]


ExtraMaker = Callable[[Fields, int], "tuple[Weight, ...]"]


@dataclass(frozen=True, eq=False, repr=False)
class Type:
    """One `model_type`.

    source      where its implied defaults were read
    renames     our key -> the file's key (or keys, first present wins)
    defaults    class defaults of keys that published files omit
    implied     structure that belongs to the type: norm, biases, gating (see `decoder.py` for the keys)
    kinds       the kind of each layer's mixer ("full_attention", "sliding_attention", "mamba2", ...)
    mlp_kinds   the kind of each layer's MLP ("dense", "moe", "none")
    mixers      kind -> maker, over the builder's own
    mlps        kind -> maker, over the builder's own
    extra       further weights of a layer
    model_extra further weights of the model, beside the layers
    nested      where a multimodal file keeps its text model; the keys there are this type's
    inside      the section that holds all of it (an Omni file's thinker); what stands beside is only named
    text        the model type of that text model where the file does not name it, and of a file that is flat
    text_of     returns `text` for a type whose files have several kinds: from the whole file and what errors call it
    ties_from   "inner": the text model's section alone ties the head; "outer": the outer file alone, absent is false
    either_ties the head is tied when the file says so outside or inside (else the outside decides, where it speaks)
    inner_ties  without the key outside the text model's decides: published checkpoints hold a head of their own, although
                the outer class of transformers would tie it
    outer_keys  keys that the outer file has for the text model, over those of the section
    text_sizes  text model type -> class defaults of the sizes that files of this type leave out of it
    ignore      keys that look as if they changed the cache, and for this type do not
    per_layer   layers of one kind may differ (lists by layer): no sharing between them
    build       a builder of its own (encoder-decoder)
    towers      vision / audio weights from the whole file and the width of the text model
    source_tokens  length of what cross attention reads, from the whole file
    mtp         multi-token-prediction weights
    """

    source: str = ""
    renames: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    implied: Mapping[str, Any] = field(default_factory=dict)
    kinds: LayerKinds | None = None
    mlp_kinds: LayerKinds | None = None
    mixers: Mapping[str, MixerMaker] = field(default_factory=dict)
    mlps: Mapping[str, MlpMaker] = field(default_factory=dict)
    extra: ExtraMaker | None = None
    model_extra: Callable[[Fields], tuple[Weight, ...]] | None = None
    nested: tuple[str, ...] = ()
    inside: str = ""
    text: str = ""
    text_of: Callable[[Mapping[str, Any], str], str] | None = None
    ties_from: str = ""
    either_ties: bool = False
    inner_ties: bool = False
    outer_keys: tuple[str, ...] = ()
    text_sizes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    ignore: tuple[str, ...] = ()
    per_layer: bool = False
    build: Callable[[Fields, Type, str, str], ModelSpec] | None = None
    towers: Callable[[Fields, int], tuple[Weight, ...]] | None = None
    source_tokens: Callable[[Fields], int | None] | None = None
    mtp: Callable[[Fields], tuple[Weight, ...]] | None = None

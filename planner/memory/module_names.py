"""Finds which weights a quantisation config names: module names, globs and regular expressions against ours.

A config names modules as its library does (`model.layers.3.self_attn.q_proj`); a `Weight` knows its part and the last
piece of that name. Between them stand the names of the containers, of which a few spellings are in use.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache

from planner.model.weights import Weight

MAX_ENTRIES = 200_000  # a list of every expert's matrices of the largest model
MAX_EXPRESSIONS = 2_000
MAX_EXPRESSION = 600
MAX_REPEATS = 5  # unbounded repeats in one expression: more of them take too long on a name of no match

_ATTENTION = ("self_attn", "attn", "attention", "self_attention")
_MLP = ("mlp", "ffn", "feed_forward")
_CONTAINERS: dict[str, tuple[str, ...]] = {
    "attention": _ATTENTION,
    "cross_attention": ("cross_attn", "encoder_attn", "EncDecAttention"),
    "indexer": tuple(f"{name}.indexer" for name in _ATTENTION),
    "compressor": tuple(f"{name}.compressor" for name in _ATTENTION),
    "mixer": ("linear_attn",),
    "mlp": _MLP,
    "experts": ("mlp.experts.0", "ffn.experts.0", "feed_forward.experts.0", "block_sparse_moe.experts.0"),
    "shared_experts": (
        "mlp.shared_experts", "mlp.shared_expert", "ffn.shared_experts", "feed_forward.shared_expert", "shared_mlp",
        "block_sparse_moe.shared_experts",
    ),
    "router": _MLP,
}  # fmt: skip

# Model types whose layers keep a state under another name than `linear_attn`.
_STATE_CONTAINERS = {
    "kimi_linear": "self_attn", "minimax": "self_attn", "minimax_text_01": "self_attn", "bailing_hybrid": "self_attn",
    "bamba": "mamba", "jamba": "mamba", "falcon_h1": "mamba", "granitemoehybrid": "mamba", "zamba": "mamba",
    "zamba2": "mamba", "plamo2": "mamba", "lfm2": "conv", "lfm2_moe": "conv", "lfm2_vl": "conv",
    "recurrent_gemma": "temporal_block", "mamba": "mixer", "mamba2": "mixer", "falcon_mamba": "mixer",
    "rwkv": "attention",
}  # fmt: skip
_ONE_MIXER = ("nemotron_h",)  # attention, state and MLP all stand under `mixer`

_PREFIXES = (
    "model.layers.", "model.language_model.layers.", "language_model.model.layers.", "layers.",
    "backbone.layers.", "transformer.h.", "model.decoder.layers.",
)  # fmt: skip
_TOWERS: dict[str, tuple[str, ...]] = {
    "vision": ("visual", "model.visual", "vision_tower", "model.vision_tower", "vision_model", "vision_encoder", "vit"),
    "audio": ("audio_tower", "model.audio_tower", "audio_encoder", "speech_encoder", "embed_audio"),
    "projector": (
        "multi_modal_projector", "model.multi_modal_projector", "mm_projector", "visual.merger", "model.visual.merger",
        "connector", "model.connector", "embed_vision", "aligner", "mlp1",
    ),
}  # fmt: skip
_ALONE: dict[str, tuple[str, ...]] = {
    "embedding": ("model.embed_tokens", "embed_tokens", "model.language_model.embed_tokens", "embed", "wte"),
    "lm_head": ("lm_head", "language_model.lm_head", "model.lm_head", "head", "output"),
}
_FUSED: dict[str, tuple[str, ...]] = {
    "q_proj": ("qkv_proj", "c_attn", "query_key_value", "Wqkv", "W_pack"),
    "k_proj": ("qkv_proj", "c_attn", "query_key_value", "Wqkv", "W_pack"),
    "v_proj": ("qkv_proj", "c_attn", "query_key_value", "Wqkv", "W_pack"),
    "o_proj": ("out_proj", "dense", "c_proj"),
    "gate_proj": ("gate_up_proj", "w1"),
    "up_proj": ("gate_up_proj", "w3", "c_fc", "fc1", "dense_h_to_4h"),
    "down_proj": ("w2", "c_proj", "fc2", "dense_4h_to_h"),
}

_LAYER = re.compile(r"^(.*?)(?:^|\.)(?:layers|h|blocks|block)\.(\d{1,5})(?:\.(.*))?$")
_EXPERT = re.compile(r"(experts)\.(\d{1,5})(?=\.|$)")
_TOWER_WORDS = re.compile(r"vision|visual|vit\b|audio|speech|multi_modal|mm_projector|connector|merger")
_EXPRESSION = re.compile(r"[\\^$+?()\[\]{}|]|\.\*")


@dataclass
class Matcher:
    """A set of module names, globs and regular expressions; `refused` holds those that are not evaluated."""

    layers: dict[int, set[str]] = field(default_factory=dict)  # rest of the name in that layer; "" is all of it
    starts: dict[int, list[str]] = field(default_factory=dict)
    anywhere: list[str] = field(default_factory=list)
    towers: set[str] = field(default_factory=set)
    always: list[re.Pattern[str]] = field(default_factory=list)
    by_layer: list[re.Pattern[str]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    known: dict[tuple[str, str], bool] = field(default_factory=dict)

    def hits(self, weight: Weight, layer: int | None, model_type: str) -> bool:
        """Whether the set names this weight of this layer (None: outside the layers)."""
        if weight.part in _TOWERS:
            if self.towers & {weight.part, "vision" if weight.part == "projector" else weight.part}:
                return True
            return self._by_name(tower_names(weight))
        if weight.part in _ALONE and layer is None:
            return self._by_name(_ALONE[weight.part])
        tails, index = tails_of(weight.part, weight.name, model_type), layer or 0
        key = (weight.part, weight.name)
        if key not in self.known:  # what names no layer says the same of all of them
            self.known[key] = self._by_name(_full_names(tails, 0))
        if self.known[key] or self._in_layer(index, tails):
            return True
        return bool(self.by_layer) and any(
            pattern.match(name) for name in _full_names(tails, index) for pattern in self.by_layer
        )

    def _in_layer(self, index: int, tails: Iterable[str]) -> bool:
        held, starts = self.layers.get(index), self.starts.get(index)
        if held is None and starts is None:
            return False
        for tail in tails:
            plain = tail.replace("experts.0", "experts")
            if starts and any(plain.startswith(start) for start in starts):
                return True
            pieces = plain.split(".")
            if held and any(".".join(pieces[:n]) in held for n in range(len(pieces) + 1)):
                return True
        return False

    def _by_name(self, names: Iterable[str]) -> bool:
        return any(
            any(f".{entry}." in f".{name}." for entry in self.anywhere) or any(p.match(name) for p in self.always)
            for name in names
        )

    @property
    def depends_on_layer(self) -> bool:
        return bool(self.layers or self.starts or self.by_layer)


def matcher(entries: Iterable[object], *, expressions: bool = False) -> Matcher:
    """Compiles these entries. `re:` begins a regular expression, and so does everything with `expressions`.

    >>> q = Weight("attention", 8, 8, name="q_proj")
    >>> found = matcher(["lm_head", "model.layers.3.self_attn.q_proj", "re:.*mlp.*"])
    >>> [found.hits(q, layer, "llama") for layer in (2, 3)], found.hits(Weight("mlp", 8, 8, name="up_proj"), 0, "llama")
    ([False, True], True)
    """
    made = Matcher()
    for number, entry in enumerate(entries):
        if not isinstance(entry, str) or number >= MAX_ENTRIES:
            made.refused.append(repr(entry)[:60])
            continue
        name = entry.strip().rstrip(".")
        if name.startswith("re:"):
            _add_expression(made, name[3:])
        elif expressions:
            _add_expression(made, name)
        elif name.endswith("*") and not _EXPRESSION.search(name[:-1]) and "*" not in name[:-1].rstrip("."):
            _add_plain(made, name[:-1], start=True)
        elif "*" in name and not _EXPRESSION.search(name.replace("*", "").replace("?", "")) and ".*" not in name[1:-2]:
            _compiled(made, ".*".join(re.escape(piece) for piece in name.split("*")) + "$", name)
        elif _EXPRESSION.search(name):
            _add_expression(made, name)
        elif name:
            _add_plain(made, name, start=False)
    return made


def _add_plain(made: Matcher, name: str, *, start: bool) -> None:
    """A dotted name, or one that goes on as it likes after its last letter."""
    if re.match(r"(?:model\.)?(?:mtp|nextn|draft)", name):
        return  # layers that are not counted here
    tower = _TOWER_WORDS.search(name)
    if tower:
        made.towers.add("audio" if re.search("audio|speech", name) else "vision")
        return
    found = _LAYER.match(name.rstrip("."))
    if found:
        layer, rest = int(found.group(2)), _EXPERT.sub(r"\1", found.group(3) or "")
        if start and not (name.endswith(".") or not rest):
            made.starts.setdefault(layer, []).append(rest)
        else:
            made.layers.setdefault(layer, set()).add(rest)
    elif start and not name.endswith("."):
        _compiled(made, rf"(?:.*\.)?{re.escape(name)}.*", name)
    else:
        made.anywhere.append(name.rstrip("."))


def _add_expression(made: Matcher, text: str) -> None:
    """A regular expression as the engines apply it, from the start of the name, to a boundary or the end."""
    _compiled(made, text, text)


def _compiled(made: Matcher, pattern: str, text: str) -> None:
    shorter = re.sub(r"(\.\*)+", ".*", pattern)
    repeats = len(re.findall(r"(?<!\\)(?:[*+]|\{\d*,\d*\})", shorter))
    if (
        len(pattern) > MAX_EXPRESSION
        or repeats > MAX_REPEATS
        or re.search(r"\)\s*[*+{]", shorter)
        or len(made.always) + len(made.by_layer) >= MAX_EXPRESSIONS
    ):
        made.refused.append(text[:60])
        return
    try:
        compiled = re.compile(shorter)
    except (re.error, RecursionError, OverflowError):
        made.refused.append(text[:60])
        return
    numbered = re.search(r"\d", re.sub(r"\\d|\{\d*,?\d*\}|w[123]\b|fc[12]\b", "", shorter))
    (made.by_layer if numbered else made.always).append(compiled)


def _full_names(tails: Iterable[str], index: int) -> list[str]:
    return [f"{prefix}{index}.{tail}" for prefix in _PREFIXES for tail in tails]


@lru_cache(maxsize=1024)
def tails_of(part: str, name: str, model_type: str) -> tuple[str, ...]:
    """Returns what may stand after `layers.N.` for the weights of this part and name."""
    containers = _CONTAINERS.get(part, (part,))
    base = model_type.removesuffix("_text")
    if base.startswith(_ONE_MIXER):
        containers = tuple(dict.fromkeys("mixer" + c[c.index(".") :] if "." in c else "mixer" for c in containers))
    elif part == "mixer":
        containers = (_STATE_CONTAINERS.get(base, "linear_attn"),)
    leaves = leaf_names(name)
    return tuple(f"{container}.{leaf}" if leaf else container for container in containers for leaf in leaves)


def leaf_names(name: str) -> tuple[str, ...]:
    """Returns the last piece of the module's name, in its spellings; empty where the weight has none."""
    own = [leaf for leaf in name.split("|") if leaf]
    return tuple(dict.fromkeys([*own, *(other for leaf in own for other in _FUSED.get(leaf, ()))])) or ("",)


def tower_names(weight: Weight) -> list[str]:
    leaf = weight.name.split("|")[0]
    inner = "attn" if leaf in ("q_proj", "k_proj", "v_proj", "o_proj") else "mlp"
    return [f"{head}.blocks.0.{inner}.{leaf}" for head in _TOWERS[weight.part]]

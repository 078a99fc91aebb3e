"""Finds which weights a quantisation config names: module names, globs and regular expressions against ours.

A config names modules as its library does (`model.layers.3.self_attn.q_proj`); a `Weight` knows its part and the last
piece of that name. Between them stand the names of the containers, of which a few spellings are in use.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache

from planner.memory.module_tables import (
    ALONE,
    CONTAINERS,
    FUSED,
    ONE_MIXER,
    OWN_CONTAINERS,
    PREFIXES,
    TOWERS,
)
from planner.model.weights import Weight

MAX_ENTRIES = 200_000  # a list of every expert's matrices of the largest model
MAX_EXPRESSIONS = 2_000
MAX_EXPRESSION = 600
MAX_REPEATS = 5  # unbounded repeats in one expression: more of them take too long on a name of no match

_LAYER = re.compile(r"^(.*?)(?:^|\.)(?:layers|h|blocks|block)\.(\d{1,5})(?:\.(.*))?$")
_EXPERT = re.compile(r"(experts)\.(\d{1,5})(?=\.|$)")
_TOWER_WORDS = re.compile(
    r"vision|visual|vit\b|audio|speech|multi_modal|mm_projector|connector|merger|modality_projection|aligner|mlp1\b"
)
_PROJECTOR_WORDS = re.compile(
    r"multi_modal|projector|connector|merger|modality_projection|aligner|mlp1\b|embed_(?:vision|audio)"
)
_NO_MATRIX = re.compile(r"norm|embed(?!_(?:vision|audio))|conv|position|\bln|gamma|rotary|bias$|scale$")
_ANY_LAYER = re.compile(r"[\w-]+(?:\.[\w-]+)*(?:\.\*(?:\.[\w-]+)+)+")  # model.layers.*.mlp.gate: the star is one piece
_EXPRESSION = re.compile(r"[\\^$+?()\[\]{}|]|\.\*")


@dataclass
class Matcher:
    """A set of module names, globs and regular expressions; `refused` holds those that are not evaluated."""

    layers: dict[int, set[str]] = field(default_factory=dict)  # rest of the name in that layer; "" is all of it
    starts: dict[int, list[str]] = field(default_factory=dict)
    anywhere: list[str] = field(default_factory=list)
    towers: set[str] = field(default_factory=set)
    blocks: dict[int, set[str]] = field(default_factory=dict)  # of a tower: leaves in that block; "" is all of it
    always: list[re.Pattern[str]] = field(default_factory=list)
    by_layer: list[re.Pattern[str]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    known: dict[tuple[str, str], bool] = field(default_factory=dict)
    whole: bool = False  # a plain name in a layer is that module alone, not what it holds (compressed-tensors)

    def hits(self, weight: Weight, layer: int | None, model_type: str) -> bool:
        """Whether the set names this weight of this layer (None: outside the layers)."""
        if weight.part in TOWERS:
            held = self.blocks.get(-1 if layer is None else layer, set())
            return (
                weight.part in self.towers
                or (weight.part != "projector" and bool(held & {"", _half(weight.name), *leaf_names(weight.name)}))
                or self._by_name(tower_names(weight))
            )
        if weight.part in ALONE and layer is None:
            return self._by_name(ALONE[weight.part])
        tails, index = tails_of(weight.part, weight.name, model_type), layer or 0
        plain = tuple(tail for tail in tails if "switch_mlp" not in tail)  # MLX's own name, which it never abbreviates
        key = (weight.part, weight.name)
        if key not in self.known:  # what names no layer says the same of all of them
            self.known[key] = self._by_name(_full_names(plain, 0))
        if self.known[key] or self._in_layer(index, tails):
            return True
        return bool(self.by_layer) and any(
            pattern.match(name) for name in _full_names(plain, index) for pattern in self.by_layer
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
            if held and self.whole:
                if (
                    plain in held
                    or "" in held
                    or any(one.endswith("experts") and plain.startswith(one) for one in held)
                ):
                    return True
            elif held and any(".".join(pieces[:n]) in held for n in range(len(pieces) + 1)):
                return True
        return False

    def _by_name(self, names: Iterable[str]) -> bool:
        return any(
            any(f".{entry}." in f".{name}." for entry in self.anywhere) or any(p.match(name) for p in self.always)
            for name in names
        )

    @property
    def depends_on_layer(self) -> bool:
        return bool(self.layers or self.starts or self.by_layer or self.blocks)


def matcher(entries: Iterable[object], *, expressions: bool = False, whole: bool = False) -> Matcher:
    """Compiles these entries. `re:` begins a regular expression, and so does everything with `expressions`. With
    `whole` a plain name is that module, and not the modules inside it.

    >>> q = Weight("attention", 8, 8, name="q_proj")
    >>> found = matcher(["lm_head", "model.layers.3.self_attn.q_proj", "re:.*mlp.*"])
    >>> [found.hits(q, layer, "llama") for layer in (2, 3)], found.hits(Weight("mlp", 8, 8, name="up_proj"), 0, "llama")
    ([False, True], True)
    """
    made = Matcher(whole=whole)
    for number, entry in enumerate(entries):
        if not isinstance(entry, str) or number >= MAX_ENTRIES:
            made.refused.append(repr(entry)[:60])
            continue
        name = entry.strip().rstrip(".")
        if name.startswith("re:"):
            _add_expression(made, name[3:])
        elif expressions:
            _add_expression(made, name)
        elif _ANY_LAYER.fullmatch(name):
            _compiled(
                made, ".".join("[^.]+" if p == "*" else re.escape(p) for p in name.split(".")) + r"(?:\.|$)", name
            )
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
    if _TOWER_WORDS.search(name):
        _add_tower(made, name)
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


def _add_tower(made: Matcher, name: str) -> None:
    """A whole tower, what joins it to the text model, or a module of one of its blocks."""
    found = _LAYER.match(name)
    if found and not _PROJECTOR_WORDS.search(found.group(1)):
        leaf = (found.group(3) or "").rsplit(".", 1)[-1]
        if not _NO_MATRIX.search(leaf):
            leaf = _HALVES.get(leaf, leaf)
            made.blocks.setdefault(int(found.group(2)), set()).add(leaf if leaf in _TOWER_LEAVES else "")
    elif _PROJECTOR_WORDS.search(name):
        made.towers.add("projector")
    elif not _NO_MATRIX.search(name):
        made.towers.add("audio" if re.search("audio|speech", name) else "vision")
        if "visual" in name or "vision_backbone" in name:  # towers of Qwen, GLM, Molmo hold what joins them
            made.towers.add("projector")


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
    return [f"{prefix}{index}.{tail}" for prefix in PREFIXES for tail in tails]


@lru_cache(maxsize=1024)
def tails_of(part: str, name: str, model_type: str) -> tuple[str, ...]:
    """Returns what may stand after `layers.N.` for the weights of this part and name."""
    base = model_type.removesuffix("_text")
    containers = OWN_CONTAINERS.get(base, {}).get(part) or CONTAINERS.get(part, (part,))
    if base.startswith(ONE_MIXER):
        inner = (c[c.index(".") :] for c in containers if "." in c)
        containers = tuple(dict.fromkeys(f"mixer{c}" for c in inner)) or ("mixer",)
    leaves = leaf_names(name)
    return tuple(".".join(filter(None, (container, leaf))) for container in containers for leaf in leaves)


def leaf_names(name: str) -> tuple[str, ...]:
    """Returns the last piece of the module's name, in its spellings; empty where the weight has none."""
    own = [leaf for leaf in name.split("|") if leaf]
    return tuple(dict.fromkeys([*own, *(other for leaf in own for other in FUSED.get(leaf, ()))])) or ("",)


_HALVES = {"attn": "attn", "self_attn": "attn", "attention": "attn", "mlp": "mlp", "feed_forward": "mlp", "ffn": "mlp"}


def _half(name: str) -> str:
    return "attn" if name.split("|")[0] in ("q_proj", "k_proj", "v_proj", "o_proj") else "mlp"


_TOWER_LEAVES = frozenset(
    ("attn", "mlp", *(leaf for name in ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
                      for leaf in leaf_names(name)))
)  # fmt: skip


def tower_names(weight: Weight) -> list[str]:
    """Lists the names that a matrix of a vision or audio tower has in checkpoints, as quantisation configs match them."""
    leaf = weight.name.split("|")[0]
    return [f"{head}.blocks.0.{_half(weight.name)}.{leaf}" for head in TOWERS[weight.part]]

"""A model's name as people write it -> the catalogue's entry and the weight format: one rule set for every command.

The name and every name of the catalogue are read into the same parts (`planner.lookup.parts`). An entry is meant
when its family, version and size are those of the name; tuning, vintage and publisher may differ, and the answer
says so. A size or version that no entry has is refused with the nearest; several entries are asked back.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from planner.catalogue.entries import ModelEntry, at_positions, known_model, model_state
from planner.errors import UnknownName
from planner.lookup import ollama
from planner.lookup.formats import NamedFormat, format_of, gguf
from planner.lookup.gguf_files import EXACT, LAYER_TABLE_ABOVE, by_hand, head_apart
from planner.lookup.known import Known, known_names, meant, names_of, sizes_agree, words_agree
from planner.lookup.parts import OMITTED, Parts, parts_of, without_site
from planner.lookup.refusals import LIST_THEM, STORED, drafts, nothing, shown, which


@dataclass(frozen=True)
class Understood:
    """What a model's name was taken for.

    asked    the name as it was written
    entry    the catalogue's entry: its shape
    weights  the format that the name gives the weights; None: as the entry has them
    notes    what was passed over or assumed, each in a few words
    exact    the name is one of the catalogue's own
    """

    asked: str
    entry: ModelEntry
    weights: NamedFormat | None = None
    notes: tuple[str, ...] = ()
    exact: bool = False

    @property
    def name(self) -> str:
        """The entry's name, without a format of weights that is not the one asked for."""
        own = format_of(parts_of(self.entry.name)) if self.weights else None
        if own is None or self.weights is None or own.kind == self.weights.kind:
            return self.entry.name
        cut = STORED.sub("", self.entry.name)
        return cut or self.entry.name

    @property
    def words(self) -> str:
        """`qwen3.6-27b, weights fp8 (block 128)`."""
        return self.name + (f", weights {self.weights.words}" if self.weights else "")


def understand(name: str) -> Understood:
    """Finds the entry and weight format that `name` means; UnknownName where that is none, or more than one.

    >>> understand("TheBloke/Llama-2-70B-Chat-GPTQ").words
    'llama-2-70b, weights gptq int4 (group 128)'
    >>> understand("deepseek-r1:32b").words
    'deepseek-r1-distill-qwen-32b, weights gguf Q4_K_M'
    """
    plain = without_site(name)
    for candidate in (name, plain):
        if (entry := known_model(candidate)) is not None:
            _refuse_first_version(name, entry)
            return Understood(name, entry, exact=True)
    if (found := _ollama_tag(name, plain)) is not None:
        return found
    asked = parts_of(_hub_colon(plain))
    try:
        return _resolve(name, asked)
    except UnknownName as error:
        known = plain.lower() in ollama.LATEST
        if known and (not isinstance(error, _Several) or any(letter.isdigit() for letter in plain)):
            return _of_ollama(name, plain.lower(), "latest")
        if not isinstance(error, _Several):
            found = _otherwise(name, asked, plain) or _trained_from_another(name, plain)
            if found is not None:
                return found
        raise


def _refuse_first_version(name: str, entry: ModelEntry) -> None:
    """ "qwen 14b", said as people say it, is no longer the model whose name it was once: of later ones there are."""
    asked = parts_of(name)
    if " " not in name.strip() or asked.versions or not asked.sizes:
        return
    found = _of_any_version(asked, known_names(model_state()))
    later = [item for item in found if item.parts.lengths == asked.lengths and _shape(item.entry) != _shape(entry)]
    if later:
        raise _Several(which(name, [*later, Known(entry, asked, None)]))


_SHAPE = (
    "num_hidden_layers",
    "num_key_value_heads",
    "head_dim",
    "sliding_window",
    "sliding_window_size",
    "max_position_embeddings",
)


def _shape(entry: ModelEntry) -> tuple[object, ...]:
    """What of a config the cache and its longest context follow from."""
    text = entry.config.get("text_config") or entry.config
    return tuple(text.get(key) for key in _SHAPE)


def _otherwise(name: str, asked: Parts, plain: str) -> Understood | None:
    """A name of ollama's library without its colon ("codestral 22b"), or a family's name in two words ("tiny llama")."""
    said = (asked.words, asked.versions, asked.sizes)
    for (family, size), means in ollama.MEANS.items():
        tag = parts_of(f"{family}-{size}")
        if (tag.words, tag.versions, tag.sizes) == said and tag.sizes and (entry := known_model(means)) is not None:
            return replace(_answer(name, asked, Known(entry, parts_of(means), None), format_of(asked)), exact=False)
    dotted = re.sub(
        r"(qwen|glm|llama|granite|mimo-?v|minimax-?m|kimi-?k)([2-6])(\d)(?![\db])", r"\1\2.\3", plain.lower()
    )
    families = {word for item in known_names(model_state()) for word in item.parts.words if len(word) > 4}
    joined = re.sub(r"([a-z]{2,})[-_ ]+(?=([a-z]{2,}))", partial(_join, families), dotted)  # qwen36 is Qwen3.6
    if joined == plain.lower():
        return None
    try:
        return replace(understand(joined), asked=name, exact=False)
    except UnknownName:
        return None


def _join(families: set[str], found: re.Match[str]) -> str:
    return found.group(1) if found.group(1) + found.group(2) in families else found.group(0)


def _trained_from_another(name: str, plain: str) -> Understood | None:
    """The model whose whole name stands in `name`, with a note of what was passed over."""
    from planner.lookup.trained_from import inside  # only where no rule of the name itself helps

    if drafts(name) or (found := inside(_hub_colon(plain), known_names(model_state()))) is None:
        return None
    base, over = found
    try:
        answer = _resolve(name, base)
    except UnknownName:
        return None
    note = f"taken as trained from {answer.name}, whose name it holds ({', '.join(over)} passed over)"
    return replace(answer, notes=(note, *answer.notes), exact=False)


class _Several(UnknownName):
    """A name that may be two things."""


def _hub_colon(plain: str) -> str:
    """`owner/name:Q4_K_M` names a file of the repository; the type is read like a suffix."""
    return plain.replace(":", "-") if "/" in plain else plain


# -- ollama -------------------------------------------------------------------------------------------------


def _ollama_tag(name: str, plain: str) -> Understood | None:
    """What `family:tag` is in ollama's library; None for any other name."""
    text = plain.lower().removeprefix("library/").removeprefix("ollama/").removeprefix("ollama_chat/")
    family, colon, tag = text.partition(":")
    if not colon or "/" in family or not family or " " in family:
        return None
    return _of_ollama(name, family, tag.strip() or "latest")


def _of_ollama(name: str, family: str, tag: str) -> Understood:
    notes: list[str] = []
    size = "" if tag == "latest" else tag.removesuffix("-cloud")
    if size in ("", "cloud"):
        size = ollama.LATEST.get(family, "")
        if size and tag == "latest":
            notes.append(f"ollama's latest tag of {family} is {size}")
    found = _ollama_entry(name, family, size)
    notes += [note for note in found.notes if "vintage" in note or "size" in note]
    if "cloud" in tag:
        return replace(
            found, weights=None, notes=(*notes, "a cloud tag runs at ollama: weights as published"), exact=False
        )
    weights = found.weights
    if weights is None and family not in ollama.AS_PUBLISHED:
        kind = (
            "q4_0"
            if tag.endswith("qat")
            else ollama.OTHER_TYPES.get((family, size.split("-")[0]))
            or ("q4_0" if family in ollama.OLD_Q4_0 else "q4_k_m")
        )
        weights = gguf(kind) if kind != "f16" else NamedFormat("fp16", "fp16", dtype="fp16")
        notes.append(f"{kind.upper()} is ollama's type for a tag that names none")
    return Understood(name, found.entry, weights, tuple(dict.fromkeys(notes)))


def _ollama_entry(name: str, family: str, size: str) -> Understood:
    head, _, rest = size.partition("-")
    means = ollama.MEANS.get((family, head))
    if means and (entry := known_model(means)) is not None and not _sets_apart(rest):
        weights = format_of(parts_of(rest)) if rest else None
        return Understood(name, entry, weights)
    return _resolve(name, parts_of(f"{family}-{size}" if size else family))


def _sets_apart(rest: str) -> bool:
    """Whether what follows the size in a tag names another model (`70b-llama-distill` does not, `vision` does)."""
    return bool(parts_of(rest).words - OMITTED - {"llama", "qwen"}) if rest else False


# -- the rule -----------------------------------------------------------------------------------------------


def _resolve(name: str, asked: Parts) -> Understood:
    """The entry whose parts are those of `asked`, with the asked format."""
    wanted = format_of(asked)
    known = known_names(model_state())
    if (means := _by_nickname(asked)) is not None:
        chosen = [item for item in known if item.entry.name in means]
        if len({item.entry.name for item in chosen}) > 1:
            raise _Several(which(name, chosen))
    else:
        chosen = [item for item in known if meant(asked, item)]
    if not chosen or not (asked.sizes or asked.vintages):
        versions = _of_any_version(asked, known)
        count = len({item.entry.name for item in (*versions, *chosen)})
        if versions and (count > 1 or not chosen):
            raise (_Several if count > 1 else UnknownName)(which(name, versions))
    if not chosen and (fuller := _of_fuller_names(asked, known)):
        raise _Several(which(name, fuller))
    if not chosen or _is_another(asked, chosen):
        raise UnknownName(nothing(name, asked, known))
    best = _closest(asked, chosen, wanted)
    if len(best) > 1:
        raise _Several(which(name, best + _of_fuller_names(asked, known)))
    item = best[0]
    if wanted is None and item.kind is not None and item.kind not in ("bf16", "fp16") and not also_plain(item, known):
        raise _Several(
            f"{shown(name)} is in the catalogue only as {item.entry.name}, whose weights are stored otherwise: "
            f"give that name, or --dtype with it; {LIST_THEM}"
        )
    return _answer(name, asked, item, wanted)


def also_plain(item: Known, known: Iterable[Known]) -> bool:
    """Tells whether an entry is known under a name that says no kind, too."""
    return any(other.entry.name == item.entry.name and other.kind is None for other in known)


def _by_nickname(asked: Parts) -> tuple[str, ...] | None:
    """DeepSeek-R1 with a size is a distillation of that size; of 8b there are two."""
    if asked.words - {"distill", "distilled"} == {"deepseek"} and asked.versions == {"r1"} and len(asked.sizes) == 1:
        size = next(iter(asked.sizes))
        if size == "8b" and not asked.vintages:
            return ("deepseek-r1-0528-qwen3-8b", "deepseek-r1-distill-llama-8b")
        found = ollama.MEANS.get(("deepseek-r1", size))
        return (found,) if found else None
    return None


def _of_any_version(asked: Parts, known: Iterable[Known]) -> list[Known]:
    """What a name without a version may be, the newest first: never answered, for versions differ in shape."""
    if asked.versions or not asked.words:
        return []
    found = [
        item
        for item in known
        if item.kind is None
        and (words_agree(asked, item) or (not asked.sizes and _says_more(asked, item)))
        and sizes_agree(asked, item)
    ]
    if not any(item.parts.versions for item in found):
        return []
    return _closest_first(asked, found)


def _of_fuller_names(asked: Parts, known: Iterable[Known]) -> list[Known]:
    """What a name without size and without the word for it may be: `phi3`, `granite4`, `magistral`."""
    if asked.sizes or not asked.words:
        return []
    found = [
        item
        for item in known
        if item.kind is None
        and _says_more(asked, item)
        and asked.versions == item.parts.versions
        and sizes_agree(asked, item)
    ]
    return _closest_first(asked, found)


def _closest_first(asked: Parts, found: Iterable[Known]) -> list[Known]:
    """Those that say the fewest words more, of these the newest."""
    return sorted(found, key=lambda item: (len(item.parts.words - asked.words), -(item.entry.year or 0)))


def _says_more(asked: Parts, item: Known) -> bool:
    """Whether an entry's name has the words that were asked for, and words of size or kind besides."""
    return asked.words < item.parts.words and item.parts.words - asked.words <= OMITTED | {
        "h",
        "flash",
        "pro",
        "super",
        "ultra",
    }


# Releases whose name differs from another's by a word of tuning alone, and whose weights are stored otherwise.
_ANOTHER = ((frozenset({"kimi"}), frozenset({"k2"}), "thinking"),)


def _is_another(asked: Parts, chosen: list[Known]) -> bool:
    return any(
        asked.words == words and asked.versions == versions and word in asked.tuning and not asked.formats
        and not any(word in item.parts.tuning for item in chosen)
        for words, versions, word in _ANOTHER
    )  # fmt: skip


def _closest(asked: Parts, chosen: list[Known], wanted: NamedFormat | None) -> list[Known]:
    """One item for each entry that differs least; the asked size decides before tuning and vintage do."""
    by_entry: dict[str, tuple[tuple[int, ...], Known]] = {}
    for item in chosen:
        cost = _cost(asked, item, wanted)
        if item.entry.name not in by_entry or cost < by_entry[item.entry.name][0]:
            by_entry[item.entry.name] = (cost, item)
    least = min(cost for cost, _ in by_entry.values())
    if not asked.sizes:
        sizes = {item.parts.sizes for _, item in by_entry.values()}
        if len(sizes) > 1 and not any(cost[:2] == (0, 0) for cost, _ in by_entry.values()):
            return [item for _, item in by_entry.values()]
    return [item for cost, item in by_entry.values() if cost == least]


def _cost(asked: Parts, item: Known, wanted: NamedFormat | None) -> tuple[int, ...]:
    have = item.parts
    left_out = len(have.sizes) - len(asked.sizes) if have.sizes and not asked.sizes else 0
    return (
        left_out,
        len(have.words ^ asked.words),
        len(have.lengths - asked.lengths),
        len(have.vintages ^ asked.vintages),
        len(have.active - asked.active),
        _format_cost(item.kind, wanted),
        len(have.tuning ^ asked.tuning),
    )


def _format_cost(kind: str | None, wanted: NamedFormat | None) -> int:
    if wanted is None:
        return 0 if kind is None else 2
    return 0 if kind == wanted.kind else 1 if kind is None else 2


# -- the answer ---------------------------------------------------------------------------------------------


def _answer(
    name: str, asked: Parts, item: Known, wanted: NamedFormat | None
) -> Understood:  # parameters: the parts of one name
    entry = at_positions(item.entry, item.written)
    notes = []
    vintages = {vintage for known in names_of(entry) for vintage in known.vintages}
    if new := asked.vintages - vintages:
        notes.append(f"vintage {', '.join(sorted(new))} taken to have the same shape")
    if asked.tuning & {"abliterated", "uncensored", "heretic", "derestricted"}:
        notes.append("a version with changed weights and the same shape")
    if item.parts.sizes and not asked.sizes:
        notes.append(f"the only size known here: {', '.join(sorted(item.parts.sizes))}")
    weights = _as_published(item, wanted, asked)
    if weights is not None and in_gguf(asked):
        weights = _in_a_file(weights, asked, entry)
    if weights is not None and weights.note:
        notes.append(weights.note)
    return Understood(name, entry, weights, tuple(notes))


def in_gguf(asked: Parts) -> bool:
    """Says whether a name is of a GGUF file: by the word, or by a type that only such files have."""
    return bool(asked.gguf) or "gguf" in asked.formats


def _in_a_file(weights: NamedFormat, asked: Parts, entry: ModelEntry) -> NamedFormat:
    """What is so of a published GGUF file of this model: a publisher's hand in it, a tied head that lies apart."""
    section = entry.config.get("text_config")
    parts = [part for part in (entry.config, section) if isinstance(part, Mapping)]
    types = [str(part.get("model_type") or "") for part in parts]
    per_layer = any(part.get("hidden_size_per_layer_input") for part in parts)
    spread, why = weights.spread, ""
    if per_layer and spread != EXACT:
        spread, why = (spread[0], LAYER_TABLE_ABOVE), "the table of each layer's embeddings may lie in Q8_0"
    elif weights.kind == "gguf" and spread == EXACT:
        spread, why = max(by_hand(asked.gguf, asked.owner, one, per_layer=per_layer) for one in types)
    head = any(head_apart(asked.owner, asked.versions, one) for one in types)
    notes = [one for one in (weights.note, why) if one]
    return replace(weights, note="; ".join(notes), head=head, spread=spread)


def _as_published(item: Known, wanted: NamedFormat | None, asked: Parts) -> NamedFormat | None:
    """The asked format, by the entry's own quantization_config where that is of the same kind."""
    own = _quantization(item.entry)
    if wanted is None:
        return None
    kind = _kind_of(own)
    if own is None:
        return wanted
    if kind == "mxfp4" and in_gguf(asked) and wanted.kind in ("bf16", "fp16"):
        return NamedFormat("mxfp4", "mxfp4 as published", own, note="a GGUF of it keeps its mxfp4 experts")
    if kind == "mxfp4" and wanted.kind == "gguf":
        kept = "a GGUF of it keeps its mxfp4 experts, whatever its type"
        if asked.gguf in ("", "mxfp4"):
            return replace(gguf("mxfp4"), kind="mxfp4", note=f"{kept}; the rest is counted in Q8_0")
        return replace(wanted, note=f"{wanted.note}; {kept}" if wanted.note else kept)
    if wanted.config.get("group_size", group := own.get("group_size")) != group and group is not None:
        return wanted  # another publisher's recipe for the same format
    if wanted.kind in (kind, item.kind) and (wanted.note or wanted.kind != "fp8" or "block" in wanted.words):
        return replace(wanted, words=f"{wanted.kind} as published", config=own, note="")
    return wanted


def _quantization(entry: ModelEntry) -> dict[str, object] | None:
    for part in (entry.config, entry.config.get("text_config") or {}):
        found = part.get("quantization_config") if isinstance(part, dict) else None
        if isinstance(found, dict):
            return found
    return None


def _kind_of(config: dict[str, object] | None) -> str | None:
    if config is None:
        return None
    groups = config.get("config_groups")
    if isinstance(groups, Mapping) and len(groups) == 1:
        weights = next(iter(groups.values()))
        weights = weights.get("weights") if isinstance(weights, Mapping) else None
        if isinstance(weights, Mapping) and weights.get("type") == "int" and weights.get("num_bits") in (4, 8):
            return f"int{weights['num_bits']}"
    method = str(config.get("quant_method") or config.get("quant_algo") or "").lower()
    algo = str(config.get("quant_algo") or "").lower()
    for kind in ("nvfp4", "mxfp4", "mxfp8", "fp8", "awq", "gptq"):
        if kind in algo or kind in method:
            return kind
    return None

"""A model's name as people write it -> the catalogue's entry and the weight format: one rule set for every command.

The name and every name of the catalogue are read into the same parts (`planner.lookup.parts`). An entry is meant
when its family, version and size are those of the name; tuning, vintage and publisher may differ, and the answer
says so. A size or version that no entry has is refused with the nearest; several entries are asked back.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from math import log2

from planner.catalogue.entries import ModelEntry, known_model, model_state, models
from planner.errors import UnknownName, one_line
from planner.lookup import ollama
from planner.lookup.formats import NamedFormat, format_of, gguf
from planner.lookup.parts import OMITTED, Parts, parts_of, without_site

LIST_THEM = "`kvplan models QUERY` lists them, or give a config.json"
SIZE_TOLERANCE = 0.06  # a label of 120b for 116.8 B parameters, of 16b for 15.7 B
MOST_CHOICES = 8
# Embedding models and classifiers that have no decoder.
_ENCODER = re.compile(
    r"bge-(?:m3|small|base|large|reranker-(?:v2-m3|base|large))|all-minilm|nomic-(?:embed-text|bert)|mxbai-embed|"
    r"multilingual-e5|e5-(?:small|base|large)|arctic-embed|modernbert|(?:^|/)(?:distil|ro|xlm-ro|de)?berta?-|prompt-guard"
)
_STORED = re.compile(r"-(fp8|nvfp4|mxfp4|awq|gptq-int4|int4|bf16)$")


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
        cut = _STORED.sub("", self.entry.name)
        return cut or self.entry.name

    @property
    def words(self) -> str:
        """`qwen3.6-27b, weights fp8 (block 128)`."""
        return self.name + (f", weights {self.weights.words}" if self.weights else "")


@dataclass(frozen=True)
class _Known:
    """One name of one entry, read."""

    entry: ModelEntry
    parts: Parts
    kind: str | None  # the weight format in the name, None for none
    active: frozenset[str] = frozenset()  # active sizes in any of the entry's names


def understand(name: str) -> Understood:
    """The entry and weight format that `name` means; UnknownName where that is none, or more than one.

    >>> understand("TheBloke/Llama-2-70B-Chat-GPTQ").words
    'llama-2-70b, weights gptq int4 (group 128)'
    >>> understand("deepseek-r1:32b").words
    'deepseek-r1-distill-qwen-32b, weights gguf Q4_K_M'
    """
    plain = without_site(name)
    for candidate in (name, plain):
        if (entry := known_model(candidate)) is not None:
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
        raise


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
    known = _index(model_state())
    if (means := _by_nickname(asked)) is not None:
        chosen = [item for item in known if item.entry.name in means]
        if len({item.entry.name for item in chosen}) > 1:
            raise _Several(_which(name, chosen))
    else:
        chosen = [item for item in known if _meant(asked, item)]
    if not chosen or not (asked.sizes or asked.vintages):
        versions = _of_any_version(asked, known)
        if versions and len({item.entry.name for item in (*versions, *chosen)}) > 1:
            raise _Several(_which(name, versions))
    if not chosen and (fuller := _of_fuller_names(asked, known)):
        raise _Several(_which(name, fuller))
    if not chosen or _is_another(asked, chosen):
        raise UnknownName(_nothing(name, asked, known))
    best = _closest(asked, chosen, wanted)
    if len(best) > 1:
        raise _Several(_which(name, best + _of_fuller_names(asked, known)))
    item = best[0]
    if wanted is None and item.kind is not None and item.kind not in ("bf16", "fp16") and not _also_plain(item, known):
        raise _Several(
            f"{_shown(name)} is in the catalogue only as {item.entry.name}, whose weights are stored otherwise: "
            f"give that name, or --dtype with it; {LIST_THEM}"
        )
    return _answer(name, asked, item, wanted)


def _also_plain(item: _Known, known: Iterable[_Known]) -> bool:
    return any(other.entry.name == item.entry.name and other.kind is None for other in known)


@lru_cache(maxsize=4)
def _index(state: object) -> tuple[_Known, ...]:
    """Every name of every entry, read; `state` changes when the catalogue does."""
    found = []
    for entry in models():
        names = _names_of(entry)
        active = frozenset(size for parts in names for size in parts.active)
        for parts in dict.fromkeys(names):
            try:
                fmt = format_of(parts)
            except UnknownName:
                fmt = None
            found.append(_Known(entry, parts, fmt.kind if fmt else None, active))
    return tuple(found)


def _by_nickname(asked: Parts) -> tuple[str, ...] | None:
    """DeepSeek-R1 with a size is a distillation of that size; of 8b there are two."""
    if asked.words == {"deepseek"} and asked.versions == {"r1"} and len(asked.sizes) == 1:
        size = next(iter(asked.sizes))
        if size == "8b" and not asked.vintages:
            return ("deepseek-r1-0528-qwen3-8b", "deepseek-r1-distill-llama-8b")
        found = ollama.MEANS.get(("deepseek-r1", size))
        return (found,) if found else None
    return None


def _meant(asked: Parts, item: _Known) -> bool:
    """Whether an entry has the family, version and size that were asked for."""
    return _words_agree(asked, item) and asked.versions == item.parts.versions and _sizes_agree(asked, item)


def _of_any_version(asked: Parts, known: Iterable[_Known]) -> list[_Known]:
    """What a name without a version may be, the newest first: never answered, for versions differ in shape."""
    if asked.versions or not asked.words:
        return []
    found = [
        item
        for item in known
        if item.kind is None
        and (_words_agree(asked, item) or (not asked.sizes and _says_more(asked, item)))
        and _sizes_agree(asked, item)
    ]
    if not any(item.parts.versions for item in found):
        return []
    return _closest_first(asked, found)


def _of_fuller_names(asked: Parts, known: Iterable[_Known]) -> list[_Known]:
    """What a name without size and without the word for it may be: `phi3`, `granite4`, `magistral`."""
    if asked.sizes or not asked.words:
        return []
    found = [
        item
        for item in known
        if item.kind is None
        and _says_more(asked, item)
        and asked.versions == item.parts.versions
        and _sizes_agree(asked, item)
    ]
    return _closest_first(asked, found)


def _closest_first(asked: Parts, found: Iterable[_Known]) -> list[_Known]:
    """Those that say the fewest words more, of these the newest."""
    return sorted(found, key=lambda item: (len(item.parts.words - asked.words), -(item.entry.year or 0)))


def _says_more(asked: Parts, item: _Known) -> bool:
    """Whether an entry's name has the words that were asked for, and words of size or kind besides."""
    return asked.words < item.parts.words and item.parts.words - asked.words <= OMITTED | {"h"}


# Releases whose name differs from another's by a word of tuning alone, and whose weights are stored otherwise.
_ANOTHER = ((frozenset({"kimi"}), frozenset({"k2"}), "thinking"),)


def _is_another(asked: Parts, chosen: list[_Known]) -> bool:
    return any(
        asked.words == words and asked.versions == versions and word in asked.tuning and not asked.formats
        and not any(word in item.parts.tuning for item in chosen)
        for words, versions, word in _ANOTHER
    )  # fmt: skip


def _words_agree(asked: Parts, item: _Known) -> bool:
    extra = asked.words - item.parts.words
    if extra - {"moe", "distill", "distilled", "dense"}:
        return False
    if "moe" in extra and not (item.parts.active or any("x" in size for size in item.parts.sizes)):
        return False
    if "dense" in extra and item.parts.active:
        return False
    missing = item.parts.words - asked.words
    if extra & {"distill", "distilled"}:
        return not missing
    return not missing or bool(missing <= OMITTED and (asked.sizes or missing <= {"distill", "distilled", "vision"}))


def _sizes_agree(asked: Parts, item: _Known) -> bool:
    have = item.parts
    if not all(size in have.sizes or size in have.active or _counts(size, item) for size in asked.sizes):
        return False
    if asked.active - item.active and (item.active or not asked.sizes):
        return False
    return asked.lengths <= have.lengths and _vintages_agree(asked, have)


def _counts(size: str, item: _Known) -> bool:
    """Whether a label such as 671b is the entry's count of parameters, where its name gives no such label."""
    if any(label[-1] in "bmt" and label[0].isdigit() and "x" not in label for label in item.parts.sizes):
        return False
    unit = {"m": 10**6, "b": 10**9, "t": 10**12}.get(size[-1])
    parameters = item.entry.parameters
    if unit is None or parameters is None or "x" in size or not size[:-1].replace(".", "").isdigit():
        return False
    label = float(size[:-1]) * unit
    return abs(label - parameters) <= SIZE_TOLERANCE * parameters


def _vintages_agree(asked: Parts, have: Parts) -> bool:
    """Another vintage of a numbered version is the same shape; of an unnumbered one it is another model."""
    if not asked.vintages or not have.vintages:
        return True
    return bool(asked.vintages & have.vintages) or bool(asked.versions)


def _closest(asked: Parts, chosen: list[_Known], wanted: NamedFormat | None) -> list[_Known]:
    """One item for each entry that differs least; the asked size decides before tuning and vintage do."""
    by_entry: dict[str, tuple[tuple[int, ...], _Known]] = {}
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


def _cost(asked: Parts, item: _Known, wanted: NamedFormat | None) -> tuple[int, ...]:
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
    name: str, asked: Parts, item: _Known, wanted: NamedFormat | None
) -> Understood:  # parameters: the parts of one name
    entry = item.entry
    notes = []
    vintages = {vintage for known in _names_of(entry) for vintage in known.vintages}
    if new := asked.vintages - vintages:
        notes.append(f"vintage {', '.join(sorted(new))} taken to have the same shape")
    if asked.tuning & {"abliterated", "uncensored", "heretic", "derestricted"}:
        notes.append("a version with changed weights and the same shape")
    if item.parts.sizes and not asked.sizes:
        notes.append(f"the only size known here: {', '.join(sorted(item.parts.sizes))}")
    weights = _as_published(item, wanted, "gguf" in asked.formats)
    if weights is not None and weights.note:
        notes.append(weights.note)
    return Understood(name, entry, weights, tuple(notes))


def _names_of(entry: ModelEntry) -> list[Parts]:
    return [parts_of(written) for written in (entry.name, entry.hf_id or entry.name, *entry.aliases)]


def _as_published(item: _Known, wanted: NamedFormat | None, in_gguf: bool = False) -> NamedFormat | None:
    """The asked format, by the entry's own quantization_config where that is of the same kind."""
    own = _quantization(item.entry)
    if wanted is None:
        return None
    kind = _kind_of(own)
    if own is None:
        return wanted
    if kind == "mxfp4" and (wanted.kind == "gguf" or (in_gguf and wanted.kind in ("bf16", "fp16"))):
        return NamedFormat(
            "mxfp4", "mxfp4 as published", own, note="a GGUF of it keeps its mxfp4 experts, whatever its type"
        )
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
    method = str(config.get("quant_method") or config.get("quant_algo") or "").lower()
    algo = str(config.get("quant_algo") or "").lower()
    for kind in ("nvfp4", "mxfp4", "mxfp8", "fp8", "awq", "gptq"):
        if kind in algo or kind in method:
            return kind
    return None


def _shown(name: str) -> str:
    return repr(one_line(name, 60))


def _which(name: str, items: list[_Known]) -> str:
    every = list(dict.fromkeys(item.entry.name for item in items))
    # A format of weights is no other choice where the model itself is one.
    names = [one for one in every if (plain := _STORED.sub("", one)) == one or plain not in every]
    if len(names) == 1:
        return f"{_shown(name)} says too little: known of it is {names[0]}; {LIST_THEM}"
    more = f" and {len(names) - MOST_CHOICES} more" if len(names) > MOST_CHOICES else ""
    return f"{_shown(name)} could be {', '.join(names[:MOST_CHOICES])}{more}: say which; {LIST_THEM}"


def _nothing(name: str, asked: Parts, known: tuple[_Known, ...]) -> str:
    """The refusal, with what is near in family, version and size."""
    if _ENCODER.search(name.lower()):
        return (
            f"{_shown(name)} is an encoder: it reads a text at once, keeps no KV cache and takes its weights alone; "
            f"kvplan counts decoders ({LIST_THEM})"
        )
    near = _nearest(asked, known)
    if near is None and (corrected := _spelled(asked, known)) is not None:
        near = _nearest(corrected, known)
    if near:
        why, names = near
        return f"no model is called {_shown(name)}; {why}: {', '.join(names)}; {LIST_THEM}"
    return f"no model is called {_shown(name)}, and none of its family is known here; {LIST_THEM}"


def _spelled(asked: Parts, known: tuple[_Known, ...]) -> Parts | None:
    """`asked` with a family's name that is off by a letter set right; None where none is near."""
    from difflib import get_close_matches  # slow to import, and only wanted when a name is wrong

    families = sorted({word for item in known for word in item.parts.words if len(word) > 2})
    right = {word: get_close_matches(word[:40], families, n=1, cutoff=0.88) for word in asked.words if len(word) > 2}
    if not any(right.values()):
        return None
    return replace(asked, words=frozenset(right[word][0] if right.get(word) else word for word in asked.words))


def _nearest(asked: Parts, known: tuple[_Known, ...]) -> tuple[str, list[str]] | None:
    """What differs least in meaning, and in what it differs."""
    tests: tuple[tuple[str, Callable[[_Known], bool]], ...] = (
        (
            "that family and version has",
            lambda item: _words_agree(asked, item) and asked.versions == item.parts.versions,
        ),
        ("that family has", lambda item: bool(asked.words) and _words_agree(asked, item)),
        ("if it was trained from another model, that may be", lambda item: _inside(asked, item)),
        (
            "if it was trained from another model, that may be",
            lambda item: _inside(asked, item, any_version=True),
        ),
        ("near it", lambda item: bool(asked.words & item.parts.words) and bool(asked.versions & item.parts.versions)),
        (
            "of its family and size",
            lambda item: bool(asked.words & item.parts.words and asked.sizes & item.parts.sizes),
        ),
        ("of its family", lambda item: bool(asked.words & item.parts.words - OMITTED)),
    )
    for why, test in tests:
        found = [item for item in known if test(item)]
        if found:
            found.sort(key=lambda item: _distance(asked, item))
            return why, list(dict.fromkeys(item.entry.name for item in found))[:5]
    return None


def _inside(asked: Parts, item: _Known, any_version: bool = False) -> bool:
    """A finetune names its base: dolphin-2.9-llama3-8b, or its family alone: cogito-v1-preview-qwen-32b."""
    have = item.parts
    if not have.words or not have.words < asked.words or not have.sizes & asked.sizes:
        return False
    return any_version or have.versions <= asked.versions


def _distance(asked: Parts, item: _Known) -> tuple[float, ...]:
    have = item.parts
    return (
        len(asked.words ^ have.words),
        0 if asked.sizes & have.sizes else 1 + _size_distance(asked, have),
        _version_distance(asked.versions, have.versions),
        len(asked.vintages ^ have.vintages),
        len(have.formats),
    )


def _size_distance(asked: Parts, have: Parts) -> float:
    """How many times larger or smaller, as a logarithm; 9 where a name gives no size."""
    sizes = [max((_billions(size) for size in part.sizes), default=0.0) for part in (asked, have)]
    return abs(log2(sizes[0] / sizes[1])) if all(sizes) else 9.0


def _billions(size: str) -> float:
    count = _number(size.split("x")[-1]) * (_number(size.split("x")[0]) if "x" in size else 1)
    return count * {"m": 1e-3, "t": 1e3}.get(size[-1], 1.0)


def _version_distance(one: frozenset[str], other: frozenset[str]) -> float:
    first, second = (_number(next(iter(sorted(versions)), "")) for versions in (one, other))
    return abs(first - second)


def _number(version: str) -> float:
    digits = "".join(letter for letter in version if letter.isdigit() or letter == ".")
    try:
        return float(digits)
    except ValueError:
        return 99.0

"""The catalogue's names, read into parts, and when one of them agrees with what was asked."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from planner.catalogue.entries import ModelEntry, models
from planner.errors import UnknownName
from planner.lookup.formats import format_of
from planner.lookup.parts import OMITTED, Parts, parts_of

SIZE_TOLERANCE = 0.06  # a label of 120b for 116.8 B parameters, of 16b for 15.7 B


@dataclass(frozen=True)
class Known:
    """One name of one entry, read."""

    entry: ModelEntry
    parts: Parts
    kind: str | None  # the weight format in the name, None for none
    active: frozenset[str] = frozenset()  # active sizes in any of the entry's names
    written: str = ""  # the name of the entry that `parts` were read from


@lru_cache(maxsize=4)
def known_names(state: object) -> tuple[Known, ...]:
    """Every name of every entry, read; `state` changes when the catalogue does."""
    found = []
    for entry in models():
        names = names_of(entry)
        active = frozenset(size for parts in names for size in parts.active)
        by_parts: dict[Parts, str] = {}
        for parts, written in zip(names, written_names(entry), strict=True):
            if parts not in by_parts or written in entry.positions:
                by_parts[parts] = written
        for parts, written in by_parts.items():
            try:
                fmt = format_of(parts)
            except UnknownName:
                fmt = None
            found.append(Known(entry, parts, fmt.kind if fmt else None, active, written))
    return tuple(found)


def names_of(entry: ModelEntry) -> list[Parts]:
    """Splits every name of an entry into its parts."""
    return [parts_of(written) for written in written_names(entry)]


def written_names(entry: ModelEntry) -> tuple[str, ...]:
    """Lists every name of an entry: its own, its Hugging Face id, its aliases."""
    return (entry.name, entry.hf_id or entry.name, *entry.aliases)


def meant(asked: Parts, item: Known) -> bool:
    """Tells whether an entry has the family, version and size that were asked for."""
    return words_agree(asked, item) and asked.versions == item.parts.versions and sizes_agree(asked, item)


def words_agree(asked: Parts, item: Known) -> bool:
    """Tells whether the words of a name mean an entry: each is the entry's, and it lacks none that tells models apart."""
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
    unsized = {"distill", "distilled", "vision"} if item.parts.sizes else {"distill", "distilled"}
    return not missing or bool(missing <= OMITTED and (asked.sizes or missing <= unsized))


def sizes_agree(asked: Parts, item: Known) -> bool:
    """Tells whether sizes, lengths and dates that a name gives are those of an entry."""
    have = item.parts
    if not all(size in have.sizes or size in have.active or _counts(size, item) for size in asked.sizes):
        return False
    if asked.active - item.active and (item.active or not asked.sizes):
        return False
    return asked.lengths <= have.lengths and _vintages_agree(asked, have)


def _counts(size: str, item: Known) -> bool:
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

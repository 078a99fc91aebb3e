"""What is said where a model's name is not understood: what it may be, or what is near in family, version and size."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from math import log2

from planner.errors import one_line
from planner.lookup.known import Known, words_agree
from planner.lookup.other_kinds import what_else
from planner.lookup.parts import OMITTED, Parts

LIST_THEM = "`kvplan models QUERY` lists them, or give a config.json"
MOST_CHOICES = 8
_DRAFTER = re.compile(
    r"(?:^|[/_ -])(?:p-)?eagle[23]?(?:[/_ -]|$)|(?:^|[/_ -])(?:dflash2?|dspark|medusa|speculator)(?:[/_. -]|$)"
)
# What a model does, and words that many families share: neither is a family.
_KINDS = frozenset("vl ocr omni embedding reranker coder code math".split())
_SHARED = frozenset(
    "plus pro flash turbo open next super ultra air max llm lm gpt oss seed s h r x xs xl base text audio en v ft japanese "
    "guard mistral-small labs music agents prover step ko it".split()
) - {"gpt", "seed", "step"}
STORED = re.compile(r"-(fp8|nvfp4|mxfp4|awq|gptq-int4|int4|bf16)$")


def shown(name: str) -> str:
    """Quotes a name on one line, cut at 60 characters."""
    return repr(one_line(name, 60))


def drafts(name: str) -> bool:
    """Tells whether a name is that of a drafter: of another shape than the model that it drafts for."""
    return bool(_DRAFTER.search(name.lower()))


def which(name: str, items: list[Known]) -> str:
    """Says that a name could be one of several models, and lists them."""
    every = list(dict.fromkeys(item.entry.name for item in items))
    # A format of weights is no other choice where the model itself is one.
    names = [one for one in every if (plain := STORED.sub("", one)) == one or plain not in every]
    if len(names) == 1:
        return f"{shown(name)} says too little: known of it is {names[0]}; {LIST_THEM}"
    more = f" and {len(names) - MOST_CHOICES} more" if len(names) > MOST_CHOICES else ""
    return f"{shown(name)} could be {', '.join(names[:MOST_CHOICES])}{more}: say which; {LIST_THEM}"


def nothing(name: str, asked: Parts, known: tuple[Known, ...]) -> str:
    """Says why no model is meant by a name, with what is near in family, version and size."""
    if (other := what_else(name)) is not None and not drafts(name):
        return f"{shown(name)} {other} ({LIST_THEM})"
    near = _nearest(asked, known)
    if near and drafts(name):
        return f"{shown(name)} drafts for another model, and its shape is not known here; the other may be: {', '.join(near[1])}; {LIST_THEM}"
    if near is None and (corrected := _spelled(asked, known)) is not None:
        near = _nearest(corrected, known)
    if near:
        why, names = near
        return f"no model is called {shown(name)}; {why}: {', '.join(names)}; {LIST_THEM}"
    return f"no model is called {shown(name)}, and none of its family is known here; {LIST_THEM}"


def _spelled(asked: Parts, known: tuple[Known, ...]) -> Parts | None:
    """`asked` with a family's name that is off by a letter set right; None where none is near."""
    from difflib import get_close_matches  # slow to import, and only wanted when a name is wrong

    families = sorted({word for item in known for word in item.parts.words if len(word) > 2})
    right = {word: get_close_matches(word[:40], families, n=1, cutoff=0.85) for word in asked.words if len(word) > 2}
    if not any(right.values()):
        return None
    return replace(asked, words=frozenset(right[word][0] if right.get(word) else word for word in asked.words))


def _nearest(asked: Parts, known: tuple[Known, ...]) -> tuple[str, list[str]] | None:
    """What differs least in meaning, and in what it differs."""
    families = asked.words - OMITTED - _SHARED - _KINDS
    tests: tuple[tuple[str, Callable[[Known], bool]], ...] = (
        (
            "that family and version has",
            lambda item: words_agree(asked, item) and asked.versions == item.parts.versions,
        ),
        ("that family has", lambda item: bool(asked.words) and words_agree(asked, item)),
        ("if it was trained from another model, that may be", lambda item: _inside(asked, item)),
        (
            "if it was trained from another model, that may be",
            lambda item: _inside(asked, item, any_version=True),
        ),
        ("near it", lambda item: bool(families & item.parts.words) and bool(asked.versions & item.parts.versions)),
        ("of its family and size", lambda item: bool(families & item.parts.words and asked.sizes & item.parts.sizes)),
        ("of its family", lambda item: bool(families & item.parts.words)),
        ("of its kind", lambda item: bool(asked.words & _KINDS & item.parts.words)),
    )
    for why, test in tests:
        found = [item for item in known if test(item)]
        if found:
            found.sort(key=lambda item: _distance(asked, item))
            return why, list(dict.fromkeys(item.entry.name for item in found))[:5]
    return None


def _inside(asked: Parts, item: Known, any_version: bool = False) -> bool:
    """A finetune names its base: dolphin-2.9-llama3-8b, or its family alone: cogito-v1-preview-qwen-32b."""
    have = item.parts
    if not have.words or not have.words < asked.words or not have.sizes & asked.sizes:
        return False
    return any_version or have.versions <= asked.versions


def _distance(asked: Parts, item: Known) -> tuple[float, ...]:
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

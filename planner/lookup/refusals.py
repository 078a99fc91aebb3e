"""What is said where a model's name is not understood: what it may be, or what is near in family, version and size."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from math import log2

from planner.errors import one_line
from planner.lookup.known import Known, words_agree
from planner.lookup.parts import OMITTED, Parts

LIST_THEM = "`kvplan models QUERY` lists them, or give a config.json"
MOST_CHOICES = 8
# Embedding models and classifiers that have no decoder.
_ENCODER = re.compile(
    r"bge-(?:m3|small|base|large|reranker-(?:v2-m3|base|large))|all-minilm|nomic-(?:embed-text|bert)|mxbai-embed|"
    r"multilingual-e5|e5-(?:small|base|large)|arctic-embed|modernbert|(?:^|/)(?:distil|ro|xlm-ro|de)?berta?-|prompt-guard"
)
# Pictures, sound and speech: no decoder of text, no KV cache that grows with it.
_NO_TEXT = re.compile(
    r"stable[- ]?diffusion|(?:^|[/ -])sd(?:xl|3)|(?:^|/)flux|qwen-?image|z-image|hunyuan-?(?:image|video|3d)|(?:^|/)wan-?2|"
    r"ltx-?video|cogvideo|parakeet|canary-|wav2vec|hubert|kokoro|(?:^|/)sam-?[23]|(?:^|/)clip-|siglip|dinov"
)
# Served by their makers alone: nobody else knows how they are made.
_CLOSED = re.compile(
    r"(?:^|/)(?:claude|gemini(?! nano)|chatgpt|gpt-?(?:3\.5|4|4o|4\.[15]|5)(?![0-9]*b)|o[134](?:-|$)|grok-?[3-9])",
)
_DRAFTER = re.compile(
    r"(?:^|[/_ -])(?:p-)?eagle[23]?(?:[/_ -]|$)|(?:^|[/_ -])(?:dflash2?|medusa|speculator)(?:[/_. -]|$)"
)
STORED = re.compile(r"-(fp8|nvfp4|mxfp4|awq|gptq-int4|int4|bf16)$")


def shown(name: str) -> str:
    """Quotes a name on one line, cut at 60 characters."""
    return repr(one_line(name, 60))


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
    text = name.lower()
    if _ENCODER.search(text):
        return (
            f"{shown(name)} is an encoder: it reads a text at once, keeps no KV cache and takes its weights alone; "
            f"kvplan counts decoders ({LIST_THEM})"
        )
    if _NO_TEXT.search(text):
        return f"{shown(name)} makes or reads pictures or sound and has no decoder of text; kvplan counts those ({LIST_THEM})"
    if _CLOSED.search(text) and "/" not in text.removeprefix("openai/").removeprefix("anthropic/").removeprefix(
        "google/"
    ):
        return f"{shown(name)} is served by its maker alone, and how it is made is not public; {LIST_THEM}"
    near = _nearest(asked, known)
    if near and _DRAFTER.search(text):
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
    right = {word: get_close_matches(word[:40], families, n=1, cutoff=0.88) for word in asked.words if len(word) > 2}
    if not any(right.values()):
        return None
    return replace(asked, words=frozenset(right[word][0] if right.get(word) else word for word in asked.words))


def _nearest(asked: Parts, known: tuple[Known, ...]) -> tuple[str, list[str]] | None:
    """What differs least in meaning, and in what it differs."""
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

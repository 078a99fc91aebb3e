"""Takes a model's name out of what people write for it: an id, a path, an address, a folder of the Hub's cache."""

from __future__ import annotations

import re

from planner.catalogue.entries import cached_repository
from planner.lookup.formats import RECIPE_OWNERS
from planner.lookup.parts import on_a_site, without_site


def plain_name(text: str) -> str:
    """Returns what a model is called, of an id, a path, a URL or a folder of the Hub's cache.

    >>> plain_name("/models/Qwen3-8B-Q4_K_M.gguf"), plain_name("hf://Qwen/Qwen3-8B"), plain_name("/mnt/m/Qwen3-8B/")
    ('Qwen3-8B-Q4_K_M.gguf', 'Qwen/Qwen3-8B', 'Qwen3-8B')
    >>> plain_name("https://huggingface.co/Qwen/Qwen3-8B/tree/main"), plain_name("hf.co/Qwen/Qwen3-8B/blob/main/config.json")
    ('Qwen/Qwen3-8B', 'Qwen/Qwen3-8B')
    >>> plain_name("/root/.cache/huggingface/hub/models--Qwen--Qwen3-8B/snapshots/abc")
    'Qwen/Qwen3-8B'
    """
    clean = text.strip().strip("\"'")
    if (repository := cached_repository(clean)) is not None:
        return repository
    if on_a_site(clean) or re.match(r"[\w-][\w.-]*/[\w.-]+/(?:tree|blob|resolve|raw)/", clean):
        pieces = without_site(clean).split("/")
        if pieces[-1].lower().endswith(".gguf"):
            return "/".join(dict.fromkeys((pieces[0], pieces[-1])))
        return "/".join(pieces[:2])  # what follows a repository is a page of it
    pieces = [piece for piece in re.split(r"[/\\]", clean) if piece not in ("", ".", "..")]
    local = clean.startswith(("/", "./", "../", "~")) or "\\" in clean or len(pieces) > 2
    if not pieces or not (local or clean.endswith(".gguf")):
        return clean
    # A folder named for a publisher with recipes of its own says how the weights are stored.
    return "/".join(pieces[-2:]) if pieces[-2:-1] and pieces[-2].lower() in RECIPE_OWNERS else pieces[-1]

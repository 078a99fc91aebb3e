"""Takes a model's name out of what people write for it: an id, a path, an address, a folder of the Hub's cache."""

from __future__ import annotations

import re

from planner.lookup.formats import RECIPE_OWNERS


def plain_name(text: str) -> str:
    """Returns what a model is called, of an id, a path, a URL or a folder of the Hub's cache.

    >>> plain_name("/models/Qwen3-8B-Q4_K_M.gguf"), plain_name("hf://Qwen/Qwen3-8B"), plain_name("/mnt/m/Qwen3-8B/")
    ('Qwen3-8B-Q4_K_M.gguf', 'Qwen/Qwen3-8B', 'Qwen3-8B')
    >>> plain_name("/root/.cache/huggingface/hub/models--Qwen--Qwen3-8B/snapshots/abc")
    'Qwen/Qwen3-8B'
    """
    clean = text.strip().strip("\"'").removeprefix("hf://").removeprefix("hf.co/").removeprefix("huggingface.co/")
    cached = re.search(r"models--([\w.-]+?)--([\w.-]+)", clean)
    if cached:
        return f"{cached.group(1)}/{cached.group(2)}"
    hub = re.match(r"https?://(?:www\.)?(?:huggingface\.co|hf\.co|modelscope\.cn/models)/([\w.-]+/[\w.-]+)(.*)", clean)
    if hub:
        file = hub.group(2).partition("?")[0].rpartition("/")[2]
        return f"{hub.group(1).partition('/')[0]}/{file}" if file.lower().endswith(".gguf") else hub.group(1)
    pieces = [piece for piece in re.split(r"[/\\]", clean) if piece not in ("", ".", "..")]
    local = clean.startswith(("/", "./", "../", "~")) or "\\" in clean or len(pieces) > 2
    if not pieces or not (local or clean.endswith(".gguf")):
        return clean
    # A folder named for a publisher with recipes of its own says how the weights are stored.
    return "/".join(pieces[-2:]) if pieces[-2:-1] and pieces[-2].lower() in RECIPE_OWNERS else pieces[-1]

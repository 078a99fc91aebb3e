"""The longest sequence that a config allows: its positions, with the RoPE scaling that it has itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MOST_FACTOR = 1024  # a larger one is a mistake


def longest_tokens(config: Mapping[str, Any], stated: int | None, model_type: str) -> int | None:
    """Returns `stated` (max_position_embeddings) times the factor of a linear or dynamic rope_scaling, or YaRN's from its original.

    Llama 3's, LongRoPE's and Gemma 3's configs state the scaled number already; a YaRN that comes to less changes nothing.
    Source: vLLM 0.20 `_get_and_verify_max_len`; transformers 5 `modeling_rope_utils`.

    >>> longest_tokens({"rope_scaling": {"type": "linear", "factor": 4.0}}, 4096, "llama")
    16384
    >>> yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
    >>> longest_tokens({"rope_scaling": yarn}, 32768, "qwen2"), longest_tokens({}, None, "mamba")
    (131072, None)
    """
    if not stated or "gemma3" in model_type:
        return stated or None
    return max([stated, *(_scaled(part, stated) for part in _scalings(config))])


def _scaled(part: Mapping[str, Any], stated: int) -> int:
    kind, factor = str(part.get("rope_type", part.get("type"))), part.get("factor")
    if isinstance(factor, bool) or not isinstance(factor, (int, float)) or not 1 < factor <= MOST_FACTOR:
        return stated
    if kind in ("linear", "dynamic"):
        return int(stated * factor)
    original = part.get("original_max_position_embeddings")
    if kind in ("yarn", "deepseek_yarn") and isinstance(original, int) and 0 < original <= stated:
        return int(original * factor)
    return stated


def _scalings(config: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The scaling of all layers, or of each kind of layer."""
    for key in ("rope_scaling", "rope_parameters"):
        found = config.get(key)
        if isinstance(found, Mapping):
            yield found
            yield from (part for part in found.values() if isinstance(part, Mapping))

"""Model types that are known by name and not read, with what stands in the way and the nearest that is read."""

from __future__ import annotations

_DRAFT = "is a drafter of another model, and kvplan reads none of this type: ask about the model it drafts for"
_STEP5 = "Step-5: sparse attention over sums of blocks beside the whole K and V; the nearest that are read are step3p5 and step3p7"

UNREAD = {
    "step3p5v": "Step-3.5V has no public implementation: none in transformers 5.24, vLLM 0.33 or SGLang 0.5.23; the nearest that are read are step3p5 and step3p7",
    "step5": _STEP5,
    "hrm_text": "HRM-Text: layers that run in turns over one state are not read; no near type is",
    "blt": "a byte latent transformer, whose number of patches the text decides; no near type is read",
    "xlstm": "xLSTM: its matrix memories are not read; the nearest that is read is mamba2",
    "gemma4_assistant": _DRAFT,
    "gemma4_unified_assistant": _DRAFT,
    "muse_glimmer_assistant": _DRAFT,
}


def words_of(model_type: str) -> str:
    """Returns why a known type is not read, behind its name; an empty text for any other name.

    >>> words_of("gemma4_assistant")[:32], words_of("Gemma4-Assistant") == words_of("gemma4_assistant")
    ('is a drafter of another model, a', True)
    """
    found = UNREAD.get(model_type.lower().replace("-", "_"), "")
    if not found or found == _DRAFT:
        return found
    return f"is not read. {found[0].upper()}{found[1:]}; --assume full-attention gives an upper bound"

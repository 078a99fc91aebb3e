"""A model trained from another, by a name that holds the other's whole: `Huihui-Qwen3.6-27B-abliterated`.

Family, version and size must stand side by side in it, and no further word may say that the shape is another (a
drafter, a tower, a pruned model): such a name is refused with what is near.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from planner.lookup.known import Known, meant
from planner.lookup.parts import OMITTED, Parts, sorted_into, tokens_of

# Words with which the shape, the cache or the head may be another.
_APART = (OMITTED - {"distill", "distilled"}) | frozenset(
    "vl vlm mm multimodal vision visual video image omni audio speech voice tts asr ocr clip blip llava colpali "
    "embed embedding embeddings embedder reranker rerank ranker retriever colbert sae scope encoder bidirectional bidirec "
    "reward rm prm orm critic cls classifier classification verifier tokenizer adapter lora qlora dora peft delta "
    "projector mmproj probe draft drafter draftmodel dspark dflash eagle medusa speculator assistant hydra aligner "
    "flash next air pro max plus turbo super ultra sala linear mamba hybrid rwkv retnet kda gdn diffusion dllm "
    "pruned prune reap reaped minitron sparse layers layer frankenmoe merge merged upscaled upscale expanded depth random "
    "dummy debug test sliced slim action vla robot policy context ggmlv".split()
)
# A name that has one of these names its teacher too: Qwen3-8B-DeepSeek-v3.2-Distill.
_TAUGHT = frozenset("distill distilled distil distillation reasoning".split())
_SAID = ("words", "versions", "sizes", "active")  # what tells a model from others


def inside(name: str, known: Iterable[Known]) -> tuple[Parts, tuple[str, ...]] | None:
    """Reads the model that a name holds whole, and the words that were passed over; None where there is none.

    The longest run of words that is a model of the catalogue counts.
    """
    owner, tokens, gguf = tokens_of(name)
    every = [item for item in known if item.parts.sizes]
    alone = [sorted_into("", [token], "") for token in tokens]
    telling = [at for at, parts in enumerate(alone) if any(getattr(parts, kind) for kind in (*_SAID, "lengths"))]
    for length in range(len(telling) - 1, 1, -1):
        for first in range(len(telling) - length + 1):
            run = telling[first : first + length]
            base = sorted_into(owner, [tokens[at] for at in run], gguf)
            if not alone[run[0]].words or not base.sizes or not any(_is_whole(base, item) for item in every):
                continue
            over = [at for at in telling if at not in run]
            if not _may_be_passed_over([alone[at] for at in over], base, every):
                return None
            kept = [token for at, token in enumerate(tokens) if at not in over]
            return replace(sorted_into(owner, kept, gguf), lengths=base.lengths), tuple(tokens[at] for at in over)
    return None


def _is_whole(base: Parts, item: Known) -> bool:
    return base.words == item.parts.words and meant(base, item)


def _may_be_passed_over(over: list[Parts], base: Parts, every: list[Known]) -> bool:
    words = frozenset().union(*(parts.words for parts in over))
    if any(parts.sizes or parts.active or parts.lengths for parts in over) or words & _APART:
        return False
    families = {next(iter(item.parts.words)) for item in every if len(item.parts.words) == 1} - base.words
    return not words & families or bool(words & _TAUGHT)

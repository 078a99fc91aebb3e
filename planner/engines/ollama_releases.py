"""What changed from one release of ollama to the next: flash attention by model, and the latents that MLA keeps."""

from __future__ import annotations

from planner.engines.base import LATEST, Version, parse_version

SERVER_SINCE: Version = (0, 30)  # a llama-server for every GGUF (PR 16031)
MLA_SINCE: Version = (0, 6, 7)  # the first whose vendored llama.cpp has PR 12801; its own engine keeps V beside K too
FLASH_BY_LLAMA_SINCE: Version = (0, 13, 5)  # models outside its own engine: llama.cpp decides, on
# Flash attention without OLLAMA_FLASH_ATTENTION: model types (as a config and as a GGUF spell them) by release.
FLASH_TYPES: tuple[tuple[Version, tuple[str, ...]], ...] = (
    ((0, 11, 8), ("gpt_oss", "gpt-oss", "gptoss")),
    ((0, 12, 4), ("qwen3", "qwen3_moe", "qwen3moe")),
    ((0, 13), ("gemma3", "gemma3_text", "qwen3_vl", "qwen3_vl_moe", "qwen3vl", "qwen3vlmoe")),
    ((0, 13, 5), ("mistral3", "olmo3")),
    ((0, 15), ("glm4_moe_lite", "glm4moelite", "lfm2")),
    ((0, 20), ("lfm2_moe", "lfm2moe", "nemotron_h", "qwen3_5", "qwen3_5_moe", "qwen35", "qwen35moe", "qwen3_next", "qwen3next")),
    ((0, 24), ("gemma4", "gemma4_text")),
)  # fmt: skip
OWN_ENGINE = ("deepseek2", "deepseek_v2", "deepseek_v3", "gemma3n", "llama4", "mllama", "qwen25vl", "qwen2_5_vl")

# Models that its own engine runs, by release (`OllamaEngineRequired`); it measures its buffers from 0.11.11 on, and all others
# are laid out as it lays out layers from 0.12.11 on.
MEASURED_SINCE: Version = (0, 11, 11)
LAID_OUT_SINCE: Version = (0, 12, 11)
ENGINE_TYPES: tuple[tuple[Version, tuple[str, ...]], ...] = (
    ((0, 6), ("gemma3", "gemma3_text")),
    ((0, 6, 5), ("mistral3",)),
    ((0, 6, 7), ("llama4", "llama4_text")),
    ((0, 7), ("mllama", "qwen2_5_vl", "qwen25vl")),
    ((0, 9, 3), ("gemma3n", "gemma3n_text")),
    ((0, 11), ("gpt_oss", "gpt-oss", "gptoss")),
    ((0, 12), ("qwen3",)),
    ((0, 12, 2), ("qwen3_moe", "qwen3moe")),
    ((0, 12, 7), ("qwen3_vl", "qwen3_vl_moe", "qwen3vl", "qwen3vlmoe")),
    ((0, 13), ("deepseek_v2", "deepseek_v3", "deepseek2")),
    ((0, 13, 4), ("olmo3",)),
    ((0, 14, 3), ("glm4_moe_lite", "glm4moelite", "lfm2")),
    ((0, 15, 5), ("qwen3_next", "qwen3next")),
    ((0, 17, 1), ("nemotron_h", "nemotron_h_moe", "qwen3_5", "qwen3_5_moe", "qwen35", "qwen35moe", "lfm2_moe", "lfm2moe")),
    ((0, 20), ("gemma4", "gemma4_text")),
)  # fmt: skip
# What a command that says nothing gets: slots (4, as many as fit, else 1), tokens a slot (None: by the memory of all cards).
SLOTS: tuple[tuple[Version, int], ...] = (((0, 10), 1), ((0, 6, 7), 2), ((0,), 4))
CONTEXT: tuple[tuple[Version, int | None], ...] = (((0, 15, 5), None), ((0, 6, 7), 4096), ((0,), 2048))
TRIMS_SINCE: Version = (0, 9, 3)  # num_ctx beyond the model's positions is lowered to them


def version_of(text: str | None) -> Version:
    """Reads a release; the newest where none is named."""
    return (parse_version(text) if text else None) or LATEST


def own_engine(model_type: str, version: Version) -> bool:
    """Tells whether a release runs a type of model in ollama's own engine, and not in the llama.cpp that it links.

    >>> own_engine("qwen3", (0, 9)), own_engine("qwen3", (0, 13)), own_engine("llama", (0, 24))
    (False, True, False)
    """
    return any(version >= since and model_type in types for since, types in ENGINE_TYPES)


def default_slots(version: Version) -> int:
    """Returns how many slots a release tries first without OLLAMA_NUM_PARALLEL; it takes one where they do not all fit."""
    return next(count for since, count in SLOTS if version >= since)


def default_context(version: Version) -> int | None:
    """Returns the tokens of a slot without num_ctx or OLLAMA_CONTEXT_LENGTH; None where the memory of the cards decides."""
    return next(count for since, count in CONTEXT if version >= since)


def flash_by_default(model_type: str, version: Version) -> bool:
    """Tells whether a release turns flash attention on by itself for a type of model.

    >>> [flash_by_default("llama", version) for version in ((0, 6), (0, 13, 5), (0, 30))]
    [False, True, True]
    >>> [flash_by_default("qwen3", version) for version in ((0, 12), (0, 12, 4))]
    [False, True]

    Source: ollama's `GGML.FlashAttention` of v0.11.8 to v0.24.0, `ml.FlashAttentionAuto` of llm/server.go from v0.13.5.
    """
    if version >= SERVER_SINCE:
        return True
    kind = model_type.removeprefix("gguf ")
    if any(version >= since and kind in types for since, types in FLASH_TYPES):
        return True
    named = any(kind in types for _, types in FLASH_TYPES)
    return version >= FLASH_BY_LLAMA_SINCE and not named and kind not in OWN_ENGINE

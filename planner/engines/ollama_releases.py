"""What changed from one release of ollama to the next: flash attention by model, and the latents that MLA keeps."""

from __future__ import annotations

from planner.engines.base import Version

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

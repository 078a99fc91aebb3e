"""What an engine makes of a request that is longer than the model's positions: it refuses, or takes less."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from planner.engines.base import LATEST, EngineAnswer, Options, Refusal, Version, parse_version
from planner.memory.estimate import Estimate
from planner.model.positions import LEARNED, ROPE, TRAINED, TooLong, kind_of, too_long
from planner.model.spec import ModelSpec

STATED_ALONE_SINCE: Version = (0, 30)
"""vLLM from here on takes YaRN's max_position_embeddings as scaled already, as SGLang and TensorRT-LLM do."""
OVERRIDES = {
    "vllm": "VLLM_ALLOW_LONG_MAX_MODEL_LEN=1",
    "sglang": "SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN=1",
}
"""Engines that refuse such a server, and the variable that lets it run beyond what the model knows.

Source: vLLM 0.9.2 to 0.33 `_get_and_verify_max_len`; SGLang 0.5.8 to 0.5.23 `_derive_context_length`.
"""
CAPS = {
    "llamacpp": "llama-server caps a slot there",
    "ollama": "ollama lowers num_ctx to that",
    "tensorrt-llm": "it lowers max_seq_len to that",
}
"""Engines that start and take no longer request.

Source: llama.cpp tools/server, "the slot context exceeds the training context of the model - capping", from the end of
2025; ollama v0.33 llm/server.go, "requested context size too large for model"; TensorRT-LLM 1.x
`PyTorchModelEngine._init_max_seq_len`. The others look at nothing: LMDeploy `_get_and_verify_max_len`, ik_llama.cpp,
transformers and mlx-lm run on, and a model with a table of positions has no row for the next one.
"""
UNSCALED = ("ollama",)
"""Engines without flags of RoPE scaling: what the file says is the end."""
SCALES_ITSELF = ("koboldcpp",)
"""KoboldCpp, "Automatic RoPE Scaling", where the file's base is 10,000 or 500,000 (gpttype_adapter.cpp)."""


def asked_tokens(estimate: Estimate, options: Options) -> int:
    """Returns the longest request that the server is to take: the one asked, or what its flag names."""
    return max(estimate.request.seq_tokens, options.max_model_len or 0)


def within_positions(
    answer: EngineAnswer, estimate: Estimate, options: Options, *, at_most: EngineAnswer | None = None
) -> EngineAnswer:
    """Returns the answer, or the refusal of a request beyond the model's positions; the pool stays, for it is memory.

    at_most   what the engine makes of the longest request that the model takes: whether that would start
    """
    found = beyond(answer, estimate, asked_tokens(estimate, options))
    if found is None:
        return answer
    if answer.name in SCALES_ITSELF and found.kind == ROPE:
        words = (
            f"beyond the model's {found.positions:,} positions KoboldCpp scales RoPE by itself; the answers get worse"
        )
        return replace(answer, reasons=(*answer.reasons, words))
    refusal = _refusal(answer.name, found, at_most)
    lines = answer.lines if refusal.starts else (*answer.lines, f"refuses to start: {refusal.text}")
    return replace(answer, fits=False, most_requests=0, refusal=refusal, lines=lines)


def beyond(answer: EngineAnswer, estimate: Estimate, tokens: int) -> TooLong | None:
    """Tells why a request of so many tokens is more than this engine takes of the model; None where it is not."""
    found, spec = too_long(estimate.spec, tokens), estimate.spec
    if answer.name in UNSCALED and spec.max_positions is not None:
        end = int(spec.max_positions / spec.rope_factor)
        return None if tokens <= end else TooLong(spec.name, tokens, end, TRAINED)
    own = _stated_positions(spec) if _reads_the_stated(answer) else None
    if found is None and own is not None and spec.rope_factor == 1 and tokens > own:
        return TooLong(spec.name, tokens, own, kind_of(spec))
    return found


def _reads_the_stated(answer: EngineAnswer) -> bool:
    """Whether YaRN in the config lifts nothing: max_position_embeddings is then to hold the scaled number."""
    version = parse_version(answer.version) or LATEST
    return answer.name in ("sglang", "tensorrt-llm") or (answer.name == "vllm" and version >= STATED_ALONE_SINCE)


def _stated_positions(spec: ModelSpec) -> int | None:
    """max_position_embeddings of a config with YaRN; None without YaRN."""
    parts = [part for part in (spec.config, spec.config.get("text_config")) if isinstance(part, Mapping)]
    for part in parts:
        scaling = part.get("rope_scaling") or part.get("rope_parameters")
        if isinstance(scaling, Mapping) and "yarn" in str(scaling.get("rope_type", scaling.get("type"))):
            stated = part.get("max_position_embeddings")
            return stated if isinstance(stated, int) and stated > 0 else None
    return None


def _refusal(name: str, found: TooLong, at_most: EngineAnswer | None) -> Refusal:
    short = f"{found.tokens:,} tokens are more than the model's {found.positions:,} positions"
    scaling = (found.mend,) if found.mend else ()
    if name not in OVERRIDES:
        return Refusal(_ends(name, found), scaling, starts=True)
    flag = "--context-length" if name == "sglang" else "--max-model-len"
    shorter: tuple[str, ...] = (f"{flag} {found.positions}",)
    if at_most is not None and at_most.refusal is not None:
        shorter = at_most.refusal.mends
    variable = f" ({OVERRIDES[name]} lets it run, with worse answers)" if scaling else ""
    return Refusal(short + variable, (*shorter[:1], *scaling))


def _ends(name: str, found: TooLong) -> str:
    """What becomes of the request where the engine starts all the same."""
    asked = f"{found.tokens:,} tokens are asked"
    if name in CAPS:
        return f"it takes no more than the model's {found.positions:,} positions ({CAPS[name]}), and {asked}"
    if found.kind == LEARNED:
        return (
            f"it fails beyond the model's {found.positions:,} positions, for there is no row for the next, and {asked}"
        )
    return f"it runs on beyond the model's {found.positions:,} positions, where answers fall apart, and {asked}"

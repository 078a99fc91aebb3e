"""Answers with an engine named: what it allocates, how many requests it admits, and whether it starts."""

from __future__ import annotations

from dataclasses import replace

from planner.dtypes.names import kv_format
from planner.engines.base import EngineAnswer, Options
from planner.engines.registry import answer_of
from planner.errors import BadRequest
from planner.memory.estimate import Estimate, estimate
from planner.memory.limits import largest
from planner.units import MAX_TOKENS

VLLM = ("vllm", "vllm-v0", "vllm-v1")


LLAMA = ("llamacpp", "ik_llamacpp", "ollama", "lmstudio")


FREE = ("tensorrt-llm", "lmdeploy")


_GGML = ("fp32", "fp16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")


_FLOATS = ("fp32", "fp16", "bf16")


KV_FORMATS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(VLLM, (*_FLOATS, "fp8", "fp8_ds_mla", "fp8_per_token_head", "int8_per_token_head", "int4_per_token_head", "nvfp4")),
    **dict.fromkeys(LLAMA, _GGML),
    "sglang": (*_FLOATS, "fp8", "fp8_ds_mla", "nvfp4", "mxfp4", "int8", "int4"),
    "tensorrt-llm": (*_FLOATS, "fp8", "int8", "nvfp4"),
    "lmdeploy": (*_FLOATS, "fp8", "int8", "int4"),
}  # fmt: skip


def engine_answer(asked: tuple[str, str | None, Options], found: Estimate) -> EngineAnswer:
    """What the engine makes of an estimate; refuses formats that it does not have."""
    name, version, options = asked
    known = KV_FORMATS.get(name)
    for given in (found.request.k_dtype, found.request.v_dtype):
        if known and given and kv_format(given).name not in known:
            raise BadRequest(f"{name} has no KV dtype {kv_format(given).name}; choose one of: {', '.join(known)}")
    return answer_of(name, version, found, options)


def started_for(asked: tuple[str, str | None, Options], tokens: int) -> tuple[str, str | None, Options]:
    """Names the length a server is started for where no flag does: a default of the model's whole context may be refused."""
    name, version, options = asked
    if options.max_model_len is not None or name not in (*VLLM, "sglang"):
        return asked
    return name, version, replace(options, max_model_len=tokens)


def longest_request(asked: tuple[str, str | None, Options], found: Estimate) -> int:
    """The longest context at the asked batch in this engine's pool, 0 where none fits."""
    name, version, options = asked
    ceiling = found.spec.max_positions or MAX_TOKENS

    def holds(length: int) -> bool:
        own = replace(options, max_model_len=max(length, options.max_model_len or 0))
        if name in LLAMA:
            own = replace(options, max_model_len=None)
        answer = engine_answer(
            (name, version, own), estimate(found.spec, replace(found.request, seq_tokens=length), found.capacity)
        )
        return bool(answer.fits)

    return largest(holds, ceiling)

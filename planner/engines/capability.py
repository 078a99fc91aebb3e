"""What vLLM, SGLang and TensorRT-LLM refuse by a card's compute capability: float types, formats of the cache and of the weights.

Read off vLLM 0.9.2 to 0.33.0 (`platforms/cuda.py`, `config/model.py`, `v1/attention/backends/triton_attn.py`,
`get_min_capability` of each quantisation) and SGLang 0.5.23 (the same function; its loader compares).
"""

from __future__ import annotations

from collections.abc import Mapping

from planner.dtypes.names import float_dtype
from planner.engines.base import Options, Refusal, Version
from planner.engines.vllm_setting import architecture
from planner.memory.estimate import Estimate

# Architecture of a device -> the least compute capability of its cards, times ten.
_CAPABILITY = {"Volta": 70, "Turing": 75, "Ampere": 80, "Ada": 89, "Hopper": 90, "Blackwell": 100, "Rubin": 100}
BFLOAT16 = 80
FP8_CACHE = 80  # before it no backend takes an fp8 cache: FlashInfer wants 8.0 and Triton 8.9
FP8_CACHE_SINCE: Version = (0, 24)  # FlashInfer was taken from 7.5 cards, and Triton learned to say no
_NO_HALF = ("gemma2", "gemma3", "gemma3_text", "glm4")  # vLLM `_FLOAT16_NOT_SUPPORTED_MODELS`
NO_HALF_SINCE: Version = (0, 9)  # of the releases read; before, float16 was taken
MARLIN_ON_TURING_SINCE: Version = (0, 14)
MODELOPT_ON_AMPERE_SINCE: Version = (0, 28)
NVFP4_TENSORRT, FP8_TENSORRT = 100, 89
NEMOTRON_ON_HOPPER_SINCE: Version = (1, 3)
_LEAST = {
    "bitsandbytes": 70, "awq": 75, "gptq": 60, "mxfp4": 80, "gpt_oss_mxfp4": 80, "experts_int8": 80, "fbgemm_fp8": 80,
    "torchao": 75, "fp_quant": 100, "compressed-tensors": 70,
}  # fmt: skip


def capability(estimate: Estimate) -> int | None:
    """Returns the least compute capability of the device's architecture, times ten; None where it is not known."""
    arch = architecture(estimate).split(" ")[0]
    return _CAPABILITY.get(arch)


def takes_float32(estimate: Estimate, options: Options, version: Version) -> bool:
    """Tells whether vLLM takes float32 for a checkpoint in bfloat16: the card has none, and the type refuses float16.

    Source: `_resolve_auto_dtype` and `_FLOAT16_NOT_SUPPORTED_MODELS` of vLLM 0.9.2 to 0.33.0.
    """
    have, named = capability(estimate), options.compute_dtype or estimate.request.dtype
    if have is None or have >= BFLOAT16 or version < NO_HALF_SINCE or (named and named != "auto"):
        return False
    return estimate.spec.model_type in _NO_HALF and estimate.plan.fmt.name == "bf16"


def in_float32(estimate: Estimate) -> bool:
    """Tells whether this is a model that runs in float32 on a card without bfloat16, because its type refuses float16."""
    without = (capability(estimate) or BFLOAT16) < BFLOAT16
    return without and estimate.request.dtype == "fp32" and estimate.spec.model_type in _NO_HALF


def vllm_refusal(estimate: Estimate, options: Options, version: Version) -> Refusal | None:
    """Says what vLLM refuses on this card at start: bfloat16 asked for, fp8 in the cache, a format of weights."""
    have = capability(estimate)
    asked = _float_type(options.compute_dtype or estimate.request.dtype or "")
    if asked == "fp16" and estimate.spec.model_type in _NO_HALF:
        return Refusal(
            f"the model type {estimate.spec.model_type!r} does not support float16",
            ("--dtype bfloat16", "--dtype float32"),
        )
    if have is None:
        return None
    where = f"{architecture(estimate)} has {have / 10:.1f}"
    if asked == "bf16" and have < BFLOAT16:
        return Refusal(
            f"bfloat16 is only supported on GPUs with compute capability of at least 8.0; {where}", ("--dtype half",)
        )
    if estimate.fmt.k.name.startswith("fp8") and have < FP8_CACHE and version >= FP8_CACHE_SINCE:
        return Refusal(
            f"an fp8 KV cache wants a compute capability of at least 8.0; {where}", ("--kv-cache-dtype float16",)
        )
    return _weights_refusal(estimate, have, version=version)


def _float_type(text: str) -> str | None:
    return {"half": "fp16", "float": "fp32"}.get(text.lower()) or (float_dtype(text) if text else None)


def sglang_refusal(estimate: Estimate) -> Refusal | None:
    """Says which format of weights SGLang refuses on this card (a card without bfloat16 runs in float16 by itself)."""
    have = capability(estimate)
    return None if have is None else _weights_refusal(estimate, have, version=None)


def tensorrt_llm_refusal(estimate: Estimate, version: Version) -> Refusal | None:
    """Says which format of weights TensorRT-LLM has no kernel for on this card: NVFP4 before Blackwell, fp8 before Ada.

    Source: its kernel's "FP4 Gemm not supported before Blackwell" (issue 5018; eight H200, issue 6038); Nemotron-H alone runs on
    Hopper from 1.3 (PR 14775); the support matrix of 0.18.2 for fp8.
    """
    have, name = capability(estimate), estimate.plan.fmt.name
    if have is None:
        return None
    hopper = have >= 90 and version >= NEMOTRON_ON_HOPPER_SINCE and estimate.spec.model_type.startswith("nemotron_h")
    least = NVFP4_TENSORRT if name == "nvfp4" and not hopper else FP8_TENSORRT if name.startswith("fp8") else 0
    if have >= least:
        return None
    kind, where = ("NVFP4", "Blackwell") if least == NVFP4_TENSORRT else ("fp8", "Ada")
    return Refusal(
        f"TensorRT-LLM has no {kind} kernel before {where} ({least / 10:.1f}); {architecture(estimate)} has {have / 10:.1f}: "
        f"take the checkpoint in {'fp8' if have >= FP8_TENSORRT else 'int4 (AWQ) or bf16'}"
    )


def _weights_refusal(estimate: Estimate, have: int, *, version: Version | None) -> Refusal | None:
    config = estimate.spec.quantization or {}
    method = config.get("quant_method")
    if not isinstance(method, str):
        return None
    least = _least(method, config, version=version)
    if have >= least:
        return None
    return Refusal(
        f"weights in {method} want a compute capability of at least {least / 10:.1f}; "
        f"{architecture(estimate)} has {have / 10:.1f}"
    )


def _least(method: str, config: Mapping[str, object], *, version: Version | None) -> int:
    """The least capability of a method; `version` of vLLM, None for SGLang."""
    turing = version is not None and version >= MARLIN_ON_TURING_SINCE
    if method == "fp8":
        return 75 if turing else 80
    if method.startswith("modelopt"):
        if "NVFP4" in str(config.get("quant_algo", "")).upper() or method == "modelopt_fp4":
            return 75 if turing else 80
        return 80 if version is not None and version >= MODELOPT_ON_AMPERE_SINCE else 89
    return _LEAST.get(method, 0)

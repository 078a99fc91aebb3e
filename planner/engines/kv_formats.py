"""Which formats of K and V each engine takes."""

from __future__ import annotations

_GGML = ("fp32", "fp16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")
_FLOATS = ("fp32", "fp16", "bf16")
_VLLM = (*_FLOATS, "fp8", "fp8_ds_mla", "fp8_per_token_head", "int8_per_token_head", "int4_per_token_head", "nvfp4",
         "nvfp4_4over6", "turboquant_k8v4", "turboquant_4bit_nc", "turboquant_k3v4_nc", "turboquant_3bit_nc")  # fmt: skip

# engine -> the formats it takes; an engine that is not here takes what kvplan knows
KV_FORMATS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("vllm", "vllm-v0", "vllm-v1"), _VLLM),
    **dict.fromkeys(("llamacpp", "ollama", "lmstudio", "koboldcpp"), _GGML),
    "ik_llamacpp": (*_GGML, "q6_0", "q8_kv"),
    "sglang": (*_FLOATS, "fp8", "fp8_ds_mla", "nvfp4", "mxfp4", "int8", "int4"),
    "tensorrt-llm": (*_FLOATS, "fp8", "int8", "nvfp4"),
    "lmdeploy-pytorch": (*_FLOATS, "fp8", "int8", "int4"),
    "lmdeploy": (*_FLOATS, "fp8", "int8", "int4"),
    "mlx": (*_FLOATS, "int4", "q8_0"),  # --kv-bits 4 and 8: a scale and a bias of 16 bit for 64 numbers
    "exllamav3": ("fp16", "bf16", *(f"exl3_q{bits}" for bits in range(2, 9))),  # cache_mode FP16, or "k_bits,v_bits"
    "exllamav2": ("fp16", "bf16", "exl3_q4", "exl3_q6", "exl3_q8"),  # Q4, Q6 and Q8 take as many bytes as these
}

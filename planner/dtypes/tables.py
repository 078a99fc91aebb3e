"""The quantised formats of KV caches and weights, as tables; `planner.dtypes.names` says what their columns mean."""

from __future__ import annotations

from planner.dtypes.kinds import KvFormat, WeightFormat

_VLLM_SPEC = "vLLM vllm/v1/kv_cache_interface.py"


_GGML = "package gguf 0.19.0 constants.py GGML_QUANT_SIZES"


_KIVI = "KIVI, arXiv:2402.02750"


_KIVI_NOTE = "KIVI keeps the newest 32 to 128 tokens at full precision besides; they are not counted"


_TURBO = (
    "vLLM vllm/model_executor/layers/quantization/turboquant/config.py: slots of 196, 134, 118 and 102 bytes at 128"
)


_TURBO_NOTE = "vLLM leaves the first two and the last two layers of dense models unquantised; that is not counted"


_EXL3 = "exllamav3 exllamav3/cache/quant.py: int32 of token_dim // 32 * bits, half of token_dim // 32"


_IK = "ik_llama.cpp ggml.c type traits: 32 bytes per 32 values and 8 a row"


def _ggml(name: str, block_bytes: int, bits: int) -> KvFormat:
    """A ggml block of 32 values; `block_bytes` counts codes and scales, of which the codes are 32·bits/8."""
    return KvFormat(name, bits, 32, block_bytes - 4 * bits, True, source=_GGML)


KV_FORMATS = {
    f.name: f
    for f in (
        KvFormat("fp8", 8, note="one scale a layer or head, nothing per token", source=_VLLM_SPEC),
        KvFormat("fp8_per_token_head", 8, 0, 4, source=_VLLM_SPEC),
        KvFormat("int8", 8, 0, 2, note="one fp16 scale a token and KV head", source="arithmetic"),
        KvFormat("int8_per_token_head", 8, 0, 4, source=_VLLM_SPEC),
        KvFormat("int4", 4, 64, 4, note="fp16 scale and zero point per group of 64",
                 source="transformers QuantizedCache, q_group_size 64"),
        KvFormat("int4_per_token_head", 4, 0, 4, source=_VLLM_SPEC),
        *(
            KvFormat(f"kivi{bits}_g{group}", bits, group, 4, note=_KIVI_NOTE, source=_KIVI)
            for bits in (4, 2)
            for group in (32, 64, 128)
        ),
        _ggml("q8_0", 34, 8),
        _ggml("q5_1", 24, 5),
        _ggml("q5_0", 22, 5),
        _ggml("q4_1", 20, 4),
        _ggml("q4_0", 18, 4),
        _ggml("iq4_nl", 18, 4),
        KvFormat("nvfp4", 4, 16, 1, note="block of 16, one fp8 scale", source=_VLLM_SPEC),
        KvFormat("nvfp4_4over6", 4, 16, 1, note="block of 16, one fp8 scale", source=_VLLM_SPEC),
        # K and V of one TurboQuant preset differ; here is their mean, so that both together are the slot that vLLM prints
        KvFormat("turboquant_k8v4", 6, 0, 2, note=_TURBO_NOTE, source=_TURBO),
        KvFormat("turboquant_4bit_nc", 4, 0, 3, note=_TURBO_NOTE, source=_TURBO),
        KvFormat("turboquant_k3v4_nc", 7, 0, 3, per=2, note=_TURBO_NOTE, source=_TURBO),
        KvFormat("turboquant_3bit_nc", 3, 0, 3, note=_TURBO_NOTE, source=_TURBO),
        _ggml("q6_0", 26, 6),
        *(KvFormat(f"exl3_q{bits}", bits, 32, 2, note="ExLlamaV3: packed codes, an fp16 scale per 32", source=_EXL3)
          for bits in range(2, 9)),
        KvFormat("q8_kv", 8, 0, 8, note="ik_llama.cpp: one scale and sum a vector", source=_IK),
        KvFormat("mxfp4", 4, 32, 1, note="block of 32, one e8m0 scale", source="OCP Microscaling Formats 1.0"),
        KvFormat("fp8_ds_mla", 8, note="latent in fp8 with an fp32 scale per 128, rope part in bf16",
                 source=_VLLM_SPEC),
    )
}  # fmt: skip


def _gguf(name: str, ten_thousandths: int) -> WeightFormat:
    return WeightFormat(name, (ten_thousandths, 10_000), everywhere=True, source=_GGML)


_IK_QUANTS = "ik_llama.cpp quantize: bits a weight of a tensor; a file mixes in larger ones"
_MIX = "llama.cpp quantize README, whole file of an 8B Llama; varies 1-3 % by model"


_DYNAMIC = (
    "Unsloth's published files: UD-Q8_K_XL holds 8.9 (Qwen3.6-35B-A3B), 9.1 (gemma-4-31B), 10.5 (Qwen3.6-27B) and 11.3 "
    "(Qwen3.5-4B) bits a weight, UD-Q6_K_XL 7.2 (gemma-4-31B) and 7.9 (Qwen3.6-27B)"
)


def _gguf_mix(name: str, hundredths: int) -> WeightFormat:
    return WeightFormat(name, (hundredths, 100), everywhere=True, estimated=True, source=_MIX)


WEIGHT_FORMATS = {
    f.name: f
    for f in (
        WeightFormat("fp8", (8, 1), 0, 0, 32, note="one fp32 scale a matrix"),
        WeightFormat("fp8_channel", (8, 1), 1, 0, 32, note="one fp32 scale an output row"),
        WeightFormat("fp8_block", (8, 1), 128, 128, 32, note="one fp32 scale per 128 x 128",
                     source="DeepSeek-V3 config.json weight_block_size"),
        WeightFormat("mxfp8", (8, 1), 1, 32, 8, source="OCP Microscaling Formats 1.0"),
        WeightFormat("int8", (8, 1), 1, 0, 32, note="one fp32 scale an output row"),
        WeightFormat("int4", (4, 1), 1, 128, 20, note="groups of 128: fp16 scale and 4-bit zero"),
        WeightFormat("awq", (4, 1), 1, 128, 20, note="groups of 128: fp16 scale and 4-bit zero"),
        WeightFormat("gptq", (4, 1), 1, 128, 20, note="groups of 128: fp16 scale and 4-bit zero"),
        WeightFormat("int4_g32", (4, 1), 1, 32, 16, note="groups of 32: fp16 scale, symmetric"),
        WeightFormat("nf4", (4, 1), 1, 64, 32, note="bitsandbytes, blocks of 64: fp32 absmax"),
        WeightFormat("nf4_dq", (4127, 1000), note="bitsandbytes, double quantisation", source="QLoRA"),
        WeightFormat("nvfp4", (4, 1), 1, 16, 8, note="blocks of 16: fp8 scale", source="gguf NVFP4 (64, 36)"),
        WeightFormat("mxfp4", (4, 1), 1, 32, 8, note="blocks of 32: e8m0 scale", source="gguf MXFP4 (32, 17)"),
        *(
            _gguf(name, bits)
            for name, bits in {
                "q2_k": 26250, "q3_k": 34375, "q4_k": 45000, "q5_k": 55000, "q6_k": 65625, "q8_0": 85000,
                "q5_1": 60000, "q5_0": 55000, "q4_1": 50000, "iq4_nl": 45000, "iq4_xs": 42500,
                "iq3_s": 34375, "iq3_xxs": 30625, "iq2_s": 25625, "iq2_xs": 23125, "iq2_xxs": 20625,
                "iq1_m": 17500, "iq1_s": 15625, "tq2_0": 20625, "tq1_0": 16875,
            }.items()
        ),
        *(
            WeightFormat(name, (bits, 10_000), everywhere=True, estimated=True, source=_IK_QUANTS)
            for name, bits in {
                "iq2_k": 23750, "iq3_k": 34375, "iq4_k": 45000, "iq5_k": 55000, "iq6_k": 66250, "iq2_ks": 21875,
                "iq3_ks": 31875, "iq4_ks": 42500, "iq5_ks": 52500, "iq4_kss": 40000, "iq2_kl": 26875,
                "iq1_kt": 17500, "iq2_kt": 21250, "iq3_kt": 31250, "iq4_kt": 40000,
            }.items()
        ),
        *(
            _gguf_mix(name, bits)
            for name, bits in {
                "q3_k_s": 350, "q3_k_m": 391, "q3_k_l": 427, "q4_0": 455, "q4_k_s": 458, "q4_k_m": 485,
                "q5_k_s": 554, "q5_k_m": 569,
            }.items()
        ),
        *(_gguf(name, bits) for name, bits in {"q1_0": 11250, "q2_0": 22500, "q6_0": 65000, "mxfp4_moe": 42500}.items()),
        *(_gguf_mix(name, bits) for name, bits in {"q2_k_s": 297, "iq2_m": 293, "iq3_xs": 350, "iq3_m": 376}.items()),
        *(
            WeightFormat(name, (hundredths, 100), everywhere=True, estimated=True, source=_DYNAMIC)
            for name, hundredths in {"q6_k_xl": 740, "q8_k_xl": 950}.items()
        ),
    )
}  # fmt: skip


# Files whose type is also the name of a tensor type: a file of it mixes in larger ones.
_FILE_README = "llama.cpp tools/quantize README: bits a weight of a whole file of Llama 3.1 8B"
_FILES = {
    "q2_k": 316, "q2_k_s": 297, "iq1_s": 200, "iq1_m": 215, "iq2_xxs": 238, "iq2_xs": 259, "iq2_s": 274, "iq2_m": 293,
    "iq3_xxs": 325, "iq3_xs": 350, "iq3_s": 366, "iq3_m": 376, "iq4_xs": 446, "iq4_nl": 468,
}  # fmt: skip


# Bits, in hundredths of a bit, of output.weight (or a tied embedding) and of token_embd.weight in files of these types, and
# Llama 3.1 8B that the list above is of: its share of them is 13 %, of a model of 70 B 3 %.
_HEAD, _HEAD_OF_LOW = 65_625, 55_000
_EMBEDDING = {
    "iq1_s": 26_250, "iq1_m": 26_250, "iq2_xxs": 26_250, "iq2_xs": 26_250, "iq2_s": 34_375, "iq2_m": 34_375, "iq3_xxs": 34_375,
    "q2_k": 26_250, "q2_k_s": 26_250, "iq3_xs": 34_375, "iq3_s": 34_375, "iq3_m": 34_375, "iq4_xs": 42_500,
}  # fmt: skip
_LLAMA_TABLE, _LLAMA_ALL = 128_256 * 4096, 8_030_261_248


def gguf_parts(file_type: str) -> tuple[WeightFormat, WeightFormat, WeightFormat] | None:
    """Returns the formats of layers, of the embedding and of the head in a file of few bits; None of other types.

    layers = (file · all - head · table - embedding · table) / (all - 2 · table), of Llama 3.1 8B.

    >>> [round(fmt.bits[0] / fmt.bits[1], 2) for fmt in gguf_parts("iq2_m")]
    [2.7, 3.44, 5.5]

    Source: `llama_tensor_get_type` of llama.cpp for the two tables; Llama 3 70B of IQ2_M is 22,994 MiB by it 23,137
    (llama.cpp PR 8035), by the file's mean bits 24,650.
    """
    if file_type not in _EMBEDDING:
        return None
    embedding = _EMBEDDING[file_type]
    head = _HEAD_OF_LOW if file_type.startswith(("iq1", "iq2", "iq3_xxs")) else _HEAD
    rest = (_FILES[file_type] * 100 * _LLAMA_ALL - (head + embedding) * _LLAMA_TABLE) // (_LLAMA_ALL - 2 * _LLAMA_TABLE)
    return tuple(  # type: ignore[return-value]
        WeightFormat(f"{file_type}{part}", (bits, 10_000), everywhere=True, estimated=True, source=_FILE_README)
        for part, bits in (("", rest), (" embedding", embedding), (" head", head))
    )


def gguf_file(file_type: str) -> WeightFormat | None:
    """Returns the format of a whole GGUF file by the type in its name, None for a type that is not known.

    A mix by llama.cpp's rule has its share of larger types where a matrix matters more, so a file of IQ2_XXS takes
    2.38 bits a weight and a tensor of it 2.06. Estimated: the share varies by model.

    >>> gguf_file("iq2_xxs").bits, gguf_file("q8_0").bits
    ((238, 100), (85000, 10000))
    """
    if file_type in _FILES:
        return WeightFormat(file_type, (_FILES[file_type], 100), everywhere=True, estimated=True, source=_FILE_README)
    return WEIGHT_FORMATS.get(file_type)

"""Bytes per element, scales and blocks counted.

Two kinds of format: how one cached vector is stored (`KvFormat`) and how one weight matrix is stored
(`WeightFormat`). Both answer with whole bytes for a whole vector or matrix, never with a fraction an element.
"""

from __future__ import annotations

from dataclasses import dataclass

from planner.errors import BadRequest, UnknownName, one_line
from planner.units import ceil_div

FLOAT_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2}

ALIASES = {
    "float32": "fp32", "f32": "fp32", "float": "fp32", "torch.float32": "fp32",
    "float16": "fp16", "f16": "fp16", "half": "fp16", "torch.float16": "fp16",
    "bfloat16": "bf16", "torch.bfloat16": "bf16",
    "fp8_e4m3": "fp8", "fp8_e5m2": "fp8", "fp8_e4m3fn": "fp8", "float8": "fp8", "float8_e4m3fn": "fp8",
    "kivi4": "kivi4_g32", "kivi2": "kivi2_g32", "kivi": "kivi4_g32",
}  # fmt: skip


@dataclass(frozen=True)
class KvFormat:
    """One cached vector (one token, one KV head, K or V) as it lies in memory.

    vector_bytes(n) = ceil(n·bits / 8) + ceil(n / group)·group_bytes; `group` 0 means one group a vector.
    `whole_groups`: n must be a multiple of the group (ggml blocks), else the engine refuses the model.
    """

    name: str
    bits: int
    group: int = 0
    group_bytes: int = 0
    whole_groups: bool = False
    note: str = ""
    source: str = ""

    def vector_bytes(self, elements: int) -> int:
        """Bytes of one vector.

        >>> kv_format("fp16").vector_bytes(128), kv_format("q8_0").vector_bytes(128)
        (256, 136)
        >>> kv_format("nvfp4").vector_bytes(128), kv_format("int8").vector_bytes(128)
        (72, 130)
        """
        group = self.group or elements
        if self.whole_groups and elements % group:
            raise BadRequest(
                f"KV dtype {self.name} stores blocks of {group} values and a vector of {elements} is not a "
                f"multiple of it (llama.cpp refuses it too): choose fp16 or fp8"
            )
        groups = ceil_div(elements, group) if elements else 0
        return ceil_div(elements * self.bits, 8) + groups * self.group_bytes


_VLLM_SPEC = "vLLM vllm/v1/kv_cache_interface.py"
_GGML = "package gguf 0.19.0 constants.py GGML_QUANT_SIZES"
_KIVI = "KIVI, arXiv:2402.02750"
_KIVI_NOTE = "KIVI keeps the newest 32 to 128 tokens at full precision besides; they are not counted"


def _ggml(name: str, block_bytes: int, bits: int) -> KvFormat:
    """A ggml block of 32 values; `block_bytes` counts codes and scales, of which the codes are 32·bits/8."""
    return KvFormat(name, bits, 32, block_bytes - 4 * bits, True, source=_GGML)


KV_FORMATS = {
    f.name: f
    for f in (
        KvFormat("fp32", 32),
        KvFormat("fp16", 16),
        KvFormat("bf16", 16),
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
        KvFormat("mxfp4", 4, 32, 1, note="block of 32, one e8m0 scale", source="OCP Microscaling Formats 1.0"),
        KvFormat("fp8_ds_mla", 8, note="latent in fp8 with an fp32 scale per 128, rope part in bf16",
                 source=_VLLM_SPEC),
    )
}  # fmt: skip


def canonical(name: str) -> str:
    """
    >>> canonical("torch.bfloat16"), canonical("FP8_E4M3"), canonical("q8_0")
    ('bf16', 'fp8', 'q8_0')
    """
    key = name.strip().lower().replace("-", "_")
    return ALIASES.get(key, key)


def kv_format(name: str) -> KvFormat:
    """The KV format called `name`.

    >>> kv_format("float16").name
    'fp16'
    """
    try:
        return KV_FORMATS[canonical(name)]
    except KeyError:
        known = ", ".join(KV_FORMATS)
        raise UnknownName(f"KV dtype {one_line(name, 40)!r} is not known; choose one of: {known}") from None


def float_dtype(name: str) -> str | None:
    """`fp32`, `fp16` or `bf16` when `name` is one of their spellings, else None."""
    key = canonical(name)
    return key if key in FLOAT_BYTES else None


@dataclass(frozen=True)
class CacheFormat:
    """How K and V are stored, and the float type of the state that follows the model's dtype."""

    k: KvFormat
    v: KvFormat
    model_dtype_bytes: int = 2

    @property
    def name(self) -> str:
        return self.k.name if self.k == self.v else f"{self.k.name}/{self.v.name}"


@dataclass(frozen=True)
class WeightFormat:
    """How one weight matrix [rows out, cols in] is stored.

    bits·rows·cols/8 bytes of codes, plus `group_bits` for each group of `group_rows` x `group_cols`
    (0: the whole extent), rounded up to bytes. `bits` is a ratio (numerator, denominator), so that GGUF
    types with 2.5625 bits a weight stay whole numbers. Parts that a quantiser leaves alone (embedding,
    head, router, norms) keep `float_dtype`; `everywhere` formats quantise every matrix.
    """

    name: str
    bits: tuple[int, int]
    group_rows: int = 1
    group_cols: int = 0
    group_bits: int = 0
    everywhere: bool = False
    estimated: bool = False
    note: str = ""
    source: str = ""

    def matrix_bytes(self, rows: int, cols: int) -> int:
        """Bytes of one matrix.

        >>> weight_format("bf16").matrix_bytes(4096, 4096)
        33554432
        >>> weight_format("awq").matrix_bytes(4096, 4096) * 8 / 4096**2   # 4 + (16 + 4) / 128 bits
        4.15625
        """
        numerator, denominator = self.bits
        bits = ceil_div(rows * cols * numerator, denominator)
        if self.group_bits:
            group_rows = self.group_rows or rows
            group_cols = self.group_cols or cols
            bits += ceil_div(rows, group_rows) * ceil_div(cols, group_cols) * self.group_bits
        return ceil_div(bits, 8)


def _gguf(name: str, ten_thousandths: int) -> WeightFormat:
    return WeightFormat(name, (ten_thousandths, 10_000), everywhere=True, source=_GGML)


_MIX = "llama.cpp quantize README, whole file of an 8B Llama; varies 1-3 % by model"


def _gguf_mix(name: str, hundredths: int) -> WeightFormat:
    return WeightFormat(name, (hundredths, 100), everywhere=True, estimated=True, source=_MIX)


WEIGHT_FORMATS = {
    f.name: f
    for f in (
        WeightFormat("fp32", (32, 1), everywhere=True),
        WeightFormat("fp16", (16, 1), everywhere=True),
        WeightFormat("bf16", (16, 1), everywhere=True),
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
            _gguf_mix(name, bits)
            for name, bits in {
                "q3_k_s": 350, "q3_k_m": 391, "q3_k_l": 427, "q4_0": 455, "q4_k_s": 458, "q4_k_m": 485,
                "q5_k_s": 554, "q5_k_m": 569,
            }.items()
        ),
    )
}  # fmt: skip


def weight_format(name: str) -> WeightFormat:
    """The weight format called `name`.

    >>> weight_format("bfloat16").name, weight_format("Q4_K_M").bits
    ('bf16', (485, 100))
    """
    try:
        return WEIGHT_FORMATS[canonical(name)]
    except KeyError:
        known = ", ".join(WEIGHT_FORMATS)
        raise UnknownName(f"dtype {one_line(name, 40)!r} is not known; choose one of: {known}") from None

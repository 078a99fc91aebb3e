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


@dataclass(frozen=True, eq=False, repr=False)
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
    key = canonical(name)
    if key in _FLOAT_KV:
        return _FLOAT_KV[key]
    from planner.formats import KV_FORMATS  # tables that a plain answer does not need

    if key in KV_FORMATS:
        return KV_FORMATS[key]
    known = ", ".join((*_FLOAT_KV, *KV_FORMATS))
    raise UnknownName(f"KV dtype {one_line(name, 40)!r} is not known; choose one of: {known}")


def float_dtype(name: str) -> str | None:
    """`fp32`, `fp16` or `bf16` when `name` is one of their spellings, else None."""
    key = canonical(name)
    return key if key in FLOAT_BYTES else None


@dataclass(frozen=True, repr=False)
class CacheFormat:
    """How K and V are stored, and the float type of the state that follows the model's dtype."""

    k: KvFormat
    v: KvFormat
    model_dtype_bytes: int = 2

    @property
    def name(self) -> str:
        return self.k.name if self.k == self.v else f"{self.k.name}/{self.v.name}"


@dataclass(frozen=True, eq=False, repr=False)
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


_FLOAT_KV = {name: KvFormat(name, 8 * size) for name, size in FLOAT_BYTES.items()}
_FLOAT_WEIGHTS = {name: WeightFormat(name, (8 * size, 1), everywhere=True) for name, size in FLOAT_BYTES.items()}


def weight_format(name: str) -> WeightFormat:
    """The weight format called `name`.

    >>> weight_format("bfloat16").name, weight_format("Q4_K_M").bits
    ('bf16', (485, 100))
    """
    key = canonical(name)
    if key in _FLOAT_WEIGHTS:
        return _FLOAT_WEIGHTS[key]
    from planner.formats import WEIGHT_FORMATS  # tables that a plain answer does not need

    if key in WEIGHT_FORMATS:
        return WEIGHT_FORMATS[key]
    known = ", ".join((*_FLOAT_WEIGHTS, *WEIGHT_FORMATS))
    raise UnknownName(f"dtype {one_line(name, 40)!r} is not known; choose one of: {known}")

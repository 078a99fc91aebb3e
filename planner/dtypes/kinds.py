"""How one cached vector and one weight matrix are stored: whole bytes for a whole vector or matrix."""

from __future__ import annotations

from planner.errors import BadRequest
from planner.frozen import dataclass
from planner.units import ceil_div


@dataclass(frozen=True, eq=False, repr=False)
class KvFormat:
    """One cached vector (one token, one KV head, K or V) as it lies in memory.

    vector_bytes(n) = ceil(n·bits / (8·per)) + ceil(n / group)·group_bytes; `group` 0 means one group a vector.
    `whole_groups`: n must be a multiple of the group (ggml blocks), else the engine refuses the model.
    """

    name: str
    bits: int
    group: int = 0
    group_bytes: int = 0
    whole_groups: bool = False
    note: str = ""
    source: str = ""
    per: int = 1

    def vector_bytes(self, elements: int) -> int:
        """Bytes of one vector.

        >>> from planner.dtypes.names import kv_format
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
        return ceil_div(elements * self.bits, 8 * self.per) + groups * self.group_bytes


@dataclass(frozen=True, eq=False, repr=False)
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
    (0: the whole extent) and `matrix_bits` once (a codebook), rounded up to bytes. `bits` is a ratio (numerator, denominator), so that GGUF
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
    matrix_bits: int = 0

    def matrix_bytes(self, rows: int, cols: int) -> int:
        """Bytes of one matrix.

        >>> from planner.dtypes.names import weight_format
        >>> weight_format("bf16").matrix_bytes(4096, 4096)
        33554432
        >>> weight_format("awq").matrix_bytes(4096, 4096) * 8 / 4096**2   # 4 + (16 + 4) / 128 bits
        4.15625
        """
        numerator, denominator = self.bits
        bits = ceil_div(rows * cols * numerator, denominator) + self.matrix_bits
        if self.group_bits:
            group_rows = self.group_rows or rows
            group_cols = self.group_cols or cols
            bits += ceil_div(rows, group_rows) * ceil_div(cols, group_cols) * self.group_bits
        return ceil_div(bits, 8)

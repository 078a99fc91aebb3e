"""Bytes per element, scales and blocks counted.

Two kinds of format: how one cached vector is stored (`KvFormat`) and how one weight matrix is stored
(`WeightFormat`). Both answer with whole bytes for a whole vector or matrix, never with a fraction an element.
"""

from __future__ import annotations

from planner.dtypes.kinds import KvFormat, WeightFormat
from planner.errors import UnknownName, one_line

FLOAT_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2}


ALIASES = {
    "float32": "fp32", "f32": "fp32", "float": "fp32", "torch.float32": "fp32",
    "float16": "fp16", "f16": "fp16", "half": "fp16", "torch.float16": "fp16",
    "bfloat16": "bf16", "torch.bfloat16": "bf16",
    "fp8_e4m3": "fp8", "fp8_e5m2": "fp8", "fp8_e4m3fn": "fp8", "float8": "fp8", "float8_e4m3fn": "fp8",
    "kivi4": "kivi4_g32", "kivi2": "kivi2_g32", "kivi": "kivi4_g32",
}  # fmt: skip


def canonical(name: str) -> str:
    """Spells a format as the tables do.

    >>> canonical("torch.bfloat16"), canonical("FP8_E4M3"), canonical("q8_0")
    ('bf16', 'fp8', 'q8_0')
    """
    key = name.strip().lower().replace("-", "_")
    return ALIASES.get(key, key)


def kv_format(name: str) -> KvFormat:
    """Finds the KV format called `name`; Q4, Q6 and Q8 are ExLlama's cache modes.

    >>> kv_format("float16").name, kv_format("Q4").name
    ('fp16', 'exl3_q4')
    """
    key = canonical(name)
    if len(key) == 2 and key[0] == "q" and key[1] in "2345678":
        key = f"exl3_{key}"
    if key in _FLOAT_KV:
        return _FLOAT_KV[key]
    from planner.dtypes.tables import KV_FORMATS  # tables that a plain answer does not need

    if key in KV_FORMATS:
        return KV_FORMATS[key]
    if key.startswith(("turbo", "tbq", "tq")):
        raise UnknownName(
            f"KV dtype {one_line(name, 40)!r} is of forks of llama.cpp, and its block differs by fork (turbo3: 50 or 52 bytes per "
            "128 values, or 14 per 32): not counted; of this size are about q4_0 (turbo4) and turboquant_3bit_nc (turbo3)"
        )
    known = ", ".join((*_FLOAT_KV, *KV_FORMATS))
    raise UnknownName(f"KV dtype {one_line(name, 40)!r} is not known; choose one of: {known}")


def float_dtype(name: str) -> str | None:
    """Returns `fp32`, `fp16` or `bf16` when `name` is one of their spellings, else None."""
    key = canonical(name)
    return key if key in FLOAT_BYTES else None


_FLOAT_KV = {name: KvFormat(name, 8 * size) for name, size in FLOAT_BYTES.items()}


_FLOAT_WEIGHTS = {name: WeightFormat(name, (8 * size, 1), everywhere=True) for name, size in FLOAT_BYTES.items()}


def weight_format(name: str) -> WeightFormat:
    """Finds the weight format called `name`.

    >>> weight_format("bfloat16").name, weight_format("Q4_K_M").bits
    ('bf16', (485, 100))
    """
    key = canonical(name)
    if key in _FLOAT_WEIGHTS:
        return _FLOAT_WEIGHTS[key]
    from planner.dtypes.tables import WEIGHT_FORMATS  # tables that a plain answer does not need

    if key == "fp8_mlp":  # a recipe: which matrices have it is for `planner.memory.weight_plan`
        return WEIGHT_FORMATS["fp8_channel"]

    if key in WEIGHT_FORMATS:
        return WEIGHT_FORMATS[key]
    known = ", ".join((*_FLOAT_WEIGHTS, *WEIGHT_FORMATS))
    raise UnknownName(f"dtype {one_line(name, 40)!r} is not known; choose one of: {known}")

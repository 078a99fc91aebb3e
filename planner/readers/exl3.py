"""Reads what ExLlamaV3 writes beside a config: every tensor with its shape, dtype and bytes, so no header is needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from planner.errors import BadConfig, one_line
from planner.model.stored import StoredTensor, StoredWeights, gather
from planner.units import product

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FILE = "quantization_config.json"
MAX_TENSORS = 2_000_000
TILE = 16  # a trellis stands for tiles of 16 x 16 weights, 16 bits · bits a weight each


def storage_of(raw: Mapping[str, Any], shown: str, layers: int | None = None) -> StoredWeights | None:
    """Returns what `tensor_storage` of an exl3 file lists; None where it has no such key.

    A trellis [in / 16, out / 16, 16 · bits] of int16 stands for in · out weights. Source: exllamav3
    conversion/quant_config.py, create_quantization_config_json.

    >>> held = {"q.trellis": {"shape": [8, 4, 48], "n_bytes": 3072, "dtype": "torch.int16"}}
    >>> found = storage_of({"tensor_storage": {"q": {"stored_tensors": held}}}, "x")
    >>> found.bytes, found.parameters
    (3072, 8192)
    """
    table = raw.get("tensor_storage")
    if not isinstance(table, Mapping) or not table:
        return None
    tensors = list(_tensors(table, shown))
    if not tensors:
        return None
    size = sum(tensor.bytes for tensor in tensors)
    return gather(tensors, source=FILE, file_bytes=size, layers=layers)


def _tensors(table: Mapping[str, Any], shown: str) -> Iterator[StoredTensor]:
    seen: set[str] = set()
    for module in table.values():
        held = module.get("stored_tensors") if isinstance(module, Mapping) else None
        for name, given in held.items() if isinstance(held, Mapping) else ():
            if name in seen:
                continue  # a head that is the embedding
            seen.add(name)
            if len(seen) > MAX_TENSORS:
                raise BadConfig(f"{shown}: more than {MAX_TENSORS:,} tensors")
            yield _tensor(name, given, shown)


def _tensor(name: str, given: object, shown: str) -> StoredTensor:
    entry = given if isinstance(given, Mapping) else {}
    size, sides = entry.get("n_bytes"), _shape(entry.get("shape"))
    if type(size) is not int or not 0 <= size < 1 << 44 or sides is None:
        raise BadConfig(f"{shown}: tensor {one_line(name, 80)!r} wants n_bytes and a shape of whole numbers")
    elements = product(sides)
    if name.endswith(".trellis"):
        elements = sides[0] * TILE * sides[1] * TILE if len(sides) == 3 else 0
    elif name.endswith((".suh", ".svh", ".su", ".sv", ".mcg", ".mul1")):
        elements = 0  # signs and scales
    dtype = str(entry.get("dtype") or "").removeprefix("torch.")
    return StoredTensor(name, _DTYPES.get(dtype, one_line(dtype, 20) or "bytes"), sides, size, elements)


_DTYPES = {"float16": "F16", "bfloat16": "BF16", "float32": "F32", "int16": "I16", "int32": "I32", "uint8": "U8"}


def _shape(given: object) -> tuple[int, ...] | None:
    """Reads up to eight whole numbers; None for anything else."""
    if not isinstance(given, list) or len(given) > 8:
        return None
    return tuple(given) if all(type(side) is int and 0 <= side < 1 << 40 for side in given) else None

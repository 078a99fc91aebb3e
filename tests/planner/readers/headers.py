"""Small weights files for tests, written from the formats' own descriptions: headers real, data a hole."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

BITS = {"F32": 32, "F16": 16, "BF16": 16, "F8_E4M3": 8, "U8": 8, "I8": 8, "I32": 32, "I64": 64, "BOOL": 8, "F4": 4}
Shapes = Mapping[str, tuple[str, Sequence[int]]]


def size_of(dtype: str, shape: Sequence[int]) -> int:
    count = 1
    for axis in shape:
        count *= axis
    return (count * BITS[dtype] + 7) // 8


def safetensors_header(tensors: Shapes) -> tuple[bytes, int]:
    """(the file up to its data, bytes of data)."""
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, (dtype, shape) in tensors.items():
        size = size_of(dtype, shape)
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    raw = json.dumps(entries).encode()
    return struct.pack("<Q", len(raw)) + raw, at


def write_safetensors(path: Path, tensors: Shapes) -> int:
    """Write a file whose data takes no room on disk; its data's size."""
    head, data = safetensors_header(tensors)
    with open(path, "wb") as file:
        file.write(head)
        file.truncate(len(head) + data)
    return data


def write_sharded(folder: Path, shards: Sequence[Shapes], total: int | None = None) -> int:
    """Shards with their index; the size of all data."""
    where, size = {}, 0
    for number, tensors in enumerate(shards, start=1):
        name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        size += write_safetensors(folder / name, tensors)
        where |= dict.fromkeys(tensors, name)
    index = {"metadata": {"total_size": size if total is None else total}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return size


LLAMA = {
    "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 8, "num_key_value_heads": 2,
    "intermediate_size": 128, "vocab_size": 100, "torch_dtype": "bfloat16",
}  # fmt: skip


def llama_tensors(
    dtype: str = "BF16", norms: str = "F32", layers: int = 2, kv_rows: int = 16
) -> dict[str, tuple[str, list[int]]]:
    """The tensors of LLAMA by transformers' names."""
    found: dict[str, tuple[str, list[int]]] = {"model.embed_tokens.weight": (dtype, [100, 64])}
    for i in range(layers):
        inner = f"model.layers.{i}."
        found |= {
            f"{inner}self_attn.q_proj.weight": (dtype, [64, 64]),
            f"{inner}self_attn.k_proj.weight": (dtype, [kv_rows, 64]),
            f"{inner}self_attn.v_proj.weight": (dtype, [kv_rows, 64]),
            f"{inner}self_attn.o_proj.weight": (dtype, [64, 64]),
            f"{inner}mlp.gate_proj.weight": (dtype, [128, 64]),
            f"{inner}mlp.up_proj.weight": (dtype, [128, 64]),
            f"{inner}mlp.down_proj.weight": (dtype, [64, 128]),
            f"{inner}input_layernorm.weight": (norms, [64]),
            f"{inner}post_attention_layernorm.weight": (norms, [64]),
        }
    return found | {"model.norm.weight": (norms, [64]), "lm_head.weight": (dtype, [100, 64])}


def checkpoint(folder: Path, config: Mapping[str, Any], tensors: Shapes) -> int:
    (folder / "config.json").write_text(json.dumps(config))
    return write_safetensors(folder / "model.safetensors", tensors)


# -- GGUF --------------------------------------------------------------------------------------------------

TYPES = {"F32": (0, 1, 4), "F16": (1, 1, 2), "Q4_0": (2, 32, 18), "Q8_0": (8, 32, 34), "Q4_K": (12, 256, 144),
         "Q6_K": (14, 256, 210), "BF16": (30, 1, 2), "MXFP4": (39, 32, 17)}  # fmt: skip


def text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def gguf_value(value: Any) -> bytes:
    """A value with its type: bool, u32, f32, text, or a list of one of them."""
    if isinstance(value, bool):
        return struct.pack("<I?", 7, value)
    if isinstance(value, int):
        return struct.pack("<II", 4, value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    if isinstance(value, str):
        return struct.pack("<I", 8) + text(value)
    items = [gguf_value(item) for item in value]
    return struct.pack("<I", 9) + items[0][:4] + struct.pack("<Q", len(items)) + b"".join(item[4:] for item in items)


def gguf_header(metadata: Mapping[str, Any], tensors: Shapes, version: int = 3) -> tuple[bytes, int]:
    """(the file up to its data, bytes of data). Shapes innermost axis first, as ggml has them."""
    raw = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(metadata))
    for key, value in metadata.items():
        raw += text(key) + gguf_value(value)
    at = 0
    for name, (kind, shape) in tensors.items():
        number, block, size = TYPES[kind]
        count = 1
        for axis in shape:
            count *= axis
        raw += text(name) + struct.pack("<I", len(shape)) + b"".join(struct.pack("<Q", axis) for axis in shape)
        raw += struct.pack("<IQ", number, at)
        at += -(-(count // block * size) // 32) * 32
    return raw + b"\0" * (-len(raw) % 32), at


def write_gguf(path: Path, metadata: Mapping[str, Any], tensors: Shapes) -> int:
    """Write a file whose data takes no room on disk; the size of its tensors without padding."""
    head, data = gguf_header(metadata, tensors)
    with open(path, "wb") as file:
        file.write(head)
        file.truncate(len(head) + data)
    return sum(gguf_bytes(kind, shape) for kind, shape in tensors.values())


def gguf_bytes(kind: str, shape: Sequence[int]) -> int:
    _, block, size = TYPES[kind]
    count = 1
    for axis in shape:
        count *= axis
    return count // block * size

"""Reads the GGUF file of a vision or audio tower (mmproj): its bytes, and how many patches an image of it has."""

from __future__ import annotations

import os
from typing import Any

from planner.errors import BadConfig, UnsupportedModel, one_line
from planner.frozen import dataclass
from planner.readers.gguf import GgufFile, read_parts
from planner.units import ceil_div

MAX_WIDTH, MAX_HEADS = 65_536, 1_024
MAX_SIDE = 32_768  # pixels of an image, or of a patch
# By projector type: tokens a side of the image that llama.cpp warms up with, patches a side that one token joins, and the
# most tokens of a larger image (0: every image is brought to one size). Source: llama.cpp tools/mtmd/clip.cpp of v0.5.0.
DYNAMIC: dict[str, tuple[int, int, int]] = {
    "qwen2vl_merger": (46, 2, 4096), "qwen2.5vl_merger": (46, 2, 4096), "qwen3vl_merger": (46, 2, 4096), "ling3vl": (46, 2, 4096),
    "glm4v": (46, 2, 4096), "glm5v": (46, 2, 4096), "gemma4v": (16, 3, 1120), "pixtral": (16, 2, 1024), "kimivl": (16, 2, 1024),
    "lightonocr": (16, 2, 1024), "minimax_m3": (16, 2, 576), "muse-glimmer": (32, 2, 4096), "hunyuanvl": (32, 2, 16384),
    "lfm2": (16, 2, 256), "phi4": (16, 1, 3600), "dots_ocr": (46, 2, 4096), "paddleocr": (28, 2, 4096), "exaone4_5": (46, 2, 4096),
    "mimovl": (46, 2, 4096),
}  # fmt: skip


@dataclass(frozen=True)
class Mmproj:
    """A tower of its own file.

    stored_bytes   of all its tensors, as stored
    patches        of the image that its buffers are made for; `most_patches` of the largest image that it takes
    width, heads, inner   of its layers: hidden size, attention heads, MLP
    """

    name: str
    stored_bytes: int
    kind: str
    patches: int
    most_patches: int
    width: int
    heads: int
    inner: int


def read_mmproj(path: str) -> Mmproj:
    """Reads the header; raises UnsupportedModel for a GGUF file of anything else."""
    return mmproj_of(read_parts(path), name=os.path.basename(path), shown=one_line(path, 120))


def mmproj_of(file: GgufFile, *, name: str, shown: str) -> Mmproj:
    """A parsed file's tower; audio towers have no patches of their own and are counted by their weights."""
    arch = file.metadata.get("general.architecture")
    if arch != "clip" and file.metadata.get("general.type") != "mmproj":
        raise UnsupportedModel(
            f"{shown} is no tower (mmproj): its architecture is {one_line(str(arch), 40)!r}; give a model's own file by its place"
        )
    size = sum(tensor.bytes for tensor in file.tensors)
    if not size:
        raise BadConfig(f"{shown} holds no tensors: a tower with its weights is wanted")
    kind = file.metadata.get("clip.vision.projector_type") or file.metadata.get("clip.projector_type") or ""
    if file.metadata.get("clip.has_vision_encoder") is False or not any(
        key.startswith("clip.vision.") for key in file.metadata
    ):
        return Mmproj(one_line(name, 60), size, one_line(str(kind), 40), 0, 0, 0, 0, 0)
    side, patch = _number(file, "image_size", shown, high=MAX_SIDE), _number(file, "patch_size", shown, high=MAX_SIDE)
    width, heads = (
        _number(file, "embedding_length", shown),
        _number(file, "attention.head_count", shown, high=MAX_HEADS),
    )
    inner = _number(file, "feed_forward_length", shown)
    tokens, joined, most = DYNAMIC.get(str(kind), (0, 1, 0))
    patches = (tokens * joined) ** 2 if tokens else ceil_div(side, patch) ** 2
    most_patches = max(patches, most * joined**2)
    return Mmproj(one_line(name, 60), size, one_line(str(kind), 40), patches, most_patches, width, heads, inner)


def _number(file: GgufFile, key: str, shown: str, *, high: int = MAX_WIDTH) -> int:
    value: Any = file.metadata.get(f"clip.vision.{key}")
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= high:
        given = "missing" if value is None else one_line(repr(value), 40)
        raise BadConfig(f"{shown}: clip.vision.{key} is {given}; a whole number from 1 to {high:,} is wanted")
    return value

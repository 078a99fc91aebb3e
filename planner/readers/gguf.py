"""GGUF headers: metadata and tensor table, by a parser of our own that allocates nothing a file merely claims.

Layout (ggml docs/gguf.md, version 3): magic "GGUF", version u32, tensor count u64, metadata count u64; the
metadata as (key, type, value); the tensors as (name, axes u32, axis u64 each, type u32, offset u64); padding;
the data. Counts, lengths, types, shapes and offsets are held against the size of the file and against each
other before anything is kept; texts and lists that are not asked for (tokenizers) are stepped over.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from struct import Struct
from typing import Any

from planner.dtypes.ggml import TENSOR_TYPES
from planner.errors import BadConfig, one_line
from planner.frozen import dataclass
from planner.readers.sources import LocalFile, Source
from planner.units import MAX_BYTES

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MAX_PAIRS = 65_536
MAX_TENSORS = 250_000
MAX_KEY = 1024
MAX_TEXT = 4096  # of a value that is kept
MAX_LIST = 10_000  # of a list that is kept
MAX_TEXTS = 4_000_000  # stepped over in one file; the largest vocabularies and their merges are under a million
MAX_AXES = 4  # GGML_MAX_DIMS
MAX_NAME = 256
MAX_FILES = 4096
MAX_HEADER_BYTES = 512 << 20  # a vocabulary of a million long words stays below 64 MiB
CHUNK = 1 << 18

_TEXT, _LIST, _BOOL = 8, 9, 7
_NUMBERS = {0: Struct("<B"), 1: Struct("<b"), 2: Struct("<H"), 3: Struct("<h"), 4: Struct("<I"), 5: Struct("<i"),
            6: Struct("<f"), 7: Struct("<B"), 10: Struct("<Q"), 11: Struct("<q"), 12: Struct("<d")}  # fmt: skip
_U32, _U64 = Struct("<I"), Struct("<Q")


@dataclass(frozen=True)
class GgufTensor:
    """One tensor: `shape` as ggml has it, the innermost axis first."""

    name: str
    type: str
    shape: tuple[int, ...]
    bytes: int
    elements: int


@dataclass(frozen=True)
class GgufFile:
    """What one file says: short values of its metadata (long texts and lists are left out), and its tensors."""

    metadata: Mapping[str, Any]
    tensors: tuple[GgufTensor, ...]
    file_bytes: int
    files: int = 1


class _Cursor:
    """Reads forward through a source in pieces of `CHUNK`, never past the end or the bound."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.end = min(source.size, MAX_HEADER_BYTES)
        self.base = self.at = 0  # of `held` in the file; inside `held`
        self.held = b""
        self.texts = 0

    @property
    def position(self) -> int:
        return self.base + self.at

    def take(self, count: int) -> bytes:
        """The next `count` bytes (a piece at most); the caller has bounded `count`."""
        if self.at + count > len(self.held):
            start = self.position
            if count > self.end - start:
                raise self.wrong("is cut short, or its header longer than any")
            self.held = self.source.read(start, min(max(count, CHUNK), self.end - start))
            self.base, self.at = start, 0
        piece = self.held[self.at : self.at + count]
        self.at += count
        return piece

    def skip(self, count: int) -> None:
        if count > self.end - self.position:
            raise self.wrong("is cut short, or its header longer than any")
        self.at += count
        if self.at > len(self.held):
            self.base, self.at, self.held = self.position, 0, b""

    def u32(self) -> int:
        value: int = _U32.unpack(self.take(4))[0]
        return value

    def u64(self) -> int:
        value: int = _U64.unpack(self.take(8))[0]
        return value

    def skip_texts(self, count: int) -> None:
        """`count` texts, each with its length; a vocabulary has hundreds of thousands."""
        if 8 * count > self.end - self.position:
            raise self.wrong(f"claims a list of {count:,} texts, more than it could hold")
        self.texts += count
        if self.texts > MAX_TEXTS:
            raise self.wrong(f"claims lists of {self.texts:,} texts; {MAX_TEXTS:,} at most are stepped over")
        for _ in range(count):
            at = self.at
            if at + 8 <= len(self.held):
                length = int.from_bytes(self.held[at : at + 8], "little")
                self.at = at + 8
            else:
                length = self.u64()
            if self.at + length <= len(self.held):
                self.at += length
            else:
                self.skip(length)

    def text(self, limit: int, what: str) -> str:
        length = self.u64()
        if length > limit:
            raise self.wrong(f"has a {what} of {length:,} bytes; {limit:,} at most")
        return self.take(length).decode("utf-8", "replace")

    def wrong(self, words: str) -> BadConfig:
        return BadConfig(f"{self.source.name} {words}")


def read_gguf_file(source: Source) -> GgufFile:
    """Reads metadata and tensor table of one file, and checks every figure."""
    cursor = _Cursor(source)
    if source.size < 24 or (magic := cursor.take(4)) != MAGIC:
        shown = "" if source.size < 24 else f" (it begins with {one_line(repr(magic), 20)})"
        raise cursor.wrong(f"is not a GGUF file{shown}")
    version = cursor.u32()
    if version not in VERSIONS:
        turned = version in (1 << 24, 2 << 24, 3 << 24)
        raise cursor.wrong(
            "is big-endian, which is not read" if turned else f"is GGUF version {version}; 2 and 3 are read"
        )
    tensor_count, pairs = cursor.u64(), cursor.u64()
    if pairs > MAX_PAIRS or tensor_count > MAX_TENSORS:
        raise cursor.wrong(
            f"claims {tensor_count:,} tensors and {pairs:,} metadata; at most {MAX_TENSORS:,} and {MAX_PAIRS:,} are read"
        )
    if pairs * 13 + tensor_count * 33 > source.size:
        raise cursor.wrong(
            f"claims {tensor_count:,} tensors and {pairs:,} metadata, more than its {source.size:,} bytes hold"
        )
    metadata = _metadata(cursor, pairs)
    tensors = _tensors(cursor, tensor_count, _alignment(cursor, metadata))
    return GgufFile(metadata, tensors, source.size)


def _metadata(cursor: _Cursor, pairs: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for _ in range(pairs):
        key = cursor.text(MAX_KEY, "metadata key")
        if key in found:
            raise cursor.wrong(f"has the metadata key {one_line(key, 60)!r} twice")
        value = _value(cursor, cursor.u32(), key)
        found[key] = value
    return {key: value for key, value in found.items() if value is not None}


def _value(cursor: _Cursor, kind: int, key: str) -> Any:
    """A number, a short text or a short list of numbers; None for what is stepped over."""
    if kind in _NUMBERS:
        number = _NUMBERS[kind]
        value = number.unpack(cursor.take(number.size))[0]
        return bool(value) if kind == _BOOL else value
    if kind == _TEXT:
        length = cursor.u64()
        if length > MAX_TEXT:
            cursor.skip(length)
            return None
        return cursor.take(length).decode("utf-8", "replace")
    if kind == _LIST:
        return _list(cursor, cursor.u32(), cursor.u64(), key=key)
    raise cursor.wrong(f"has a value of type {kind} at {one_line(key, 60)!r}, which GGUF does not have")


def _list(cursor: _Cursor, kind: int, count: int, *, key: str) -> list[Any] | None:
    if kind == _TEXT:
        cursor.skip_texts(count)
        return None
    if kind not in _NUMBERS:
        raise cursor.wrong(f"has a list of type {kind} at {one_line(key, 60)!r}; lists of numbers and texts are read")
    number = _NUMBERS[kind]
    if count > MAX_LIST or key.startswith("tokenizer."):
        cursor.skip(count * number.size)
        return None
    size = number.size * count
    if size > cursor.end - cursor.position:
        raise cursor.wrong(f"claims a list of {count:,} numbers at {one_line(key, 60)!r}, more than it could hold")
    values = [value for (value,) in number.iter_unpack(cursor.take(size))]
    return [bool(value) for value in values] if kind == _BOOL else values


def _alignment(cursor: _Cursor, metadata: Mapping[str, Any]) -> int:
    value = metadata.get("general.alignment", 32)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 1 << 20 or value & (value - 1):
        raise cursor.wrong(f"has the alignment {one_line(repr(value), 30)}; a power of two is wanted")
    return value


def _tensors(cursor: _Cursor, count: int, alignment: int) -> tuple[GgufTensor, ...]:
    found: dict[str, GgufTensor] = {}
    spans: list[tuple[int, int, str]] = []
    for _ in range(count):
        tensor, offset = _tensor(cursor)
        if tensor.name in found:
            raise cursor.wrong(f"has the tensor {one_line(tensor.name, 80)!r} twice")
        if offset % alignment:
            raise cursor.wrong(
                f"puts the tensor {one_line(tensor.name, 80)!r} at {offset:,}, not a multiple of {alignment}"
            )
        found[tensor.name] = tensor
        spans.append((offset, offset + tensor.bytes, tensor.name))
    start = -(-cursor.position // alignment) * alignment
    at = 0
    for begin, end, name in sorted(spans):
        if begin < at:
            raise cursor.wrong(f"puts the tensor {one_line(name, 80)!r} over the one before it")
        at = end
    if spans and start + at > cursor.source.size:
        raise cursor.wrong(f"is cut short: its header describes {start + at:,} bytes and it has {cursor.source.size:,}")
    return tuple(found.values())


def _tensor(cursor: _Cursor) -> tuple[GgufTensor, int]:
    name = cursor.text(MAX_NAME, "tensor name")
    axes = cursor.u32()
    if not 1 <= axes <= MAX_AXES:
        raise cursor.wrong(f"gives the tensor {one_line(name, 80)!r} {axes} axes; 1 to {MAX_AXES} are possible")
    shape = tuple(cursor.u64() for _ in range(axes))
    kind, offset = cursor.u32(), cursor.u64()
    if kind not in TENSOR_TYPES:
        raise cursor.wrong(f"gives the tensor {one_line(name, 80)!r} the type {kind}, which kvplan does not know")
    type_name, block, block_bytes, row_bytes = TENSOR_TYPES[kind]
    elements = 1
    for axis in shape:
        elements *= axis
        if not 1 <= elements <= MAX_BYTES:
            raise cursor.wrong(f"gives the tensor {one_line(name, 80)!r} a shape of nothing, or beyond any memory")
    if shape[0] % block:
        raise cursor.wrong(
            f"gives the tensor {one_line(name, 80)!r} rows of {shape[0]:,}, not a multiple of {type_name}'s {block}"
        )
    if offset > MAX_BYTES:
        raise cursor.wrong(f"puts the tensor {one_line(name, 80)!r} beyond any file")
    size = elements // block * block_bytes + elements // shape[0] * row_bytes
    return GgufTensor(name, type_name, shape, size, elements), offset


# -- split files -------------------------------------------------------------------------------------------

_PART = re.compile(r"^(.*)-(\d{5})-of-(\d{5})\.gguf$", re.IGNORECASE)


def part_names(name: str) -> list[str]:
    """Lists the files of the set that a file's name puts it in; the file itself where it is whole.

    >>> part_names("m-00002-of-00002.gguf")
    ['m-00001-of-00002.gguf', 'm-00002-of-00002.gguf']
    """
    match = _PART.match(name)
    if match is None:
        return [name]
    count = int(match.group(3))
    if not 1 <= count <= MAX_FILES:
        raise BadConfig(f"{one_line(name, 80)} is one of {count:,} files; 1 to {MAX_FILES:,} are possible")
    return [f"{match.group(1)}-{part:05d}-of-{count:05d}.gguf" for part in range(1, count + 1)]


def read_parts(path: str) -> GgufFile:
    """Reads a file, with its fellows where it is one of a split set."""
    folder, name = os.path.split(path)
    return join_parts([read_gguf_file(LocalFile.open(os.path.join(folder, part))) for part in part_names(name)], name)


def join_parts(parts: Sequence[GgufFile], shown: str) -> GgufFile:
    """Joins the parts of one model: metadata of the first, tensors of all."""
    first = parts[0]
    stated = first.metadata.get("split.count", 1)
    if isinstance(stated, int) and stated > 1 and stated != len(parts):
        raise BadConfig(f"{one_line(shown, 80)} is one of {stated} parts by its metadata; {len(parts)} by its name")
    tensors: dict[str, GgufTensor] = {}
    for part in parts:
        for tensor in part.tensors:
            if tensor.name in tensors:
                raise BadConfig(f"{one_line(shown, 80)}: tensor {one_line(tensor.name, 80)!r} is in two parts")
            tensors[tensor.name] = tensor
    total = first.metadata.get("split.tensors.count")
    if isinstance(total, int) and len(parts) > 1 and total != len(tensors):
        raise BadConfig(f"{one_line(shown, 80)}: its parts hold {len(tensors):,} tensors, the first says {total:,}")
    return GgufFile(first.metadata, tuple(tensors.values()), sum(part.file_bytes for part in parts), len(parts))

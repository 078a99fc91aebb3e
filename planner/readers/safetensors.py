"""safetensors headers -> what is stored: exact bytes by dtype and part, without reading a weight.

A file is 8 bytes of header length, a JSON header, and the data. Nothing in a header is trusted: its length,
depth and number of entries are bounded before it is parsed, every dtype, shape and offset is checked against
the others and against the size of the file. Source: huggingface/safetensors, README "Format".
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from planner.errors import BadConfig, one_line
from planner.model.stored import StoredTensor, StoredWeights, gather
from planner.readers.sources import LocalFile, Source
from planner.units import MAX_BYTES, ceil_div

MAX_HEADER_BYTES = 32 << 20  # the format allows 100 MB; the largest published headers are a few MB
MAX_TENSORS = 250_000
MAX_AXES = 16
MAX_NAME = 1024
MAX_FILES = 4096
INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"

# Bits of one number. Source: safetensors 0.8 Dtype.
DTYPE_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "I16": 16, "U16": 16, "I32": 32, "U32": 32, "I64": 64, "U64": 64,
    "F16": 16, "BF16": 16, "F32": 32, "F64": 64, "C64": 64,
    "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4,
}  # fmt: skip


@dataclass(frozen=True)
class RawTensor:
    """One entry of a header, checked."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    bytes: int

    @property
    def elements(self) -> int:
        count = 1
        for axis in self.shape:
            count *= axis
        return count


# -- one file ----------------------------------------------------------------------------------------------


def read_header(source: Source) -> list[RawTensor]:
    """Reads the tensors of one file, and checks every figure."""
    if source.size < 8:
        raise BadConfig(
            f"{source.name} has {source.size} bytes; a safetensors file begins with the length of its header"
        )
    length = int.from_bytes(source.read(0, 8), "little")
    if not 2 <= length <= min(MAX_HEADER_BYTES, source.size - 8):
        raise BadConfig(
            f"{source.name} gives its header {length:,} bytes; at most {min(MAX_HEADER_BYTES, source.size - 8):,} are possible: "
            "is it a safetensors file, and whole?"
        )
    header = source.read(8, length)
    return parse_header(header, source.size - 8 - length, source.name)


def parse_header(header: bytes, data_bytes: int, shown: str) -> list[RawTensor]:
    """Reads the tensors that a header describes; together they fill the data exactly, without gap or overlap."""
    if header.count(b"{") > MAX_TENSORS + 2 or header.count(b",") > 8 * MAX_TENSORS:
        raise BadConfig(f"{shown}: its header has more than {MAX_TENSORS:,} entries")
    raw = _json_object(header, shown)
    spans: list[tuple[int, int, str]] = []
    tensors = []
    for name, entry in raw.items():
        if name == "__metadata__":
            continue
        tensor, begin = _tensor(name, entry, shown)
        spans.append((begin, begin + tensor.bytes, name))
        tensors.append(tensor)
    _check_spans(spans, data_bytes, shown)
    return tensors


def _json_object(data: bytes, shown: str) -> dict[str, Any]:
    try:
        raw = json.loads(data.decode("utf-8"), object_pairs_hook=_unique)
    except UnicodeDecodeError:
        raise BadConfig(f"{shown}: its header is not text") from None
    except RecursionError:
        raise BadConfig(f"{shown}: its header is nested too deep") from None
    except ValueError as error:
        raise BadConfig(f"{shown}: its header is not JSON: {one_line(str(error), 80)}") from None
    if not isinstance(raw, dict):
        raise BadConfig(f"{shown}: its header is not a JSON object")
    return raw


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return found


def _tensor(name: str, entry: Any, shown: str) -> tuple[RawTensor, int]:
    """(the tensor, where its data begins)."""
    what = f"{shown}: tensor {one_line(name, 80)!r}"
    if len(name) > MAX_NAME or not name:
        raise BadConfig(f"{what} has a name of {len(name):,} letters; 1 to {MAX_NAME:,} are possible")
    if not isinstance(entry, dict):
        raise BadConfig(f"{what} is no object with dtype, shape and data_offsets")
    dtype, shape, offsets = (
        entry.get("dtype"),
        _whole_numbers(entry.get("shape")),
        _whole_numbers(entry.get("data_offsets")),
    )
    bits = DTYPE_BITS.get(dtype) if isinstance(dtype, str) else None
    if bits is None:
        raise BadConfig(
            f"{what} has the dtype {one_line(repr(dtype), 40)}, which kvplan does not know; known: {', '.join(DTYPE_BITS)}"
        )
    if shape is None or len(shape) > MAX_AXES:
        raise BadConfig(f"{what} has no shape of at most {MAX_AXES} whole numbers")
    if offsets is None or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise BadConfig(f"{what} has no two data_offsets, the first below the second")
    elements = 1
    for axis in shape:
        elements *= axis
        if elements > MAX_BYTES:
            raise BadConfig(f"{what} has a shape beyond any memory")
    size = offsets[1] - offsets[0]
    if size != ceil_div(elements * bits, 8):
        raise BadConfig(f"{what} spans {size:,} bytes; {dtype} {list(shape)} needs {ceil_div(elements * bits, 8):,}")
    assert isinstance(dtype, str)
    return RawTensor(name, dtype, tuple(shape), size), offsets[0]


def _whole_numbers(values: Any) -> list[int] | None:
    """A list of whole numbers that a file could hold; None for anything else."""
    if not isinstance(values, list):
        return None
    fine = all(isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_BYTES for value in values)
    return values if fine else None


def _check_spans(spans: list[tuple[int, int, str]], data_bytes: int, shown: str) -> None:
    """The format wants the data filled from its first byte to its last."""
    at = 0
    for begin, end, name in sorted(spans):
        if begin != at:
            word = "overlaps the one before it" if begin < at else "leaves a gap before it"
            raise BadConfig(f"{shown}: tensor {one_line(name, 80)!r} {word} (begins at {begin:,}, {at:,} is wanted)")
        at = end
    if at != data_bytes:
        word = "cut short" if at > data_bytes else "followed by something else"
        raise BadConfig(f"{shown} is {word}: its header describes {at:,} bytes of data and {data_bytes:,} are there")


# -- packed numbers ----------------------------------------------------------------------------------------

_SCALE = re.compile(
    r"(scales?|weight_scale(_inv|_2)?|input_scale|input_activation_scale|[kvqp](_proj\.output)?_scale|scale_inv|qzeros|g_idx|"
    r"weight_zero_point|zero_point|weight_shape|weight_g_idx|weight_global_scale|input_global_scale|absmax|quant_map|nested_absmax|"
    r"nested_quant_map|quant_state\.\w+|SCB|weight_format|_scales|scale_ub|smooth_factor)$"
)
_NO_WEIGHTS = frozenset({"BOOL", "I16", "U16", "I64", "U64", "F8_E8M0"})  # masks, counters, block scales
_WORD_BITS = {"I32": 32, "U32": 32, "U8": 8, "I8": 8}


def unpacked(
    tensors: Sequence[RawTensor], quantization: Mapping[str, Any] | None = None
) -> tuple[list[StoredTensor], bool]:
    """Returns the tensors with the numbers each stands for, and whether some packing is not understood.

    Scales, zero points and index tables stand for none. Packed are: GPTQ and AWQ `qweight` (32 / bits numbers
    an int32), compressed-tensors `weight_packed`, bitsandbytes and ModelOpt 4-bit `weight` in bytes (two a
    byte, with `absmax` or a scale beside it), gpt-oss `_blocks` (two a byte).
    """
    names = {tensor.name for tensor in tensors}
    bits = _bits(quantization)
    found, unclear = [], False
    for tensor in tensors:
        count: int | None = tensor.elements
        if _SCALE.search(tensor.name) or tensor.dtype in _NO_WEIGHTS:
            count = 0
        elif tensor.dtype in _WORD_BITS:
            count = _packed(tensor, names, bits)
        unclear = unclear or count is None
        found.append(StoredTensor(tensor.name, tensor.dtype, tensor.shape, tensor.bytes, count or 0))
    return found, unclear


def _bits(quantization: Mapping[str, Any] | None) -> int:
    """Bits of one packed number, as quantization_config says; 4 where it says nothing."""
    config: Any = quantization or {}
    groups = config.get("config_groups")
    first = next(iter(groups.values()), None) if isinstance(groups, Mapping) and groups else None
    weights = first.get("weights") if isinstance(first, Mapping) else None
    for section, key in ((weights, "num_bits"), (config, "bits"), (config, "w_bit")):
        value = section.get(key) if isinstance(section, Mapping) else None
        if value in (2, 3, 4, 8):
            return int(value)
    return 4


def _packed(tensor: RawTensor, names: set[str], bits: int) -> int | None:
    """Numbers in a tensor of whole words; None where it is not clear what they are."""
    word, name = _WORD_BITS[tensor.dtype], tensor.name
    if name.endswith((".qweight", ".weight_packed")):
        return tensor.elements * word // (4 if word == 8 else bits)
    if tensor.dtype == "U8" and (name.endswith("_blocks") or f"{name}.absmax" in names or f"{name}_scale" in names):
        return tensor.elements * 2
    if tensor.dtype == "I8" and (f"{name}_scale" in names or name.removesuffix("weight") + "SCB" in names):
        return tensor.elements
    return 0 if not name.endswith("weight") and len(tensor.shape) < 2 else None


# -- a checkpoint ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Checkpoint:
    """All tensors of a checkpoint, and what was odd about its files."""

    tensors: tuple[RawTensor, ...]
    files: int
    file_bytes: int
    warnings: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        return f"{self.files} safetensors file{'s' if self.files != 1 else ''}"

    def stored(self, quantization: Mapping[str, Any] | None = None, layers: int | None = None) -> StoredWeights:
        tensors, packed = unpacked(self.tensors, quantization)
        return gather(tensors, source=self.words, file_bytes=self.file_bytes, layers=layers, packed=packed)


def read_folder(folder: str, index: str = INDEX) -> Checkpoint | None:
    """Reads the checkpoint in a folder: its index, else model.safetensors, else all of one numbered set; None without
    one.
    """
    listed = os.path.join(folder, index)
    if os.path.isfile(listed):
        raw = LocalFile.open(listed)
        _bound_index(raw.size, raw.name)
        return read_index(raw.read(0, raw.size), raw.name, lambda name: LocalFile.open(os.path.join(folder, name)))
    names = _candidates(folder)
    if SINGLE in names:
        names = [SINGLE]
    if not names:
        return None
    if len(names) > 1 and not _numbered_set(names):
        raise BadConfig(
            f"{one_line(folder, 80)} holds {len(names)} safetensors files and no {INDEX}: name one of them, "
            f"or the config.json: {one_line(', '.join(names[:4]), 120)}"
        )
    return read_files([LocalFile.open(os.path.join(folder, name)) for name in names])


def _candidates(folder: str) -> list[str]:
    """safetensors files of a folder that are not adapters."""
    try:
        with os.scandir(folder) as items:
            names = [item.name for item in items if item.name.endswith(".safetensors") and item.is_file()]
    except OSError as error:
        raise BadConfig(f"{one_line(folder, 80)} cannot be read: {error.strerror}") from None
    if len(names) > MAX_FILES:
        raise BadConfig(f"{one_line(folder, 80)} holds more than {MAX_FILES:,} safetensors files")
    return sorted(name for name in names if not name.startswith("adapter"))


_NUMBERED = re.compile(r"^(.*)-(\d{5})-of-(\d{5})\.safetensors$")


def _numbered_set(names: Iterable[str]) -> bool:
    """Whether these are all files of one set: x-00001-of-00003.safetensors and its two fellows."""
    found = [_NUMBERED.match(name) for name in names]
    sets = {(match.group(1), int(match.group(3))) for match in found if match}
    if None in found or len(sets) != 1:
        return False
    ((_, count),) = sets
    return {int(match.group(2)) for match in found if match} == set(range(1, count + 1))


def read_files(sources: Sequence[Source]) -> Checkpoint:
    """Reads some files together; a tensor that stands in two of them is an error."""
    tensors: dict[str, RawTensor] = {}
    for source in sources:
        for tensor in read_header(source):
            if tensor.name in tensors:
                raise BadConfig(f"{source.name}: tensor {one_line(tensor.name, 80)!r} is in another file as well")
            tensors[tensor.name] = tensor
        if len(tensors) > MAX_TENSORS:
            raise BadConfig(f"{source.name}: more than {MAX_TENSORS:,} tensors together")
    return Checkpoint(tuple(tensors.values()), len(sources), sum(source.size for source in sources))


def _bound_index(size: int, shown: str) -> None:
    if size > MAX_HEADER_BYTES:
        raise BadConfig(f"{shown} has {size:,} bytes; an index has at most {MAX_HEADER_BYTES:,}")


def read_index(data: bytes, shown: str, open_file: Callable[[str], Source]) -> Checkpoint:
    """Reads the files that an index names, and checks what it says against what they hold."""
    _bound_index(len(data), shown)
    if data.count(b",") > 2 * MAX_TENSORS or data.count(b"{") > 1000:
        raise BadConfig(f"{shown}: an index of more than {MAX_TENSORS:,} tensors")
    raw = _json_object(data, shown)
    where = raw.get("weight_map")
    if not isinstance(where, dict) or not where or not all(isinstance(name, str) for name in where.values()):
        raise BadConfig(f"{shown}: no weight_map of tensors to files")
    names = sorted(set(where.values()))
    if len(names) > MAX_FILES:
        raise BadConfig(f"{shown} names {len(names):,} files; {MAX_FILES:,} at most")
    for name in names:
        if not name.endswith(".safetensors") or name != os.path.basename(name) or "\\" in name or "\0" in name:
            raise BadConfig(f"{shown} names {one_line(repr(name), 80)}, which is no safetensors file of its folder")
    found = read_files([open_file(name) for name in names])
    return Checkpoint(found.tensors, found.files, found.file_bytes, _index_warnings(raw, found))


def _index_warnings(raw: Mapping[str, Any], found: Checkpoint) -> tuple[str, ...]:
    where: Mapping[str, str] = raw["weight_map"]
    here = {tensor.name for tensor in found.tensors}
    warnings = []
    missing = [name for name in where if name not in here]
    if missing:
        warnings.append(
            f"the index names {len(missing):,} tensors that its files do not hold, for example {one_line(missing[0], 80)}"
        )
    metadata = raw.get("metadata")
    total = metadata.get("total_size") if isinstance(metadata, dict) else None
    size = sum(tensor.bytes for tensor in found.tensors)
    if isinstance(total, int) and total != size:
        warnings.append(f"the index gives {total:,} bytes, the headers {size:,}; the headers are taken")
    return tuple(warnings)


def read_path(path: str) -> Checkpoint:
    """Reads one file, with its fellows where an index or a numbered set beside it names it."""
    folder, name = os.path.split(os.path.abspath(path))
    index = os.path.join(folder, INDEX)
    if os.path.isfile(index):
        raw = LocalFile.open(index)
        _bound_index(raw.size, raw.name)
        if json.dumps(name).encode() in raw.read(0, raw.size):
            found = read_folder(folder)
            assert found is not None
            return found
    match = _NUMBERED.match(name)
    if match is None:
        return read_files([LocalFile.open(path)])
    count = int(match.group(3))
    if not 1 <= count <= MAX_FILES:
        raise BadConfig(f"{one_line(name, 80)} is one of {count:,} files; {MAX_FILES:,} at most")
    parts = [f"{match.group(1)}-{part:05d}-of-{count:05d}.safetensors" for part in range(1, count + 1)]
    return read_files([LocalFile.open(os.path.join(folder, part)) for part in parts])

"""A folder or file of weights beside its config -> ModelSpec with what is stored, and where the two disagree."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from planner.errors import BadConfig, one_line
from planner.model.parameters import all_weights, parameters
from planner.model.spec import ModelSpec
from planner.model.stored import BUFFER, MTP, StoredWeights
from planner.model.weights import TOWERS
from planner.readers.huggingface import read_file
from planner.readers.safetensors import Checkpoint, read_folder, read_path
from planner.units import human_bytes

CONFIG = "config.json"


def read_checkpoint(path: str, assume_full: bool = False) -> ModelSpec:
    """Reads the model in a folder (a config.json, with or without safetensors; or GGUF), or in one weights file."""
    if path.lower().endswith(".gguf"):
        from planner.readers.gguf_models import read_gguf

        return read_gguf(path)
    if os.path.isdir(path):
        return _from_folder(path, assume_full)
    found = read_path(path)
    config = os.path.join(os.path.dirname(os.path.abspath(path)), CONFIG)
    if not os.path.isfile(config):
        size = sum(tensor.bytes for tensor in found.tensors)
        raise BadConfig(
            f"{one_line(path, 80)} holds {len(found.tensors):,} tensors of {size:,} bytes ({human_bytes(size)}), but no "
            f"{CONFIG} lies beside it; the config says what is cached: put it there"
        )
    return attach(read_file(config, assume_full), found)


def _from_folder(folder: str, assume_full: bool) -> ModelSpec:
    if not os.path.isfile(os.path.join(folder, CONFIG)):
        ggufs = sorted(name for name in _names(folder) if name.lower().endswith(".gguf"))
        if ggufs:
            from planner.readers.gguf_models import read_gguf_folder

            return read_gguf_folder(folder, ggufs)
        return read_file(folder, assume_full)  # which says that there is no config.json
    spec = read_file(folder, assume_full)
    try:
        found = read_folder(folder)
    except BadConfig as error:
        return replace(
            spec,
            warnings=(*spec.warnings, f"the weights beside the config are not read, so the config decides: {error}"),
        )
    return spec if found is None else attach(spec, found)


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError as error:
        raise BadConfig(f"{one_line(folder, 80)} cannot be read: {error.strerror}") from None


def attach(spec: ModelSpec, found: Checkpoint) -> ModelSpec:
    """Adds what is stored to a spec, with a warning for each contradiction between config and headers."""
    stored = found.stored(spec.quantization, len(spec.layers) if _predicts_more(spec.config) else None)
    shapes = {tensor.name: tensor.shape for tensor in found.tensors}
    warnings = [*spec.warnings, *found.warnings, *contradictions(spec, stored, shapes)]
    if stored.bytes_of(MTP):
        warnings.append(
            f"{human_bytes(stored.bytes_of(MTP))} of multi-token-prediction layers are stored; not counted as loaded"
        )
    return replace(spec, stored=stored, warnings=tuple(warnings))


def _predicts_more(config: Mapping[str, Any]) -> bool:
    """Whether layers behind the last one predict further tokens (DeepSeek, GLM, MiMo)."""
    sections = (config, *(value for value in config.values() if isinstance(value, Mapping)))
    keys = ("num_nextn_predict_layers", "num_mtp_modules", "num_mtp_layers", "mtp_num_hidden_layers")
    return any(isinstance(section.get(key), int) and section[key] > 0 for section in sections for key in keys)


# -- config against headers --------------------------------------------------------------------------------

_EMBEDDING = ("embed_tokens.weight", "wte.weight", "word_embeddings.weight", "tok_embeddings.weight", "embed_in.weight")


def contradictions(spec: ModelSpec, stored: StoredWeights, shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    """Lists where config and headers cannot both be right, each with both numbers."""
    if spec.upper_bound or not spec.weights_known:
        return []
    lines = _depth(spec, stored)
    lines += _table(spec, shapes)
    if not lines and not stored.packed:
        lines += _count(spec, stored)
    return lines


def _depth(spec: ModelSpec, stored: StoredWeights) -> list[str]:
    held = len(stored.layer_bytes)
    if not held or spec.encoder or held == len(spec.layers):
        return []
    return [
        f"contradiction: the headers hold {held} layers, the config gives {len(spec.layers)}; the cache is the config's"
    ]


def _table(spec: ModelSpec, shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    """The embedding table against vocab_size and hidden_size."""
    if not spec.before:
        return []
    wanted = (spec.before[0].rows, spec.before[0].cols)
    for name, shape in shapes.items():
        if name.endswith(_EMBEDDING) and len(shape) == 2 and "per_layer" not in name and not _side(name):
            if shape != wanted:
                return [
                    f"contradiction: {one_line(name, 80)} is {shape[0]:,} x {shape[1]:,} in the headers, the config "
                    f"gives {wanted[0]:,} x {wanted[1]:,}"
                ]
            return []
    return []


def _side(name: str) -> bool:
    return any(word in name for word in ("vision", "visual", "audio", "mtp", "encoder", "decoder"))


def _count(spec: ModelSpec, stored: StoredWeights) -> list[str]:
    """Totals, after what is known to be stored or left out besides."""
    ours, theirs = parameters(spec), stored.parameters
    whole = _parameters_by_part(spec)
    head = stored.parameters_of("lm_head") if spec.tied and not whole.get("lm_head") else 0
    towers = sum(whole.get(part, 0) for part in TOWERS) if not any(stored.parameters_of(part) for part in TOWERS) else 0
    router = max(
        0, stored.parameters_of("router") - whole.get("router", 0)
    )  # correction biases: buffers to transformers
    if any(theirs - extra == ours - fewer for extra in {0, head, router, head + router} for fewer in {0, towers}):
        return []
    named = _largest_difference(whole, stored)
    return [f"contradiction: the headers hold {theirs:,} parameters, the config describes {ours:,}{named}"]


def _parameters_by_part(spec: ModelSpec) -> dict[str, int]:
    sums: dict[str, int] = {}
    for weight, count in all_weights(spec):
        sums[weight.part] = sums.get(weight.part, 0) + weight.parameters * count
    return sums


def _largest_difference(whole: Mapping[str, int], stored: StoredWeights) -> str:
    parts = {part for part in (*whole, *stored.by_part) if part not in (MTP, BUFFER)}
    gaps = {part: stored.parameters_of(part) - whole.get(part, 0) for part in parts}
    part = max(sorted(gaps), key=lambda name: abs(gaps[name]), default="")
    if not part or not gaps[part]:
        return ""
    return f"; most of it in {part}: {stored.parameters_of(part):,} and {whole.get(part, 0):,}"

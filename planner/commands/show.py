"""`kvplan show`: a model's layers as groups, and the config field behind each."""

from __future__ import annotations

from typing import Any

import click

from planner.commands.click_options import Sectioned, with_flags
from planner.commands.pages.model_line import named
from planner.dtypes.kinds import CacheFormat
from planner.memory.estimate import SCHEMA_VERSION
from planner.memory.weight_plan import weight_plan
from planner.model.parameters import active_parameters, parameters, parameters_by_part
from planner.model.spec import Layer, ModelSpec
from planner.model.stored import StoredWeights
from planner.options.model import Output, output_of
from planner.options.show import FLAGS, show_asked
from planner.terminal.output import emit, to_csv, to_json
from planner.terminal.tables import dim, table, wrapped
from planner.units import human_bytes, human_count


@click.command(cls=Sectioned, name="show", epilog="\b\nExample: kvplan show gemma-3-27b")
@with_flags(FLAGS, model=True)
def command(**values: Any) -> None:
    """A model's layers as groups: cache kind, bytes a token, parameters, config fields behind each."""
    output, asked = output_of(values), show_asked(values)
    emit(_render(asked.spec, asked.fmt, output), output.path)


def describe(spec: ModelSpec, fmt: CacheFormat) -> dict[str, Any]:
    """Describes the model in base units: groups of equal layers, parameters by part, what was implied."""
    return {
        "schema_version": SCHEMA_VERSION,
        "model": spec.name,
        "read_as": spec.read_as.to_dict() if spec.read_as else None,
        "model_type": spec.model_type,
        "layers": len(spec.layers),
        "max_positions": spec.max_positions,
        "kv_dtype": fmt.name,
        "parameters": parameters(spec) if spec.weights_known else None,
        "active_parameters": active_parameters(spec) if spec.weights_known else None,
        "parameters_by_part": parameters_by_part(spec) if spec.weights_known else None,
        "weights": weight_plan(spec).words,
        "stored": None if spec.stored is None else spec.stored.to_dict(),
        "tied_embedding": spec.tied,
        "groups": [_group(spec, layer, count, fmt=fmt) for layer, count in spec.groups],
        "notes": list(spec.notes),
        "warnings": list(spec.warnings),
    }


def _group(spec: ModelSpec, layer: Layer, count: int, *, fmt: CacheFormat) -> dict[str, Any]:
    where = [i for i, other in enumerate(spec.layers) if other == layer]
    return {
        "layers": count,
        "indices": _ranges(where),
        "cache": [cache.kind for cache in layer.caches] or ["none"],
        "bytes_first_token": sum(cache.kv_bytes(1, 0, fmt) for cache in layer.caches),
        "window_tokens": _window(layer),
        "state_bytes": sum(cache.state_bytes(fmt) for cache in layer.caches),
        "parameters": sum(weight.parameters for weight in layer.weights) if spec.weights_known else None,
        "config_fields": list(layer.config_fields),
    }


def _window(layer: Layer) -> int | None:
    """The length at which the cache of a layer stops growing; None where it never does."""
    for cache in layer.caches:
        limit = getattr(cache, "window", getattr(cache, "chunk", None))
        if limit is not None:
            return int(limit)
    return None


def _ranges(indices: list[int]) -> str:
    """
    >>> _ranges([0, 1, 2, 5, 7, 8])
    '0-2, 5, 7-8'
    """
    runs: list[list[int]] = []
    for index in indices:
        if runs and index == runs[-1][-1] + 1:
            runs[-1].append(index)
        else:
            runs.append([index])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def _stored_lines(stored: StoredWeights) -> list[str]:
    """What the headers say: bytes by part and dtype, and of a layer."""
    rows = [
        [group.part, group.dtype, f"{group.tensors:,}", f"{group.parameters:,}", f"{group.bytes:,}"]
        for group in stored.groups
    ]
    lines = [table(["part", "dtype", "tensors", "parameters", "bytes stored"], rows, left=2)]
    lines.append(f"  together {stored.bytes:,} B = {human_bytes(stored.bytes)} in {stored.source}")
    layers = [size for size in stored.layer_bytes if size]
    if layers:
        least, most = min(layers), max(layers)
        span = human_bytes(most) if least == most else f"{human_bytes(least)} to {human_bytes(most)}"
        lines.append(f"  a layer {span}")
    return lines


def _render(spec: ModelSpec, fmt: CacheFormat, output: Output) -> str:
    found = describe(spec, fmt)
    if output.as_json:
        return to_json(found)
    if output.as_csv:
        return to_csv(found["groups"])
    counted = f", {human_count(found['parameters'])} parameters" if found["parameters"] else ""
    lines = [
        named(spec) + f"  {spec.model_type}, {len(spec.layers)} layers{counted}, KV in {fmt.name}",
        "",
    ]
    rows = []
    for group in found["groups"]:
        indices = group["indices"] if len(group["indices"]) <= 28 else group["indices"][:25] + "..."
        rows.append([str(group["layers"]), indices, " + ".join(group["cache"]), human_bytes(group["bytes_first_token"]),
                     human_bytes(group["state_bytes"]) if group["state_bytes"] else "-",
                     human_count(group["parameters"]) if group["parameters"] is not None else "-"])  # fmt: skip
    lines.append(table(["layers", "which", "keeps", "a token", "state", "parameters each"], rows, left=3))
    for group in found["groups"]:
        if group["config_fields"]:
            lines.append(dim(f"  {' + '.join(group['cache'])}: read from {', '.join(group['config_fields'])}"))
    if spec.stored is not None:
        lines += ["", *_stored_lines(spec.stored)]
    elif found["parameters_by_part"]:
        parts = found["parameters_by_part"]
        lines += ["", table(["part", "parameters"], [[name, f"{size:,}"] for name, size in parts.items()])]
    if found["parameters_by_part"]:
        lines.append(f"{found['weights']}" + ("; the head is the embedding (tied)" if spec.tied else ""))
    lines += [dim(f"  implied: {note}") for note in spec.notes]
    return wrapped("\n".join(lines + [f"  note: {warning}" for warning in spec.warnings]))

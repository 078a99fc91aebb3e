"""Exact parameter counts and weight bytes: sums over `Weight`, nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from planner.model.spec import Layer, ModelSpec
from planner.model.weights import Weight


def all_weights(spec: ModelSpec) -> Iterator[tuple[Weight, int]]:
    """Lists every weight with how many equal copies the model has; multi-token-prediction layers apart."""
    for weight in (*spec.before, *spec.after, *spec.encoder_extra, *spec.towers):
        yield weight, 1
    for layer, count in (*spec.groups, *counted(spec.encoder)):
        for weight in layer.weights:
            yield weight, count


def counted(layers: Iterable[Layer]) -> list[tuple[Layer, int]]:
    counts: dict[Layer, int] = {}
    for layer in layers:
        counts[layer] = counts.get(layer, 0) + 1
    return list(counts.items())


def parameters(spec: ModelSpec) -> int:
    """Counts all parameters, a tied head counted once, towers included, MTP layers not.

    >>> from planner.catalogue.entries import find_model
    >>> from planner.readers import read_entry
    >>> parameters(read_entry(find_model("gpt2")))
    124439808
    """
    return sum(weight.parameters * count for weight, count in all_weights(spec))


def active_parameters(spec: ModelSpec) -> int:
    """Counts the parameters that one token passes through: of the experts, only those the router picks."""
    return sum(weight.active_parameters * count for weight, count in all_weights(spec))


def parameters_by_part(spec: ModelSpec) -> dict[str, int]:
    """Counts parameters by part (embedding, lm_head, attention, mlp, experts, ...); `mtp` stands beside, uncounted."""
    parts: dict[str, int] = {}
    for weight, count in all_weights(spec):
        parts[weight.part] = parts.get(weight.part, 0) + weight.parameters * count
    if spec.mtp:
        parts["mtp (not counted)"] = sum(weight.parameters for weight in spec.mtp)
    return parts

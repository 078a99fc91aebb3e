"""The first line of a page where a model's name was read and is not the catalogue's own."""

from __future__ import annotations

from planner.model.spec import ModelSpec


def read_as(spec: ModelSpec) -> list[str]:
    """`read as qwen3.6-27b, weights fp8 (block 128)`, or nothing for a name of the catalogue."""
    return [] if spec.read_as is None else [spec.read_as.words]

"""Names the model on the first line of a page."""

from __future__ import annotations

from planner.model.spec import ModelSpec
from planner.terminal.tables import bold


def named(spec: ModelSpec) -> str:
    """Returns the model's name; for a name that was read, what it was read as: "read as qwen3.6-27b, weights fp8"."""
    return bold(spec.name if spec.read_as is None else spec.read_as.words)

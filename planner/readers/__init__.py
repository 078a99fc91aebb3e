"""Files and names -> ModelSpec."""

from __future__ import annotations

from planner.model.spec import ModelSpec
from planner.readers.huggingface import read_config, read_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from planner.catalogue.entries import ModelEntry

__all__ = ["read_config", "read_entry", "read_file"]


def read_entry(entry: ModelEntry, assume_full: bool = False) -> ModelSpec:
    """Builds the spec of a catalogue entry."""
    return read_config(entry.config, name=entry.name, where=entry.name, assume_full=assume_full)

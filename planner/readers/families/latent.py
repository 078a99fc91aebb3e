from __future__ import annotations

from planner.readers.types import Type

TYPES: dict[str, Type] = {}

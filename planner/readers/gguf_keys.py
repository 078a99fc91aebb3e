"""The metadata of a GGUF file's architecture, checked as it is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from planner.errors import BadConfig, one_line

MAX_WIDTH = 10**9


class Keys:
    """Metadata of one architecture, checked as it is read."""

    def __init__(self, metadata: Mapping[str, Any], shown: str) -> None:
        self.metadata, self.shown = metadata, shown
        arch = metadata.get("general.architecture")
        if not isinstance(arch, str) or not arch:
            raise BadConfig(f"{shown}: no general.architecture in its metadata")
        self.arch: str = arch

    def raw(self, key: str) -> Any:
        return self.metadata.get(f"{self.arch}.{key}")

    def number(self, key: str, default: int | None = None, *, low: int = 1, high: int = MAX_WIDTH) -> int:
        value = self.raw(key)
        if value is None:
            if default is None:
                raise BadConfig(f"{self.shown}: no {self.arch}.{key} in its metadata")
            return default
        return self._whole(key, value, low, high=high)

    def per_layer(self, key: str, layers: int, default: int | None = None, *, low: int = 0) -> list[int]:
        """A number for each layer: a list of at least so many, or one number for all."""
        value = self.raw(key)
        if not isinstance(value, list):
            return [self.number(key, default, low=low)] * layers
        if len(value) < layers:
            raise BadConfig(f"{self.shown}: {self.arch}.{key} has {len(value)} entries for {layers} layers")
        return [self._whole(key, item, low, high=MAX_WIDTH) for item in value[:layers]]

    def flags(self, key: str, layers: int) -> list[bool] | None:
        value = self.raw(key)
        if not isinstance(value, list):
            return None
        if len(value) < layers or not all(item in (0, 1) for item in value):
            raise BadConfig(f"{self.shown}: {self.arch}.{key} is no list of {layers} truth values")
        return [bool(item) for item in value[:layers]]

    def _whole(self, key: str, value: Any, low: int, *, high: int) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise BadConfig(
                f"{self.shown}: {self.arch}.{key} is {one_line(repr(value), 40)}; a whole number from {low:,} to {high:,} is wanted"
            )
        return value

"""A folder of case files: tables of measured rows, worked cases, configs. Any of them may be missing."""

from __future__ import annotations

import csv
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from planner.catalogue.entries import find_model
from planner.errors import KvplanError, one_line
from planner.model.spec import ModelSpec
from planner.readers import read_entry
from planner.readers.by_hand import by_hand
from planner.readers.huggingface import read_file

LARGEST_BYTES = 64 << 20
FILES = (
    "kv_cases.json", "parameters.csv", "cache_elements.csv", "engine_plain.csv", "engine_logs.csv",
    "llamacpp_memory.csv", "verified.json",
)  # fmt: skip


class Row(dict[str, str]):
    """A row of a table; a column that the file lacks is empty, as a recorded row leaves out what its log lacks."""

    def __missing__(self, column: str) -> str:
        return ""


class Cases:
    """The case files of one folder.

    Raises KvplanError, in words, for a file that cannot be read or is not what its name says.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def has(self, name: str) -> bool:
        return (self.folder / name).is_file()

    def rows(self, name: str) -> list[Row]:
        """The rows of a table, [] where there is no such file."""
        if not self.has(name):
            return []
        try:
            table = list(csv.DictReader(self._text(name).splitlines()))
        except csv.Error as error:
            raise self._wrong(name, str(error)) from None
        return [Row({key: value or "" for key, value in row.items() if key is not None}) for row in table]

    def record(self, name: str) -> dict[str, Any]:
        """An object in JSON, {} where there is no such file."""
        if not self.has(name):
            return {}
        try:
            found = json.loads(self._text(name))
        except (ValueError, RecursionError):
            raise self._wrong(name, "is not JSON") from None
        if not isinstance(found, dict):
            raise self._wrong(name, "is not a JSON object")
        return found

    def spec(self, name: str) -> ModelSpec:
        """A catalogue model, a config of this folder (configs/...), or layers x heads x head_dim."""
        return _spec(self.folder, name)

    def _text(self, name: str) -> str:
        path = self.folder / name
        try:
            if path.stat().st_size > LARGEST_BYTES:
                raise self._wrong(name, "is larger than 64 MiB")
            return path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise self._wrong(name, "is not UTF-8 text") from None
        except OSError as error:
            raise self._wrong(name, f"cannot be read: {error.strerror}") from None

    def _wrong(self, name: str, why: str) -> KvplanError:
        return KvplanError(f"{one_line(str(self.folder / name), 80)} {why}; give a case file of kvplan with --cases")


@lru_cache(maxsize=512)
def _spec(folder: Path, name: str) -> ModelSpec:
    if name.startswith("configs/"):
        return read_file(str(folder / name))
    if name.replace("x", "").isdigit():
        layers, heads, head_dim = map(int, name.split("x"))
        return by_hand({"layers": layers, "heads": heads, "head_dim": head_dim})
    return read_entry(find_model(name))

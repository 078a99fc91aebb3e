"""Reads what `kvplan accuracy` asks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from planner.errors import KvplanError, one_line
from planner.options.readers import switch, text
from planner.options.tables import Flag, read_values

FLAGS: tuple[Flag, ...] = (
    Flag("--cases", "DIR", "Folder of case files (default: tests/cases of the checkout that is run).", text, "Load"),
    Flag("--json", "", "JSON in base units, keys that stay.", switch, "Output"),
    Flag("--output", "FILE", "Write to FILE instead of the screen.", text, "Output"),
)
DEFAULT = Path(__file__).parent.parent.parent / "tests" / "cases"


@dataclass(frozen=True)
class AccuracyAsked:
    """The folder of the case files."""

    folder: Path


def accuracy_asked(values: Mapping[str, Any]) -> AccuracyAsked:
    """Reads the question of `accuracy` from its flags."""
    return AccuracyAsked(_folder(read_values(FLAGS, values)["cases"]))


def _folder(given: str | None) -> Path:
    if given is None:
        if not DEFAULT.is_dir():
            raise KvplanError(
                "the case files are not part of the installed package; give --cases DIR, the folder tests/cases of a checkout"
            )
        return DEFAULT
    try:
        folder = Path(given).expanduser()
        if folder.is_dir():
            return folder
    except (OSError, ValueError, RuntimeError):
        pass
    raise KvplanError(f"--cases {one_line(given, 80)!r} is not a folder; give one with case files, such as tests/cases")

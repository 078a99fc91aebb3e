"""Where an answer goes: the screen, or a file that is written whole or not at all."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any


def emit(text: str, path: str | None = None) -> None:
    """Print `text` (`-o -` too), or write it to `path` by way of a temporary name."""
    if not text.endswith("\n"):
        text += "\n"
    if path is None or path == "-":
        sys.stdout.write(text)
        return
    write_whole(path, text)


def write_whole(path: str, text: str, option: str = "-o") -> None:
    """Replace the file `path` by `text`; on any failure the old file stays as it was.

    A link keeps pointing where it did, and a file keeps its permissions. Devices and pipes are never replaced.
    """
    from planner.files.write import write_bytes  # most answers go to the screen

    write_bytes(path, text.encode("utf-8", "backslashreplace"), option)


def to_json(value: Any) -> str:
    """Writes JSON in ASCII alone: whatever a name holds, it reaches a terminal escaped."""
    import json

    return json.dumps(value, indent=2, allow_nan=False)


def to_csv(rows: Iterable[Mapping[str, Any]]) -> str:
    """Writes rows as CSV; nested objects become columns joined by a dot, lists are joined by a semicolon."""
    import csv
    import io

    cells = [{key: csv_cell(value) for key, value in flat(row)} for row in rows]
    columns = list(dict.fromkeys(key for row in cells for key in row))
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(cells)
    return out.getvalue()


def csv_cell(value: Any) -> Any:
    """Return a cell that no spreadsheet runs: a text that begins as a formula does gets an apostrophe before it.

    >>> csv_cell("=cmd|' /C calc'!A0"), csv_cell("-1.5"), csv_cell("-"), csv_cell(-1.5)
    ("'=cmd|' /C calc'!A0", '-1.5', '-', -1.5)
    """
    if not isinstance(value, str) or len(value) < 2 or value[0] not in "=+-@\t\r":
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value


def flat(row: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    """Flattens a row's cells: nested keys are joined by a dot, lists by a semicolon, and None is empty."""
    for key, value in row.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        elif isinstance(value, (list, tuple)):
            yield prefix + key, "; ".join(map(str, value))
        else:
            yield prefix + key, "" if value is None else value

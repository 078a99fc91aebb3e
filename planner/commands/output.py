"""Where an answer goes: the screen, or a file that is written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

import click

from planner.errors import KvplanError, one_line


def emit(text: str, path: str | None = None) -> None:
    """Print `text`, or write it to `path` by way of a temporary name."""
    if not text.endswith("\n"):
        text += "\n"
    if path is None:
        click.echo(text, nl=False)
        return
    write_whole(path, text)


def write_whole(path: str, text: str) -> None:
    """Replace the file `path` by `text`; on any failure the old file stays as it was."""
    import tempfile  # 4 ms, and most answers go to the screen

    shown = one_line(path, 80)
    if os.path.isdir(path):
        raise KvplanError(f"-o {shown} is a folder; the name of a file is wanted")
    folder = os.path.dirname(os.path.abspath(path))
    temporary = ""
    try:
        handle, temporary = tempfile.mkstemp(prefix=".kvplan-", dir=folder)
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        if temporary and os.path.exists(temporary):
            os.unlink(temporary)
        raise KvplanError(f"-o {shown} cannot be written: {error.strerror}; choose a file in a folder you may write to") from None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def to_json(value: Any) -> str:
    import json

    return json.dumps(value, indent=2, ensure_ascii=False)


def to_csv(rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows as CSV; nested objects become columns joined by a dot, lists are joined by a semicolon."""
    import csv
    import io

    flat = [dict(_flat(row)) for row in rows]
    columns = list(dict.fromkeys(key for row in flat for key in row))
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(flat)
    return out.getvalue()


def _flat(row: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in row.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif isinstance(value, (list, tuple)):
            yield prefix + key, "; ".join(map(str, value))
        else:
            yield prefix + key, "" if value is None else value

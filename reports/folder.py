"""The files of a report, and the folder they go to: written whole beside it, then put in its place."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import pandas as pd

from planner.errors import KvplanError, one_line
from planner.files.read import parse_json, read_text
from planner.files.write import replace_folder
from planner.terminal.output import csv_cell, to_json
from reports import html, markdown
from reports.blocks import Report, Table
from reports.cells import missing

KIND = "kvplan report"
MANIFEST = "report.json"
MANIFEST_BYTES = 4 << 20
SCHEMA_VERSION = 1


def files_of(report: Report) -> dict[str, bytes]:
    """Returns every file of the report by its path inside the folder, the manifest last."""
    found: dict[str, bytes] = dict(report.files)
    for picture in report.pictures:
        for ending, data in picture.files.items():
            found[f"figures/{picture.name}.{ending}"] = data
        found |= table_files(Table(picture.name, picture.title, picture.sees, picture.frame))
    for table in report.tables:
        found |= table_files(table)
    found["report.html"] = html.page(report).encode()
    found["report.md"] = markdown.page(report).encode()
    found[MANIFEST] = (manifest(report, sorted([*found, MANIFEST])) + "\n").encode()
    return found


def manifest(report: Report, names: list[str]) -> str:
    """Writes what the folder holds, for programs and for `--force`."""
    raw = {
        "kind": KIND,
        "schema_version": SCHEMA_VERSION,
        "title": report.title,
        "question": report.question,
        "answer": report.answer,
        "environment": dict(report.made),
        "figures": {
            picture.name: {"title": picture.title, "says": picture.sees, "alternative": picture.alt}
            for picture in report.pictures
        },
        "tables": {table.name: {"title": table.title, "says": table.sees} for table in report.tables},
        "files": names,
    }
    return to_json(raw)


def table_files(table: Table) -> dict[str, bytes]:
    """Writes a table as CSV and as JSON, base units under keys that stay."""
    records = json_rows(table.frame)
    raw = {
        "title": table.title,
        "says": table.sees,
        "columns": [str(name) for name in table.frame.columns],
        "rows": records,
    }
    return {
        f"tables/{table.name}.csv": csv_bytes(table.frame),
        f"tables/{table.name}.json": (to_json(raw) + "\n").encode(),
    }


def csv_bytes(frame: pd.DataFrame) -> bytes:
    """Return the frame as CSV; a text that a spreadsheet would run as a formula is quoted."""
    safe: bytes = frame.map(csv_cell).to_csv(index=False, lineterminator="\n").encode()
    return safe


def json_rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Turns rows into plain JSON values; what is missing is null."""
    return [
        {str(key): None if missing(value) else _plain(value) for key, value in row.items()}
        for row in frame.to_dict("records")
    ]


def _plain(value: Any) -> Any:
    """numpy's numbers as Python's, whole numbers whole."""
    value = value.item() if hasattr(value, "item") else value
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value


def check_target(path: str, force: bool) -> None:
    """Raises where a report may not be written to `path`; asked before anything long is done."""
    shown = one_line(path, 120)
    if not path or "\0" in path:
        raise KvplanError("-o wants the name of a folder; write for example -o my-report")
    target = os.path.realpath(os.path.expanduser(path))
    if not os.path.lexists(target):
        parent = _existing_parent(target)
        if not os.path.isdir(parent) or not os.access(parent, os.W_OK | os.X_OK):
            raise KvplanError(f"-o {shown} cannot be made: {one_line(parent, 80)} is not a folder you may write to")
        return
    if not os.path.isdir(target):
        raise KvplanError(f"-o {shown} is a file; a report is a folder")
    names = os.listdir(target)
    if not names:
        return
    if not force:
        raise KvplanError(f"-o {shown} exists; --force replaces the report in it, or choose another folder")
    if foreign := _foreign(target):
        raise KvplanError(f"-o {shown} holds {one_line(foreign, 60)}, which is not of a report; choose another folder")


def _existing_parent(path: str) -> str:
    parent = os.path.dirname(path)
    while not os.path.exists(parent) and parent != os.path.dirname(parent):
        parent = os.path.dirname(parent)
    return parent


def _foreign(folder: str) -> str | None:
    """A file in the folder that no report's manifest names; None where all are a report's own."""
    try:
        text = read_text(os.path.join(folder, MANIFEST), most_bytes=MANIFEST_BYTES, what="the manifest of a report")
        raw = parse_json(text, MANIFEST)
    except KvplanError:
        raw = None
    listed = raw.get("files") if isinstance(raw, dict) and raw.get("kind") == KIND else None
    known = set(listed) if isinstance(listed, list) and all(isinstance(name, str) for name in listed) else set()
    for root, _, names in sorted(os.walk(folder)):
        for name in sorted(names):
            inside = os.path.relpath(os.path.join(root, name), folder).replace(os.sep, "/")
            if inside not in known:
                return inside
    return None


def write_folder(path: str, found: Mapping[str, bytes], force: bool) -> str:
    """Put the files of a report into the place of the folder `path`; on any failure the old folder stays."""
    check_target(path, force)
    return replace_folder(path, found)

"""The files of a report, and the folder they go to: written whole beside it, then put in its place."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from typing import Any

import pandas as pd

from planner.errors import KvplanError, one_line
from planner.terminal.output import to_json
from reports import html, markdown
from reports.cells import missing
from reports.content import Report, Table

KIND = "kvplan report"
MANIFEST = "report.json"
SCHEMA_VERSION = 1


def files_of(report: Report) -> dict[str, bytes]:
    """Every file of the report by its path inside the folder, the manifest last."""
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
    """What the folder holds, for programs and for `--force`."""
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
    """A table as CSV and as JSON, base units under keys that stay."""
    records = json_rows(table.frame)
    raw = {
        "title": table.title,
        "says": table.sees,
        "columns": [str(name) for name in table.frame.columns],
        "rows": records,
    }
    return {
        f"tables/{table.name}.csv": table.frame.to_csv(index=False, lineterminator="\n").encode(),
        f"tables/{table.name}.json": (to_json(raw) + "\n").encode(),
    }


def json_rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as plain JSON values; what is missing is null."""
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
        with open(os.path.join(folder, MANIFEST), encoding="utf-8") as file:
            raw = json.load(file)
    except (OSError, ValueError, RecursionError):
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
    """Writes the files beside the folder and moves them into its place; on any failure the old folder stays."""
    check_target(path, force)
    target = os.path.realpath(os.path.expanduser(path))
    try:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        fresh = tempfile.mkdtemp(prefix=".kvplan-", dir=os.path.dirname(target))
    except OSError as error:
        raise _cannot(path, error) from None
    try:
        for name, data in sorted(found.items()):
            file_path = os.path.join(fresh, *name.split("/"))
            os.makedirs(os.path.dirname(file_path), exist_ok=True)
            with open(file_path, "wb") as file:
                file.write(data)
        os.chmod(fresh, 0o777 & ~_umask())
        _swap(fresh, target)
    except OSError as error:
        raise _cannot(path, error) from None
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return target


def write_file(path: str, data: bytes) -> None:
    """One file, written under another name first."""
    target = os.path.realpath(os.path.expanduser(path))
    if os.path.isdir(target) or not os.path.basename(path):
        raise KvplanError(f"-o {one_line(path, 120)} is a folder; name a file")
    try:
        handle, fresh = tempfile.mkstemp(prefix=".kvplan-", dir=os.path.dirname(target))
    except OSError as error:
        raise _cannot(path, error) from None
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(fresh, 0o666 & ~_umask())
        os.replace(fresh, target)
    except OSError as error:
        os.unlink(fresh)
        raise _cannot(path, error) from None


def _swap(fresh: str, target: str) -> None:
    """`fresh` in the place of `target`; what was there is put aside, and back if the move fails."""
    if not os.path.exists(target):
        os.rename(fresh, target)
        return
    aside = tempfile.mkdtemp(prefix=".kvplan-", dir=os.path.dirname(target))
    old = os.path.join(aside, "old")
    os.rename(target, old)
    try:
        os.rename(fresh, target)
    except OSError:
        os.rename(old, target)
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _cannot(path: str, error: OSError) -> KvplanError:
    return KvplanError(
        f"-o {one_line(path, 120)} cannot be written: {error.strerror or error}; choose a folder you may write to"
    )


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask

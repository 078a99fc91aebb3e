"""Where an answer goes: the screen, or a file that is written whole or not at all."""

from __future__ import annotations

import os
import stat
import sys

from planner.errors import KvplanError, one_line

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


def write_whole(path: str, text: str) -> None:
    """Replace the file `path` by `text`; on any failure the old file stays as it was.

    A link keeps pointing where it did, and a file keeps its permissions. Devices and pipes are never replaced.
    """
    shown = one_line(path, 80)
    if not path or path.endswith(os.sep) or os.path.isdir(path):
        raise KvplanError(f"-o {shown or repr(path)} is not the name of a file; write for example -o answer.json")
    path = os.path.realpath(os.path.expanduser(path))
    try:
        mode = _mode(path, shown)
        if mode is None:  # a character device such as /dev/null
            with open(path, "w", encoding="utf-8") as device:
                device.write(text)
            return
        _replace(path, text, mode)
    except OSError as error:
        raise KvplanError(
            f"-o {shown} cannot be written: {error.strerror}; choose a file in a folder you may write to"
        ) from None


def _mode(path: str, shown: str) -> int | None:
    """Permissions for the file at `path`: its own, or those of a new file; None for a character device."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return 0o666 & ~_umask()
    if stat.S_ISCHR(found.st_mode):
        return None
    if not stat.S_ISREG(found.st_mode):
        raise KvplanError(f"-o {shown} is a pipe or a device; name a file, or leave -o out to print")
    return stat.S_IMODE(found.st_mode)


def _replace(path: str, text: str, mode: int) -> None:
    import tempfile  # 4 ms, and most answers go to the screen

    handle, temporary = tempfile.mkstemp(prefix=".kvplan-", dir=os.path.dirname(path))
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
        os.chmod(temporary, mode)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def to_json(value: Any) -> str:
    """ASCII alone: whatever a name holds, it reaches a terminal escaped."""
    import json

    return json.dumps(value, indent=2, allow_nan=False)


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
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        elif isinstance(value, (list, tuple)):
            yield prefix + key, "; ".join(map(str, value))
        else:
            yield prefix + key, "" if value is None else value

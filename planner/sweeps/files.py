"""A sweep as a file: CSV, or Parquet with the extra `parquet`; written whole under a temporary name, read to go on."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from planner.errors import KvplanError, one_line
from planner.files.write import write_with
from planner.sweeps.questions import Cell, Columns, Row
from planner.terminal.output import csv_cell

MOST_BYTES = 8 << 30
LONGEST_LINE = 1 << 20
SUFFIXES = (".csv", ".parquet")


def check_path(path: str) -> None:
    """Refuses what cannot become a file, before anything is computed."""
    shown = one_line(path, 80)
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise KvplanError(f"-o {shown!r}: what to write is said by the suffix; name a .csv or a .parquet file")
    if suffix == ".parquet":
        _arrow()
    folder = os.path.dirname(os.path.realpath(path))
    if os.path.isdir(path) or not os.path.isdir(folder):
        raise KvplanError(
            f"-o {shown} is not the name of a file in a folder that is there; write for example -o grid.csv"
        )
    if not os.access(folder, os.W_OK) or (os.path.exists(path) and not os.path.isfile(path)):
        raise KvplanError(f"-o {shown} cannot be written; choose a file in a folder you may write to")


def write_rows(path: str, columns: Columns, rows: Sequence[Row]) -> None:
    """Replace `path` by these rows; on any failure the old file stays as it was."""
    encode = _parquet if path.lower().endswith(".parquet") else _csv
    write_with(path, lambda file: encode(file, columns, rows))


def read_rows(path: str, columns: Columns) -> Iterator[Row]:
    """Reads the rows of a file that a sweep wrote, one at a time; refuses one with other columns or of endless lines."""
    try:
        if os.path.getsize(path) > MOST_BYTES:
            raise ValueError(f"it is larger than {MOST_BYTES >> 30} GiB")
        yield from (_read_parquet if path.lower().endswith(".parquet") else _read_csv)(path, columns)
    except (OSError, UnicodeDecodeError, csv.Error, ValueError) as error:
        raise KvplanError(
            f"--resume: {one_line(path, 80)} is not a file that a sweep of this question wrote "
            f"({one_line(str(error), 120)}); leave --resume out, or name another file"
        ) from None


# -- CSV: None is empty, a float is its shortest text that reads back as itself -----------------------------

_READ: dict[str, Callable[[str], Cell]] = {
    "str": lambda text: text[1:] if text[:1] == "'" and csv_cell(text[1:]) == text else text,
    "int": int,
    "float": float,
    "bool": lambda text: {"True": True, "False": False}[text],
}


def _csv(file: Any, columns: Columns, rows: Sequence[Row]) -> None:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([name for name, _ in columns])
    writer.writerows(["" if cell is None else csv_cell(cell) for cell in row] for row in rows)
    text.flush()
    text.detach()


def _read_csv(path: str, columns: Columns) -> Iterator[Row]:
    with open(path, encoding="utf-8", newline="") as file:
        lines = csv.reader(iter(lambda: _line(file), ""))
        _check_names(next(lines, []), columns)
        kinds = [_READ[kind] for _, kind in columns]
        for line in lines:
            if len(line) != len(columns):
                raise ValueError(f"line {lines.line_num} has {len(line)} cells, not {len(columns)}")
            try:
                yield tuple(None if not text else read(text) for text, read in zip(line, kinds, strict=True))
            except KeyError as error:
                raise ValueError(f"line {lines.line_num}: {error} is neither True nor False") from None


def _line(file: TextIO) -> str:
    """The next line, "" at the end; a sweep writes none of a megabyte."""
    line = file.readline(LONGEST_LINE)
    if len(line) == LONGEST_LINE:
        raise ValueError("it has a line of over a million characters")
    return line


def _check_names(names: Sequence[str], columns: Columns) -> None:
    wanted = [name for name, _ in columns]
    if list(names) != wanted:
        raise ValueError(f"its first columns are {', '.join(names[:3]) or 'none'}, not {', '.join(wanted[:3])} ...")


# -- Parquet ------------------------------------------------------------------------------------------------


def _arrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise KvplanError(
            "a .parquet file needs pyarrow: pip install 'llm-kvplan[parquet]', or name a .csv file"
        ) from None
    return pyarrow


def _schema(arrow: Any, columns: Columns) -> Any:
    kinds = {"int": arrow.int64(), "float": arrow.float64(), "bool": arrow.bool_(), "str": arrow.string()}
    return arrow.schema([(name, kinds[kind]) for name, kind in columns])


def _parquet(file: Any, columns: Columns, rows: Sequence[Row]) -> None:
    arrow = _arrow()
    cells = list(zip(*rows, strict=True)) or [()] * len(columns)
    schema = _schema(arrow, columns)
    arrays = [arrow.array(column, type=kind.type) for column, kind in zip(cells, schema, strict=True)]
    arrow.parquet.write_table(arrow.table(arrays, schema=schema), file)


def _read_parquet(path: str, columns: Columns) -> list[Row]:
    arrow = _arrow()
    table = arrow.parquet.read_table(path)
    _check_names(table.column_names, columns)
    if table.schema != _schema(arrow, columns):
        raise ValueError("its columns have other types")
    return list(zip(*(column.to_pylist() for column in table.columns), strict=True))

"""Reads rows of lengths from a CSV, JSON or JSON-lines file, bounded in size, each bad row with its line."""

from __future__ import annotations

import csv
import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from planner.errors import BadConfig, one_line
from planner.units import MAX_TOKENS

MAX_FILE_BYTES = 2 << 30


MAX_LINE = 1 << 20


_WANTED = "a CSV or JSONL file, or p50=800,p95=6000"


_EXAMPLE = "prompt_tokens,output_tokens"


PAIR_KEYS = (
    ("prompt_tokens", "completion_tokens"),
    ("prompt_tokens", "output_tokens"),
    ("input_tokens", "output_tokens"),
    ("input_length", "output_length"),
    ("contexttokens", "generatedtokens"),
    ("prompt_len", "output_len"),
    ("prompt", "output"),
    ("num_prefill_tokens", "num_decode_tokens"),
    ("request tokens", "response tokens"),
)


class BadRow(BadConfig):
    """A line of a file of requests that is none; the lines around it may be good."""


def lines_of(path: str, option: str, wanted: str) -> Iterator[str]:
    """Reads the lines of a text file; longer ones than MAX_LINE in pieces. BadConfig for what is no regular text file."""
    shown = one_line(path, 80)
    path = os.path.expanduser(path)
    try:
        info = os.stat(path)
        if not stat.S_ISREG(info.st_mode):
            raise BadConfig(f"{option} {shown} is not a regular file; {wanted} is wanted")
        if info.st_size > MAX_FILE_BYTES:
            raise BadConfig(f"{option} {shown} is over 2 GiB; a sample of it will do")
        with open(path, encoding="utf-8-sig") as file:
            yield from iter(lambda: file.readline(MAX_LINE + 1), "")
    except FileNotFoundError:
        raise BadConfig(f"{option} {shown!r} does not exist; {wanted} is wanted") from None
    except OSError as error:
        raise BadConfig(f"{option} {shown} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BadConfig(f"{option} {shown} is not text; a CSV or JSONL file of lengths is wanted") from None
    except ValueError as error:  # a NUL in the name
        raise BadConfig(f"{option} {shown} cannot be read: {one_line(str(error), 80)}") from None


@dataclass
class RowReader:
    """Requests of a CSV file (with a header, or without one where `unnamed` says what so many columns are) or JSON lines.

    columns_of   the columns that are read, of those that are there; raises BadConfig where they do not do
    """

    option: str
    shown: str
    columns_of: Callable[[Iterable[str]], tuple[str, ...]]
    unnamed: Mapping[int, tuple[str, ...]]
    wanted: str = _WANTED
    header: list[str] | None = None

    def rows(
        self, path: str, bad: Callable[[BadRow], None] | None = None
    ) -> Iterator[tuple[int, Mapping[str, object]]]:
        """(number of the line, its cells by column); a line that is no row goes to `bad`, or stops it all."""
        for number, line in enumerate(lines_of(path, self.option, self.wanted), 1):
            try:
                row = self.row(line, number)
            except BadRow as error:
                if bad is None:
                    raise
                bad(error)
                continue
            if row is not None:
                yield number, row

    def row(self, line: str, number: int) -> Mapping[str, object] | None:
        """The cells of one line; None for a header or nothing."""
        where = f"{self.option} {self.shown}"
        if len(line) > MAX_LINE:
            raise BadConfig(f"{where} line {number} is too long for a request; one request a line is wanted")
        text = line.strip()
        if not text:
            return None
        if text.startswith("{"):
            row = _json_row(text, f"{where} line {number}")
            try:
                self.columns_of(row)
            except BadConfig as error:
                raise BadRow(f"{where} line {number}{error}") from None
            return row
        try:
            cells = next(csv.reader([text]))
        except csv.Error:
            raise BadConfig(f"{where} is not text; a CSV or JSONL file of lengths is wanted") from None
        if self.header is None and not cells[0].strip().lstrip("-").isdigit():
            self.header = [cell.strip().lower() for cell in cells]
            self._check_header(where)
            return None
        names = self.unnamed.get(len(cells)) if self.header is None else self.header
        if names is None:
            raise BadConfig(f"{where} has {len(cells)} columns and no header; name them, for example {_EXAMPLE}")
        if len(cells) != len(names):
            raise BadRow(f"{where} line {number} has {len(cells)} columns, its header {len(names)}; make them equal")
        return dict(zip(names, cells, strict=True))

    def _check_header(self, where: str) -> None:
        assert self.header is not None
        try:
            columns = self.columns_of(self.header)
        except BadConfig as error:
            raise BadConfig(f"{where}{error}") from None
        for name in columns:
            if self.header.count(name) > 1:
                raise BadConfig(f"{where} has two columns {name!r}; keep one")


def _json_row(text: str, where: str) -> Mapping[str, object]:
    try:
        row = json.loads(text)
    except (ValueError, RecursionError):
        raise BadRow(f"{where} is not JSON") from None
    if not isinstance(row, dict):
        raise BadRow(f"{where} is not a JSON object")
    return {key.lower(): value for key, value in row.items()}


def whole_tokens(value: object, where: str) -> int:
    """Reads a cell as a number of tokens, 0 included."""
    text = str(value).strip()
    whole = not isinstance(value, bool) and text.isascii() and text.isdigit() and len(text) <= 11
    if not whole or int(text) > MAX_TOKENS:
        raise BadRow(
            f"{where}: {one_line(text, 30)!r} is not a length in tokens; a whole number up to {MAX_TOKENS} is wanted"
        )
    return int(text)

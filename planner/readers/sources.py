"""Where the bytes of a header come from: a file here, or a range of one elsewhere (`planner.readers.hub`)."""

from __future__ import annotations

import os
import stat
from typing import Protocol

from planner.errors import BadConfig, one_line
from planner.frozen import dataclass


class Source(Protocol):
    """Something with a size that is read in small pieces."""

    @property
    def name(self) -> str: ...

    @property
    def size(self) -> int: ...

    def read(self, offset: int, length: int) -> bytes:
        """Exactly `length` bytes from `offset`; a refusal when there are fewer."""
        ...


@dataclass(frozen=True)
class LocalFile:
    """A regular file; opened for each piece, so that a checkpoint of many shards holds no handles."""

    path: str
    size: int

    @property
    def name(self) -> str:
        return one_line(self.path, 120)

    @staticmethod
    def open(path: str) -> LocalFile:
        shown = one_line(path, 120)
        try:
            info = os.stat(path)
        except FileNotFoundError:
            raise BadConfig(f"{shown} does not exist") from None
        except (OSError, ValueError) as error:
            raise BadConfig(f"{shown} cannot be read: {one_line(str(error), 80)}") from None
        if not stat.S_ISREG(info.st_mode):
            raise BadConfig(f"{shown} is not a regular file")
        return LocalFile(path, info.st_size)

    def read(self, offset: int, length: int) -> bytes:
        try:
            with open(self.path, "rb", buffering=0) as file:
                file.seek(offset)
                pieces = []
                while length > 0:
                    piece = file.read(length)
                    if not piece:
                        raise BadConfig(f"{self.name} is cut short: {length:,} bytes more were expected at its end")
                    pieces.append(piece)
                    length -= len(piece)
        except OSError as error:
            raise BadConfig(f"{self.name} cannot be read: {error.strerror}") from None
        return b"".join(pieces)

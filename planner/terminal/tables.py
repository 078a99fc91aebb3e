"""Plain tables, bars and colour for a terminal.

Twenty lines of our own in place of a table library: `kvplan estimate` must start in a few bare
interpreters' time, and importing one costs more than the whole answer.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

BAR_WIDTH = 48


def colour(text: str, code: str, stream: TextIO | None = None) -> str:
    """`text` in a colour when it goes to a terminal that wants one (NO_COLOR is honoured)."""
    stream = stream or sys.stdout
    wants = stream.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
    return f"\x1b[{code}m{text}\x1b[0m" if wants else text


def bold(text: str) -> str:
    return colour(text, "1")


def good(text: str) -> str:
    return colour(text, "32")


def bad(text: str) -> str:
    return colour(text, "31")


def dim(text: str) -> str:
    return colour(text, "2")


def table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Columns padded to their widest cell; the first `left` columns left-aligned, numbers right.

    >>> print(table(["model", "KV"], [["gpt2", "1.00 GiB"], ["llama-7b", "4.00 GiB"]]))
    model           KV
    gpt2      1.00 GiB
    llama-7b  4.00 GiB
    """
    grid = [list(header), *map(list, rows)]
    widths = [max(len(row[i]) for row in grid) for i in range(len(header))]
    lines = []
    for row in grid:
        cells = [
            cell.ljust(w) if i < left else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def bar(parts: Sequence[tuple[str, int]], capacity: int, width: int = BAR_WIDTH) -> str:
    """`parts` of `capacity` as one bar with a letter-free legend; what is too much runs past the mark.

    >>> print(bar([("weights", 50), ("KV", 25)], 100, 8))
    [####==..]  # weights  = KV  . free
    """
    fills = _fills()
    total = sum(size for _, size in parts)
    scale = max(total, capacity)
    cells, mark = "", round(width * capacity / scale)
    done = 0
    for (_, size), fill in zip(parts, fills, strict=False):
        done += size
        cells += fill * (round(width * done / scale) - len(cells))
    over = total > capacity
    cells += _free() * (width - len(cells))
    if over:
        cells = cells[:mark] + "|" + cells[mark:]
    legend = "  ".join(f"{fill} {name}" for (name, _), fill in zip(parts, fills, strict=False))
    return f"[{cells}]  {legend}  " + ("| end of memory" if over else f"{_free()} free")


def _unicode() -> bool:
    return (sys.stdout.encoding or "").lower().replace("-", "") in ("utf8", "utf16") and sys.stdout.isatty()


def _fills() -> str:
    return "█▓▒░" if _unicode() else "#=+-"


def _free() -> str:
    return "·" if _unicode() else "."

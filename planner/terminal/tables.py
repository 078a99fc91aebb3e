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
    """Puts `text` in a colour when it goes to a terminal that wants one (NO_COLOR is honoured)."""
    stream = stream or sys.stdout
    wants = stream.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
    return f"\x1b[{code}m{text}\x1b[0m" if wants else text


def bold(text: str) -> str:
    """Makes a heading stand out."""
    return colour(text, "1")


def good(text: str) -> str:
    """Puts what fits in green."""
    return colour(text, "32")


def bad(text: str) -> str:
    """Puts what does not fit in red."""
    return colour(text, "31")


def dim(text: str) -> str:
    """Makes what is secondary fade."""
    return colour(text, "2")


def width() -> int:
    """Returns the columns of the terminal: as COLUMNS says, else as the terminal does, else 80."""
    asked = os.environ.get("COLUMNS", "")
    if asked.isascii() and asked.isdigit() and 0 < len(asked) < 6:
        return max(40, int(asked))
    try:
        return max(40, os.get_terminal_size(sys.stdout.fileno()).columns)
    except (OSError, ValueError, AttributeError):
        return 80


def table(
    header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1, drop: Sequence[str] = ()
) -> str:  # parameters: a grid and how it is shown
    """Writes columns padded to their widest cell; the first `left` columns left-aligned, numbers right.

    A table wider than the terminal loses the columns that `drop` names, one after the other, until it fits; what is
    still too wide is cut between columns into tables below each other, each with the first column.

    >>> print(table(["model", "KV"], [["gpt2", "1.00 GiB"], ["llama-7b", "4.00 GiB"]]))
    model           KV
    gpt2      1.00 GiB
    llama-7b  4.00 GiB
    """
    grid = [list(header), *map(list, rows)]
    widths = [max(len(row[i]) for row in grid) for i in range(len(header))]
    for name in drop:
        if sum(widths) + 2 * (len(widths) - 1) <= width():
            break
        gone = grid[0].index(name)
        left -= gone < left
        grid = [row[:gone] + row[gone + 1 :] for row in grid]
        del widths[gone]
    return "\n\n".join(_columns(grid, widths, left, chosen) for chosen in _groups(widths, width()))


def _groups(widths: Sequence[int], most: int) -> list[list[int]]:
    """Returns the columns of each table: as many as fit, the first one in each."""
    groups, used = [[0]], widths[0] if widths else 0
    for column in range(1, len(widths)):
        if used + 2 + widths[column] > most and len(groups[-1]) > 1:
            groups.append([0])
            used = widths[0]
        groups[-1].append(column)
        used += 2 + widths[column]
    return groups


def _columns(
    grid: Sequence[Sequence[str]], widths: Sequence[int], left: int, chosen: Sequence[int]
) -> str:  # parameters: a grid and how it is shown
    lines = []
    for row in grid:
        cells = [row[i].ljust(widths[i]) if i < left else row[i].rjust(widths[i]) for i in chosen]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def wrapped(text: str, most: int | None = None) -> str:
    """Returns the text with lines of at most `most` columns, broken at spaces; what follows stands under its column.

    A line that ends in a backslash is a command to copy and stays as it is.

    >>> print(wrapped("  overhead   704 MiB  estimated: context, graphs", 40))
      overhead   704 MiB  estimated:
                 context, graphs
    """
    most = most or width()
    return "\n".join(_broken(line, most) if len(line) > most else line for line in text.split("\n"))


def _broken(line: str, most: int) -> str:
    plain = _uncoloured(line)
    if len(plain) <= most or line.endswith("\\"):
        return line
    start = len(plain) - len(plain.lstrip())
    gaps = [at for at in range(start + 2, most // 2 + 1) if plain[at - 2 : at] == "  " and plain[at : at + 1] != " "]
    indent = gaps[-1] if gaps else min(start + 2, most // 2)
    found, now = [], ""
    for piece in _pieces(line):
        if now.strip() and len(_uncoloured(now)) + len(_uncoloured(piece)) > most:
            found.append(now)
            now = " " * indent + piece.lstrip()
        else:
            now += piece
    return "\n".join([*found, now])


def _uncoloured(text: str) -> str:
    """The text as it is seen: without the codes that colour it."""
    if "\x1b" not in text:
        return text
    import re  # only a terminal gets colours

    return re.sub("\x1b\\[[0-9;]*m", "", text)


def _pieces(line: str) -> list[str]:
    """The words, each with the spaces before it.

    >>> _pieces("  two  words ")
    ['  two', '  words']
    """
    found, spaces = [], ""
    for word in line.split(" "):
        if word:
            found.append(spaces + word)
            spaces = ""
        spaces += " "
    return found


def command_lines(command: str, indent: int = 4) -> list[str]:
    """Returns a start command to copy: a line, or several that end in a backslash where it is long."""
    most, lines, now = width() - 2, [], " " * indent
    for word in _shell_words(command):
        if now.strip() and len(now) + len(word) + 1 > most:
            lines.append(f"{now} \\")
            now = " " * (indent + 2) + word
        else:
            now += word if not now.strip() else f" {word}"
    return [*lines, now]


def _shell_words(command: str) -> list[str]:
    """Returns the words as they are written, a flag and its value together."""
    import shlex

    words: list[str] = []
    for word in (shlex.quote(word) for word in shlex.split(command)):
        if words and words[-1].startswith("-") and " " not in words[-1] and not word.startswith("-"):
            words[-1] += f" {word}"
        else:
            words.append(word)
    return words


def bar(parts: Sequence[tuple[str, int]], capacity: int, width: int = BAR_WIDTH) -> str:
    """Draws `parts` of `capacity` as one bar with a letter-free legend; what is too much runs past the mark.

    >>> print(bar([("weights", 50), ("KV", 25)], 100, 8))
    [####==..]
       # weights  = KV  . free
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
    return f"[{cells}]\n   {legend}  " + ("| end of memory" if over else f"{_free()} free")


def _unicode() -> bool:
    return (sys.stdout.encoding or "").lower().replace("-", "") in ("utf8", "utf16") and sys.stdout.isatty()


def _fills() -> str:
    return "█▓▒░" if _unicode() else "#=+-"


def _free() -> str:
    return "·" if _unicode() else "."

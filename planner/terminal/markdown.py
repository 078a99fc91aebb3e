"""Shows the Markdown that kvplan writes to files on a terminal: headings, paragraphs, lists and tables within its width."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence

from planner.terminal.tables import bold, width

GAP = 2
_NUMBER = re.compile(r"[-+<]?[\d,.]+( ?(%|B|[KMGT]i?B|ms|s))?|-|", re.ASCII)


def screen(text: str) -> str:
    """Returns the text as a terminal shows it, no line wider; numbers stay with their units.

    >>> print(screen("## Engines\\n\\nA paragraph\\nin two lines.\\n\\n| engine | rows |\\n|---|---|\\n| vllm | 12 |"))
    Engines
    <BLANKLINE>
    A paragraph in two lines.
    <BLANKLINE>
    engine  rows
    vllm      12
    """
    lines: list[str] = []
    before = ""
    for block in re.split(r"\n(?=#)|\n{2,}|(?<=\|)\n(?!\|)|\n(?=\s*- )", text.strip("\n")):
        own = block.strip("\n")
        listed = own.lstrip().startswith("- ") and before.lstrip().startswith("- ")
        lines += [*([] if listed or not lines else [""]), *_block(own, width())]
        before = own
    return "\n".join(lines)


def _block(text: str, most: int) -> list[str]:
    if text.startswith("#"):
        return [bold(line) for line in _wrap(text.lstrip("# "), most)]
    if text.startswith("|"):
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
        return grid([row for row in rows if not all(re.fullmatch(r":?-+:?", cell) for cell in row)], most)
    start = re.match(r"(\s*)- ", text)
    if start:
        indent = start[1]
        return _wrap(text.strip(), most, indent)
    return _wrap(text, most)


def _wrap(text: str, most: int, indent: str = "", *, hyphens: bool = False) -> list[str]:
    """Lines of at most `most` columns; a number and its unit stay together."""
    plain = _with_units(" ".join(text.replace("`", "").split()))
    found = textwrap.wrap(
        plain,
        most,
        initial_indent=indent,
        subsequent_indent=f"{indent}  " if text.startswith("- ") else indent,
        break_on_hyphens=hyphens,
    )
    return [line.replace("\0", " ") for line in found] or [""]


def _with_units(text: str) -> str:
    return re.sub(r"(?<=\d) (?=%|(?:[KMGT]i?B|ms|s|tok/s)\b)", "\0", text)


def grid(rows: Sequence[Sequence[str]], most: int) -> list[str]:
    """Writes rows in columns within `most`: columns of words are wrapped, the widest first; numbers stand right."""
    cells = [[cell.replace("`", "") for cell in row] for row in rows]
    columns = list(zip(*cells, strict=True))
    right = [all(_NUMBER.fullmatch(cell) for cell in column[1:]) for column in columns]
    widths = [max(map(len, column)) for column in columns]
    hyphens = False
    least = [max(len(word) for cell in column for word in [*_whole(cell), ""]) for column in columns]
    if sum(least) + GAP * (len(least) - 1) > most:
        hyphens = True  # a name that is too long for its column goes on after a hyphen
        least = [max(len(word) for cell in column for word in [*_whole(cell, "-"), ""]) for column in columns]
    while sum(widths) + GAP * (len(widths) - 1) > most:
        over = [place for place, size in enumerate(widths) if size > least[place]]
        if not over:
            break
        widths[max(over, key=lambda place: widths[place])] -= 1
    lines: list[str] = []
    for row in cells:
        parts = [_wrap(cell, size, hyphens=hyphens) for cell, size in zip(row, widths, strict=True)]
        for line in range(max(map(len, parts))):
            shown = [part[line] if line < len(part) else "" for part in parts]
            placed = [
                one.rjust(size) if is_right else one.ljust(size)
                for one, size, is_right in zip(shown, widths, right, strict=True)
            ]
            lines.append((" " * GAP).join(placed).rstrip())
    return lines


def _whole(cell: str, after: str = "") -> list[str]:
    """The pieces of a cell that stay whole: words, or what ends in `after` within them."""
    words = _with_units(cell).split()
    return [piece for word in words for piece in re.split(f"(?<=[a-z0-9]{after})(?=[a-z])", word)] if after else words

"""The page's figures as SVG: drawn here, coloured by the page's style sheet, each with a name and a description.

A figure has no number that is not in the table behind it. Colours, dashes and marks are those of the report.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from planner.units import gib, human_tokens

WIDTH, HEIGHT = 560, 300
LEFT, RIGHT, TOP, BOTTOM = 96, 14, 14, 46


@dataclass(frozen=True)
class Line:
    """A named line of points; `low` and `high` are the ends of its range."""

    name: str
    points: tuple[tuple[float, float], ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()


@dataclass(frozen=True)
class Axes:
    """What the axes are called and how their ticks are written; both are logarithmic.

    powers   ticks are powers of two (bytes), else 1, 2 and 5 times a power of ten
    """

    x: str
    y: str
    x_words: Callable[[float], str]
    y_words: Callable[[float], str]
    powers: bool = False


def memory_bar(parts: Sequence[tuple[str, int]], capacity: int | None, name: str) -> str:
    """Draws what lies on one device as a bar, and the end of its memory as a line."""
    total = sum(size for _, size in parts)
    whole = max(total, capacity or 0) or 1
    scale = (WIDTH - 4) / whole / 1.02
    at, shapes = 2.0, []
    if capacity is not None:
        shapes.append(f'<rect class="free" x="2" y="14" width="{capacity * scale:.1f}" height="34"/>')
    for kind, size in parts:
        width = size * scale
        words = f"{kind}: {gib(size)}"
        shapes.append(
            f'<rect class="part-{kind.split()[0].lower()}" x="{at:.1f}" y="14" width="{width:.1f}" height="34"><title>{escape(words)}</title></rect>'
        )
        at += width
    if capacity is not None:
        end = 2 + capacity * scale
        shapes.append(f'<line class="limit" x1="{end:.1f}" x2="{end:.1f}" y1="6" y2="56"/>')
    described = ", ".join(f"{kind} {gib(size)}" for kind, size in parts)
    described += f"; together {gib(total)}" + (f" of {gib(capacity)}" if capacity is not None else "")
    return _svg(name, described, shapes, 62)


def chart(
    lines: Sequence[Line],
    axes: Axes,
    name: str,
    *,
    limit: float | None = None,
    mark: tuple[float, float, str] | None = None,
) -> str:
    """Draws lines over logarithmic axes, with their ranges as bands, a limit across, and one point that is named."""
    xs = [x for line in lines for x, _ in line.points]
    ys = [y for line in lines for y in (*(y for _, y in line.points), *line.low, *line.high) if y > 0]
    if limit:
        ys.append(limit)
    if not xs or not ys:
        return ""
    ticks = round_ticks(min(ys), max(ys), powers=axes.powers)
    across, up = _scale(min(xs), max(xs), LEFT, WIDTH - RIGHT), _scale(ticks[0], ticks[-1], HEIGHT - BOTTOM, TOP)
    shapes = [*_grid(across, up, axes, sorted(set(xs)), ticks)]
    for index, line in enumerate(lines):
        shapes += _line(line, index % 4, across, up)
    if limit:
        y = up(limit)
        shapes.append(f'<line class="limit" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
    if mark is not None:
        x, y, words = mark
        shapes.append(
            f'<circle class="mark" cx="{across(x):.1f}" cy="{up(y):.1f}" r="6"><title>{escape(words)}</title></circle>'
        )
    described = "; ".join(
        f"{line.name}: {axes.y_words(line.points[0][1])} at {axes.x_words(line.points[0][0])} to "
        f"{axes.y_words(line.points[-1][1])} at {axes.x_words(line.points[-1][0])}"
        for line in lines
        if line.points
    )
    described += f"; the limit is {axes.y_words(limit)}" if limit else ""
    described += f"; {mark[2]}" if mark else ""
    return _svg(name, described, shapes, HEIGHT)


def round_ticks(low: float, high: float, *, powers: bool) -> list[float]:
    """Returns up to seven round values, the first not above `low` and the last not below `high`.

    >>> round_ticks(0.0152, 0.0524, powers=False)
    [0.01, 0.02, 0.05, 0.1]
    >>> round_ticks(130 * 2**20, 30 * 2**30, powers=True) == [2**27, 2**29, 2**31, 2**33, 2**35]
    True
    """
    if powers:
        first, last = math.floor(math.log2(low)), math.ceil(math.log2(high))
        step = max(1, math.ceil((last - first) / 6))
        count = max(1, math.ceil((last - first) / step))
        return [2.0 ** (first + step * index) for index in range(count + 1)]
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    every = [float(f"{figure}e{power}") for power in decades for figure in (1, 2, 5)]
    start = max(index for index, value in enumerate(every) if value <= low * (1 + 1e-9))
    end = min((index for index, value in enumerate(every) if value >= high * (1 - 1e-9)), default=len(every) - 1)
    found = every[start : max(end, start + 1) + 1]
    return found if len(found) <= 7 else [float(f"1e{power}") for power in range(decades.start, decades.stop + 1)]


def _trimmed(words: str) -> str:
    """A tick without zeros that say nothing: 128.00 MiB as 128 MiB, 20.0 ms as 20 ms."""
    number, _, unit = words.partition(" ")
    return f"{number.rstrip('0').rstrip('.') if '.' in number else number} {unit}".strip()


def tokens_words(value: float) -> str:
    """Writes a tick of tokens: 8k, and 56,951 as 56k."""
    count = round(value)
    return human_tokens(count) if count < 1024 or count % 1024 == 0 else f"{count / 1024:,.0f}k"


def _scale(
    low: float, high: float, start: float, end: float
) -> Callable[[float], float]:  # parameters: coordinates of a drawing
    low, high = math.log(max(low, 1e-12)), math.log(max(high, 1e-12))
    span = high - low or 1.0

    def at(value: float) -> float:
        return start + (math.log(max(value, 1e-12)) - low) / span * (end - start)

    return at


def _grid(  # parameters: coordinates of a drawing
    across: Callable[[float], float],
    up: Callable[[float], float],
    axes: Axes,
    xs: Sequence[float],
    ticks: Sequence[float],
) -> list[str]:
    shapes = []
    step = max(1, math.ceil(len(xs) / 7))
    for x in xs[::step]:
        at = across(x)
        shapes.append(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
        shapes.append(
            f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="{_anchor(at)}">{escape(axes.x_words(x))}</text>'
        )
    for value in ticks:
        at = up(value)
        shapes.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        shapes.append(
            f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{escape(_trimmed(axes.y_words(value)))}</text>'
        )
    middle = (LEFT + WIDTH - RIGHT) / 2
    shapes.append(f'<text class="axis" x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">{escape(axes.x)}</text>')
    return shapes


def _anchor(at: float) -> str:
    return "start" if at < LEFT + 12 else "end" if at > WIDTH - RIGHT - 16 else "middle"


def _line(
    line: Line, index: int, across: Callable[[float], float], up: Callable[[float], float]
) -> list[str]:  # parameters: coordinates of a drawing
    places = [(across(x), up(y)) for x, y in line.points]
    shapes = []
    if line.low:
        upper = [f"{across(x):.1f},{up(y):.1f}" for (x, _), y in zip(line.points, line.high, strict=True)]
        lower = [f"{across(x):.1f},{up(y):.1f}" for (x, _), y in zip(line.points, line.low, strict=True)]
        shapes.append(f'<polygon class="band series-{index}" points="{" ".join(upper + lower[::-1])}"/>')
    drawn = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    shapes.append(f'<polyline class="line series-{index}" points="{drawn}"/>')
    shapes += [f'<circle class="dot series-{index}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in places]
    return shapes


def _svg(name: str, described: str, shapes: Sequence[str], height: int) -> str:  # parameters: coordinates of a drawing
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(name)}: {escape(described)}">'
        f"<title>{escape(name)}</title><desc>{escape(described)}</desc>{''.join(shapes)}</svg>"
    )

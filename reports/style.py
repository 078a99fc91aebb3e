"""One style for all figures: fonts, colours, axes in human units, and files that come out the same each time.

Figures are made with matplotlib's objects alone: pyplot and its global state are never loaded. Colours are those
of Okabe and Ito (distinct for the colour-blind), and each series also has a marker and a dash of its own, so that
a figure survives a black-and-white printer.
"""

from __future__ import annotations

import functools
import io
import math
import textwrap
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from planner.units import GIB, KIB, MIB, TIB, human_tokens

INK, MUTED, GRID, PAPER = "#1b1f24", "#57606a", "#d8dee4", "#ffffff"
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7b5aa6", "#8c6d31")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES: tuple[Any, ...] = ("-", (0, (6, 2)), (0, (2, 1.5)), (0, (6, 1.5, 1.5, 1.5)))
LIMITS: tuple[Any, ...] = ((0, (8, 2)), (0, (1.5, 1.5)), (0, (8, 2, 1.5, 2)), (0, (4, 1.5)))
PARTS = {
    "weights": "#0072b2",
    "KV cache": "#e69f00",
    "activations": "#009e73",
    "overhead": "#8c959f",
    "free": "#eaeef2",
}
HATCHES = {"weights": "", "KV cache": "///", "activations": "", "overhead": "", "free": ""}
WIDTH, HEIGHT = 4.8, 3.2  # inches: two side by side on a desk, one on a phone
TICKS = 7
PNG_COLOURS = 96
DPI = 250  # 1,200 pixels wide
NAME_LENGTH = 30
BAR = 0.62  # height of a bar in its row
MOST_BARS = 24  # rows of stacked bars in one figure
LEGEND_ROW = 0.19  # inches
TITLE_ROW = 0.16
TINY = 8.0  # points; the smallest text

STYLE: dict[str, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": MUTED,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 10,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.facecolor": PAPER,
    "font.family": ["DejaVu Sans"],
    "font.size": 10,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "hatch.linewidth": 0.6,
    "legend.borderaxespad": 0.3,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "legend.handlelength": 2.6,
    "legend.labelcolor": INK,
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
    "pdf.fonttype": 42,
    "svg.fonttype": "none",  # real text: small, searchable, and read aloud
    "svg.hashsalt": "kvplan",
    "text.color": INK,
    "text.parse_math": False,  # a name with a $ is a name
    "xtick.color": MUTED,
    "xtick.labelcolor": INK,
    "xtick.labelsize": 9,
    "ytick.color": MUTED,
    "ytick.labelcolor": INK,
    "ytick.labelsize": 9,
}

F = TypeVar("F", bound=Callable[..., Figure])


def styled(draw: F) -> F:
    """Wraps a figure function so that it draws under `STYLE`, whatever the reader's own settings are."""

    @functools.wraps(draw)
    def drawn(*args: Any, **kwargs: Any) -> Figure:
        with matplotlib.rc_context(STYLE):
            return draw(*args, **kwargs)

    return drawn  # type: ignore[return-value]


def new_figure(width: float = WIDTH, height: float = HEIGHT) -> tuple[Figure, Axes]:
    """Makes an empty figure of a size in inches, and its axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def save(figure: Figure, kind: str) -> bytes:
    """Writes the figure as an svg, png or pdf; the same figure gives the same bytes."""
    metadata: dict[str, dict[str, Any]] = {
        "svg": {"Date": None, "Creator": None},
        "png": {"Software": None},
        "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    }
    out = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(out, format=kind, dpi=DPI, metadata=metadata[kind])
    return _few_colours(out) if kind == "png" else out.getvalue()


def _few_colours(drawn: io.BytesIO) -> bytes:
    """The picture with a palette: a third of the size, and no difference that an eye finds."""
    from PIL import Image  # comes with matplotlib

    out = io.BytesIO()
    with Image.open(drawn) as image:
        image.convert("RGB").quantize(PNG_COLOURS, dither=Image.Dither.NONE).save(out, "png", optimize=True)
    return out.getvalue()


def look(index: int) -> dict[str, Any]:
    """Returns colour, marker and dash of a series: 32 that differ."""
    return {
        "color": SERIES[index % len(SERIES)],
        "marker": MARKERS[index % len(MARKERS)],
        "linestyle": DASHES[index // len(SERIES) % len(DASHES)],
    }


def look_of(frame: pd.DataFrame, name: str, *, else_at: int = 0, column: str = "model") -> dict[str, Any]:
    """Returns the look of a model: one for all figures of a report, by its place among the models of the question.

    >>> frame = pd.DataFrame({"model": ["b"]})
    >>> frame.attrs["models"] = ["a", "b"]
    >>> look_of(frame, "b")["color"] == SERIES[1]
    True
    """
    known = list(frame.attrs.get("models") or (dict.fromkeys(frame[column]) if column in frame else ()))
    return look(known.index(name) if name in known else else_at)


def titled(figure: Figure, title: str, about: str) -> Figure:
    """Puts a title over the figure, and below it what it is of: models, devices, load."""
    wide = int(figure.get_figwidth() * 72 / 5.3)
    lines = [*textwrap.wrap(title, wide), *textwrap.wrap(about, wide)[:3]]
    figure.set_figheight(figure.get_figheight() + TITLE_ROW * len(lines))
    figure.suptitle("\n".join(lines), x=0.01, ha="left", fontsize=9, color=INK, linespacing=1.25)
    return figure


def short(name: str, length: int = NAME_LENGTH) -> str:
    """Shortens a name to fit a legend: its middle is left out where it is long.

    >>> short("gpt2"), short("a" * 20 + "b" * 20)
    ('gpt2', 'aaaaaaaaaaaaaa…bbbbbbbbbbbbbbb')
    """
    if len(name) <= length:
        return name
    head = (length - 1) // 2
    return f"{name[:head]}…{name[head + 1 - length :]}"


def powers(low: float, high: float, base: int = 2, *, most: int = TICKS) -> list[float]:
    """Lists powers of `base` from low to high, every second, third, ... of them where there are more than `most`.

    >>> powers(1024, 131072), powers(1, 4)
    ([1024, 4096, 16384, 65536], [1, 2, 4])
    """
    first, last = math.ceil(math.log(low, base) - 1e-9), math.floor(math.log(high, base) + 1e-9)
    step = max(1, math.ceil((last - first + 1) / most))
    return [base**i if i >= 0 else 1 / base**-i for i in range(first, last + 1, step)]


def log_axis(
    axes: Axes,
    which: str,
    values: Iterable[float],
    *,
    write: Callable[[float], str],
    base: int = 2,
    whole: bool = False,
) -> None:
    """Makes an axis logarithmic, with round ticks in words (`whole` numbers alone), whatever is left between them
    without ticks.
    """
    found = [value for value in values if value > 0]
    axis = axes.xaxis if which == "x" else axes.yaxis
    (axes.set_xscale if which == "x" else axes.set_yscale)("log", base=base)
    ticks = _ticks(min(found), max(found), base)
    axis.set_major_locator(FixedLocator([tick for tick in ticks if not whole or tick == round(tick)] or ticks))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: write(value)))


def _ticks(low: float, high: float, base: int) -> list[float]:
    """At least three ticks where the range allows: halves of a narrow range in place of powers."""
    ticks = powers(low, high, base)
    if len(ticks) >= 3 or high <= low:
        return ticks or [low]
    unit = 10 ** math.floor(math.log10(low))
    for steps in ((1, 1.5, 2, 3, 4, 5, 6, 7, 8), (1, 2, 3, 5, 7), (1, 2, 5), (1, 3)):
        fine = [unit * m * 10**k for k in range(0, 12) for m in steps]
        inside = [tick for tick in fine if low * 0.999 <= tick <= high * 1.001]
        if 2 <= len(inside) <= TICKS:
            return inside
    return [low, high]


def token_axis(axes: Axes, which: str, values: Sequence[float], *, label: str) -> None:
    """Makes an axis of tokens (or sequences) on a log scale: 1k is 1,024."""
    log_axis(axes, which, values, write=lambda value: human_tokens(round(value)), whole=True)
    (axes.set_xlabel if which == "x" else axes.set_ylabel)(label)


def byte_unit(largest: float) -> tuple[int, str]:
    """Chooses the unit to write an axis of bytes in.

    >>> byte_unit(3 << 30), byte_unit(5000)
    ((1073741824, 'GiB'), (1024, 'KiB'))
    """
    for unit, name in ((4 * TIB, "TiB"), (GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if largest >= unit:
            return (TIB, name) if name == "TiB" else (unit, name)
    return 1, "B"


def number(value: float) -> str:
    """Writes a tick or label: three digits, no trailing zeros.

    >>> number(1234567.0), number(0.25), number(12.0), number(3.14159), number(0)
    ('1,234,567', '0.25', '12', '3.14', '0')
    """
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def byte_axis(axes: Axes, which: str, values: Sequence[float], *, label: str, log: bool | None = None) -> float:
    """Makes an axis of bytes in the unit that suits the largest, and returns that unit: divide what is drawn by it.

    A log scale where the values span more than a factor of 30, unless told.
    """
    found = [value for value in values if value > 0] or [1.0]
    unit, name = byte_unit(max(found))
    scaled = [value / unit for value in found]
    if log or (log is None and max(scaled) / min(scaled) > 30):
        log_axis(axes, which, scaled, write=number, base=10 if max(scaled) / min(scaled) > 3000 else 2)
    else:
        axis = axes.xaxis if which == "x" else axes.yaxis
        axis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    (axes.set_xlabel if which == "x" else axes.set_ylabel)(f"{label} ({name})")
    return float(unit)


def legend_below(figure: Figure, axes: Axes, entries: int) -> None:
    """Puts the legend of the lines that are named under the plot."""
    if entries:
        handles, labels = axes.get_legend_handles_labels()
        _legend(figure, handles, labels)


def _legend(figure: Figure, handles: Sequence[Any], labels: Sequence[str]) -> None:
    """Under the plot, in as many columns as fit; the figure grows by the rows, so that the plot keeps its height."""
    columns = columns_for(figure, labels)
    figure.set_figheight(figure.get_figheight() + LEGEND_ROW * math.ceil(len(labels) / columns))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, columnspacing=1.2)


def columns_for(figure: Figure, labels: Sequence[str]) -> int:
    """Counts the columns of a legend that fit the figure's width, by the widest of its names."""
    widest = max((len(label) for label in labels), default=1) * 5.4 + 46  # points: letters, handle, gaps
    return max(1, min(len(labels), int(figure.get_figwidth() * 72 / widest)))


def spread(places: Sequence[float], gap: float, low: float, *, high: float) -> list[float]:
    """Moves places apart to at least `gap`, kept within low..high, in the same order.

    >>> spread([0.5, 0.52, 0.9], 0.1, 0.0, high=1.0)
    [0.46, 0.56, 0.9]
    """
    order = sorted(range(len(places)), key=lambda i: places[i])

    def within(middle: float, count: float) -> float:
        """The middle of a cluster that stays inside."""
        half = gap * (count - 1) / 2
        return min(max(middle, low + half), high - half) if high - low >= 2 * half else (low + high) / 2

    clusters: list[tuple[float, int]] = []  # where its middle wants to be, how many it holds
    for i in order:
        clusters.append((places[i], 1))
        while len(clusters) > 1:
            (m0, n0), (m1, n1) = clusters[-2:]
            if within(m1, n1) - within(m0, n0) >= gap * (n0 + n1) / 2:
                break
            clusters[-2:] = [((m0 * n0 + m1 * n1) / (n0 + n1), n0 + n1)]
    flat = [within(middle, n) + gap * (k - (n - 1) / 2) for middle, n in clusters for k in range(n)]
    moved = [0.0] * len(places)
    for i, place in zip(order, flat, strict=True):
        moved[i] = round(place, 6)
    return moved


def plain_legend(figure: Figure, handles: Sequence[Any]) -> None:
    """Puts a legend of handles made by hand under the plot."""
    _legend(figure, handles, [str(handle.get_label()) for handle in handles])

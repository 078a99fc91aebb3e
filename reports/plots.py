"""The figures. Each function takes a data frame of `reports.tables` or `reports.measured`, returns a Figure,
and neither shows nor saves.

>>> import pandas as pd
>>> frame = pd.DataFrame({"model": ["a"], "attention": ["GQA"], "kv_dtype": ["bf16"], "context_tokens": [1024],
...     "average_bytes": [2048.0], "next_token_bytes": [2048], "exactness": ["exact"]})
>>> bytes_per_token(frame).axes[0].get_xlabel()
'Cache a token (KiB)'
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from planner.units import GIB, gib, human_bytes, human_tokens
from reports.plots_measured import (
    bandwidth_share,
    comparison,
    prediction_scatter,
    roofline,
    speed_vs_output,
    speedup,
    step_bounds,
    tpot_vs_batch,
    tpot_vs_context,
    ttft_vs_context,
)
from reports.style import (
    BAR,
    HATCHES,
    INK,
    LIMITS,
    MOST_BARS,
    MUTED,
    PARTS,
    SERIES,
    TINY,
    WIDTH,
    byte_axis,
    legend_below,
    look_of,
    new_figure,
    number,
    plain_legend,
    short,
    spread,
    styled,
    token_axis,
)

SHARE_CLIP = 1.6  # bars of what does not fit are cut here, with the true share written
CROSSING_LABELS = 8


# Memory


@styled
def memory_vs_length(frame: pd.DataFrame) -> Figure:
    """Memory of the fullest device against context: lines, limits of devices, and where they cross."""
    return _memory_curve(frame, "context_tokens", "Context (tokens)")


@styled
def memory_vs_batch(frame: pd.DataFrame) -> Figure:
    """Memory of the fullest device against sequences at once."""
    return _memory_curve(frame, "batch", "Batch (sequences at once)")


def _memory_curve(frame: pd.DataFrame, axis: str, label: str) -> Figure:
    lines = frame[frame["role"] == "line"]
    limits = frame[frame["role"] == "limit"]
    crossings = frame[frame["role"] == "crossing"]
    series = list(dict.fromkeys(lines["series"]))
    figure, axes = new_figure(height=3.4)
    sizes = [float(n) for n in (*lines["total_bytes"], *limits["total_bytes"])]
    unit = byte_axis(axes, "y", sizes, label="Memory a device")
    for i, name in enumerate(series):
        part = lines[lines["series"] == name]
        style = look_of(frame, name, else_at=i, column="series")
        axes.plot(
            [float(n) for n in part[axis]],
            [float(n) / unit for n in part["total_bytes"]],
            label=short(name),
            markevery=[len(part) - 1],
            **style,
        )
    token_axis(axes, "x", [float(n) for n in lines[axis]], label=label)
    _limit_lines(axes, limits, unit)
    _crossing_marks(figure, axes, crossings, axis=axis, unit=unit, series=series)
    if axes.get_yscale() == "linear":
        axes.set_ylim(bottom=0)
    legend_below(figure, axes, len(series))
    return figure


def _limit_lines(axes: Axes, limits: pd.DataFrame, unit: float) -> None:
    """A dashed line for each device's memory, named at its right end; names moved apart where lines are close."""
    heights = [float(n) / unit for n in limits["total_bytes"]]
    for i, height in enumerate(heights):
        axes.axhline(height, color=INK, linewidth=1.1, linestyle=LIMITS[i % len(LIMITS)], zorder=1.5)
    low, high = axes.get_ylim()
    axes.set_ylim(low, high * (1.15 if axes.get_yscale() == "log" else 1.04))
    to_share = axes.transAxes.inverted()
    shares = [float(to_share.transform(axes.transData.transform((1.0, height)))[1]) for height in heights]
    places = spread(shares, 0.1, 0.02, high=1.0)
    for name, size, place in zip(limits["device"], limits["total_bytes"], places, strict=True):
        text = f"{short(str(name), 18)}\n{gib(int(size))}"
        axes.text(1.015, place, text, transform=axes.transAxes, fontsize=TINY, color=INK, va="center", linespacing=1.1)


def _crossing_marks(
    figure: Figure, axes: Axes, crossings: pd.DataFrame, *, axis: str, unit: float, series: Sequence[str]
) -> None:
    """A ring where a line meets a limit; the length beside it while there are few enough to read."""
    places, texts = [], []
    for name, at, size in zip(crossings["series"], crossings[axis], crossings["total_bytes"], strict=True):
        x, y = float(at), float(size) / unit
        colour = look_of(crossings, name, else_at=series.index(name), column="series")["color"]
        axes.plot([x], [y], marker="o", markersize=7, markerfacecolor="#ffffff", markeredgecolor=colour,
                  markeredgewidth=1.8, linestyle="none", zorder=5)  # fmt: skip
        places.append((x, y))
        texts.append(human_tokens(int(at)))
    if len(places) <= CROSSING_LABELS:
        label_points(figure, axes, places, texts=texts)


def label_points(figure: Figure, axes: Axes, places: Sequence[tuple[float, float]], *, texts: Sequence[str]) -> None:
    """Writes a small label beside each point, on the side where it meets no other label or point."""
    if not places:
        return
    figure.draw_without_rendering()  # settles the layout, so that places on the page are known
    pixels = [axes.transData.transform(place) for place in places]
    frame = axes.get_window_extent()
    scale = figure.dpi / 72
    taken: list[tuple[float, float, float, float]] = [
        (x - 4 * scale, y - 4 * scale, x + 4 * scale, y + 4 * scale) for x, y in pixels
    ]
    for (x, y), place, text in zip(pixels, places, texts, strict=True):
        width, height = 0.62 * TINY * len(text) * scale, 1.15 * TINY * scale
        best: tuple[float, tuple[float, float, float, float], float, float] | None = None
        for dx, dy in ((1, 1), (1, -1), (-1, 1), (-1, -1), (1, 2.4), (-1, 2.4), (1, -2.4), (-1, -2.4)):
            left = x + 6 * scale if dx > 0 else x - 6 * scale - width
            middle = y + dy * 7 * scale
            box = (left, middle - height / 2, left + width, middle + height / 2)
            cost = sum(_overlap(box, other) for other in taken) + 10 * _outside(box, frame)
            if best is None or cost < best[0] - 1e-6:
                best = (cost, box, dx, dy)
        assert best is not None
        taken.append(best[1])
        axes.annotate(
            text, place, (6 * best[2], best[3] * 7), textcoords="offset points", fontsize=TINY, color=INK, va="center",
            ha="left" if best[2] > 0 else "right", zorder=6,
            bbox={"boxstyle": "square,pad=0.08", "facecolor": "#ffffff", "edgecolor": "none", "alpha": 0.75},
        )  # fmt: skip


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def _outside(box: tuple[float, float, float, float], frame: Any) -> float:
    width, height = box[2] - box[0], box[3] - box[1]
    return float(
        max(0.0, box[2] - frame.x1, frame.x0 - box[0]) * height + max(0.0, box[3] - frame.y1, frame.y0 - box[1]) * width
    )


@styled
def memory_bars(frame: pd.DataFrame) -> Figure:
    """What fills each device, as a share of its memory; bars past the line do not fit and are cut, with the share."""
    frame = frame.head(MOST_BARS)
    several = frame["device"].nunique() > 1
    names = [
        short(str(model), 24) + (f"\n{short(str(device), 24)}" if several else "")
        for model, device in zip(frame["model"], frame["device"], strict=True)
    ]
    figure, axes = new_figure(height=1.05 + (0.42 if several else 0.34) * len(frame))
    columns = (("weights", "weight_bytes"), ("KV cache", "cache_bytes"), ("activations", "activation_bytes"), ("overhead", "overhead_bytes"), ("free", "free_bytes"))  # fmt: skip
    for row, record in enumerate(frame.to_dict("records")):
        done = 0.0
        for part, column in columns:
            share = max(0.0, record[column] / record["capacity_bytes"])
            shown = max(0.0, min(share, SHARE_CLIP - done))
            axes.barh(row, shown * 100, BAR, left=done * 100, color=PARTS[part], hatch=HATCHES[part], edgecolor="#ffffff",
                      linewidth=0, label=part if row == 0 else None)  # fmt: skip
            done += shown
        total = record["total_bytes"] / record["capacity_bytes"]
        words = f"{_few(record['total_bytes'] / GIB)} of {_few(record['capacity_bytes'] / GIB)} GiB"
        if total > SHARE_CLIP:
            words += f" ({number(total)}x)"
        if not record.get("within_positions", True):
            words += ": too long"
        axes.text(max(done, 1.0) * 100 + 2, row, words, va="center", fontsize=TINY, color=INK)
    axes.axvline(100, color=INK, linewidth=1.4)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.6)
    axes.set_xlim(0, 100 * (SHARE_CLIP + 1.1) if (frame["total_bytes"] > frame["capacity_bytes"]).any() else 175)
    axes.set_xticks([0, 25, 50, 75, 100])
    axes.set_xlabel("Share of the device's memory (%)")
    axes.grid(axis="y", visible=False)
    plain_legend(
        figure, [Patch(facecolor=PARTS[p], hatch=HATCHES[p], edgecolor="#ffffff", label=p) for p, _ in columns]
    )
    return figure


def _few(size: float) -> str:
    """
    >>> _few(18.013), _few(641.98)
    ('18.0', '642')
    """
    return f"{size:.1f}" if size < 100 else f"{size:,.0f}"


@styled
def bytes_per_token(frame: pd.DataFrame) -> Figure:
    """Average cache of a token as a bar, what the next token adds as a line across it."""
    table = frame.sort_values(["average_bytes", "model"], ascending=[False, True], kind="stable").reset_index(drop=True)
    figure, axes = new_figure(height=1.0 + 0.36 * len(table))
    largest = [max(a, float(n)) for a, n in zip(table["average_bytes"], table["next_token_bytes"], strict=True)]
    unit = byte_axis(axes, "x", largest, label="Cache a token", log=False)
    for row, record in enumerate(table.to_dict("records")):
        colour = look_of(frame, record["model"])["color"]
        axes.barh(row, record["average_bytes"] / unit, BAR, color=colour)
        axes.plot([record["next_token_bytes"] / unit] * 2, [row - 0.38, row + 0.38], color=INK, linewidth=2.2)
        end = largest[row] / unit
        axes.text(end + max(largest) / unit * 0.015, row, _token_words(record), va="center", fontsize=TINY)
    names = [f"{short(str(r['model']), 24)}\n({r['attention']})" for r in table.to_dict("records")]
    axes.set_yticks(range(len(table)), names)
    axes.set_ylim(len(table) - 0.5, -0.6)
    axes.set_xlim(0, max(largest) / unit * 1.32)
    axes.grid(axis="y", visible=False)
    plain_legend(figure, [Line2D([], [], color=INK, linewidth=2.2, label="next token adds")])
    return figure


def _token_words(record: dict[Any, Any]) -> str:
    average, following = round(record["average_bytes"]), int(record["next_token_bytes"])
    if average == following:
        return human_bytes(average)
    return f"{human_bytes(average)}, next {human_bytes(following)}"


@styled
def feasible_region(frame: pd.DataFrame) -> Figure:
    """Batch x context: share of memory as colour, tokens held in the cells, a thick border where it stops fitting."""
    lengths = sorted(set(frame["context_tokens"]))
    batches = sorted(set(frame["batch"]))
    figure, axes = new_figure(width=max(WIDTH, 0.5 * len(lengths) + 0.9), height=0.95 + 0.3 * len(batches))
    fits = {(r["batch"], r["context_tokens"]): bool(r["fits"]) for r in frame.to_dict("records")}
    for record in frame.to_dict("records"):
        x, y = lengths.index(record["context_tokens"]), batches.index(record["batch"])
        share = record["total_bytes"] / record["capacity_bytes"]
        fill, ink = _cell(share, bool(record["fits"]))
        axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=fill, edgecolor="#ffffff", linewidth=0.8,
                                 hatch=None if record["fits"] else "////"))  # fmt: skip
        axes.text(x, y, _cell_words(int(record["held_tokens"])), ha="center", va="center", fontsize=TINY, color=ink)
    _border(axes, lengths, batches, fits=fits)
    axes.set_xlim(-0.5, len(lengths) - 0.5)
    axes.set_ylim(-0.5, len(batches) - 0.5)
    axes.set_xticks(range(len(lengths)), [human_tokens(int(n)) for n in lengths])
    axes.set_yticks(range(len(batches)), [f"{n:,}" for n in batches])
    axes.set_xlabel("Context of each sequence (tokens)")
    axes.set_ylabel("Batch (sequences at once)")
    axes.set_title("Each cell: tokens held, batch x context (1k is 1,024)", fontsize=TINY, loc="left")
    axes.grid(visible=False)
    axes.tick_params(length=0)
    handles: list[Any] = [
        Patch(facecolor=_cell(share, True)[0], edgecolor=MUTED, label=words)
        for share, words in ((0.3, "fits, under half full"), (0.6, "fits, over half"), (0.9, "fits, over 85 %"))
    ]
    handles.append(Patch(facecolor=_cell(2, False)[0], edgecolor="#ffffff", hatch="////", label="does not fit"))
    plain_legend(figure, handles)
    return figure


def _cell(share: float, fits: bool) -> tuple[str, str]:
    """(fill, text colour) of a cell."""
    if not fits:
        return "#9aa4ae", "#22272e"
    if share <= 0.5:
        return "#cfe8f7", "#10202c"
    return ("#7cc0e8", "#10202c") if share <= 0.85 else ("#0f5f93", "#fefefe")


def _cell_words(tokens: int) -> str:
    """
    >>> _cell_words(2048), _cell_words(3 << 20), _cell_words(1000)
    ('2k', '3M', '1,000')
    """
    if tokens >= 1 << 20:
        return f"{tokens / (1 << 20):.3g}M"
    return f"{tokens / 1024:.3g}k" if tokens >= 10_000 or tokens % 1024 == 0 else f"{tokens:,}"


def _border(axes: Axes, lengths: Sequence[int], batches: Sequence[int], *, fits: dict[tuple[int, int], bool]) -> None:
    """A line along every edge between a cell that fits and one that does not."""
    for y, batch in enumerate(batches):
        for x, tokens in enumerate(lengths):
            if x + 1 < len(lengths) and fits[batch, tokens] != fits[batch, lengths[x + 1]]:
                axes.plot(
                    [x + 0.5, x + 0.5],
                    [y - 0.5, y + 0.5],
                    color="#d55e00",
                    linewidth=3,
                    solid_capstyle="round",
                    zorder=3,
                )
            if y + 1 < len(batches) and fits[batch, tokens] != fits[batches[y + 1], tokens]:
                axes.plot(
                    [x - 0.5, x + 0.5],
                    [y + 0.5, y + 0.5],
                    color="#d55e00",
                    linewidth=3,
                    solid_capstyle="round",
                    zorder=3,
                )


@styled
def kv_dtype_savings(frame: pd.DataFrame) -> Figure:
    """Size of the cache in each KV dtype as a share of the one asked for; the part that scales take is hatched."""
    models = list(dict.fromkeys(frame["model"]))
    native = frame["model"].map(frame[frame["asked"]].groupby("model", sort=False)["kv_bytes"].first())
    table = frame.assign(
        dtype=["fp16, bf16" if name in ("fp16", "bf16") else name for name in frame["kv_dtype"]],
        codes=frame["code_bytes"] / native * 100,
        scales=frame["scale_bytes"] / native * 100,
    )
    dtypes = list(table.groupby("dtype", sort=False)["ratio"].mean().sort_values(ascending=False, kind="stable").index)
    figure, axes = new_figure(height=1.15 + 0.27 * len(dtypes))
    for row, dtype in enumerate(dtypes):
        part = table[table["dtype"] == dtype]
        codes, scales = float(part["codes"].mean()), float(part["scales"].mean())
        axes.barh(row, codes, BAR, color=SERIES[0])
        if scales > 0:
            axes.barh(row, scales, BAR, left=codes, color=SERIES[1], hatch="///", edgecolor="#ffffff", linewidth=0)
        low, high = part["ratio"].min() * 100, part["ratio"].max() * 100
        words = f"{high:.1f} %" if high - low < 0.05 else f"{low:.1f} to {high:.1f} %"
        if len(models) == 1:
            words += f", {human_bytes(int(part['kv_bytes'].iloc[0]))}"
        elif part["model"].nunique() < len(models):
            words += f", {part['model'].nunique()} of {len(models)} models"
        axes.text(max(high, codes + scales) + 2, row, words, va="center", fontsize=TINY)
    axes.set_yticks(range(len(dtypes)), dtypes)
    axes.set_ylim(len(dtypes) - 0.5, -0.6)
    axes.set_xlim(0, float(frame["ratio"].max()) * 135)
    axes.set_xlabel("KV cache as a share of the dtype asked for (%)")
    axes.set_ylabel("KV dtype")
    axes.grid(axis="y", visible=False)
    handles: list[Any] = [
        Patch(facecolor=SERIES[0], label="the numbers"),
        Patch(facecolor=SERIES[1], hatch="///", edgecolor="#ffffff", label="their scales"),
    ]
    plain_legend(figure, handles)
    return figure


__all__ = [
    "bandwidth_share", "bytes_per_token", "comparison", "feasible_region", "kv_dtype_savings", "memory_bars", "memory_vs_batch",
    "memory_vs_length", "prediction_scatter", "roofline", "speed_vs_output", "speedup", "step_bounds", "tpot_vs_batch",
    "tpot_vs_context", "ttft_vs_context",
]  # fmt: skip

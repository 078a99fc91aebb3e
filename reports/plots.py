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
from reports.style import (
    HATCHES,
    INK,
    LIMITS,
    MARKERS,
    MUTED,
    PARTS,
    SERIES,
    WIDTH,
    byte_axis,
    legend_below,
    log_axis,
    look,
    new_figure,
    number,
    short,
    spread,
    styled,
    token_axis,
)

FAMILY_COLOURS = {
    "MHA": SERIES[1],
    "GQA": SERIES[0],
    "MQA": SERIES[5],
    "MLA": SERIES[2],
    "window": SERIES[4],
    "hybrid": SERIES[3],
    "state": SERIES[6],
    "none": MUTED,
}
BAR = 0.62
SHARE_CLIP = 1.6  # bars of what does not fit are cut here, with the true share written
CROSSING_LABELS = 8
TINY = 8.0  # points; the smallest text


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
    figure, axes = new_figure(height=3.9 + 0.17 * ((len(series) + 1) // 2))
    sizes = [float(n) for n in (*lines["total_bytes"], *limits["total_bytes"])]
    unit = byte_axis(axes, "y", sizes, "Memory a device")
    for i, name in enumerate(series):
        part = lines[lines["series"] == name]
        style = look(i)
        axes.plot(
            [float(n) for n in part[axis]],
            [float(n) / unit for n in part["total_bytes"]],
            label=short(name),
            markevery=[len(part) - 1],
            **style,
        )
    token_axis(axes, "x", [float(n) for n in lines[axis]], label)
    _limit_lines(axes, limits, unit)
    _crossing_marks(figure, axes, crossings, axis, unit, series)
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
    places = spread(shares, 0.1, 0.02, 1.0)
    for name, size, place in zip(limits["device"], limits["total_bytes"], places, strict=True):
        text = f"{short(str(name), 18)}\n{gib(int(size))}"
        axes.text(1.015, place, text, transform=axes.transAxes, fontsize=TINY, color=INK, va="center", linespacing=1.1)


def _crossing_marks(
    figure: Figure, axes: Axes, crossings: pd.DataFrame, axis: str, unit: float, series: Sequence[str]
) -> None:
    """A ring where a line meets a limit; the length beside it while there are few enough to read."""
    places, texts = [], []
    for name, at, size in zip(crossings["series"], crossings[axis], crossings["total_bytes"], strict=True):
        x, y = float(at), float(size) / unit
        colour = look(series.index(name))["color"]
        axes.plot([x], [y], marker="o", markersize=7, markerfacecolor="#ffffff", markeredgecolor=colour,
                  markeredgewidth=1.8, linestyle="none", zorder=5)  # fmt: skip
        places.append((x, y))
        texts.append(human_tokens(int(at)))
    if len(places) <= CROSSING_LABELS:
        label_points(figure, axes, places, texts)


def label_points(figure: Figure, axes: Axes, places: Sequence[tuple[float, float]], texts: Sequence[str]) -> None:
    """A small label beside each point, on the side where it meets no other label or point."""
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
    several = frame["device"].nunique() > 1
    names = [
        short(str(model), 24) + (f"\n{short(str(device), 24)}" if several else "")
        for model, device in zip(frame["model"], frame["device"], strict=True)
    ]
    figure, axes = new_figure(height=1.5 + (0.42 if several else 0.34) * len(frame))
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
            words += f" ({total:.3g}x)"
        axes.text(max(done, 1.0) * 100 + 2, row, words, va="center", fontsize=TINY, color=INK)
    axes.axvline(100, color=INK, linewidth=1.4)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.6)
    axes.set_xlim(0, 100 * (SHARE_CLIP + 1.1) if (frame["total_bytes"] > frame["capacity_bytes"]).any() else 175)
    axes.set_xticks([0, 25, 50, 75, 100])
    axes.set_xlabel("Share of the device's memory (%)")
    axes.grid(axis="y", visible=False)
    _plain_legend(
        figure, [Patch(facecolor=PARTS[p], hatch=HATCHES[p], edgecolor="#ffffff", label=p) for p, _ in columns]
    )
    return figure


def _few(size: float) -> str:
    """
    >>> _few(18.013), _few(641.98)
    ('18.0', '642')
    """
    return f"{size:.1f}" if size < 100 else f"{size:,.0f}"


def _plain_legend(figure: Figure, handles: Sequence[Any], columns: int | None = None) -> None:
    figure.legend(
        handles=list(handles),
        loc="outside lower center",
        ncols=columns or min(5, len(handles)),
        columnspacing=1.2,
        handletextpad=0.5,
    )


@styled
def bytes_per_token(frame: pd.DataFrame) -> Figure:
    """Average cache of a token as a bar, what the next token adds as a line across it."""
    table = frame.sort_values(["average_bytes", "model"], ascending=[False, True], kind="stable").reset_index(drop=True)
    figure, axes = new_figure(height=1.6 + 0.36 * len(table))
    largest = [max(a, float(n)) for a, n in zip(table["average_bytes"], table["next_token_bytes"], strict=True)]
    unit = byte_axis(axes, "x", largest, "Cache a token", log=False)
    for row, record in enumerate(table.to_dict("records")):
        colour = FAMILY_COLOURS[record["attention"]]
        axes.barh(row, record["average_bytes"] / unit, BAR, color=colour)
        axes.plot([record["next_token_bytes"] / unit] * 2, [row - 0.38, row + 0.38], color=INK, linewidth=2.2)
        end = largest[row] / unit
        axes.text(end + max(largest) / unit * 0.015, row, _token_words(record), va="center", fontsize=TINY)
    axes.set_yticks(range(len(table)), [short(str(name)) for name in table["model"]])
    axes.set_ylim(len(table) - 0.5, -0.6)
    axes.set_xlim(0, max(largest) / unit * 1.32)
    axes.grid(axis="y", visible=False)
    families = list(dict.fromkeys(table["attention"]))
    handles: list[Any] = [Patch(facecolor=FAMILY_COLOURS[name], label=name) for name in families]
    handles.append(Line2D([], [], color=INK, linewidth=2.2, label="next token adds"))
    _plain_legend(figure, handles, 4)
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
    figure, axes = new_figure(width=max(WIDTH, 0.5 * len(lengths) + 0.9), height=1.5 + 0.3 * len(batches))
    fits = {(r["batch"], r["context_tokens"]): bool(r["fits"]) for r in frame.to_dict("records")}
    for record in frame.to_dict("records"):
        x, y = lengths.index(record["context_tokens"]), batches.index(record["batch"])
        share = record["total_bytes"] / record["capacity_bytes"]
        fill, ink = _cell(share, bool(record["fits"]))
        axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=fill, edgecolor="#ffffff", linewidth=0.8,
                                 hatch=None if record["fits"] else "////"))  # fmt: skip
        axes.text(x, y, _cell_words(int(record["held_tokens"])), ha="center", va="center", fontsize=TINY, color=ink)
    _border(axes, lengths, batches, fits)
    axes.set_xlim(-0.5, len(lengths) - 0.5)
    axes.set_ylim(-0.5, len(batches) - 0.5)
    axes.set_xticks(range(len(lengths)), [human_tokens(int(n)) for n in lengths])
    axes.set_yticks(range(len(batches)), [f"{n:,}" for n in batches])
    axes.set_xlabel("Context of each sequence (tokens)")
    axes.set_ylabel("Batch (sequences at once)")
    axes.grid(visible=False)
    axes.tick_params(length=0)
    handles: list[Any] = [
        Patch(facecolor=_cell(share, True)[0], edgecolor=MUTED, label=words)
        for share, words in ((0.3, "fits, under half full"), (0.6, "fits, over half"), (0.9, "fits, over 85 %"))
    ]
    handles.append(Patch(facecolor=_cell(2, False)[0], edgecolor="#ffffff", hatch="////", label="does not fit"))
    _plain_legend(figure, handles, 2)
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


def _border(axes: Axes, lengths: Sequence[int], batches: Sequence[int], fits: dict[tuple[int, int], bool]) -> None:
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
    figure, axes = new_figure(height=1.6 + 0.27 * len(dtypes))
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
    _plain_legend(figure, handles)
    return figure


# Prediction against measurement


@styled
def prediction_scatter(frame: pd.DataFrame) -> Figure:
    """Measured against predicted on equal log axes, bytes and seconds apart; on the line they are equal."""
    units = [unit for unit in ("bytes", "seconds") if (frame["unit"] == unit).any()]
    figure = Figure(figsize=(WIDTH if len(units) == 1 else 1.9 * WIDTH, 4.6), layout="constrained")
    quantities = list(dict.fromkeys(frame["quantity"]))
    for i, unit in enumerate(units):
        axes = figure.add_subplot(1, len(units), i + 1)
        part = frame[frame["unit"] == unit]
        _scatter_panel(axes, part, unit, quantities)
    handles = [
        Line2D([], [], linestyle="none", marker=look(i)["marker"], color=look(i)["color"], label=name)
        for i, name in enumerate(quantities)
    ]
    handles.append(Line2D([], [], color=INK, linewidth=1.1, label="measured = predicted"))
    _plain_legend(figure, handles, 2 if len(units) == 1 else 4)
    return figure


def time_scale(values: Sequence[float]) -> tuple[float, str]:
    """Seconds where the longest is above two, else milliseconds."""
    return (1.0, "s") if max(values) >= 2 else (1e-3, "ms")


def _scatter_panel(axes: Axes, part: pd.DataFrame, unit: str, quantities: Sequence[str]) -> None:
    values = [float(n) for n in (*part["predicted"], *part["measured"])]
    low, high = min(values) / 1.6, max(values) * 1.6
    if unit == "bytes":
        scale = byte_axis(axes, "x", values, "Predicted", log=True)
        byte_axis(axes, "y", values, "Measured", log=True)
    else:
        scale, time_unit = time_scale(values)
        for which, name in (("x", "Predicted"), ("y", "Measured")):
            log_axis(axes, which, [low / scale, high / scale], number, 10)
            (axes.set_xlabel if which == "x" else axes.set_ylabel)(f"{name} ({time_unit})")
    axes.plot([low / scale, high / scale], [low / scale, high / scale], color=INK, linewidth=1.1, zorder=1.5)
    for name in dict.fromkeys(part["quantity"]):
        one = part[part["quantity"] == name]
        style = look(list(quantities).index(name))
        axes.plot(one["predicted"] / scale, one["measured"] / scale, linestyle="none", marker=style["marker"],
                  color=style["color"], markersize=6, markeredgecolor="#ffffff", markeredgewidth=0.5, alpha=0.9)  # fmt: skip
    axes.set_xlim(low / scale, high / scale)
    axes.set_ylim(low / scale, high / scale)
    axes.set_box_aspect(1)


# Speed


def series_names(frame: pd.DataFrame, columns: Sequence[str]) -> pd.Series:
    """A name for each row from the columns in which rows differ: the least that tells the lines apart.

    >>> frame = pd.DataFrame({"run": ["a", "a"], "cache": ["static", "none"], "batch": [1, 1]})
    >>> list(series_names(frame, ["run", "cache", "batch"]))
    ['static cache', 'no cache']
    """
    varying = [name for name in columns if frame[name].nunique() > 1] or [columns[0]]

    def words(row: Any) -> str:
        parts = []
        for name in varying:
            value = row[name]
            if name == "cache":
                parts.append("no cache" if value == "none" else f"{value} cache")
            elif name == "batch":
                parts.append(f"batch {int(value):,}")
            else:
                parts.append(str(value))
        return ", ".join(parts)

    if frame.empty:
        return pd.Series([], dtype=str)
    return frame.apply(words, axis=1)


LINE_PARTS = ("run", "cache", "batch", "dtype", "linear", "mode")


def _measured_lines(
    axes: Axes, frame: pd.DataFrame, axis: str, scale: float = 1.0, parts: Sequence[str] = LINE_PARTS
) -> list[str]:
    """A line a series with the spread of its repeats as bars; dashed where the value is estimated."""
    names = series_names(frame, parts)
    series = list(dict.fromkeys(names))
    for i, name in enumerate(series):
        part = frame[names == name].sort_values(axis, kind="stable")
        style = look(i)
        estimated = (part["exactness"] == "estimated").all()
        x = [float(n) for n in part[axis]]
        y = [float(n) / scale for n in part["value"]]
        if estimated:
            style["linestyle"] = (0, (3, 2))
        axes.plot(x, y, label=short(name, 34) + (" (estimated)" if estimated else ""), **style)
        low = [max(0.0, v - float(n) / scale) if pd.notna(n) else 0.0 for v, n in zip(y, part["low"], strict=True)]
        high = [max(0.0, float(n) / scale - v) if pd.notna(n) else 0.0 for v, n in zip(y, part["high"], strict=True)]
        if any(low) or any(high):
            axes.errorbar(x, y, yerr=[low, high], fmt="none", ecolor=style["color"], elinewidth=1.1, capsize=2.5)
    return series


@styled
def speed_vs_output(frame: pd.DataFrame) -> Figure:
    """Tokens a second with and without a cache against output length, the crossing marked."""
    lines = frame[frame["role"] == "line"]
    figure, axes = new_figure(height=4.1)
    series = _measured_lines(axes, lines, "new_tokens")
    log_axis(axes, "x", [float(n) for n in lines["new_tokens"]], number, 10)
    _output_ticks(axes, sorted({int(n) for n in lines["new_tokens"]}))
    axes.set_xlabel("Output (new tokens)")
    axes.set_ylabel("Speed (tokens/s)")
    axes.set_ylim(0, float(lines["value"].max()) * 1.14)
    runs = frame["run"].nunique()
    for record in frame[frame["role"] == "crossing"].to_dict("records"):
        at = float(record["new_tokens"])
        inside = max(at, float(lines["new_tokens"].min()))
        axes.axvline(inside, color=MUTED, linewidth=1.1, linestyle=(0, (2, 2)))
        words = f"the cache pays from {int(at):,} token{'s' if at > 1 else ''}"
        if runs > 1:
            words = f"{short(str(record['run']), 18)}: {int(at):,}"
        axes.annotate(words, (inside, 1), (4, -2), xycoords=("data", "axes fraction"), textcoords="offset points", fontsize=TINY,
                      va="top", rotation=90 if runs > 1 else 0)  # fmt: skip
    legend_below(figure, axes, len(series))
    return figure


def _output_ticks(axes: Axes, values: Sequence[int]) -> None:
    """The lengths that were run as ticks, those left out that would touch."""
    kept: list[int] = []
    for value in values:
        if not kept or value / kept[-1] >= 1.6:
            kept.append(value)
    axes.set_xticks(kept, [f"{value:,}" for value in kept])


@styled
def speedup(frame: pd.DataFrame) -> Figure:
    """How many times faster generation is with a cache, against output length; 1 is no gain."""
    figure, axes = new_figure(height=3.9)
    measured = frame[frame["role"] == "measured"]
    series = _measured_lines(axes, measured, "new_tokens")
    predicted = frame[frame["role"] == "predicted"]
    for run in dict.fromkeys(predicted["run"]):
        part = predicted[predicted["run"] == run].sort_values("new_tokens", kind="stable")
        axes.plot(
            [float(n) for n in part["new_tokens"]], [float(n) for n in part["value"]], color=MUTED, linestyle=(0, (1, 1.5)),
            marker="x", label=f"predicted, {short(str(run), 20)}",
        )  # fmt: skip
        series.append(run)
    axes.axhline(1, color=INK, linewidth=1.1)
    values = [float(n) for n in frame["value"]]
    log_axis(axes, "x", [float(n) for n in measured["new_tokens"]], number, 10)
    _output_ticks(axes, sorted({int(n) for n in measured["new_tokens"]}))
    if max(values) / min(values) > 30:
        log_axis(axes, "y", values, number, 10)
    else:
        axes.set_ylim(bottom=0)
    for record in measured.to_dict("records") if len(series) == 1 else []:
        axes.annotate(number(round(record["value"], 1)), (record["new_tokens"], record["value"]), (-4, 5), textcoords="offset points",
                      fontsize=TINY, ha="right")  # fmt: skip
    axes.set_xlabel("Output (new tokens)")
    axes.set_ylabel("Speedup by the cache (times)")
    legend_below(figure, axes, len(series))
    return figure


def _times_figure(frame: pd.DataFrame, axis: str, xlabel: str, ylabel: str, parts: Sequence[str]) -> Figure:
    figure, axes = new_figure(height=3.9)
    seconds = [float(n) for n in frame["value"]]
    scale, unit = time_scale(seconds)
    series = _measured_lines(axes, frame, axis, scale, parts)
    token_axis(axes, "x", [float(n) for n in frame[axis]], xlabel)
    if max(seconds) / min(seconds) > 30:
        log_axis(axes, "y", [value / scale for value in seconds], number, 10)
    else:
        axes.set_ylim(bottom=0)
    axes.set_ylabel(f"{ylabel} ({unit})")
    legend_below(figure, axes, len(series))
    return figure


@styled
def ttft_vs_context(frame: pd.DataFrame) -> Figure:
    """Time to the first token against the length of the prompt."""
    return _times_figure(frame, "context_tokens", "Prompt (tokens)", "Time to first token", LINE_PARTS)


@styled
def tpot_vs_context(frame: pd.DataFrame) -> Figure:
    """Time of a decode step against the context that it reads."""
    return _times_figure(frame, "context_tokens", "Context (tokens)", "Time a decode step", LINE_PARTS)


@styled
def tpot_vs_batch(frame: pd.DataFrame) -> Figure:
    """Time of a decode step against the sequences that share it."""
    parts = ("run", "cache", "context_tokens", "dtype", "linear", "mode")
    table = frame.assign(context_tokens=[f"{human_tokens(int(n))} tokens" for n in frame["context_tokens"]])
    return _times_figure(table, "batch", "Batch (sequences at once)", "Time a decode step", parts)


@styled
def bandwidth_share(frame: pd.DataFrame) -> Figure:
    """Bytes that a decode step must read, over its time, as a share of the bandwidth that the machine reaches."""
    figure, axes = new_figure(height=3.9)
    series = _measured_lines(axes, frame, "context_tokens", 0.01)
    token_axis(axes, "x", [float(n) for n in frame["context_tokens"]], "Context (tokens)")
    axes.axhline(100, color=INK, linewidth=1.1)
    axes.annotate("all of the bandwidth", (0, 100), (4, -3), xycoords=("axes fraction", "data"), textcoords="offset points",
                  fontsize=TINY, va="top")  # fmt: skip
    axes.set_ylim(0, max(108.0, float(frame["value"].max()) * 108))
    axes.set_ylabel("Share of read bandwidth (%)")
    legend_below(figure, axes, len(series))
    return figure


@styled
def step_bounds(frame: pd.DataFrame) -> Figure:
    """The least a decode step can take against batch, on one device; hollow where the batch no longer fits."""
    table = frame[frame["step"] == "decode"]
    figure, axes = new_figure(height=4.1)
    models = list(dict.fromkeys(table["model"]))
    values = [float(n) * 1e3 for n in table["bound_seconds"]]
    for i, name in enumerate(models):
        part = table[table["model"] == name].sort_values("batch", kind="stable")
        style = look(i)
        x, y = [float(n) for n in part["batch"]], [float(n) * 1e3 for n in part["bound_seconds"]]
        axes.plot(x, y, color=style["color"], linestyle=style["linestyle"])
        for record, a, b in zip(part.to_dict("records"), x, y, strict=True):
            axes.plot([a], [b], marker=style["marker"], color=style["color"], linestyle="none",
                      markerfacecolor=style["color"] if record["fits"] else "#ffffff")  # fmt: skip
        axes.plot([], [], label=short(name), **style)
    token_axis(axes, "x", [float(n) for n in table["batch"]], "Batch (sequences at once)")
    log_axis(axes, "y", values, number, 10)
    axes.set_ylabel("Least time a decode step (ms)")
    legend_below(figure, axes, len(models))
    return figure


@styled
def roofline(frame: pd.DataFrame) -> Figure:
    """FLOP/s against FLOPs for each byte read: a roof a device, and the steps under it."""
    roof, points = frame[frame["role"] == "roof"], frame[frame["role"] == "point"]
    figure, axes = new_figure(height=4.3)
    ridges = [float(r["flops_per_s"] / r["bandwidth_bytes_per_s"]) for r in roof.to_dict("records")]
    reach = [float(n) for n in points["intensity_flops_per_byte"]]
    low, high = min([*reach, *ridges, 1.0]) / 2, max([*reach, *ridges]) * 3
    peak = max([*(float(n) for n in roof["flops_per_s"]), *(float(n) for n in points["flops_per_s"])])
    unit, name = (1e12, "TFLOP/s") if peak >= 2e12 else (1e9, "GFLOP/s")
    drawn = []
    for i, record in enumerate(roof.to_dict("records")):
        ridge = record["flops_per_s"] / record["bandwidth_bytes_per_s"]
        y = [low * record["bandwidth_bytes_per_s"] / unit, record["flops_per_s"] / unit, record["flops_per_s"] / unit]
        axes.plot([low, ridge, high], y, color=INK if i < len(LIMITS) else MUTED, linewidth=1.6,
                  linestyle=LIMITS[i % len(LIMITS)] if i else "-", label=short(str(record["label"]), 34))  # fmt: skip
        drawn += y
    labels = list(dict.fromkeys(points["label"]))
    for i, label in enumerate(labels):
        part = points[points["label"] == label]
        axes.plot(part["intensity_flops_per_byte"], part["flops_per_s"] / unit, linestyle="none", marker=MARKERS[i % len(MARKERS)],
                  color=SERIES[i % len(SERIES)], markersize=7, markeredgecolor="#ffffff", markeredgewidth=0.6, zorder=4,
                  markerfacecolor=SERIES[i % len(SERIES)] if i < len(SERIES) else "#ffffff", label=short(label, 34))  # fmt: skip
        drawn += [float(n) / unit for n in part["flops_per_s"]]
    log_axis(axes, "x", [low, high], number, 10)
    log_axis(axes, "y", drawn, number, 10)
    axes.set_xlim(low, high)
    axes.set_xlabel("Intensity (FLOPs for each byte read)")
    axes.set_ylabel(f"Speed ({name})")
    legend_below(figure, axes, len(roof) + len(labels))
    return figure


# Two runs


@styled
def comparison(frame: pd.DataFrame) -> Figure:
    """Change of each time from run A to run B in percent; filled where it is beyond the spread of both."""
    table = frame[frame["quantity"].isin(["ttft_seconds", "step_seconds", "total_seconds"])].reset_index(drop=True)
    table = table[table["change_share"].notna()].head(32).reset_index(drop=True)
    figure, axes = new_figure(width=1.2 * WIDTH, height=1.5 + 0.25 * max(1, len(table)))
    for row, record in enumerate(table.to_dict("records")):
        change, beyond = record["change_share"] * 100, record["verdict"] == "beyond the spread"
        colour = SERIES[0] if change < 0 else SERIES[1]
        axes.barh(row, change, BAR, color=colour if beyond else "#ffffff", edgecolor=colour, linewidth=1.2)
        axes.annotate(f"{change:+.1f} %", (change, row), (4 if change >= 0 else -4, 0), textcoords="offset points", va="center",
                      ha="left" if change >= 0 else "right", fontsize=TINY)  # fmt: skip
    axes.axvline(0, color=INK, linewidth=1.1)
    axes.set_yticks(range(len(table)), [_comparison_name(record) for record in table.to_dict("records")])
    axes.set_ylim(len(table) - 0.5, -0.6)
    reach = max([5.0, *(abs(n) * 100 for n in table["change_share"])])
    axes.set_xlim(
        -1.3 * reach if (table["change_share"] < 0).any() else -0.15 * reach,
        1.3 * reach if (table["change_share"] > 0).any() else 0.15 * reach,
    )
    axes.set_xlabel("Change of time from A to B (%)")
    axes.grid(axis="y", visible=False)
    handles = [
        Patch(facecolor=SERIES[0], label="faster, beyond the spread"),
        Patch(facecolor=SERIES[1], label="slower, beyond the spread"),
        Patch(facecolor="#ffffff", edgecolor=MUTED, label="within the spread"),
    ]
    _plain_legend(figure, handles, 3)
    return figure


def _comparison_name(record: dict[Any, Any]) -> str:
    names = {
        "generate": "generate",
        "generate_uncached": "uncached",
        "prefill": "prefill",
        "decode": "decode",
        "uncached_step": "uncached step",
    }
    what = names.get(str(record["what"]), str(record["what"]))
    length = int(record["new_tokens"]) if record["new_tokens"] else int(record["context_tokens"])
    place = f"{length:,} new" if record["new_tokens"] else f"at {length:,}"
    batch = "" if record["batch"] == 1 else f", batch {int(record['batch'])}"
    cache = "" if record["cache"] in ("", "none") else f", {record['cache']}"
    return short(f"{what} {place}{batch}{cache}", 40)


__all__ = [
    "bandwidth_share", "bytes_per_token", "comparison", "feasible_region", "kv_dtype_savings", "memory_bars", "memory_vs_batch",
    "memory_vs_length", "prediction_scatter", "roofline", "speed_vs_output", "speedup", "step_bounds", "tpot_vs_batch",
    "tpot_vs_context", "ttft_vs_context",
]  # fmt: skip

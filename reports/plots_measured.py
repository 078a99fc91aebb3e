"""The figures of runs: prediction against measurement, speed, rooflines, two runs side by side.

As in `plots`: a data frame in, a Figure out, nothing shown or saved.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from planner.units import human_tokens
from reports.style import (
    BAR,
    INK,
    LIMITS,
    MUTED,
    SERIES,
    TINY,
    WIDTH,
    byte_axis,
    legend_below,
    log_axis,
    look,
    look_of,
    new_figure,
    number,
    plain_legend,
    short,
    styled,
    token_axis,
)

# Prediction against measurement


@styled
def prediction_scatter(frame: pd.DataFrame) -> Figure:
    """Measured against predicted on equal log axes, bytes and seconds apart; on the line they are equal."""
    units = [unit for unit in ("bytes", "seconds") if (frame["unit"] == unit).any()]
    figure = Figure(figsize=(WIDTH if len(units) == 1 else 1.9 * WIDTH, 3.9), layout="constrained")
    quantities = list(dict.fromkeys(frame["quantity"]))
    for i, unit in enumerate(units):
        axes = figure.add_subplot(1, len(units), i + 1)
        part = frame[frame["unit"] == unit]
        _scatter_panel(axes, part, unit, quantities=quantities)
    handles = [
        Line2D([], [], linestyle="none", marker=look(i)["marker"], color=look(i)["color"], label=name)
        for i, name in enumerate(quantities)
    ]
    handles.append(Line2D([], [], color=INK, linewidth=1.1, label="measured = predicted"))
    plain_legend(figure, handles)
    return figure


def time_scale(values: Sequence[float]) -> tuple[float, str]:
    """Chooses seconds where the longest is above two, else milliseconds: (factor, unit)."""
    return (1.0, "s") if max(values) >= 2 else (1e-3, "ms")


def _scatter_panel(axes: Axes, part: pd.DataFrame, unit: str, *, quantities: Sequence[str]) -> None:
    values = [float(n) for n in (*part["predicted"], *part["measured"])]
    low, high = min(values) / 1.6, max(values) * 1.6
    if unit == "bytes":
        scale = byte_axis(axes, "x", values, label="Predicted", log=True)
        byte_axis(axes, "y", values, label="Measured", log=True)
    else:
        scale, time_unit = time_scale(values)
        for which, name in (("x", "Predicted"), ("y", "Measured")):
            log_axis(axes, which, [low / scale, high / scale], write=number, base=10)
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
    """Names each row by the columns in which rows differ: the least that tells the lines apart.

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
    axes: Axes, frame: pd.DataFrame, axis: str, *, scale: float = 1.0, parts: Sequence[str] = LINE_PARTS
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
    figure, axes = new_figure(height=3.4)
    series = _measured_lines(axes, lines, "new_tokens")
    log_axis(axes, "x", [float(n) for n in lines["new_tokens"]], write=number, base=10)
    _output_ticks(axes, sorted({int(n) for n in lines["new_tokens"]}))
    axes.set_xlabel("Output (new tokens)")
    axes.set_ylabel("Speed (tokens/s)")
    axes.set_ylim(0, float(lines["value"].max()) * 1.14)
    runs = frame["run"].nunique()
    for record in frame[frame["role"] == "crossing"].to_dict("records"):
        at = float(record["new_tokens"])
        inside = max(at, float(lines["new_tokens"].min()))
        axes.axvline(inside, color=MUTED, linewidth=1.1, linestyle=(0, (2, 2)))
        if runs > 3:
            continue
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
    figure, axes = new_figure()
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
    log_axis(axes, "x", [float(n) for n in measured["new_tokens"]], write=number, base=10)
    _output_ticks(axes, sorted({int(n) for n in measured["new_tokens"]}))
    if max(values) / min(values) > 30:
        log_axis(axes, "y", values, write=number, base=10)
    else:
        axes.set_ylim(bottom=0)
    for record in measured.to_dict("records") if len(series) == 1 else []:
        axes.annotate(number(round(record["value"], 1)), (record["new_tokens"], record["value"]), (-2, 6), textcoords="offset points",
                      fontsize=TINY, ha="left" if record["new_tokens"] == measured["new_tokens"].min() else "right")  # fmt: skip
    axes.set_xlabel("Output (new tokens)")
    axes.set_ylabel("Speedup by the cache (times)")
    legend_below(figure, axes, len(series))
    return figure


def _times_figure(frame: pd.DataFrame, axis: str, xlabel: str, *, ylabel: str, parts: Sequence[str]) -> Figure:
    figure, axes = new_figure()
    seconds = [float(n) for n in frame["value"]]
    scale, unit = time_scale(seconds)
    series = _measured_lines(axes, frame, axis, scale=scale, parts=parts)
    token_axis(axes, "x", [float(n) for n in frame[axis]], label=xlabel)
    if max(seconds) / min(seconds) > 30:
        log_axis(axes, "y", [value / scale for value in seconds], write=number, base=10)
    else:
        axes.set_ylim(bottom=0)
    axes.set_ylabel(f"{ylabel} ({unit})")
    legend_below(figure, axes, len(series))
    return figure


@styled
def ttft_vs_context(frame: pd.DataFrame) -> Figure:
    """Time to the first token against the length of the prompt."""
    return _times_figure(frame, "context_tokens", "Prompt (tokens)", ylabel="Time to first token", parts=LINE_PARTS)


@styled
def tpot_vs_context(frame: pd.DataFrame) -> Figure:
    """Time of a decode step against the context that it reads."""
    return _times_figure(frame, "context_tokens", "Context (tokens)", ylabel="Time a decode step", parts=LINE_PARTS)


@styled
def tpot_vs_batch(frame: pd.DataFrame) -> Figure:
    """Time of a decode step against the sequences that share it."""
    parts = ("run", "cache", "context_tokens", "dtype", "linear", "mode")
    table = frame.assign(context_tokens=[f"{human_tokens(int(n))} tokens" for n in frame["context_tokens"]])
    return _times_figure(table, "batch", "Batch (sequences at once)", ylabel="Time a decode step", parts=parts)


@styled
def bandwidth_share(frame: pd.DataFrame) -> Figure:
    """Bytes that a decode step must read, over its time, as a share of the bandwidth that the machine reaches."""
    figure, axes = new_figure()
    series = _measured_lines(axes, frame, "context_tokens", scale=0.01)
    token_axis(axes, "x", [float(n) for n in frame["context_tokens"]], label="Context (tokens)")
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
    figure, axes = new_figure(height=3.4)
    models = list(dict.fromkeys(table["model"]))
    scale, unit = time_scale([float(n) for n in table["bound_seconds"]])
    values = [float(n) / scale for n in table["bound_seconds"]]
    for i, name in enumerate(models):
        part = table[table["model"] == name].sort_values("batch", kind="stable")
        style = look_of(frame, name, else_at=i)
        x, y = [float(n) for n in part["batch"]], [float(n) / scale for n in part["bound_seconds"]]
        axes.plot(x, y, color=style["color"], linestyle=style["linestyle"])
        for record, a, b in zip(part.to_dict("records"), x, y, strict=True):
            axes.plot([a], [b], marker=style["marker"], color=style["color"], linestyle="none",
                      markerfacecolor=style["color"] if record["fits"] else "#ffffff")  # fmt: skip
        axes.plot([], [], label=short(name), **style)
    token_axis(axes, "x", [float(n) for n in table["batch"]], label="Batch (sequences at once)")
    log_axis(axes, "y", values, write=number, base=10)
    axes.set_ylabel(f"Least time a decode step ({unit})")
    legend_below(figure, axes, len(models))
    return figure


@styled
def roofline(frame: pd.DataFrame) -> Figure:
    """FLOP/s against FLOPs for each byte read: a roof a device, and the steps under it."""
    roof, points = frame[frame["role"] == "roof"], frame[frame["role"] == "point"]
    figure, axes = new_figure(height=3.4)
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
        style = look_of(frame, label, else_at=i, column="")
        axes.plot(part["intensity_flops_per_byte"], part["flops_per_s"] / unit, linestyle="none", marker=style["marker"],
                  color=style["color"], markersize=7, markeredgecolor="#ffffff", markeredgewidth=0.6, zorder=4,
                  markerfacecolor=style["color"] if i < len(SERIES) else "#ffffff", label=short(label, 34))  # fmt: skip
        drawn += [float(n) / unit for n in part["flops_per_s"]]
    log_axis(axes, "x", [low, high], write=number, base=10)
    log_axis(axes, "y", drawn, write=number, base=10)
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
    figure, axes = new_figure(width=1.2 * WIDTH, height=1.1 + 0.25 * max(1, len(table)))
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
    plain_legend(figure, handles)
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

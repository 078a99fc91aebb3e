"""The figure of a plan: cost an hour against time a token, and the front that nothing beats in both."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reports.style import INK, LIMITS, MARKERS, SERIES, log_axis, new_figure, number, plain_legend, short, styled

MS = 1e-3


@styled
def cost_against_tpot(frame: pd.DataFrame) -> Figure:
    """Each deployment a point by device: filled where it meets the targets; the front as a line of steps.

    >>> frame = pd.DataFrame({"plan": ["p"] * 2, "device": ["L4", "L4"], "usd_per_hour": [1.0, 2.0],
    ...     "tpot_seconds": [0.05, 0.03], "meets_targets": [False, True], "front": [True, True],
    ...     "tpot_target_seconds": [0.04, 0.04]})
    >>> cost_against_tpot(frame).axes[0].get_ylabel()
    'Cost (USD/h)'
    """
    figure, axes = new_figure(height=3.6)
    names = list(dict.fromkeys(frame["device"]))
    handles = []
    for i, name in enumerate(names):
        colour, marker = SERIES[i % len(SERIES)], MARKERS[i % len(MARKERS)]
        for meets in (False, True):
            part = frame[(frame["device"] == name) & (frame["meets_targets"] == meets)]
            axes.plot(part["tpot_seconds"] / MS, part["usd_per_hour"], linestyle="none", marker=marker, markersize=5,
                      color=colour, markerfacecolor=colour if meets else "none", markeredgewidth=0.9,
                      alpha=0.85 if meets else 0.55)  # fmt: skip
        handles.append(Line2D([], [], linestyle="none", marker=marker, color=colour, label=short(str(name))))
    front = frame[frame["front"]].sort_values("usd_per_hour")
    axes.plot(front["tpot_seconds"] / MS, front["usd_per_hour"], color=INK, linewidth=1.3, drawstyle="steps-pre", zorder=1.6)  # fmt: skip
    handles.append(Line2D([], [], color=INK, linewidth=1.3, label="nothing beats it in both"))
    target = frame["tpot_target_seconds"].iloc[0]
    if target is not None and not pd.isna(target):
        axes.axvline(float(target) / MS, color=INK, linewidth=1.1, linestyle=LIMITS[0], zorder=1.5)
        handles.append(Line2D([], [], color=INK, linewidth=1.1, linestyle=LIMITS[0], label="TPOT target"))
    log_axis(axes, "x", [float(n) / MS for n in frame["tpot_seconds"]], write=number)
    log_axis(axes, "y", [float(n) for n in frame["usd_per_hour"]], write=number)
    axes.set_xlabel("Time between tokens (ms)")
    axes.set_ylabel("Cost (USD/h)")
    plain_legend(figure, handles)
    return figure

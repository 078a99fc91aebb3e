"""The figure of a server's benchmarks: points beside the range that is expected, and the bound."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from reports.style import INK, LIMITS, MUTED, SERIES, log_axis, new_figure, number, plain_legend, styled, token_axis


@styled
def expected_curve(frame: pd.DataFrame) -> Figure:
    """Time between tokens against requests at once: band, expectation, bound and measured points.

    >>> frame = pd.DataFrame({"role": ["expected", "expected", "measured"], "batch": [1, 8, 8], "value": [0.01, 0.02, 0.03],
    ...     "low": [0.008, 0.016, None], "high": [0.012, 0.03, None], "bound": [0.005, 0.006, None]})
    >>> expected_curve(frame).axes[0].get_ylabel()
    'Time between tokens (ms)'
    """
    figure, axes = new_figure(height=3.4)
    line, points = frame[frame["role"] == "expected"], frame[frame["role"] == "measured"]
    batches = [float(n) for n in line["batch"]]
    value, low, high, bound = ([1e3 * float(s) for s in line[end]] for end in ("value", "low", "high", "bound"))
    measured = [1e3 * float(s) for s in points["value"]]
    axes.fill_between(batches, low, high, color=SERIES[0], alpha=0.15, linewidth=0)
    axes.plot(batches, value, color=SERIES[0])
    axes.plot(batches, bound, color=MUTED, linestyle=LIMITS[0])
    axes.plot(
        [float(n) for n in points["batch"]], measured, color=SERIES[1], marker="o", linestyle="none", markersize=6
    )
    token_axis(axes, "x", batches, label="Requests at once")
    log_axis(axes, "y", [*low, *high, *bound, *measured], write=number)
    axes.set_ylabel("Time between tokens (ms)")
    handles = [
        Line2D([], [], color=SERIES[1], marker="o", linestyle="none", label="measured"),
        Line2D([], [], color=SERIES[0], label="expected"),
        Patch(facecolor=SERIES[0], alpha=0.15, edgecolor=INK, linewidth=0, label="its range"),
        Line2D([], [], color=MUTED, linestyle=LIMITS[0], label="the device allows"),
    ]
    plain_legend(figure, handles)
    return figure

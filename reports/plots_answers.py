"""The figures of answers: how many sequences fit at each length, and how fast each user is as others join."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reports.style import DASHES, INK, log_axis, look_of, new_figure, number, plain_legend, short, styled, token_axis


@styled
def most_sequences(frame: pd.DataFrame) -> Figure:
    """Sequences that fit against their length: a colour a model, a dash a device.

    >>> frame = pd.DataFrame({"model": ["a"] * 2, "device": ["L4"] * 2, "context_tokens": [1024, 2048], "most_sequences": [8, 4]})
    >>> most_sequences(frame).axes[0].get_ylabel()
    'At once (sequences)'
    """
    figure, axes = new_figure(height=3.4)
    table = frame[frame["most_sequences"] > 0]
    _lines(axes, table, x="context_tokens", y="most_sequences", whole=frame)
    token_axis(axes, "x", [float(n) for n in frame["context_tokens"]], label="Context of each sequence (tokens)")
    log_axis(axes, "y", [float(n) for n in table["most_sequences"]], write=number)
    axes.set_ylabel("At once (sequences)")
    plain_legend(figure, _handles(frame))
    return figure


@styled
def user_speed(frame: pd.DataFrame) -> Figure:
    """Tokens a second of each user against users at once, with the range of the estimate as a band."""
    figure, axes = new_figure(height=3.4)
    _lines(axes, frame, x="batch", y="user_tokens_per_s", whole=frame, band=True)
    token_axis(axes, "x", [float(n) for n in frame["batch"]], label="Users at once (requests)")
    log_axis(
        axes, "y", [float(n) for n in (*frame["user_tokens_per_s_low"], *frame["user_tokens_per_s_high"])], write=number
    )
    axes.set_ylabel("Speed of a user (tokens/s)")
    plain_legend(figure, _handles(frame))
    return figure


def _lines(axes: Axes, table: pd.DataFrame, *, x: str, y: str, whole: pd.DataFrame, band: bool = False) -> None:
    devices = list(dict.fromkeys(whole["device"]))
    for (model, device), part in table.groupby(["model", "device"], sort=False):
        style = look_of(whole, str(model)) | {"linestyle": DASHES[devices.index(device) % len(DASHES)]}
        axes.plot([float(n) for n in part[x]], [float(n) for n in part[y]], markersize=3.5, **{k: v for k, v in style.items() if k != "markersize"})  # fmt: skip
        if band:
            low, high = ([float(n) for n in part[f"{y}_{end}"]] for end in ("low", "high"))
            axes.fill_between([float(n) for n in part[x]], low, high, color=style["color"], alpha=0.15, linewidth=0)


def _handles(frame: pd.DataFrame) -> Sequence[Line2D]:
    models, devices = (list(dict.fromkeys(frame[name])) for name in ("model", "device"))
    found = [
        Line2D([], [], label=short(str(name)), **(look_of(frame, str(name)) | {"linestyle": "-"})) for name in models
    ]
    found += [
        Line2D([], [], color=INK, linestyle=DASHES[i % len(DASHES)], label=short(str(name)))
        for i, name in enumerate(devices)
    ]
    return found

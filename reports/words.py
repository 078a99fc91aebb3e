"""What each figure shows, in words: one sentence on what to see in it, and a text for those who cannot see it.

Both are written from the figure's own data frame.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd

from planner.units import gib, human_bytes, human_tokens
from reports.style import MOST_BARS, number

MOST_NAMED = 6


def listing(items: Iterable[str], most: int = MOST_NAMED) -> str:
    """Joins names into a text, "and N more" beyond `most`.

    >>> listing(["a", "b", "c"]), listing(["a", "b", "c"], 2), listing([])
    ('a, b and c', 'a, b and 1 more', '')
    """
    found = list(items)
    if len(found) > most:
        return f"{', '.join(found[:most])} and {len(found) - most} more"
    return " and ".join([", ".join(found[:-1]), found[-1]]) if len(found) > 1 else "".join(found)


def seconds(value: float) -> str:
    """Writes a time in the unit that suits it.

    >>> seconds(0.01234), seconds(2.5), seconds(0.0000032)
    ('12.3 ms', '2.5 s', '3.2 us')
    """
    for unit, name in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
        if abs(value) >= unit:
            return f"{number(value / unit)} {name}"
    return f"{value:.3g} s"


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in record.items()} for record in frame.to_dict("records")]


# Memory


def curve_sees(frame: pd.DataFrame) -> str:
    """Says what to see in the figure of memory against length or batch."""
    axis = "context_tokens" if "context_tokens" in frame else "batch"
    crossings = _records(frame[frame["role"] == "crossing"])
    least = "As the context grows" if axis == "context_tokens" else "As sequences are added"
    if not crossings:
        return f"{least}, no line meets a device's limit in this range: each fits everywhere on it or nowhere."
    unit = "tokens" if axis == "context_tokens" else "sequences"
    named = [f"{c['series']} on {c['device']} at {int(c[axis]):,} {unit}" for c in crossings]
    return f"{least}, a ring marks the last point that still fits: {listing(named, 4)}."


def curve_alt(frame: pd.DataFrame) -> str:
    """Describes the figure of memory against length or batch for those who do not see it."""
    axis = "context_tokens" if "context_tokens" in frame else "batch"
    lines = frame[frame["role"] == "line"]
    parts = []
    for name in dict.fromkeys(lines["series"]):
        part = lines[lines["series"] == name]
        first, last = part.iloc[0], part.iloc[-1]
        parts.append(f"{name} from {gib(int(first['total_bytes']))} to {gib(int(last['total_bytes']))}")
    low, high = int(lines[axis].min()), int(lines[axis].max())
    limits = [f"{r['device']} {gib(int(r['total_bytes']))}" for r in _records(frame[frame["role"] == "limit"])]
    what = "context" if axis == "context_tokens" else "batch"
    return (
        f"Line chart of memory a device against {what} from {human_tokens(low)} to {human_tokens(high)}: "
        f"{listing(parts, 20)}. Limits: {listing(limits, 20)}. {curve_sees(frame)}"
    )


def parts_sees(frame: pd.DataFrame) -> str:
    """Says what to see in the figure of what fills each device."""
    beyond = frame[~frame["within_positions"]] if "within_positions" in frame else frame[:0]
    out = frame[frame["free_bytes"] < 0]
    cached = frame[frame["cache_bytes"] > frame["weight_bytes"]]
    if out.empty:
        words = "Every bar ends before the line: all fit." if beyond.empty else "Every bar ends before the line."
    elif len(out) == len(frame):
        words = "Every bar passes the line: none fits."
    else:
        words = f"{len(out)} of {len(frame)} bars pass the line and do not fit."
    if len(beyond):
        words += f" The length is beyond the positions of {listing(dict.fromkeys(beyond['model']), 3)}: no."
    more = (
        f" The cache is larger than the weights for {listing(dict.fromkeys(cached['model']), 3)}."
        if len(cached)
        else ""
    )
    drawn = f" The first {MOST_BARS} are drawn; the table of the figure holds all." if len(frame) > MOST_BARS else ""
    return f"Weights and cache are exact, activations and overhead estimated. {words}{more}{drawn}"


def parts_alt(frame: pd.DataFrame) -> str:
    """Describes the figure of what fills each device for those who do not see it."""
    rows = [
        f"{r['model']} on {r['device']}: weights {gib(r['weight_bytes'])}, cache {gib(r['cache_bytes'])}, activations "
        f"{gib(r['activation_bytes'])}, overhead {gib(r['overhead_bytes'])}, together {gib(r['total_bytes'])} of {gib(r['capacity_bytes'])}"
        for r in _records(frame)
    ]
    return f"Stacked bars of memory as a share of each device. {'; '.join(rows[:12])}."


def token_sees(frame: pd.DataFrame) -> str:
    """Says what to see in the figure of bytes a token."""
    table = frame.sort_values("average_bytes", kind="stable")
    least, most = table.iloc[0], table.iloc[-1]
    tokens = human_tokens(int(most["context_tokens"]))
    if len(table) == 1:
        return f"At {tokens} tokens {most['model']} ({most['attention']}) keeps {human_bytes(round(most['average_bytes']))} for each token."
    words = f"At {tokens} tokens {most['model']} ({most['attention']}) keeps {human_bytes(round(most['average_bytes']))} for each token, "
    if least["average_bytes"] <= 0:
        return words + f"{least['model']} ({least['attention']}) nothing that grows."
    ratio = most["average_bytes"] / least["average_bytes"]
    return words + f"{number(ratio)} times what {least['model']} ({least['attention']}) does."


def token_alt(frame: pd.DataFrame) -> str:
    """Describes the figure of bytes a token for those who do not see it."""
    rows = [
        f"{r['model']} ({r['attention']}) {human_bytes(round(r['average_bytes']))}, next token {human_bytes(int(r['next_token_bytes']))}"
        for r in _records(frame.sort_values("average_bytes", ascending=False, kind="stable"))
    ]
    return f"Bars of cache bytes for each token of one sequence. {'; '.join(rows)}."


def region_sees(frame: pd.DataFrame) -> str:
    """Says what to see in the figure of batch x context."""
    first = frame.iloc[0]
    fitting = frame[frame["fits"]]
    where = f"{first['model']} on {first['device']}"
    if fitting.empty:
        return f"{where}: nothing fits, not one sequence of {human_tokens(int(frame['context_tokens'].min()))} tokens."
    if len(fitting) == len(frame):
        return f"{where}: everything shown fits."
    most = int(fitting["held_tokens"].max())
    return f"{where}: the thick line parts what fits from what does not; at most {most:,} tokens of those shown fit at once."


def region_alt(frame: pd.DataFrame) -> str:
    """Describes the figure of batch x context for those who do not see it."""
    rows = []
    for tokens, part in frame.groupby("context_tokens", sort=True):
        good = part[part["fits"]]
        rows.append(
            f"{human_tokens(int(str(tokens)))} tokens: {int(good['batch'].max()):,}"
            if len(good)
            else f"{human_tokens(int(str(tokens)))} tokens: none"
        )
    return f"Heat map of batch against context. {region_sees(frame)} Largest batch shown that fits: {'; '.join(rows)}."


def savings_sees(frame: pd.DataFrame) -> str:
    """Says what to see in the figure of KV dtypes."""
    if frame.empty:
        return "These models keep no keys and values."
    names = {"fp8": "fp8", "int8": "int8", "int4": "int4"}
    parts = []
    for name, words in names.items():
        part = frame[frame["kv_dtype"] == name]
        if len(part):
            parts.append(f"{words} takes {part['ratio'].mean() * 100:.1f} %")
    return (
        f"Scales count: of the dtype asked for, {listing(parts)}." if parts else "Each dtype beside the one asked for."
    )


def savings_alt(frame: pd.DataFrame) -> str:
    """Describes the figure of KV dtypes for those who do not see it."""
    rows = [f"{name} {part['ratio'].mean() * 100:.1f} %" for name, part in frame.groupby("kv_dtype", sort=False)]
    return f"Bars of the KV cache's size by dtype as a share of the one asked for: {', '.join(rows)}."


def sequences_sees(frame: pd.DataFrame) -> str:
    """Says what to see in the figure of sequences by length: the longest of each, and how many."""
    rows = []
    for (model, device), part in frame[frame["most_sequences"] > 0].groupby(["model", "device"], sort=False):
        last = part.iloc[-1]
        rows.append(
            f"{model} on {device} {int(last['most_sequences']):,} at {human_tokens(int(last['context_tokens']))}"
        )
    return f"By memory alone; each line ends at the longest context that fits or the model takes: {listing(rows, 4)}."


def sequences_alt(frame: pd.DataFrame) -> str:
    """Describes the figure of sequences by length for those who do not see it."""
    return f"Line chart of the sequences that fit at once against their length. {sequences_sees(frame)}"


def users_sees(frame: pd.DataFrame) -> str:
    """Says what to see in the figure of a user's speed: alone, and with all."""
    rows = []
    for (model, device), part in frame.groupby(["model", "device"], sort=False):
        first, last = part.iloc[0], part.iloc[-1]
        rows.append(
            f"{model} on {device} {number(float(first['user_tokens_per_s']))} tokens/s alone, "
            f"{number(float(last['user_tokens_per_s']))} with {int(last['batch']):,}"
        )
    return f"An estimate with its range as a band; lines end where memory is full. {listing(rows, 3)}."


def users_alt(frame: pd.DataFrame) -> str:
    """Describes the figure of a user's speed for those who do not see it."""
    return f"Line chart of each user's tokens a second against users at once. {users_sees(frame)}"


# Bounds


def bounds_sees(frame: pd.DataFrame) -> str:
    """Says what to see in the figure of the least that steps take."""
    table = frame[(frame["step"] == "decode") & frame["fits"]]
    device = frame["device"].iloc[0]
    if table.empty:
        return f"On {device} none of them fits in memory: hollow points are what its bandwidth alone would allow."
    best = table.loc[table["bound_tokens_per_s"].idxmax()]
    return (
        f"By its bandwidth and arithmetic {device} does at most {number(float(best['bound_tokens_per_s']))} tokens a second, "
        f"with {best['model']} at batch {int(best['batch']):,}. Hollow points do not fit in memory."
    )


def bounds_alt(frame: pd.DataFrame) -> str:
    """Describes the figure of the least that steps take for those who do not see it."""
    rows = []
    for name, part in frame[frame["step"] == "decode"].groupby("model", sort=False):
        ends = part.sort_values("batch", kind="stable")
        rows.append(
            f"{name} {seconds(float(ends['bound_seconds'].iloc[0]))} at batch {int(ends['batch'].iloc[0])} to "
            f"{seconds(float(ends['bound_seconds'].iloc[-1]))} at batch {int(ends['batch'].iloc[-1])}"
        )
    return (
        f"Line chart of the least time of a decode step against batch on {frame['device'].iloc[0]}. {'; '.join(rows)}."
    )


def roofline_sees(frame: pd.DataFrame) -> str:
    """Says what to see in the roofline."""
    points = frame[frame["role"] == "point"]
    if (points["exactness"] == "bound").all():
        device = points["device"].iloc[0] if len(points) else "the device"
        return (
            f"Left of a roof's bend a step waits for memory, right of it for arithmetic. Points: decode at batch 1, 16 and 256, "
            f"and one prefill, at the bound of {device}."
        )
    roofs = frame[frame["role"] == "roof"]
    if roofs.empty:
        return "Each point is a measured step; this machine's roof was not measured."
    bend = float((roofs["flops_per_s"] / roofs["bandwidth_bytes_per_s"]).max())
    left = points["intensity_flops_per_byte"] < bend
    return f"{int(left.sum())} of {len(points)} steps lie left of the roof's bend, where memory bounds them; right of it arithmetic does."


def roofline_alt(frame: pd.DataFrame) -> str:
    """Describes the roofline for those who do not see it."""
    roofs = [
        f"{r['label']}: {number(r['bandwidth_bytes_per_s'] / 1e9)} GB/s, {number(r['flops_per_s'] / 1e12)} TFLOP/s"
        for r in _records(frame[frame["role"] == "roof"])
    ]
    points = [
        f"{r['label']} {number(r['flops_per_s'] / 1e9)} GFLOP/s at {number(r['intensity_flops_per_byte'])} FLOPs a byte"
        for r in _records(frame[frame["role"] == "point"])[:10]
    ]
    return f"Roofline plot. Roofs: {'; '.join(roofs)}. Points: {'; '.join(points)}."


# Measured


def scatter_sees(frame: pd.DataFrame) -> str:
    """Says what to see in the figure of predictions against measurements."""
    errors = frame["error_share"].abs()
    worst = frame.loc[errors.idxmax()]
    far = f"farthest off is {worst['quantity']} ({worst['where']}), {worst['error_share'] * 100:+.0f} %."
    if (frame["unit"] == "seconds").all():
        return f"On the line measured equals predicted: at {len(frame)} point{'s' if len(frame) > 1 else ''} the error is {errors.median() * 100:.0f} % at the median; {far}"
    exact, close = int((frame["verdict"] == "exact").sum()), int((frame["verdict"] == "within 2 %").sum())
    return f"On the line measured equals predicted: {exact} of {len(frame)} exactly, {close} more within 2 %; {far}"


def scatter_alt(frame: pd.DataFrame) -> str:
    """Describes the figure of predictions against measurements for those who do not see it."""
    rows = [
        f"{name}: {len(part)} points, median error {part['error_share'].abs().median() * 100:.1f} %"
        for name, part in frame.groupby("quantity", sort=True)
    ]
    return f"Scatter plot of measured against predicted, on log axes with the line of equality. {'; '.join(rows)}."


def output_sees(frame: pd.DataFrame) -> str:
    """Says what to see in the figure of speed against output length."""
    lines, crossings = frame[frame["role"] == "line"], _records(frame[frame["role"] == "crossing"])
    longest = lines[lines["new_tokens"] == lines["new_tokens"].max()]
    ends = [f"{_series(r)} {number(r['value'])}" for r in _records(longest)]
    words = f"At {int(lines['new_tokens'].max()):,} new tokens: {listing(ends, 4)} tokens/s."
    if len(crossings) == 1:
        at = int(crossings[0]["new_tokens"])
        return f"{words} The cache pays from {at:,} token{'s' if at > 1 else ''} on; without one each token costs all before it again."
    return words


def _series(record: dict[str, Any]) -> str:
    return "without a cache" if record["cache"] == "none" else f"{record['cache']} cache"


def lines_alt(title: str, axis: str, scale: float, *, unit: str) -> Any:
    """Makes the text that describes a chart of measured lines for those who do not see it."""

    def alt(frame: pd.DataFrame) -> str:
        lines = frame[frame["role"].isin(["line", "measured"])] if "role" in frame else frame
        rows = []
        for keys, part in lines.groupby(["run", "cache", "batch"], sort=False, dropna=False):
            run, cache, batch = keys
            ends = part.sort_values(axis, kind="stable")
            first, last = ends.iloc[0], ends.iloc[-1]
            rows.append(
                f"{run}, {'no' if cache == 'none' else cache} cache, batch {batch}: {number(float(first['value']) / scale)} {unit} at "
                f"{int(first[axis]):,} to {number(float(last['value']) / scale)} {unit} at {int(last[axis]):,}"
            )
        return f"Line chart of {title}. {'; '.join(rows[:10])}."

    return alt


def speedup_sees(frame: pd.DataFrame) -> str:
    """Says what to see in the figure of time without a cache over time with it."""
    table = frame[frame["role"] == "measured"]
    last = table.loc[table["new_tokens"].idxmax()]
    first = table.loc[table["new_tokens"].idxmin()]
    kind = " (time without a cache estimated from single steps)" if last["exactness"] == "estimated" else ""
    change = float(last["value"]) / float(first["value"])
    trend = (
        "The longer the answer, the more the cache saves"
        if change > 1.05
        else "The cache saves as much at every length"
    )
    if change < 0.95:
        trend = "The cache saves less of longer answers here"
    if first["new_tokens"] == last["new_tokens"]:
        return f"The cache makes it {number(round(float(last['value']), 1))} times as fast at {int(last['new_tokens']):,} new tokens{kind}."
    return (
        f"{trend}: {number(round(float(first['value']), 1))} times at {int(first['new_tokens']):,} new tokens, "
        f"{number(round(float(last['value']), 1))} times at {int(last['new_tokens']):,}{kind}."
    )


def ttft_sees(frame: pd.DataFrame) -> str:
    """Says what to see in the figure of TTFT against prompt length."""
    last = frame.loc[frame["context_tokens"].idxmax()]
    return f"The prompt is read before the first token appears: {seconds(float(last['value']))} for {int(last['context_tokens']):,} tokens ({last['run']})."


def tpot_sees(frame: pd.DataFrame) -> str:
    """Says what to see in the figure of TPOT against context."""
    low, high = frame.loc[frame["context_tokens"].idxmin()], frame.loc[frame["context_tokens"].idxmax()]
    return (
        f"Each new token reads all weights and the cache so far: {seconds(float(low['value']))} at {int(low['context_tokens']):,} tokens, "
        f"{seconds(float(high['value']))} at {int(high['context_tokens']):,} ({high['cache']} cache, {high['run']})."
    )


def batch_sees(frame: pd.DataFrame) -> str:
    """Says what to see in the figure of TPOT against sequences at once."""
    most = frame.loc[frame["batch"].idxmax()]
    return f"Sequences share the reading of the weights: {int(most['batch'])} at once take {seconds(float(most['value']))} a step ({most['run']})."


def share_sees(frame: pd.DataFrame) -> str:
    """Says what to see in the figure of the bandwidth that decode steps reach."""
    best = frame.loc[frame["value"].idxmax()]
    if str(best["note"]).startswith("share of the most"):
        return (
            "Decode steps read faster here than kvplan calibrate found, so the most that was read is the roof: measured "
            "while the machine was busy, repeat when idle."
        )
    return (
        f"A decode step can go no faster than memory delivers weights and cache: the best here reaches {float(best['value']) * 100:.0f} % "
        f"of what the machine was measured to read ({best['cache']} cache, {int(best['context_tokens']):,} tokens)."
    )


def comparison_sees(frame: pd.DataFrame) -> str:
    """Says what to see in the figure of two runs."""
    times = frame[frame["quantity"].isin(["ttft_seconds", "step_seconds", "total_seconds"])]
    beyond = times[times["verdict"] == "beyond the spread"]
    if beyond.empty:
        return "No time differs by more than the spread of the repeats: by these runs the two are equally fast."
    faster = int((beyond["change_share"] < 0).sum())
    return (
        f"{len(beyond)} of {len(times)} times differ by more than the spread: B is faster in {faster}, slower in {len(beyond) - faster}. "
        "Hollow bars may be chance."
    )


def comparison_alt(frame: pd.DataFrame) -> str:
    """Describes the figure of two runs for those who do not see it."""
    times = frame[frame["quantity"].isin(["ttft_seconds", "step_seconds", "total_seconds"])]
    rows = [
        f"{r['what']} {int(r['context_tokens'] or 0):,} tokens {r['change_share'] * 100:+.1f} % ({r['verdict']})"
        for r in _records(times)[:12]
        if r["change_share"] is not None
    ]
    return f"Bars of the change of each time from run A to run B. {'; '.join(rows)}."

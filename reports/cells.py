"""A value of a table as people read it: the unit is the last word of the column's name."""

from __future__ import annotations

import math
from typing import Any

from planner.units import bandwidth, flops, human_bytes, human_count
from reports.style import number
from reports.words import seconds

HEADINGS = {
    "kv_bytes": "KV cache",
    "error_share": "error",
    "change_share": "change",
    "median_error_share": "median error",
    "worst_error_share": "worst error",
    "a_value": "A",
    "b_value": "B",
    "a_low": "A low",
    "a_high": "A high",
    "b_low": "B low",
    "b_high": "B high",
    "predicted_is": "predicted is",
    "measured_is": "measured is",
    "within_2_percent": "within 2 %",
    "intensity_flops_per_byte": "FLOPs a byte",
    "ratio": "share",
    "compute_bound_batch": "compute-bound from batch",
    "step_bound_by": "a step waits for",
    "kv_dtype": "KV dtype",
    "config_fields": "read from",
    "longest_tokens": "longest context (tokens)",
    "context_tokens": "context (tokens)",
    "max_tokens": "positions",
    "usd_per_h": "USD/h",
    "user_tokens_per_s": "tokens/s a user",
    "ttft_seconds": "TTFT",
    "usd_per_million_tokens": "USD a million tokens",
    "most_sequences": "most sequences by memory",
    "utilisation_share": "utilisation",
    "a": "A",
    "b": "B",
}
TAILS = ("_bytes_per_s", "_flops_per_s", "_tokens_per_s", "_bytes", "_seconds", "_tokens", "_flops")


def heading(column: str) -> str:
    """Writes the heading of a column from its key.

    >>> heading("free_bytes"), heading("error_share"), heading("most_sequences"), heading("total_bytes_low")
    ('free', 'error', 'most sequences by memory', 'total low')
    """
    if column in HEADINGS:
        return HEADINGS[column]
    name = column
    for end in ("_low", "_high"):
        for unit in ("_bytes", "_seconds"):
            if name.endswith(unit + end):
                name = name.removesuffix(unit + end) + end
    for tail in TAILS:
        if name.endswith(tail):
            name = name.removesuffix(tail) if tail in ("_bytes", "_seconds", "_flops") else name
            break
    return name.replace("_per_s", "/s").replace("_", " ")


def missing(value: Any) -> bool:
    """Tells whether a value is None, NaN or pandas' NA."""
    if value is None:
        return True
    if isinstance(value, float):
        return math.isnan(value)
    return type(value).__name__ == "NAType"


def cell(column: str, value: Any, row: dict[str, Any] | None = None) -> str:
    """Writes a value as people read it, in the unit that ends its column's key.

    >>> cell("kv_bytes", 4294967296), cell("fits", True), cell("error_share", 0.0123), cell("step_seconds", 0.0125)
    ('4.00 GiB', 'yes', '+1.2 %', '12.5 ms')
    >>> cell("most_sequences", 12345.0), cell("free_bytes", None), cell("ratio", 0.5312)
    ('12,345', '-', '53.1 %')
    """
    if missing(value):
        return "-"
    if isinstance(value, bool) or type(value).__name__ == "bool_":
        return "yes" if value else "no"
    if isinstance(value, str):
        return heading(value) if column in ("reading", "quantity") and value.isidentifier() else value
    unit = (row or {}).get("unit", "") if column in ("predicted", "measured", "low", "high") else ""
    if column in ("a_value", "a_low", "a_high", "b_value", "b_low", "b_high", "value") or (
        column in ("low", "high") and not unit
    ):
        return _by_name(str((row or {}).get("quantity") or (row or {}).get("reading") or ""), value)
    return _by_name(f"_{unit}" if unit else column, value)


def _by_name(name: str, value: Any) -> str:
    size = float(value)
    if name.endswith("change_share") or name == "error_share":
        return f"{size * 100:+.1f} %" if size else "0"
    if name.endswith("_share") or name == "ratio":
        return f"{size * 100:.1f} %"
    if name.endswith("_bytes_per_s"):
        return bandwidth(size)
    if name.endswith("flops_per_s"):
        return flops(size) if size >= 1e13 else f"{size / 1e9:,.1f} GFLOP/s"
    if name.endswith("_per_s"):
        return number(size)
    if name == "bytes" or name.endswith(("_bytes", "_bytes_low", "_bytes_high")):
        return human_bytes(round(size))
    if name.endswith(("_seconds", "_seconds_low", "_seconds_high")):
        return seconds(size)
    if name.endswith("parameters"):
        return human_count(round(size))
    if name.endswith("flops"):
        if size >= 1e15:
            return f"{size / 1e15:,.3g} PFLOP"
        return f"{size / 1e12:,.3g} TFLOP" if size >= 1e11 else f"{size / 1e9:,.3g} GFLOP"
    if size == int(size) and abs(size) < 1e18:
        return f"{int(size):,}"
    return number(size)


def sort_key(value: Any) -> str:
    """Returns what a column is sorted by: the number behind a cell, empty for words."""
    if missing(value) or isinstance(value, str):
        return ""
    return repr(float(value)) if not isinstance(value, bool) else str(int(value))


def is_number(value: Any) -> bool:
    """Tells whether a value is a number, and no bool."""
    return not missing(value) and not isinstance(value, (str, bool)) and type(value).__name__ != "bool_"

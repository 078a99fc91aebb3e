"""Two runs side by side: the same points in both, the change, and whether it is beyond the spread."""

from __future__ import annotations

import pandas as pd

from planner.errors import KvplanError
from profiler.results import Check, Point, Reading
from reports.runs import Run

DERIVED = ("read_bytes_per_s", "flops_per_s")  # say what the seconds say
MARGIN = 0.01  # below one percent nothing is said to have changed
HIGHER_IS_BETTER = ("_per_s", "_share", "speedup")
COLUMNS = [
    "what", "cache", "batch", "context_tokens", "new_tokens", "dtype", "linear", "mode", "quantity",
    "a_value", "a_low", "a_high", "b_value", "b_low", "b_high", "change_share", "verdict", "better", "exactness",
]  # fmt: skip


def comparison(a: Run, b: Run) -> pd.DataFrame:
    """Compares every reading and every measured size that both runs hold.

    Where the runs differ in dtype, cache or layout throughout, that part of the place is left out of the match:
    two runs of one cache each are compared with each other.
    """
    left, right = _points(a), _points(b)
    loose = _loosened(list(left.values()), list(right.values()))
    if loose:
        left, right = _points(a, loose), _points(b, loose)
    rows = []
    for key, point in left.items():
        other = right.get(key)
        if other is None:
            continue
        for name, reading in point.readings.items():
            if name in other.readings and name not in DERIVED:
                rows.append([*_where(point, other), name, *_change(name, reading, other.readings[name])])
    rows += _check_rows(a, b)
    frame = pd.DataFrame(rows, columns=COLUMNS)
    if frame.empty:
        raise KvplanError(
            f"{a.name} and {b.name} have no point in common: profile both at the same lengths and batches"
        )
    return frame.astype({name: "float64" for name in COLUMNS if name[:2] in ("a_", "b_") or name == "change_share"})


_NAMES = ("what", "batch", "context_tokens", "new_tokens", "cache", "dtype", "linear", "mode")


def _points(run: Run, loose: frozenset[str] = frozenset()) -> dict[tuple[object, ...], Point]:
    """The points that were done by their place, without the parts of it in `loose`; the first of equals."""
    found: dict[tuple[object, ...], Point] = {}
    for point in run.found.points:
        if point.status == "done":
            key = tuple(getattr(point, name) for name in _NAMES if name not in loose)
            found.setdefault(key, point)
    return found


def _loosened(a: list[Point], b: list[Point]) -> frozenset[str]:
    """Parts of the place in which the two runs have nothing in common."""
    apart = set()
    for name in ("cache", "dtype", "linear", "mode"):
        mine = {getattr(point, name) for point in a if getattr(point, name) not in ("", "none")}
        other = {getattr(point, name) for point in b if getattr(point, name) not in ("", "none")}
        if mine and other and not mine & other:
            apart.add(name)
    return frozenset(apart)


def _where(a: Point, b: Point) -> list[object]:
    def both(name: str) -> str:
        mine, other = getattr(a, name), getattr(b, name)
        return str(mine) if mine == other else f"{mine} / {other}"

    return [a.what, both("cache"), a.batch, a.context_tokens, a.new_tokens, both("dtype"), both("linear"), both("mode")]


def _change(name: str, a: Reading, b: Reading) -> list[object]:
    """Values with their spread, b / a - 1, and a verdict in words."""
    change = b.value / a.value - 1 if a.value else None
    verdict, better = verdict_of(name, a, b)
    kinds = a.kind if a.kind == b.kind else f"{a.kind} / {b.kind}"
    return [a.value, a.low, a.high, b.value, b.low, b.high, change, verdict, better, kinds]


def verdict_of(name: str, a: Reading, b: Reading) -> tuple[str, str]:
    """Returns (beyond the spread, within the spread, same, or one reading alone; which run is better, if either).

    Beyond the spread: the middle halves of the repeats do not touch.

    >>> verdict_of("step_seconds", Reading(1.0, low=0.9, high=1.1), Reading(2.0, low=1.9, high=2.1))
    ('beyond the spread', 'A')
    >>> verdict_of("step_seconds", Reading(1.0, low=0.9, high=1.1), Reading(1.05, low=1.0, high=1.2))
    ('within the spread', '-')
    """
    if a.value == b.value:
        return "same", "-"
    better = _better(name, a.value, b.value)
    if a.low is None or a.high is None or b.low is None or b.high is None:
        return "no spread known", "-"
    apart = a.high < b.low or b.high < a.low
    if apart and a.value and abs(b.value / a.value - 1) >= MARGIN:
        return "beyond the spread", better
    return "within the spread", "-"


def _better(name: str, a: float, b: float) -> str:
    higher = name.endswith(HIGHER_IS_BETTER)
    return "B" if (b > a) == higher else "A"


def _check_rows(a: Run, b: Run) -> list[list[object]]:
    """Measured bytes of the same name at the same place: exact numbers, so any change is one."""
    left, right = _measured_bytes(a), _measured_bytes(b)
    rows: list[list[object]] = []
    for key, check in left.items():
        other = right.get(key)
        if other is None or check.measured is None or other.measured is None:
            continue
        change = other.measured / check.measured - 1 if check.measured else None
        same = check.measured == other.measured
        exact = check.expect == other.expect == "exact"
        verdict = "same" if same else ("beyond the spread" if exact else "no spread known")
        better = _better(check.name, check.measured, other.measured) if exact and not same else "-"
        rows.append(
            [
                f"memory: {check.where}", "", None, None, None, "", "", "", check.name, check.measured, None, None,
                other.measured, None, None, change, verdict, better, "measured",
            ]
        )  # fmt: skip
    return rows


def _measured_bytes(run: Run) -> dict[tuple[str, str], Check]:
    return {(check.name, check.where): check for check in run.found.checks if check.name.endswith("_bytes")}


def differences(a: Run, b: Run) -> pd.DataFrame:
    """Lists how the two runs differ in what was run and where: only what is not the same."""
    rows = []
    pairs: list[tuple[str, object, object]] = [
        (name, getattr(a.found, name), getattr(b.found, name))
        for name in ("model", "dtype", "linear", "weights", "layers_run", "parameters", "complete")
    ]
    where = (
        "device",
        "device_kind",
        "driver",
        "torch",
        "python",
        "platform",
        "threads",
        "memory_bytes",
        "kvplan",
        "commit",
        "date",
    )
    pairs += [(name, getattr(a.found.environment, name), getattr(b.found.environment, name)) for name in where]
    caches = [sorted({point.cache for point in run.found.points if point.cache}) for run in (a, b)]
    pairs.append(("caches", ", ".join(caches[0]), ", ".join(caches[1])))
    rows = [[name.replace("_", " "), str(mine), str(other)] for name, mine, other in pairs if mine != other]
    return pd.DataFrame(rows, columns=["what", "a", "b"])

"""How many rows of each natural group of measurements lie in the range that is printed for them.

A group is a kind of measurement (dense models and those with experts apart), alone and by one thing that its rows have in
common: engine, device, layout, format of the weights. No crossings of two such things. Groups of fewer than 20 rows say
little of a range that is made to hold nine of ten, and are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate
from math import exp, lgamma, log
from typing import Any

from planner.speed.populations import population
from tests.speed_truth import Row

FEWEST = 20
WANTED = (0.85, 0.95)
HOLDS = 0.9  # what a range is made to hold
OUTSIDE, BY_CHANCE, INSIDE = "outside", "by chance", ""


def share_by_chance(rows: int, true: float = HOLDS) -> tuple[float, float]:
    """Returns the ends between which the share of `rows` lies in 95 % of draws where `true` of all lie in the range: the
    2.5th and the 97.5th percentile of the binomial distribution.

    >>> share_by_chance(20)
    (0.75, 1.0)
    >>> [round(end, 3) for end in share_by_chance(400)]
    [0.87, 0.927]
    """
    ways = [lgamma(rows + 1) - lgamma(k + 1) - lgamma(rows - k + 1) for k in range(rows + 1)]
    chances = [exp(way + k * log(true) + (rows - k) * log(1 - true)) for k, way in enumerate(ways)]
    below = list(accumulate(chances))
    low, high = (next(k for k, chance in enumerate(below) if chance >= end) for end in (0.025, 0.975))
    return low / rows, high / rows


def layout(row: Row) -> str:
    """Says how a row's model is spread over devices: the ways that are more than one.

    A replica of attention (dp) is named with the ranks that it shares experts with.
    """
    sharding = row.answer.request.sharding
    ways = {"TP": sharding.tp, "PP": sharding.pp, "EP": sharding.ep, "DP": sharding.dp}
    return " ".join(f"{name} {count}" for name, count in ways.items() if count > 1) or "one device"


def names_of(row: Row, labels: dict[str, str]) -> list[str]:
    """The groups that a row is in, within its kind: what it is of, as a reader would say it."""
    asked = population(row.engine, row.load, row.device)
    engine = labels.get(asked.engine, asked.engine or "other engines")
    return [
        "all",
        f"{engine}, {'2025 and later' if asked.generation == 'current' else 'to 2024'}",
        row.device.name,
        layout(row),
        f"weights in {row.answer.request.dtype}",
    ]


def groups(rows: Sequence[Row], inside: Iterable[bool], labels: dict[str, str]) -> list[dict[str, Any]]:
    """Counts rows and those in the range, by kind and group, groups of 20 rows or more."""
    found: dict[tuple[str, str], list[bool]] = {}
    for row, holds in zip(rows, inside, strict=True):
        kind = row.kind if row.dense else f"MoE: {row.kind}"
        for name in names_of(row, labels):
            found.setdefault((kind, name), []).append(bool(holds))
    return [_line(kind, name, holds) for (kind, name), holds in found.items() if len(holds) >= FEWEST]


def _line(kind: str, name: str, holds: Sequence[bool]) -> dict[str, Any]:
    share, (low, high) = sum(holds) / len(holds), share_by_chance(len(holds))
    verdict = INSIDE if WANTED[0] <= share <= WANTED[1] else BY_CHANCE if low <= share <= high else OUTSIDE
    return {
        "kind": kind, "group": name, "rows": len(holds), "in_range_percent": round(100 * share, 1),
        "chance_low_percent": round(100 * low, 1), "chance_high_percent": round(100 * high, 1), "verdict": verdict,
    }  # fmt: skip


def summary(lines: Sequence[dict[str, Any]]) -> str:
    """Says how many groups are in 85 to 95 %, outside as the draw may have it, and outside even so."""
    count = {verdict: sum(line["verdict"] == verdict for line in lines) for verdict in (INSIDE, BY_CHANCE, OUTSIDE)}
    return (
        f"{len(lines)} groups of {FEWEST} rows or more: {count[INSIDE]} hold 85 to 95 %, {count[BY_CHANCE]} lie outside as "
        f"nine of ten may by chance, {count[OUTSIDE]} outside even so"
    )


def words(line: dict[str, Any]) -> str:
    """Writes one group as a line of text."""
    chance = f"{line['chance_low_percent']:.0f} to {line['chance_high_percent']:.0f} by chance"
    return (
        f"{line['kind'][:40]:40} {line['group'][:32]:32} {line['rows']:5} rows  in range {line['in_range_percent']:5.1f} %"
        f"  ({chance})  {line['verdict']}"
    )

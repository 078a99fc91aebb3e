"""What one measured point is worth: each measured row of a deployment, given as --measured, against its other rows.

    python benchmarks/measured_point.py [--every 5]

A deployment is a model in its formats and layout, a device, an engine and a kind of load; rows that are set apart
(tests/cases) are left out. Every row in turn is the point given, and is compared with up to PAIRS others.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from planner.errors import KvplanError
from planner.speed.constants import DEFAULT, Constants
from planner.speed.measured_point import with_measured_point
from planner.speed.speed import Figure
from planner.terminal.tables import table
from tests.speed_truth import DECODE, PREFILL, TG, Row, llamacpp_rows, serving_rows

PAIRS = 10
POINTS = 4  # of a deployment, each given as measured
LEAST_PROMPT = 128  # below it the time to the first token is a server's way in
WHICH = {
    "default": "stated default",
    "default_given": "stated default, one point given",
    "fit": "shipped fit",
    "fit_given": "shipped fit, one point given",
}
KEYS = {DECODE: "tpot_ms", TG: "tpot_ms", PREFILL: "ttft_ms"}


@dataclass(frozen=True)
class Outcome:
    """One row predicted from another of its deployment, and without.

    default, default_given   by the stated default, which has seen no row: alone, and scaled to the point
    fit, fit_given           by the shipped fit, which has seen these rows: alone, and with the point as --measured
    """

    kind: str
    dense: bool
    measured_seconds: float
    default: Figure
    default_given: Figure
    fit: Figure
    fit_given: Figure


def outcomes(rows: Iterable[Row], every: int = 1) -> Iterator[Outcome]:
    """Every pair of rows that differ in batch or lengths, of every so many deployments."""
    deployments: dict[tuple[object, ...], list[Row]] = defaultdict(list)
    for row in rows:
        first = row.measured == "ttft_ms" and row.prompt >= LEAST_PROMPT
        if not row.apart and row.kind in KEYS and (row.kind != PREFILL or first):
            deployments[id(row.answer), row.device.name, row.engine, row.load, row.kind, row.source].append(row)
    chosen = random.Random(1)
    for members in list(deployments.values())[::every]:
        for point in chosen.sample(members, min(POINTS, len(members))):
            others = [row for row in members if _place(row) != _place(point)]
            for row in chosen.sample(others, min(PAIRS, len(others))):
                try:
                    constants = with_measured_point(
                        text_of(point), point.answer, point.device, load=point.load, engine=point.engine
                    )
                except KvplanError:  # below the bound of the device
                    continue
                scaled = replace(default_at(point), **ranges_of(constants))
                yield Outcome(
                    row.kind, row.dense, row.seconds, row.predicted(DEFAULT), row.predicted(scaled), row.predicted(),
                    row.predicted(constants),
                )  # fmt: skip


def default_at(point: Row) -> Constants:
    """The stated default, met to a point: all of its steps, or all of its prefills, so many times as long."""
    off = point.seconds / point.predicted(DEFAULT).value
    return DEFAULT.scaled(ttft=off) if point.kind == PREFILL else DEFAULT.scaled(tpot=off)


def ranges_of(constants: Constants) -> dict[str, float]:
    return {f.name: getattr(constants, f.name) for f in fields(Constants) if f.name.endswith(("_low", "_high"))}


def _place(row: Row) -> tuple[int, int, int]:
    return row.batch, row.prompt, row.output


def text_of(row: Row) -> str:
    """A row as --measured takes it."""
    return f"{KEYS[row.kind]}={1e3 * row.seconds} batch={row.batch} prompt={row.prompt} output={row.output}"


def errors(found: Iterable[Outcome], which: str) -> tuple[float, float, float]:
    """(median, 90th percentile of |predicted / measured - 1|, share of rows inside the range)."""
    rows = [(one.measured_seconds, getattr(one, which)) for one in found]
    off = sorted(abs(figure.value / measured - 1) for measured, figure in rows)
    held = sum(figure.low <= measured <= figure.high for measured, figure in rows)
    return off[len(off) // 2], off[int(0.9 * len(off))], held / len(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--every", type=int, default=1, help="take every so many deployments")
    every = max(1, parser.parse_args().every)
    found = list(outcomes([*serving_rows().rows, *llamacpp_rows().rows], every))
    lines = []
    for kind in KEYS:
        for dense in (True, False):
            alike = [one for one in found if (one.kind, one.dense) == (kind, dense)]
            if not alike:
                continue
            for which, words in WHICH.items():
                middle, ninth, held = errors(alike, which)
                name = f"{kind}, {'dense' if dense else 'MoE'}"
                lines.append([name, words, f"{len(alike):,}", *(f"{100 * x:.1f} %" for x in (middle, ninth, held))])
    print(table(["rows", "", "pairs", "median error", "P90", "in the range"], lines, left=2))


if __name__ == "__main__":
    main()

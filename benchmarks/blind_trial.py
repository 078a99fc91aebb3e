"""A blind trial of `kvplan speed`: measured speeds that were written down with their sources before it was asked.

    python benchmarks/blind_trial.py [--worst 10]

`tests/cases/blind_trial.csv` has 392 rows of three public collections of 2025 and 2026 (SGLang's documentation, llmfit's community
benchmarks, Jetson AI Lab) and 15 of llama.cpp threads, none of which any constant was fitted on, and what was said of them at
commit 611d89b: `kvplan speed` of the row's plain description. Labels are as they were first written; those that were corrected
afterwards, when the rows joined the fit, say so in `tests/cases/serving_speed.csv`.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from statistics import median

CASES = Path(__file__).resolve().parents[1] / "tests" / "cases" / "blind_trial.csv"


def rows_of(path: Path = CASES) -> list[dict[str, str]]:
    """Reads the rows, times in milliseconds."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def score(rows: list[dict[str, str]]) -> str:
    """Writes how many rows, the median error, the 90th percentile, the median of said / measured and the share in range."""
    ratios = [float(row["said_ms"]) / float(row["measured_ms"]) for row in rows]
    errors = sorted(abs(ratio - 1) for ratio in ratios)
    inside = [float(row["low_ms"]) <= float(row["measured_ms"]) <= float(row["high_ms"]) for row in rows]
    worst = errors[round(0.9 * (len(errors) - 1))]
    return (
        f"{len(rows):5} rows  median {median(errors):6.1%}  P90 {worst:6.1%}  said / measured {median(ratios):.2f}"
        f"  in range {sum(inside) / len(inside):4.0%}"
    )


def main() -> int:
    """Prints the score by kind of measurement, and the rows that are furthest off."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worst", type=int, default=0)
    asked = parser.parse_args()
    rows = rows_of()
    kinds: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        kinds.setdefault(("MoE: " if row["experts"] else "") + row["kind"], []).append(row)
    for kind, each in sorted(kinds.items()):
        print(f"{kind:42}{score(each)}")
    print(f"{'all':42}{score(rows)}")
    print(f"{'all but TTFT under load':42}{score([row for row in rows if row['kind'] != 'TTFT under load'])}")
    off = sorted(rows, key=lambda row: min(float(row["said_ms"]), float(row["measured_ms"])) / max(float(row["said_ms"]), float(row["measured_ms"])))  # fmt: skip
    for row in off[: asked.worst]:
        print(f"{float(row['said_ms']) / float(row['measured_ms']):6.2f}  {row['kind']}, {row['model']} on {row['tp']} x {row['gpu']}, {row['engine']}, batch {row['batch']}")  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

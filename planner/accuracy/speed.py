"""The speed section of docs/accuracy.md: how far the shipped fits are off, on rows that they had no share in.

The figures are those that `benchmarks/fit_speed.py --write` computed when it made the constants and shipped beside
them, so that a page never says more of a fit than what was checked of it.
"""

from __future__ import annotations

import os
from typing import Any

from planner.speed.constants import shipped

SPLITS = {"rows left out": "device seen", "device left out": "device left out", "model left out": "model left out"}


def speed_accuracy(folder: str | os.PathLike[str] | None = None) -> str:
    """Markdown with errors by kind of measurement, by fit, and where the model fails.

    `folder` of case files is what the rest of the page counts; these errors are of the shipped fits whatever it holds.

    >>> speed_accuracy().splitlines()[0]
    '## Speed'
    """
    made = shipped()
    return "\n".join([*_head(made), *_populations(made), *_failures(made), *_fits(made)]) + "\n"


def _head(made: dict[str, Any]) -> list[str]:
    return [
        "## Speed",
        "",
        "Published measurements (`tests/cases/serving_speed.csv`, `llamacpp_speed.csv`, each row with its source) beside what",
        "`planner.speed.speed.speed` says of each row's plain description: model, device, engine, layout, formats, batch, lengths.",
        "All dense models; rows that break a physical bound, that name no batch, or that are set apart below are not counted.",
        "Device seen: a fifth of the rows left out of the fit at a time. Device, model left out: all of its rows. Within a",
        "range: the measured value lies in the range that is printed, which is made to hold nine of ten. Written by",
        "`python benchmarks/fit_speed.py --write`.",
        "",
    ]


def _populations(made: dict[str, Any]) -> list[str]:
    lines = [
        "| measured | rows | split | median error | P90 | ours / measured | in range |",
        "|---|---|---|---|---|---|---|",
    ]
    plain = {line["population"]: line for line in made["plain"]}
    for line in made["errors"]:
        label, split = line["population"].strip(), line["split"]
        if split in SPLITS:
            lines.append(_row(label, line, SPLITS[split]))
        elif label.startswith("TTFT under load"):
            lines.append(_row(label, line, "all"))
        if split == "model left out" and line["population"] in plain:
            lines.append(_row(label, plain[line["population"]], "roofline at 0.75 / 0.55, no fit"))
    return [*lines, ""]


def _row(label: str, line: dict[str, Any], split: str) -> str:
    inside = f"{line['in_range_percent']:.0f} %" if "in_range_percent" in line else "-"
    return (
        f"| {label} | {line['rows']:,} | {split} | {line['median_percent']:.1f} % | {line['p90_percent']:.0f} % "
        f"| {line['ratio']:.2f} | {inside} |"
    )


def _failures(made: dict[str, Any]) -> list[str]:
    """Where not to believe it, with how far off it is there."""
    lines = [
        "Where it fails, by the shipped constants:",
        "",
        "| kind | rows | median error | P90 | ours / measured | in range |",
        "|---|---|---|---|---|---|",
    ]
    for line in made["fails"]:
        lines.append(
            f"| {line['population']} | {line['rows']:,} | {line['median_percent']:.1f} % | {line['p90_percent']:.0f} % "
            f"| {line['ratio']:.2f} | {line['in_range_percent']:.0f} % |"
        )
    unknown = sum(entry["rows"] for entry in made["unknown"])
    return [
        *lines,
        "",
        "Experts are taken as hit evenly and read like any weight: identical prompts hit the same ones (faster), skewed",
        "routing and small grouped products take longer. What a host needs for a step is in the engine's constants, not in",
        "those of a slow host. TTFT under load is decided by who asks at the same time: the range says so. An engine without",
        "a version is taken as of 2023 and 2024 with `--load static` (all published static rows without one are), as current",
        "when serving.",
        "",
        "The rows set apart were set apart after their errors had been seen, for the reasons in the table; the line with them",
        "counts all. Chosen by looking at these same errors, so that rows nobody has looked at may be a little further off: how",
        "far a constant may stray from that of all engines, the extra time of a layer with norms of q and k or with experts,",
        "the percentiles of the ranges, and the share of queued prompts (on all rows of TTFT under load). No constant is fitted",
        "on models with experts.",
        "",
        f"{unknown:,} rows name a model or device that the catalogue does not hold, and are not counted.",
        "",
    ]


def _fits(made: dict[str, Any]) -> list[str]:
    """A row a fit: time between tokens and whole requests, device seen and left out."""
    lines = [
        "Time between tokens and whole requests, by fit:",
        "",
        "| constants | rows | device seen: median, P90 | device left out: median, P90 |",
        "|---|---|---|---|",
    ]
    by_fit: dict[str, dict[str, Any]] = {}
    for line in made["errors_by_fit"]:
        by_fit.setdefault(line["population"], {})[line["split"]] = line
    for words, splits in by_fit.items():
        seen, unseen = splits["rows left out"], splits["device left out"]
        lines.append(
            f"| {words.removeprefix('fitted on ')} | {seen['rows']:,} | {seen['median_percent']:.1f} %, {seen['p90_percent']:.0f} % "
            f"| {unseen['median_percent']:.1f} %, {unseen['p90_percent']:.0f} % |"
        )
    return [
        *lines,
        "",
        "Where a fit has rows of one device alone, that device left out is answered by the nearest other fit.",
    ]

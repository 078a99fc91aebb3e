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
    """Writes the errors by kind of measurement, by fit, and where the model fails, as Markdown.

    `folder` of case files is what the rest of the page counts; these errors are of the shipped fits whatever it holds.

    >>> speed_accuracy().splitlines()[0]
    '## Speed'
    """
    made = shipped()
    parts = (_head, _populations, _targets, _groups, _failures, _fits)
    return "\n".join(line for part in parts for line in part(made)) + "\n"


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
        if split == "model left out" and line["population"] in plain:
            lines.append(_row(label, plain[line["population"]], "roofline at 0.75 / 0.55, no fit"))
    return [*lines, ""]


TARGETS = (  # population, split, median and P90 that are aimed at, why it is missed where it is
    ("TPOT and decode steps: TPOT alone", 5, 15, "vLLM of 2024 on MI300X (developer builds) and FP8 of small models on TP 8"),
    ("MoE: TPOT and decode steps", 8, 22, "kernels of experts change with version and model: gpt-oss on H200 and B200 differ by "
     "two with one set of constants"),
    ("prefill and TTFT of static batches", 10, 30, "few rows a fit, many of 2023 engines; clocks of TTFT start at different places"),
    ("TTFT under load", 20, 60, "closed loops come in waves, and sources do not say how many requests each had"),
    ("MoE: TTFT under load", 20, 60, "as above, and servers that drafted or held prefixes without their rows saying so"),
    ("llama.cpp token generation", 6, 20, ""),
    ("MoE: llama.cpp token generation", 8, 22, "106 rows on 22 devices, most with one to three; bf16 on Vulkan, SYCL, Ampere, and builds of one year to the next differ by a factor of two"),
    ("llama.cpp prompt processing: several devices", 20, 60, "31 rows, some of them over PCIe without peer access"),
)  # fmt: skip


def _targets(made: dict[str, Any]) -> list[str]:
    """What was aimed at on rows left out, and why it is missed where it is."""
    lines = ["Aimed at, on rows left out:", "", "| measured | median, P90 aimed at | reached | |", "|---|---|---|---|"]
    found = {(line["population"], line["split"]): line for line in made["errors"]}
    for population, median, p90, why in TARGETS:
        line = found.get((population, "rows left out"))
        if line is not None:
            missed = line["median_percent"] > median or line["p90_percent"] > p90
            reached = f"{line['median_percent']:.1f} %, {line['p90_percent']:.0f} %"
            said = f"missed: {why}" if missed and why else "missed" if missed else "met"
            lines.append(f"| {population} | {median} %, {p90} % | {reached} | {said} |")
    return [*lines, ""]


VERDICTS = {"": "", "by chance": "outside 85 to 95 %, by chance", "outside": "**outside**"}


def _groups(made: dict[str, Any]) -> list[str]:
    """The share in the range of each natural group of rows, and which are outside 85 to 95 %."""
    groups = made["groups"]
    count = {name: sum(line["verdict"] == name for line in groups) for name in VERDICTS}
    lines = [
        "In the range, by group: a kind of measurement alone, and by engine, device, layout and format of the weights, no crossings",
        "of these; groups of 20 rows or more, rows left out of the fit and of the range. A range is made to hold nine of ten:",
        f"{count['']} of {len(groups)} groups hold 85 to 95 %. Of a group that nine of ten of all hold, the rows at hand hold the share",
        f'under "by chance" in 95 % of draws: {count["by chance"]} groups are outside 85 to 95 % and inside that, {count["outside"]} outside even so.',
        "",
        "| measured | group | rows | in range | by chance | |",
        "|---|---|---|---|---|---|",
    ]
    for line in sorted(groups, key=lambda line: (line["kind"], line["group"] != "all", line["group"])):
        chance = f"{line['chance_low_percent']:.0f} to {line['chance_high_percent']:.0f} %"
        lines.append(
            f"| {line['kind']} | {line['group']} | {line['rows']:,} | {line['in_range_percent']:.0f} % | {chance} "
            f"| {VERDICTS[line['verdict']]} |"
        )
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
        "Experts are taken as hit evenly: identical prompts hit the same ones (faster), skewed routing and small grouped",
        "products take longer. What a host needs for a step is in the engine's constants, not in those of a slow host. TTFT",
        "under load is decided by who asks at the same time: the range says so. An engine without a version is taken as of",
        "2023 and 2024 with `--load static` (all published static rows without one are), as current when serving.",
        "",
        "The rows set apart were set apart after their errors had been seen, for the reasons in the table; the line with them",
        "counts all. Labels of `serving_speed.csv` that were corrected say why in their `note`: fp8 caches by the launch",
        "scripts of those runs, lengths 0.9 of nominal. Chosen by looking at errors, so that rows nobody has looked at may be a",
        "little further off: how far a constant may stray from that of all engines, the extra time of a layer with norms of q",
        "and k or of nvfp4, how many rows a factor of a device is believed by, how far the parts of a model's shape may stray",
        "(chosen on B200, B300 and A100 alone; rows of the other devices moved as far), that a prompt's rate goes with the board's",
        "power (for servers chosen on five devices alone; prompts on the others moved from 16.9 to 14.0 % at the median, from 52 to",
        "38 % at P90, left out by device from 20.6 to 15.7 %; that attention's rate does, too: chosen on nine devices, on the others",
        "static prefills moved from 10.7 to 9.8 %), what PCIe shares among ranks, that prompts of plain and of unpacked weights have",
        "a factor each on a device, the percentiles of the ranges. Ranges: the percentiles of a circle of",
        "rows (all engines of a kind, those on devices of one maker, the entry's own, one device's) are drawn to those of the circle",
        "around it, by half at 20 rows, and each format of weights has a factor of the width, drawn to 1 alike; 10 and 40 rows in place",
        "of 20 leave as many groups outside.",
        "Constants of experts are fitted on models with experts alone, with those of the dense rows held still.",
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

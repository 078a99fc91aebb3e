"""`kvplan plot`: one figure of a report as a file."""

from __future__ import annotations

import os
from typing import Any

import click

from planner.commands.click_options import with_flags
from planner.errors import UsageError, one_line
from planner.files.write import write_bytes
from planner.terminal.output import emit
from reports.asked import FLAGS, question_of, report_asked, shown_path
from reports.commands.warn import warn
from reports.extra import need_report_extra

ENDINGS = ("svg", "png", "pdf")


KIND_NAMES = (
    "memory-vs-length", "memory-vs-batch", "memory-bars", "bytes-per-token", "feasible-region", "most-sequences", "user-speed", "kv-dtype-savings",
    "step-bounds", "roofline", "prediction", "speed-vs-output", "speedup", "ttft-vs-context", "tpot-vs-context",
    "tpot-vs-batch", "bandwidth-share", "measured-roofline", "comparison", "cost-vs-tpot",
)  # fmt: skip


@click.command(
    name="plot",
    epilog="Example: kvplan plot memory-vs-length llama-3.1-8b gemma-3-27b --gpu l40s,h100-sxm -o memory.svg",
)
@click.argument("kind", metavar="KIND")
@click.argument("models", metavar="[MODEL]...", nargs=-1)
@with_flags(FLAGS)
@click.option("-o", "--output", metavar="FILE", required=True, help="FILE.svg, FILE.png or FILE.pdf.")
@click.option("--force", is_flag=True, hidden=True, help="Was wanted to replace FILE; a file is replaced without it.")
@click.option("--data", is_flag=True, help="Write the figure's numbers beside it, as FILE.csv.")
def command(kind: str, models: tuple[str, ...], **values: Any) -> None:
    """One figure of a report.

    KIND is memory-vs-length, memory-vs-batch, memory-bars, bytes-per-token, feasible-region, most-sequences, user-speed, kv-dtype-savings,
    step-bounds or roofline (of MODELs), or, of a --run, prediction, speed-vs-output, speedup, ttft-vs-context,
    tpot-vs-context, tpot-vs-batch, bandwidth-share or measured-roofline, or comparison (of two runs), or cost-vs-tpot (of a --plan).
    feasible-region is of the first model and device, step-bounds of the first device.
    """
    need_report_extra()
    from reports.folder import csv_bytes
    from reports.kinds import about, find_kind, frame_of
    from reports.runs import load_runs
    from reports.style import save, titled

    found = find_kind(kind)
    path, ending = values["output"], os.path.splitext(values["output"])[1].lower().removeprefix(".")
    if ending not in ENDINGS:
        raise UsageError(f"-o {one_line(path, 80)!r} ends in none of .svg, .png, .pdf")
    asked = report_asked(models, values)
    runs, skipped = load_runs(asked.runs)
    warn(skipped)
    if found.needs == "models" and not (models or runs):
        raise UsageError(f"which MODEL? {found.name} wants one or several")
    if found.needs == "plans" and not asked.plans:
        raise UsageError(f"{found.name} wants a plan: --plan PLAN.json (kvplan plan --json -o PLAN.json writes one)")
    if found.needs in ("runs", "two runs") and not runs:
        raise UsageError(f"{found.name} wants a run: --run RESULT.json (kvplan profile writes one)")
    question = question_of(asked, runs)
    frame = frame_of(found, question)
    write_bytes(path, save(titled(found.draw(frame), found.title, about(found, question)), ending))
    if values["data"]:
        write_bytes(os.path.splitext(path)[0] + ".csv", csv_bytes(frame))
    emit(f"{shown_path(path)}: {found.sees(frame)}")

"""`kvplan sweep`: any grid of questions to CSV or Parquet."""

from __future__ import annotations

from functools import partial
from typing import Any

import click

from planner.commands.click_options import with_flags
from planner.errors import KvplanError, UsageError
from planner.options import tables as flags
from planner.options.readers import count, switch, text
from planner.options.tables import Flag
from planner.terminal.progress import Progress

INTERRUPTED = 130
FLAGS: tuple[Flag, ...] = (
    Flag("--workers", "N", "Processes on this machine (default: 1).", count, "Load"),
    Flag("--ray", "ADDRESS", "The workers of a Ray cluster: host:port, or auto (extra `cluster`).", text, "Load"),
    Flag("--resume", "", "Keep the points that FILE already holds.", switch, "Output"),
    *flags.ASSUME,
    *flags.ONLINE,
    Flag("--output", "FILE", "What to write, .csv or .parquet (extra `parquet`).", text, "Output"),
)


@click.command(
    name="sweep", epilog="\b\nExample: kvplan sweep estimate model=llama-7b,gpt2 seq=1k..8k batch=1,8 -o sweep.csv"
)
@click.argument("question", metavar="estimate|fit|speed")
@click.argument("axes", nargs=-1, metavar="AXIS=VALUES...")
@with_flags(FLAGS)
def command(question: str, axes: tuple[str, ...], **values: Any) -> None:
    """A grid of questions, one row a point, in base units.

    Axes: model, gpu, memory, engine, dtype, kv_dtype, tp, pp, ep, dp, dcp, batch, seq (estimate, fit), and prompt,
    output, load (speed). Values: a list 1,8,32, a range that doubles 1k..128k, or with its step 1k..128k:x4,
    1k..8k:+1k. A point that cannot be answered says why in the column `refused`. The file is the same whoever
    computes it, and Ctrl-C keeps what is done.
    """
    from planner.sweeps import files, workers
    from planner.sweeps.axes import parse_grid
    from planner.sweeps.questions import shared_of
    from planner.sweeps.run import sweep

    if values["workers"] is not None and values["ray"] is not None:
        raise UsageError("--workers is of this machine and --ray of a cluster; give one of them")
    if values["output"] is None:
        raise UsageError("where to? -o FILE.csv or -o FILE.parquet")
    processes = flags.read_values(FLAGS, values)["workers"] or 1
    if processes > workers.MAX_WORKERS:
        raise KvplanError(f"--workers {processes:,} is more than {workers.MAX_WORKERS:,}; write one for each core")
    grid = parse_grid(question, axes)
    path: str = values["output"]
    files.check_path(path)
    shared = shared_of(grid, assume=values["assume"], online=values["online"])
    work: Any = workers.here
    if values["ray"] is not None:
        work = partial(workers.on_ray, address=values["ray"])
    elif processes > 1:
        work = partial(workers.in_processes, workers=processes)
    found = sweep(grid, shared, path, work, resume=values["resume"], progress=Progress(0))
    done = found.answered + found.refused
    if not found.complete:
        click.echo(
            f"kvplan: interrupted: {done:,} of {found.points:,} points are in {path}; --resume goes on", err=True
        )
        raise SystemExit(INTERRUPTED)
    if not found.answered:
        raise KvplanError(f"no point was answered ({path} says why); the first: {found.first_refusal}")
    kept = f", {found.kept:,} of them kept" if found.kept else ""
    refused = f", {found.refused:,} refused" if found.refused else ""
    click.echo(f"{done:,} points in {path}{kept}{refused}")

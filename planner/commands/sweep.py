"""`kvplan sweep`: any grid of questions to CSV or Parquet."""

from __future__ import annotations

from typing import Any

import click

from planner.commands.click_options import Sectioned, with_flags
from planner.errors import KvplanError
from planner.sweeps.asked import FLAGS, sweep_asked, write_sweep
from planner.terminal.progress import Progress
from planner.units import plural

INTERRUPTED = 130


@click.command(
    cls=Sectioned,
    name="sweep",
    epilog="\b\nExample: kvplan sweep estimate model=llama-7b,gpt2 seq=1k..8k -o sweep.csv",
)
@click.argument("question", metavar="estimate|fit|speed")
@click.argument("axes", nargs=-1, metavar="AXIS=VALUES...")
@with_flags(FLAGS)
def command(question: str, axes: tuple[str, ...], **values: Any) -> None:
    """A grid of questions, one row a point, in base units.

    Axes: model, gpu, memory, engine, dtype, kv_dtype, tp, pp, ep, dp, dcp, batch, seq (estimate, fit), and prompt,
    answer, load (speed). Values: a list 1,8,32, a range that doubles 1k..128k, or with its step 1k..128k:x4,
    1k..8k:+1k. A point that cannot be answered says why in the column `refused`. The file is the same whoever
    computes it, and Ctrl-C keeps what is done.
    """
    asked = sweep_asked(question, axes, values)
    found = write_sweep(asked, Progress(0))
    done = found.answered + found.refused
    if not found.complete:
        click.echo(
            f"kvplan: interrupted: {done:,} of {found.points:,} points are in {asked.path}; --resume goes on", err=True
        )
        raise SystemExit(INTERRUPTED)
    if not found.answered:
        raise KvplanError(f"no point was answered ({asked.path} says why); the first: {found.first_refusal}")
    kept = f", {found.kept:,} of them kept" if found.kept else ""
    refused = f", {found.refused:,} refused" if found.refused else ""
    click.echo(f"{plural(done, 'point')} in {asked.path}{kept}{refused}")

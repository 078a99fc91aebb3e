"""`kvplan accuracy`: our numbers beside measured ones, counted from case files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from planner.accuracy.cases import Cases
from planner.accuracy.page import HEAD, PARTS, Accuracy, compare, page, to_dict
from planner.commands.click_options import Sectioned, with_flags
from planner.errors import one_line
from planner.files.write import check_file
from planner.memory.estimate import SCHEMA_VERSION
from planner.options.accuracy import FLAGS, accuracy_asked
from planner.options.model import output_of
from planner.terminal.markdown import screen
from planner.terminal.output import emit, to_json
from planner.terminal.progress import Progress
from planner.terminal.tables import bad, good, wrapped

UNEXPLAINED = 3


@click.command(cls=Sectioned, name="accuracy", epilog="Example: kvplan accuracy -o docs/accuracy.md")
@with_flags(FLAGS)
def command(**values: Any) -> None:
    """How often our numbers agree with what implementations and servers printed, with a reason for each that does not.

    Reads a folder of case files and writes Markdown. Anyone can add a row: kvplan reconcile LOG --record
    DIR/engine_logs.csv. Exit code 3 where something differs and no reason is given.
    """
    check_file(values["output"])
    output, asked = output_of(values), accuracy_asked(values)
    with Progress(PARTS) as progress:
        found = compare(Cases(asked.folder), progress.step)
    if output.as_json:
        said = to_json({"schema_version": SCHEMA_VERSION, **to_dict(found)})
    elif output.path is not None:
        said = page(found)
    else:
        said = wrapped("\n".join(_verdict(found))) + "\n\n" + screen(page(found).removeprefix(HEAD))
    emit(said, output.path)
    if found.unexplained:
        shown = ", ".join(one_line(name, 60) for name in found.unexplained[:5])
        more = f" and {len(found.unexplained) - 5} more" if len(found.unexplained) > 5 else ""
        click.echo(f"kvplan: differs without a reason: {shown}{more}", err=True)
        raise SystemExit(UNEXPLAINED)


def _verdict(found: Accuracy) -> list[str]:
    """The question and the answer, in two lines."""
    counted, of = (sum(getattr(count, name) for count in found.counts) for name in ("agree", "of"))
    rows = [row for row in found.rows if not row.refused]
    agreeing = sum(row.agrees for row in rows)
    paint, word = (
        (bad, "DIFFERS without a reason") if found.unexplained else (good, "AGREES, or differs for a stated reason")
    )
    return [
        "Our numbers beside what implementations and servers printed",
        paint(f"{word}: {counted:,} of {of:,} references, {agreeing:,} of {len(rows):,} rows of server logs."),
        f"  case files: {_short(found.cases.folder)}",
    ]


def _short(folder: Path) -> str:
    """The folder as seen from here where that is shorter."""
    try:
        return one_line(str(folder.resolve().relative_to(Path.cwd())), 80)
    except (ValueError, OSError):
        return one_line(str(folder), 80)

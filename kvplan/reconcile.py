"""`kvplan reconcile`: a server's log, benchmarks and /metrics beside what kvplan says, as text, JSON, a page or a figure."""

from __future__ import annotations

import os
from typing import Any

import click

from planner.answers.server import ServerAnswer
from planner.commands.click_options import Sectioned, with_flags
from planner.commands.reconcile import answered, pages, summary
from planner.errors import KvplanError, UsageError, one_line
from planner.files.write import write_bytes
from planner.options.model import output_of
from planner.options.readers import text
from planner.options.reconcile import FLAGS, server_asked
from planner.options.tables import Flag
from planner.terminal.output import emit, to_json
from planner.terminal.tables import wrapped

ENDINGS = ("svg", "png", "pdf")
PICTURES = (
    Flag("--html", "FILE", "Write it as one HTML page, with the curve of several benchmarks (extra `report`).", text, "Output"),
    Flag("--figure", "FILE", "Write that curve as FILE.svg, FILE.png or FILE.pdf.", text, "Output"),
)  # fmt: skip


@click.command(
    cls=Sectioned,
    name="reconcile",
    epilog="\b\nExample: kvplan reconcile server.log --gpu h100\n         kvplan reconcile server.log bench-*.json --gpu h100 --html log.html",
)
@click.argument("log", nargs=-1, required=True)
@with_flags((*FLAGS, *PICTURES))
def command(log: tuple[str, ...], **values: Any) -> None:
    """Where every GiB of a server went: a start-up LOG beside our prediction, with the difference and its reason.

    LOG is a file (also .gz), or - for standard input: vLLM, SGLang, llama.cpp, ik_llama.cpp, KoboldCpp, ollama,
    TensorRT-LLM, LMDeploy or mlx-lm, with any prefixes and colours; several servers in one file are told apart.
    Files of benchmarks and recorded /metrics (docs/measured.md, docs/watch.md) are held against the speed that is
    expected; several files of one server make one page, with what one flag would change in order of gain.
    """
    html, figure = values.pop("html"), values.pop("figure")
    ending = _ending(figure)
    if html or figure:
        from reports.extra import need_report_extra

        need_report_extra()
    output = output_of(values)
    found = answered(log, server_asked(values))
    if figure:
        _draw(found, figure, ending)
    if html:
        from reports.html import page
        from reports.server_report import server_report

        title, answer = (click.unstyle(line) for line in summary(found))
        write_bytes(html, page(server_report(found, title=title, answer=answer)).encode(), "--html")
    emit(to_json(found.to_dict()) if output.as_json else wrapped("\n\n".join(pages(found))), output.path)


def _ending(figure: str | None) -> str:
    """svg, png or pdf, by the file's name."""
    ending = os.path.splitext(figure or "")[1].lower().removeprefix(".")
    if figure is not None and ending not in ENDINGS:
        raise UsageError(f"--figure {one_line(figure, 80)!r} ends in none of .svg, .png, .pdf")
    return ending


def _draw(found: ServerAnswer, path: str, ending: str) -> None:
    """Writes the curve of several benchmarks; KvplanError where they hold none."""
    from reports.server_report import curve
    from reports.style import save

    picture = curve(found)
    if picture is None:
        raise KvplanError(
            "--figure: a curve wants TPOT at two loads at least, of nearly the same lengths; name more files of benchmarks"
        )
    write_bytes(path, save(picture.figure(), ending), "--figure")

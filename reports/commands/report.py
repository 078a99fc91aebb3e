"""`kvplan report`: a capacity report as a folder: one HTML file, Markdown, figures and tables."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import click

from planner.commands.click_options import Sectioned, with_flags
from planner.errors import KvplanError, UsageError, one_line
from planner.options.readers import count as read_count
from planner.terminal.output import emit
from planner.terminal.tables import dim, wrapped
from reports.asked import (
    FLAGS,
    RUN_FILE,
    ReportAsked,
    command_lines,
    folder_name,
    made_with,
    profile_options,
    question_of,
    report_asked,
    shown_path,
)
from reports.commands.warn import warn
from reports.extra import need_report_extra

if TYPE_CHECKING:
    import subprocess

    from reports.blocks import Report
    from reports.runs import Run

NOT_EXACT = 3  # of `kvplan profile`: there is a result, and a size in it that should be exact is not
INTERRUPTED = 130  # of the same: what was done before Ctrl-C is kept


@click.command(
    cls=Sectioned,
    name="report",
    epilog="Example: kvplan report gpt2 --profile; kvplan report llama-3.1-8b deepseek-v3 --gpu l40s,h100-sxm --seq 32k",
)
@click.argument("models", metavar="[MODEL]...", nargs=-1)
@with_flags(FLAGS)
@click.option(
    "--profile", is_flag=True, help="Run `kvplan profile` on the (first) model first, and put it beside the estimate."
)
@click.option("--layers", metavar="N", help="With --profile: run the first N layers alone, for a first try.")
@click.option("--compare", metavar="RUN_A RUN_B", nargs=2, help="Two results side by side, with the change in percent.")
@click.option("-o", "--output", metavar="DIR", help="The folder to write (default: report-MODEL).")
@click.option("--force", is_flag=True, help="Replace the report that is in DIR.")
@click.option(
    "--open/--no-open",
    "opens",
    default=None,
    help="Open it in the browser (with --profile on a terminal that is the default).",
)
def command(models: tuple[str, ...], **values: Any) -> None:
    """A capacity report: one self-contained HTML file, the same as Markdown, each figure as SVG and PNG, each table
    as CSV and JSON.

    Without --gpu three usual devices are shown, or those that the runs were made on.
    """
    need_report_extra()
    from reports.folder import check_target, files_of, write_folder

    asked, output = report_asked(models, values), values["output"]
    _check(asked)
    folder = folder_name(asked) if output is None else output
    check_target(folder, values["force"])
    loaded = _loaded(asked)
    report = _report(asked, loaded)
    page = os.path.join(write_folder(folder, files_of(report), values["force"]), "report.html")
    emit(wrapped(_said(report, page)))
    if asked.profile and not loaded.runs[0].found.complete:
        click.echo("kvplan: interrupted: the report holds what was measured before", err=True)
        raise SystemExit(INTERRUPTED)
    opens = values["opens"]
    if opens or (opens is None and asked.profile and sys.stdout.isatty()):
        _open(page)


def _check(asked: ReportAsked) -> None:
    if asked.profile and not asked.models:
        raise UsageError("--profile wants a MODEL")
    if asked.layers is not None:
        read_count(asked.layers, "--layers")
        if not asked.profile:
            raise UsageError("--layers goes with --profile: it says how many layers are run")
    if not (asked.models or asked.runs or asked.compare or asked.plans):
        raise UsageError(
            "which MODEL? A name of `kvplan models` or a config.json; or --run RESULT.json, --plan PLAN.json"
        )


@dataclass(frozen=True)
class _Loaded:
    """The runs to show, the two to compare, the files left out, and files to keep in the folder."""

    runs: tuple[Run, ...]
    pair: tuple[Run, Run] | None
    skipped: tuple[str, ...]
    kept: dict[str, bytes]


def _loaded(asked: ReportAsked) -> _Loaded:
    from profiler.results import load
    from reports.runs import Run, load_runs, run_name

    runs, skipped = load_runs(asked.runs)
    warn(skipped)
    pair = None
    if asked.compare:
        a, b = asked.compare
        names = (
            (run_name(a), run_name(b)) if run_name(a) != run_name(b) else (f"{run_name(a)} (A)", f"{run_name(b)} (B)")
        )
        pair = (Run(names[0], a, load(a)), Run(names[1], b, load(b)))
        from reports.compare import comparison

        comparison(*pair)  # says so where they have nothing in common, before anything long is done
        if not runs:
            runs = pair
    kept: dict[str, bytes] = {}
    if asked.profile:
        run, data = _profile(asked)
        kept[RUN_FILE] = data
        runs = (run, *runs)
    return _Loaded(runs, pair, skipped, kept)


def _profile(asked: ReportAsked) -> tuple[Run, bytes]:
    """The profile of the first model on this machine: `kvplan profile` in a process of its own, so that none of torch stays."""
    import subprocess
    import tempfile

    from profiler.results import load
    from reports.runs import Run

    if find_spec("torch") is None:
        raise KvplanError("--profile runs a model and needs torch: pip install 'llm-kvplan[profile]'")
    model = asked.models[0]
    click.echo(dim(f"profiling {model} on this machine: a few minutes; Ctrl-C keeps what is done"), err=True)
    with tempfile.TemporaryDirectory(prefix="kvplan-") as folder:
        path = os.path.join(folder, RUN_FILE)
        words = [sys.executable, "-m", "kvplan", "profile", model, "-o", path, *profile_options(asked)]
        child = subprocess.Popen(words, stdout=subprocess.DEVNULL)
        code = _wait(child)
        if code == INTERRUPTED and not os.path.exists(path):
            raise KeyboardInterrupt
        if code not in (0, NOT_EXACT, INTERRUPTED) or not os.path.exists(path):
            raise KvplanError(f"the profile of {one_line(model, 60)} ended with code {code} and without a result")
        found = load(path)
        with open(path, "rb") as file:
            data = file.read()
    if not found.points:
        raise KeyboardInterrupt  # before anything was measured
    return Run("this machine", RUN_FILE, found), data


def _wait(child: subprocess.Popen[bytes]) -> int:
    """The child's exit code; Ctrl-C reaches it too, and it ends by itself with what is done."""
    while True:
        try:
            return child.wait()
        except KeyboardInterrupt:
            continue


def _report(asked: ReportAsked, loaded: _Loaded) -> Report:
    from reports.content import report

    q = question_of(asked, loaded.runs)
    commands = command_lines(asked, q)
    made = report(q, pair=loaded.pair, skipped=loaded.skipped, commands=commands, made=made_with())
    return replace(made, files=loaded.kept)


def _said(report: Report, page: str) -> str:
    tables = len(report.tables) + len(report.pictures)
    return "\n".join(
        [
            report.answer,
            f"{shown_path(page)}: {len(report.pictures)} figures (SVG, PNG), {tables} tables (CSV, JSON), report.md",
        ]
    )


def _open(page: str) -> None:
    """In the browser; where there is none the path on the screen is enough."""
    import webbrowser
    from pathlib import Path

    try:
        opened = webbrowser.open(Path(page).as_uri())
    except (webbrowser.Error, OSError):
        opened = False
    if not opened:
        click.echo(f"kvplan: no browser could be opened; open {shown_path(page)}", err=True)

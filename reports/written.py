"""Writes a report from Python: the question, its content, its folder."""

from __future__ import annotations

import os

from planner.errors import UsageError
from reports.asked import ReportAsked, command_lines, folder_name, made_with, question_of
from reports.extra import need_report_extra


def written_report(asked: ReportAsked, *, output: str | None, force: bool) -> str:
    """Writes the report of these models and runs into a folder; returns the path of its report.html."""
    need_report_extra()
    from reports.content import report
    from reports.folder import check_target, files_of, write_folder
    from reports.runs import load_runs

    if not (asked.models or asked.runs or asked.plans):
        raise UsageError(
            "which MODEL? A name of `kvplan models` or a config.json; or --run RESULT.json, --plan PLAN.json"
        )
    folder = folder_name(asked) if output is None else output
    check_target(folder, force)
    runs, skipped = load_runs(asked.runs)
    question = question_of(asked, runs)
    made = report(question, skipped=skipped, commands=command_lines(asked, question), made=made_with())
    return os.path.join(write_folder(folder, files_of(made), force), "report.html")

"""Makes the report of what the page shows: one archive of `kvplan report`'s folder, made in a folder that is gone after."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from kvplan.outside import model, not_local
from kvplan.web.state import State
from planner.catalogue.entries import known_model
from planner.errors import BadRequest
from planner.lookup.plain import plain_name
from planner.options.tables import empty

REPORT = ("gpu", "memory", "seq", "batch", "dtype", "kv_dtype", "tp", "pp", "dp", "ep", "engine", "rope_scaling")
"""Controls that the report takes too."""


def zipped_report(pairs: Sequence[tuple[str, str]]) -> tuple[str, bytes]:
    """Returns the report's name and its folder as a zip archive, for the controls of an address.

    Raises KvplanError: no model of the catalogue is named; a value that is wrong; the extra `report` is not installed.
    """
    state = State.of(pairs)
    from reports.asked import FLAGS, folder_name, report_asked
    from reports.written import written_report

    names = (_catalogue_name(state),)
    not_local(state.values.get("gpu", ""))
    asked = {name: value for name, value in state.asked(REPORT).items() if name != "model"}
    values: dict[str, Any] = {**empty(FLAGS), **asked}
    values |= {name: (asked[name],) for name in ("gpu", "memory") if name in asked}
    question = report_asked(names, values)
    with TemporaryDirectory(prefix="kvplan-report-") as made:
        folder = Path(made) / folder_name(question)
        written_report(question, output=str(folder), force=False)
        return folder.name, _archive(folder)


def _catalogue_name(state: State) -> str:
    """The catalogue's own name of the model: a file of that name on this machine is never looked for."""
    if state.values.get("config"):
        raise BadRequest("the report takes a model by its name; for a config.json, run kvplan report CONFIG.json")
    named = state.values.get("model", "")
    model(named)
    entry = known_model(plain_name(named))
    if entry is None:
        raise BadRequest(f"the report takes a model of the catalogue; run kvplan report {named} on the command line")
    return entry.name


def _archive(folder: Path) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(folder.parent))
    return out.getvalue()

"""Lines that people pasted into public threads, and those that engines' sources print: read, shown and explained.

`tests/cases/logs/pasted.jsonl`: the lines with their thread, the flags that the log lacks (`given`), what must be
shown (`says`, `logged` in GiB), which counts of ours must agree (`figures`), and why the server stopped (`stopped`).
A row whose source is no address was not pasted by anybody: its lines have the form that the engine's source prints, with
figures by hand; lines of one thread may come from several posts.
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from kvplan.cli import main

PASTED = Path(__file__).parents[2] / "cases" / "logs" / "pasted.jsonl"
ROWS = [json.loads(line) for line in PASTED.read_text().splitlines()]


@pytest.mark.parametrize("row", ROWS, ids=[row["id"] for row in ROWS])
def test_pasted_lines_are_read(row: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "server.log"
    log.write_text("\n".join(row["log"]) + "\n")
    with pytest.raises(SystemExit) as end:
        raise SystemExit(main(["reconcile", str(log), "--json", *shlex.split(row.get("given", ""))]))
    assert end.value.code in (0, None)
    (made,) = json.loads(capsys.readouterr().out)["ledgers"]
    for name, value in row.get("says", {}).items():
        assert made["readings"].get(name) == value, name
    figures = {figure["name"]: figure for figure in made["figures"]}
    for name, value in row.get("figures", {}).items():
        assert round(figures[name]["logged"], 2) == pytest.approx(value, abs=0.01) and figures[name]["agrees"], name
    entries = {entry["name"]: entry["logged_bytes"] for entry in made["entries"]}
    for name, value in row.get("logged", {}).items():
        assert entries[name] / 2**30 == pytest.approx(value, abs=0.006), name
    why = "; try ".join(filter(None, [made["stopped"] or "", ", ".join(made["mends"])]))
    assert row.get("stopped", "") in why
    assert ("stopped" in row) == bool(made["stopped"])

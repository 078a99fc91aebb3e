"""What people asked in public threads and what came out there: each answer is right, or in the range that it gives.

`tests/cases/asked.csv`: the thread, the command as it is typed for kvplan, the exit code that reality gave, and one
figure of the JSON with its bounds: exact where the thread prints it, 5 to 10 % about it where its setting is not all
said, one-sided where the thread only says that an end of our range reaches it.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from tests.kvplan.test_own_names import run

ROWS = list(csv.DictReader((Path(__file__).parents[1] / "cases" / "asked.csv").open()))


@pytest.mark.parametrize("row", ROWS, ids=[row["id"] for row in ROWS])
def test_the_answer_is_what_the_thread_says(row: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    words = row["command"].split(" -- ", 1)
    line = f"{words[0]} --json" + (f" -- {words[1]}" if len(words) > 1 else "")
    code, out, err = run(capsys, line)
    assert code == int(row["exit"]), err
    found: Any = json.loads(out)
    for name in row["key"].split("."):
        found = found[name]
    assert float(row["low"]) <= found <= float(row["high"]), (row["key"], found)

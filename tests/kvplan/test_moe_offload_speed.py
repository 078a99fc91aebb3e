"""Experts in host memory: public runs of llama.cpp that state --n-cpu-moe and tokens a second lie in the printed range.

`tests/cases/moe_offload_speed.csv`; nothing of the model was fitted on these rows. Where a source does not name the
processor, none is given.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from tests.kvplan.test_own_names import run

ROWS = list(csv.DictReader((Path(__file__).parents[1] / "cases" / "moe_offload_speed.csv").open()))


@pytest.mark.parametrize("row", ROWS, ids=[row["id"] for row in ROWS])
def test_the_measured_rate_is_in_the_range(row: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, f"speed {row['command']} --engine llamacpp --batch 1 --json")
    assert code == 0, err
    found = json.loads(out)["batches"][0]
    assert 1 / found["tpot_seconds_high"] <= float(row["tokens_per_s"]) <= 1 / found["tpot_seconds_low"]

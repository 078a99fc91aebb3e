"""Releases' own cache planning beside ours, run from their sources without a model (`tests.record_vllm_plans`)."""

from __future__ import annotations

import csv

import pytest

from tests.record_vllm_plans import CASES, agrees

ROWS = list(csv.DictReader(CASES.open()))


@pytest.mark.parametrize("version", sorted({row["version"] for row in ROWS}))
def test_plans_are_the_releases_own(version: str) -> None:
    """Blocks, groups, tokens of a block and concurrency of 14 models at 3 sizes, or what is needed and would fit."""
    mine = [row for row in ROWS if row["version"] == version]
    assert len(mine) >= 42 and [row for row in mine if not agrees(row)] == []

"""Groups of measured rows: what nine of ten may hold by chance, and which groups a row is in."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks import blind_trial, speed_groups
from tests.speed_truth import serving_rows


def test_the_share_by_chance_is_that_of_the_binomial_distribution() -> None:
    """n = 20, p = 0.9: P(X <= 14) = 0.0113, P(X <= 15) = 0.0432; n = 100: P(X <= 83) = 0.0206, P(X <= 84) = 0.0399."""
    assert speed_groups.share_by_chance(20) == (0.75, 1.0)
    assert speed_groups.share_by_chance(100)[0] == 0.84
    low, high = speed_groups.share_by_chance(2000)
    assert (high - low) / 2 == pytest.approx(1.96 * math.sqrt(0.09 / 2000), rel=0.05)


def test_a_group_outside_is_told_from_one_that_the_draw_may_have_put_there() -> None:
    row = next(row for row in serving_rows().rows if row.dense)
    verdicts = {}
    for held in (18, 16, 14):
        lines = speed_groups.groups([row] * 20, [True] * held + [False] * (20 - held), {})
        assert {line["group"] for line in lines} >= {
            "all",
            row.device.name,
            "weights in " + str(row.answer.request.dtype),
        }
        verdicts[held] = {line["verdict"] for line in lines}
    assert verdicts == {18: {speed_groups.INSIDE}, 16: {speed_groups.BY_CHANCE}, 14: {speed_groups.OUTSIDE}}
    assert not speed_groups.groups([row] * 19, [True] * 19, {})


def test_the_blind_trial_scores_what_was_written_down() -> None:
    """(8 - 10) / 10 and (12 - 10) / 10: 20 % both, one of two in its range."""
    rows = blind_trial.rows_of()
    assert len(rows) > 300 and all(
        float(row["low_ms"]) <= float(row["said_ms"]) <= float(row["high_ms"]) for row in rows
    )
    row = {"measured_ms": "10", "said_ms": "8", "low_ms": "7", "high_ms": "9"}
    said = blind_trial.score([row, row | {"said_ms": "12", "high_ms": "14"}])
    assert "2 rows" in said and "median  20.0%" in said and "range  50%" in said

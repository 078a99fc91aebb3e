"""Every start-up log of the case files beside what the engine modules answer: tokens, blocks, cells, buffers."""

from __future__ import annotations

from pathlib import Path

import pytest

from planner.accuracy import engine_logs
from planner.accuracy.cases import Cases, Row

CASES = Cases(Path(__file__).parents[2] / "cases")
LOGS = CASES.rows("engine_logs.csv")
LLAMA = CASES.rows("llamacpp_memory.csv")
STATED = [row for row in LOGS if engine_logs.stated(row)]


@pytest.mark.parametrize("row", [row for row in LOGS if not row["reason"]], ids=lambda row: row["id"])
def test_logged_figures_lie_within_the_rounding_of_the_logged_budget(row: Row) -> None:
    found = engine_logs.checks(CASES, row)
    assert found
    assert [check for check in found if not check.agrees] == []


@pytest.mark.parametrize("row", [row for row in LOGS if row["reason"]], ids=lambda row: row["id"])
def test_a_row_with_a_reason_differs_so_that_no_reason_is_left_over(row: Row) -> None:
    """Minimum over ranks and drops in free memory: the log shows another budget than the one that decided."""
    assert any(not check.agrees for check in engine_logs.checks(CASES, row))


def test_95_of_100_rows_are_within_one_percent() -> None:
    """Tokens and blocks; the few that are not have their reason in the case file."""
    counts = ("tokens", "blocks", "cpu_blocks", "estimated_max_len")
    near = [
        all(check.off_percent <= 1 for check in engine_logs.checks(CASES, row) if check.what in counts) for row in LOGS
    ]
    assert sum(near) >= 0.95 * len(near)


@pytest.mark.parametrize("row", LLAMA, ids=lambda row: row["id"])
def test_llama_cpp_cells_and_buffers_are_exact(row: Row) -> None:
    found = engine_logs.llama_checks(row, engine_logs.llama_answer(CASES, row))
    assert [check for check in found if not check.agrees] == []


def test_the_range_of_compute_buffers_holds_nine_in_ten() -> None:
    with_buffer = [row for row in LLAMA if row["compute_mib"]]
    inside = sum(engine_logs.compute_in_range(row, engine_logs.llama_answer(CASES, row)) for row in with_buffer)
    assert len(with_buffer) > 50
    assert inside >= 0.9 * len(with_buffer)


@pytest.mark.parametrize("flags", [True, False], ids=["with the flags of the source", "without counts and adapters"])
def test_first_principles(flags: bool) -> None:
    """Model, card and flags alone: tokens within 5 % on half, 15 % on nine tenths; the range holds nine tenths.

    Most sources print max_num_seqs and the adapters' rank among their flags; it must hold without them, too.
    """
    found = [engine_logs.first_principles(CASES, row if flags else engine_logs.unsaid(row)) for row in STATED]
    assert len(found) >= 25
    assert sum(one.in_range for one in found) >= 0.9 * len(found)
    assert sum(abs(one.off_percent) <= 15 for one in found) >= 0.9 * len(found)
    assert sum(abs(one.off_percent) <= 5 for one in found) >= 0.5 * len(found)


def test_a_row_far_off_from_first_principles_has_a_reason() -> None:
    far = [row for row in STATED if abs(engine_logs.first_principles(CASES, row).off_percent) > 15]
    assert all(row["first_reason"] for row in far)


@pytest.mark.parametrize(
    "change",
    [
        {"stand_in": "1"},
        {"independent": "0"},
        {"fraction": ""},
        {"weight_dtype": ""},
        {"gpu": "", "gpu_memory_gib": ""},
        {"model": "40x8x128"},
    ],
    ids=str,
)
def test_only_rows_that_state_everything_of_the_very_model_are_asked(change: dict[str, str]) -> None:
    row = STATED[0]
    assert engine_logs.stated(row)
    assert not engine_logs.stated(Row(row | change))

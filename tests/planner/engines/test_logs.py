"""Every start-up log of the case files beside what the engine modules answer: tokens, blocks, cells, buffers."""

from __future__ import annotations

import pytest

from tests import engine_truth as truth

LOGS = truth.logged_rows()
LLAMA = truth.llama_rows()


@pytest.mark.parametrize("row", [row for row in LOGS if not row["reason"]], ids=lambda row: row["id"])
def test_logged_figures_lie_within_the_rounding_of_the_logged_budget(row: dict[str, str]) -> None:
    found = truth.checks(row)
    assert found
    assert [check for check in found if not check.agrees] == []


@pytest.mark.parametrize("row", [row for row in LOGS if row["reason"]], ids=lambda row: row["id"])
def test_a_row_with_a_reason_differs_so_that_no_reason_is_left_over(row: dict[str, str]) -> None:
    """Minimum over ranks and drops in free memory: the log shows another budget than the one that decided."""
    assert any(not check.agrees for check in truth.checks(row))


def test_95_of_100_rows_are_within_one_percent() -> None:
    """Tokens and blocks; the few that are not have their reason in the case file."""
    counts = ("tokens", "blocks", "cpu_blocks", "estimated_max_len")
    near = [all(check.off_percent <= 1 for check in truth.checks(row) if check.what in counts) for row in LOGS]
    assert sum(near) >= 0.95 * len(near)


@pytest.mark.parametrize("row", LLAMA, ids=lambda row: row["id"])
def test_llama_cpp_cells_and_buffers_are_exact(row: dict[str, str]) -> None:
    assert [check for check in truth.llama_checks(row, truth.llama_answer(row)) if not check.agrees] == []


def test_the_range_of_compute_buffers_holds_nine_in_ten() -> None:
    with_buffer = [row for row in LLAMA if row["compute_mib"]]
    inside = sum(truth.compute_in_range(row, truth.llama_answer(row)) for row in with_buffer)
    assert len(with_buffer) > 50
    assert inside >= 0.9 * len(with_buffer)


STATED = [row for row in LOGS if truth.stated(row)]


@pytest.mark.parametrize("flags", [True, False], ids=["with the flags of the source", "without counts and adapters"])
def test_first_principles(flags: bool) -> None:
    """Model, card and flags alone: tokens within 5 % on half, 15 % on nine tenths; the range holds nine tenths.

    Most sources print max_num_seqs and the adapters' rank among their flags; it must hold without them, too.
    """
    unsaid = {} if flags else {"max_num_seqs": "", "lora_rank": "", "batched_tokens": ""}
    found = [truth.first_principles(row | unsaid) for row in STATED]
    assert len(found) >= 25
    assert sum(one.in_range for one in found) >= 0.9 * len(found)
    assert sum(abs(one.off_percent) <= 15 for one in found) >= 0.9 * len(found)
    assert sum(abs(one.off_percent) <= 5 for one in found) >= 0.5 * len(found)

"""Run files that can and cannot be used."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from planner.errors import KvplanError
from reports import measured
from reports.runs import Run, load_runs, reach

Write = Callable[..., Path]
Make = Callable[..., Run]


def spoilt(path: Path, how: str) -> Path:
    """A file that is not a usable result, and what is said of it."""
    raw = json.loads(path.read_text(encoding="utf-8"))
    found = path.with_name(f"{how}.json")
    if how == "damaged":
        text = path.read_text(encoding="utf-8")[:-200]
    elif how == "newer":
        text = json.dumps({**raw, "schema_version": 99})
    elif how == "other":
        text = json.dumps({"kind": "kvplan device file", "schema_version": 1})
    else:
        text = json.dumps({**raw, "points": "none"})
    found.write_text(text, encoding="utf-8")
    return found


SAID = {"damaged": "damaged", "newer": "newer than this kvplan", "other": "is not a result", "wrong": "wants a list"}


@pytest.mark.parametrize("how", SAID)
def test_a_file_that_cannot_be_used_is_named_and_left_out(run_file: Write, how: str) -> None:
    good = run_file()
    runs, skipped = load_runs([str(good), str(spoilt(good, how))])
    assert [run.name for run in runs] == ["first"]
    assert len(skipped) == 1 and f"{how}.json" in skipped[0] and SAID[how] in skipped[0] and "\n" not in skipped[0]


@pytest.mark.parametrize("how", SAID)
def test_it_is_refused_when_it_is_the_only_one(run_file: Write, how: str) -> None:
    with pytest.raises(KvplanError, match=SAID[how]):
        load_runs([str(spoilt(run_file(), how))])


def test_a_file_that_is_not_there_is_named(run_file: Write, tmp_path: Path) -> None:
    _, skipped = load_runs([str(run_file()), str(tmp_path / "none.json")])
    assert "none.json" in skipped[0]


def test_runs_of_one_name_are_told_apart(run_file: Write, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    first = run_file()
    second = tmp_path / "b" / first.name
    second.write_bytes(first.read_bytes())
    assert [run.name for run in load_runs([str(first), str(second)])[0]] == ["first", "first (2)"]


def test_every_check_says_what_the_prediction_is_and_whether_it_was_measured(make_run: Make) -> None:
    table = measured.checks([make_run()])
    assert set(table["predicted_is"]) == {"exact", "estimated"}
    assert set(table["measured_is"]) == {"measured", "not measured"}
    assert list(table[table["quantity"] == "KV cache"]["verdict"]) == ["exact", "exact"]


def test_the_error_table_counts_verdicts(make_run: Make) -> None:
    table = measured.error_summary(measured.checks([make_run()])).set_index("quantity")
    assert table.loc["KV cache", "exact"] == 2 and table.loc["prefill", "not_measured"] == 1
    assert table.loc["decode peak", "in_range"] == 1
    assert table.loc["decode peak", "worst_error_share"] == pytest.approx(0.1)


def test_points_that_were_not_done_are_listed_with_the_reason(make_run: Make) -> None:
    table = measured.missing([make_run()])
    assert list(table["status"]) == ["out_of_memory"] and list(table["note"]) == ["needs 40 GiB"]


def test_the_reach_comes_from_the_figures_or_from_the_shares(make_run: Make) -> None:
    from dataclasses import replace

    found = make_run().found
    assert reach(found) == (3e10, 2e11)
    assert reach(replace(found, figures={})) == (pytest.approx(3e10), pytest.approx(2e11))
    assert reach(replace(found, figures={}, points=())) == (None, None)

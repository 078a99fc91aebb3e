"""Two runs side by side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from planner.errors import KvplanError
from profiler.results import Reading
from reports.compare import comparison, differences, verdict_of
from reports.runs import Run

Make = Callable[..., Run]


def test_a_change_beyond_the_spread_is_named_with_its_size(make_run: Make) -> None:
    table = comparison(make_run("a"), make_run("b", 1.5))
    times = table[table["quantity"].isin(["ttft_seconds", "step_seconds"])]
    assert len(times) == 7
    assert times["change_share"].round(9).eq(0.5).all()
    assert (times["verdict"] == "beyond the spread").all() and (times["better"] == "A").all()


def test_a_rate_that_rises_is_better(make_run: Make) -> None:
    table = comparison(make_run("a", 2.0), make_run("b"))
    rates = table[(table["quantity"] == "tokens_per_s") & (table["what"] == "decode")]
    assert (rates["change_share"].round(9) == 1.0).all() and (rates["better"] == "B").all()


def test_a_change_within_the_spread_favours_neither(make_run: Make) -> None:
    table = comparison(make_run("a"), make_run("b", 1.01))
    times = table[table["quantity"] == "step_seconds"]
    assert (times["verdict"] == "within the spread").all() and (times["better"] == "-").all()


def test_spreads_that_do_not_touch_but_differ_by_less_than_a_percent_are_no_change() -> None:
    a, b = Reading(1.0, low=0.999, high=1.001), Reading(1.005, low=1.004, high=1.006)
    assert verdict_of("step_seconds", a, b) == ("within the spread", "-")


def test_two_runs_of_one_cache_each_are_compared_with_each_other(make_run: Make) -> None:
    table = comparison(make_run("a"), make_run("b", 1.5, cache="concat"))
    assert set(table[table["what"] == "decode"]["cache"]) == {"static / concat"}


def test_measured_bytes_are_exact_so_any_change_is_one(make_run: Make) -> None:
    a = make_run("a")
    checks = (replace(a.found.checks[0], measured=a.found.checks[0].predicted + 1), *a.found.checks[1:])
    table = comparison(a, Run("b", "b.json", replace(a.found, checks=checks)))
    changed = table[table["quantity"].eq("kv_bytes") & table["verdict"].eq("beyond the spread")]
    assert list(changed["better"]) == ["A"]


def test_runs_without_a_common_point_are_refused(make_run: Make) -> None:
    a = make_run("a")
    bare = replace(a.found, points=(), checks=())
    with pytest.raises(KvplanError, match="no point in common"):
        comparison(a, Run("b", "b.json", bare))


def test_only_what_differs_is_listed(make_run: Make) -> None:
    a = make_run("a")
    where = replace(a.found.environment, torch="2.14.0", device="Other CPU")
    table = differences(a, Run("b", "b.json", replace(a.found, environment=where)))
    assert {row["what"]: row["b"] for row in table.to_dict("records")} == {"device": "Other CPU", "torch": "2.14.0"}

"""Answers of `kvplan plan` in a report: what is read, what is refused, what is drawn."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from planner.errors import KvplanError
from planner.memory.request import Request
from reports.content import report
from reports.kinds import KINDS
from reports.plans import PlanFile, best_words, load_plans, points, rows
from reports.question import Question

Answer = dict[str, Any]


def plan_of(answer: Answer) -> PlanFile:
    return PlanFile("plan", "plan.json", answer)


def test_no_point_on_the_front_is_beaten_in_both_cost_and_time(plan_answer: Answer) -> None:
    frame = points(plan_of(plan_answer))
    front = frame[frame["front"]]
    assert 1 <= len(front) < len(frame)
    for one in front.to_dict("records"):
        better = frame[(frame["usd_per_hour"] <= one["usd_per_hour"]) & (frame["tpot_seconds"] < one["tpot_seconds"])]
        assert better.empty


def test_every_point_off_the_front_is_beaten_or_equalled_by_one_on_it(plan_answer: Answer) -> None:
    frame = points(plan_of(plan_answer))
    front = frame[frame["front"]]
    for one in frame[~frame["front"]].to_dict("records"):
        beaten = (front["usd_per_hour"] <= one["usd_per_hour"]) & (front["tpot_seconds"] <= one["tpot_seconds"])
        assert beaten.any()


def test_the_figure_draws_the_front_the_points_by_device_and_the_target(plan_answer: Answer) -> None:
    frame = points(plan_of(plan_answer))
    figure = KINDS["cost-vs-tpot"].draw(frame)
    names = [text.get_text() for found in figure.legends for text in found.get_texts()]
    assert names == [*dict.fromkeys(frame["device"]), "nothing beats it in both", "TPOT target"]
    drawn = sum(len(line.get_xdata()) for line in figure.axes[0].lines if line.get_linestyle() == "None")
    assert drawn == len(frame)


def test_the_section_holds_the_ranking_and_the_answer(plan_answer: Answer) -> None:
    made = report(Question((), (), Request(1), plans=(plan_of(plan_answer),)))
    assert made.sections[0].name == "plan"
    assert made.answer == best_words(plan_of(plan_answer)) and "USD/h" in made.answer
    assert len(made.tables[0].frame) == len(plan_answer["plans"]) == len(rows(plan_of(plan_answer)))


def test_two_plans_have_figures_and_tables_of_their_own(plan_answer: Answer) -> None:
    made = report(Question((), (), Request(1), plans=(plan_of(plan_answer), plan_of(plan_answer))))
    assert [found.name for found in made.pictures] == ["cost-vs-tpot-1", "cost-vs-tpot-2"]


def test_an_answer_without_plans_and_points_says_so_and_draws_nothing(plan_answer: Answer) -> None:
    empty = {**plan_answer, "plans": [], "points": []}
    made = report(Question((), (), Request(1), plans=(plan_of(empty),)))
    assert not made.pictures and "Nothing that was searched meets the targets" in made.answer


BREAK: tuple[Callable[[Answer], object], ...] = (
    lambda answer: answer.pop("points"),
    lambda answer: answer.pop("model"),
    lambda answer: answer["load"].update(users=None, rate_per_s=None),
    lambda answer: answer["points"][0].update(tpot_seconds=float("nan")),
    lambda answer: answer["points"][0].update(usd_per_hour="1"),
    lambda answer: answer["plans"][0].pop("binds"),
    lambda answer: answer["targets"].update(tpot_seconds="40ms"),
    lambda answer: answer["plans"][0].update(binds="\x1b[31mred"),
    lambda answer: answer.update(model="gpt2\x1b]0;title\x07"),
)


@pytest.mark.parametrize("broken", range(len(BREAK)))
def test_a_file_that_is_no_answer_is_refused_in_one_line(tmp_path: Path, plan_answer: Answer, broken: int) -> None:
    answer = copy.deepcopy(plan_answer)
    BREAK[broken](answer)
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(answer), encoding="utf-8")
    with pytest.raises(KvplanError, match=re.escape("no answer of `kvplan plan --json`")):
        load_plans([str(path)])


@pytest.mark.parametrize("text", ["", "[]", "{", "1", "\x00", "[" * 100_000])
def test_what_is_not_json_of_a_plan_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "plan.json"
    path.write_text(text, encoding="utf-8")
    for name in (str(path), str(tmp_path), str(tmp_path / "missing")):
        with pytest.raises(KvplanError, match="--plan"):
            load_plans([name])

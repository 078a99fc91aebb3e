"""The first table of a report: the same answers as `fit` and `speed`, and a no that is a no everywhere."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

import kvplan
from planner.memory.request import Request
from profiler.results import Measurement
from reports import headline, measured, words
from reports.asked import with_engine
from reports.content import report
from reports.question import Question, question
from reports.runs import Run, reach
from tests.reports.conftest import measurement


@pytest.fixture(scope="module")
def asked() -> Question:
    return question(("llama-3.1-8b", "gpt2"), gpus=("l4",), request=Request(8192))


def test_users_at_once_are_those_of_fit_with_the_engine(asked: Question) -> None:
    row = headline.headline(asked).iloc[0]
    fit = kvplan.fit("llama-3.1-8b", gpu="l4", seq="8k", engine="vllm")
    assert (row["fits"], row["users_at_once"]) == ("yes", fit["most_sequences"])
    alone = headline.headline(with_engine(asked, "none")).iloc[0]
    assert alone["users_at_once"] == kvplan.fit("llama-3.1-8b", gpu="l4", seq="8k")["most_sequences"]


def test_speeds_are_those_of_speed_at_the_load_asked(asked: Question) -> None:
    row = headline.headline(asked).iloc[0]
    found = kvplan.speed("llama-3.1-8b", gpu="l4", prompt=7936, answer=256, batch=1, engine="vllm")
    assert row["user_tokens_per_s"] == pytest.approx(1 / found["tpot_seconds"])
    assert row["ttft_seconds"] == pytest.approx(found["ttft_seconds"])
    assert row["user_tokens_per_s_low"] <= row["user_tokens_per_s"] <= row["user_tokens_per_s_high"]


def test_a_million_tokens_cost_the_hour_over_the_tokens_of_an_hour(asked: Question) -> None:
    row = headline.headline(asked).iloc[0]
    full = kvplan.speed(
        "llama-3.1-8b", gpu="l4", prompt=7936, answer=256, batch=int(row["users_at_once"]), engine="vllm"
    )
    seconds = full["ttft_seconds"] + 256 * full["tpot_seconds"]
    tokens_an_hour = row["users_at_once"] * 8192 / seconds * 3600
    assert row["usd_per_million_tokens"] == pytest.approx(row["usd_per_h"] / tokens_an_hour * 1e6)


@pytest.mark.usefixtures("undrawn")
def test_a_length_beyond_the_positions_is_no_in_headline_cards_and_tables(asked: Question) -> None:
    row = headline.headline(asked).iloc[1]
    assert (row["fits"], row["why"]) == ("no", "8k tokens are more than its 1k positions")
    made = report(question(("gpt2",), gpus=("l4",), request=Request(8192)))
    assert made.answer.startswith("No: 8k tokens are more") and made.cards[0].good is False
    curve = next(picture for picture in made.pictures if picture.name == "memory-vs-length").frame
    assert curve["context_tokens"].max() <= 1024


def test_the_set_up_is_a_command_within_the_usual_targets(asked: Question) -> None:
    first, second = headline.set_ups(asked)
    assert first.command is not None and first.command.startswith("vllm serve ")
    assert second.words.startswith("none: ") and second.command is None


def busy() -> Run:
    found = measurement()
    shares = {"read_share": 2.3, "read_bytes_per_s": 6.9e10}
    points = tuple(
        replace(point, readings={name: replace(value, value=shares.get(name, value.value)) for name, value in point.readings.items()})
        for point in found.points
    )  # fmt: skip
    loaded = "the load of this machine was 2.1 on 2 cores before the start: other programs were running"
    fast: Measurement = replace(found, points=points, warnings=(loaded,))
    return Run("busy", "busy.json", fast)


def test_on_a_busy_machine_the_roof_is_what_was_reached_and_the_report_says_so() -> None:
    run = busy()
    assert reach(run.found)[0] == 6.9e10
    share = measured.bandwidth_share([run])
    assert share["value"].max() == 1.0
    assert "230 %" not in words.share_sees(share)
    assert run.busy == "measured while the machine was busy (load 2.1): repeat when idle"


def test_the_speedup_says_the_trend_that_its_numbers_have() -> None:
    frame = pd.DataFrame(
        {"role": ["measured"] * 2, "new_tokens": [10, 100], "value": [4.9, 4.7], "exactness": ["measured"] * 2}
    )
    assert words.speedup_sees(frame).startswith("The cache saves as much at every length")
    assert words.speedup_sees(frame.assign(value=[2.0, 9.0])).startswith("The longer the answer, the more")
    assert words.speedup_sees(frame.assign(value=[9.0, 2.0])).startswith("The cache saves less")

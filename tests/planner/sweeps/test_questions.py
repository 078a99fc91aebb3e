"""A row says what the question's own functions say, or why it says nothing."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import pytest

import kvplan
from planner.catalogue.entries import find_device
from planner.lookup import capacity, model_spec
from planner.memory.estimate import estimate
from planner.memory.limits import longest_context, most_sequences
from planner.memory.request import Request
from planner.memory.sharding import Sharding
from planner.speed.speed import speed
from planner.sweeps.axes import parse_grid
from planner.sweeps.questions import ANSWERS, FORMULAS, answer_row, columns, shared_of


def rows(question: str, words: str) -> list[dict[str, Any]]:
    grid = parse_grid(question, [words])
    shared = pickle.loads(pickle.dumps(shared_of(grid)))  # as a worker gets it
    names = [name for name, _ in columns(question)]
    return [dict(zip(names, answer_row(shared, point), strict=True)) for point in grid.points()]


def test_an_estimate_is_that_of_kvplan_estimate() -> None:
    (row,) = rows("estimate", "model=llama-3.1-8b seq=32k batch=4 gpu=l4 kv_dtype=fp8 tp=2")
    request = Request(32768, 4, k_dtype="fp8", v_dtype="fp8", sharding=Sharding(tp=2))
    answer = estimate(model_spec("llama-3.1-8b"), request, capacity("l4", None)).to_dict()
    for name in ("kv_bytes", "weight_bytes", "parameters", "devices", "kv_bytes_per_token"):
        assert row[name] == answer[name]
    for name in ("total", "kv", "activation", "overhead"):
        assert row[f"per_device.{name}_bytes"] == answer["per_device"][f"{name}_bytes"]
    for name in ("fits", "free_bytes", "capacity_bytes"):
        assert row[f"per_device.{name}"] == answer["per_device"][name]
    assert row["refused"] is None and row["formulas"].startswith(f"{FORMULAS}-")


def test_a_fit_is_that_of_the_inverse_questions() -> None:
    (row,) = rows("fit", "model=llama-3.1-8b seq=8k gpu=rtx-4090")
    spec, room = model_spec("llama-3.1-8b"), capacity("rtx-4090", None)
    assert room is not None
    assert row["most_sequences"] == most_sequences(spec, Request(8192), room) == 6
    assert row["longest_context_tokens"] == longest_context(spec, Request(8192), room)
    assert tuple(row[f"fewest_devices.{name}"] for name in ("devices", "tp", "pp")) == (1, 1, 1)


def test_a_speed_is_that_of_the_speed_model() -> None:
    (row,) = rows("speed", "model=llama-3.1-8b gpu=h100-sxm prompt=1k answer=128 batch=8 load=static")
    answer = estimate(model_spec("llama-3.1-8b"), Request(1024 + 128, 8), capacity("h100-sxm", None))
    found = speed(
        answer, find_device("h100-sxm"), prompt_tokens=1024, output_tokens=128, batch=8, load="static"
    ).to_dict()
    assert {name: row[name] for name in found if name in row} == {name: found[name] for name in found if name in row}
    assert row["tpot_seconds"] and row["ttft_seconds_bound"] <= row["ttft_seconds_low"]


def key_there(found: dict[str, Any], key: str) -> bool:
    for part in key.split("."):
        if found is None:  # a block that this answer does not have
            return True
        if part not in found:
            return False
        found = found[part]
    return True


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("estimate", lambda: kvplan.estimate("gpt2", gpu="l4", engine="vllm")),
        ("fit", lambda: kvplan.fit("gpt2", gpu="l4", engine="vllm")),
        ("speed", lambda: kvplan.speed("gpt2", gpu="l4")),
    ],
)
def test_every_column_is_called_as_its_key_in_json(question: str, answer: Callable[[], Any]) -> None:
    found = answer().to_dict()
    assert [name for name, _ in ANSWERS[question] if not key_there(found, name)] == []


def test_an_engine_adds_its_pool() -> None:
    plain, vllm = rows("estimate", "model=llama-3.1-8b seq=8k gpu=h100-sxm"), rows("estimate", "model=llama-3.1-8b seq=8k gpu=h100-sxm engine=vllm==0.11.2")  # fmt: skip
    assert plain[0]["engine.pool_tokens"] is None and plain[0]["engine.version"] is None
    assert vllm[0]["engine.pool_tokens"] > 100_000 and vllm[0]["engine.version"] == "0.11.2"


@pytest.mark.parametrize(
    ("question", "words", "said"),
    [
        ("estimate", "model=nope seq=1k", "no model is called 'nope'"),
        ("estimate", "model=gpt2 seq=1k gpu=nope", "nope"),
        ("estimate", "model=gpt2 seq=1k memory=24", "has no unit"),
        ("estimate", "model=gpt2 seq=1k kv_dtype=zz", "zz"),
        ("estimate", "model=gpt2 seq=1k dtype=zz", "zz"),
        ("estimate", "model=gpt2 seq=1k pp=99", "more stages than gpt2 has layers"),
        ("estimate", "model=gpt2 seq=1k ep=2", "has no experts"),
        ("estimate", "model=gpt2 seq=1k engine=zz", "zz"),
        ("estimate", "model=llama-3.1-405b seq=9999999999 batch=999999999", "beyond 64 bits"),
        ("speed", "model=gpt2 gpu=l4 prompt=1k answer=1 load=zz", "load 'zz'"),
    ],
)
def test_a_point_that_cannot_be_answered_says_why_in_one_line(question: str, words: str, said: str) -> None:
    (row,) = rows(question, words)
    assert said in row["refused"] and "\n" not in row["refused"]
    assert all(value is None for name, value in row.items() if name.endswith("_bytes"))


def test_one_point_without_an_answer_takes_none_from_the_others() -> None:
    found = rows("estimate", "model=gpt2,nope seq=1k,2k")
    assert [row["refused"] is None for row in found] == [True, True, False, False]

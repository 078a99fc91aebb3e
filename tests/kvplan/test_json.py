"""docs/json.md names every key that an answer prints at its top, and none that it does not."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import kvplan

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "json.md").read_text(encoding="utf-8")
ANSWERS: dict[str, Callable[[], Any]] = {
    "estimate": lambda: kvplan.estimate("gpt2", gpu="l4", engine="vllm"),
    "fit": lambda: kvplan.fit(
        "gpt2", gpu="l4", engine="vllm", lengths="p50=80,p95=600", idle_sessions=10, measured="tpot_ms=9 batch=1"
    ),
    "speed": lambda: kvplan.speed("gpt2", gpu="l4", batch=[1, 8]),
    "plan": lambda: kvplan.plan("gpt2", users=5, prompt=100, answer=20, gpu="l4"),
    "simulate": lambda: kvplan.simulate("gpt2", gpu="l4", prompt=100, answer=20, rate=5, requests=10),
}
ONLY_OF_GGUF = {"offload"}


def documented(question: str) -> set[str]:
    """The keys in the first column of a question's table."""
    section = PAGE.split(f"## `kvplan {question}`")[1].split("\n## ")[0]
    return {key for row in re.findall(r"^\| (`.*?) \|", section, re.MULTILINE) for key in re.findall(r"`(\w+)`", row)}


@pytest.mark.parametrize("question", ANSWERS)
def test_the_page_names_the_keys_of_the_answer(question: str) -> None:
    assert documented(question) - {"key"} - ONLY_OF_GGUF == set(ANSWERS[question]().to_dict())

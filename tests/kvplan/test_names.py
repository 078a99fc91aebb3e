"""What was understood of a name is said first, in JSON too, and a count in a device's name sets the layout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


@pytest.mark.parametrize(
    "words",
    [
        ["estimate", "TheBloke/Llama-2-70B-Chat-AWQ", "--seq", "4k"],
        ["fit", "TheBloke/Llama-2-70B-Chat-AWQ", "--gpu", "a100-80gb"],
        ["speed", "TheBloke/Llama-2-70B-Chat-AWQ", "--gpu", "a100-80gb"],
        ["show", "TheBloke/Llama-2-70B-Chat-AWQ"],
    ],
    ids=lambda words: words[0],
)
def test_the_first_line_says_what_was_understood(run: Callable[..., Any], words: list[str]) -> None:
    assert run(*words).out.startswith("read as llama-2-70b, weights awq int4 (group 128)")


def test_json_says_it_and_a_name_of_the_catalogue_needs_no_reading(run: Callable[..., Any]) -> None:
    found = run("estimate", "llama3.1:8b", "--seq", "4k", "--json").json
    assert (found["model"], found["read_as"]["weights"]) == ("llama-3.1-8b", "gguf Q4_K_M")
    assert run("estimate", "llama-3.1-8b", "--seq", "4k", "--json").json["read_as"] is None


def test_a_count_in_the_devices_name_is_the_layout(run: Callable[..., Any]) -> None:
    asked = ["estimate", "llama-3.1-8b", "--seq", "8k", "--json"]
    two = run(*asked, "--gpu", "2x RTX 3090").json
    assert two == run(*asked, "--gpu", "3090", "--tp", "2").json
    sixteen = run(*asked, "--gpu", "16xH200").json
    assert sixteen == run(*asked, "--gpu", "H200", "--tp", "8", "--pp", "2").json


def test_a_count_that_the_layout_contradicts_is_refused(run: Callable[..., Any]) -> None:
    said = run("fit", "llama-3.1-8b", "--gpu", "2x3090", "--tp", "4").refused()
    assert "names 2 devices and the layout takes 4" in said


def test_of_unlike_cards_the_smallest_holds_each_ranks_share(run: Callable[..., Any]) -> None:
    found = run("fit", "llama-3.1-8b", "--gpu", "3090+3060", "--json").json
    assert found["device"] == "RTX-3060-12GB"


def test_a_name_that_may_be_two_things_asks_which(run: Callable[..., Any]) -> None:
    assert "could be V100-PCIe-16GB" in run("fit", "gpt2", "--gpu", "v100").refused()
    assert "could be gpt-oss-20b, gpt-oss-120b" in run("show", "gpt-oss").refused()

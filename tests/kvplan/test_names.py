"""What was understood of a name is said first, in JSON too, and a count in a device's name sets the layout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

LOAD = ("--prompt", "99", "--output", "9", "--users", "2")


@pytest.mark.parametrize(
    "words",
    [
        ["estimate", "TheBloke/Llama-2-70B-Chat-AWQ", "--seq", "4k"],
        ["fit", "TheBloke/Llama-2-70B-Chat-AWQ", "--gpu", "a100-80gb"],
        ["speed", "TheBloke/Llama-2-70B-Chat-AWQ", "--gpu", "a100-80gb"],
        ["show", "TheBloke/Llama-2-70B-Chat-AWQ"],
        ["engines", "TheBloke/Llama-2-70B-Chat-AWQ", "--gpu", "a100-80gb"],
        ["plan", "TheBloke/Llama-2-70B-Chat-AWQ", "--gpu", "a100-80gb", *LOAD],
        ["simulate", "TheBloke/Llama-2-70B-Chat-AWQ", "--gpu", "a100-80gb", *LOAD],
        ["compare-models", "TheBloke/Llama-2-70B-Chat-AWQ", "gpt2", "--seq", "512"],
    ],
    ids=lambda words: words[0],
)
def test_the_first_line_and_json_say_what_was_understood(run: Callable[..., Any], words: list[str]) -> None:
    first = run(*words).out.partition("\n\n")[0].replace("\n", " ").replace("  ", " ")
    assert "read as llama-2-70b, weights awq int4 (group 128)" in first
    found = run(*words, "--json").json
    one = found[0] if isinstance(found, list) else found.get("models", [found])[0]
    assert one["read_as"]["weights"] == "awq int4 (group 128)"


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


@pytest.mark.parametrize("words", [["simulate", "--prompt", "99", "--answer", "9", "--users", "2"], ["speed"]],
                         ids=lambda words: words[0])  # fmt: skip
def test_a_count_is_the_layout_and_memory_takes_the_cards_speed(run: Callable[..., Any], words: list[str]) -> None:
    command, *rest = words
    asked = [command, "llama-3.1-8b", *rest, "--json"]
    assert run(*asked, "--gpu", "2x3090").json == run(*asked, "--gpu", "3090", "--tp", "2").json
    assert run(*asked, "--gpu", "3090", "--memory", "20GiB").json["device"].endswith("with 20GiB")


def test_unlike_cards_are_answered_or_refused_with_where_they_are(run: Callable[..., Any]) -> None:
    load = ["--prompt", "99", "--answer", "9", "--users", "2"]
    said = run("plan", "gpt2", "--gpu", "3090+3060", *load).refused()
    assert "of one kind" in said and "RTX-3090-24GB,RTX-3060-12GB" in said
    assert run("simulate", "gpt2", "--gpu", "3090+3060", *load, "--json").json["device"] == "RTX-3060-12GB"
    by_memory = run("fit", "qwen3-8b:Q4_K_M", "--engine", "llamacpp", "--gpu", "3090+3060", "--json").json
    assert len(by_memory["engine"]["cards"]) == 2 and by_memory["device"] == "RTX-3090-24GB + RTX-3060-12GB"
    said = run("simulate", "qwen3-8b:Q4_K_M", "--engine", "llamacpp", "--gpu", "3090+3060", *load).refused()
    assert "kvplan check --gpu 3090+3060 -- llama-server" in said
    assert "unlike cards" in run("estimate", "gpt2", "--gpu", "3090+3060").out


def test_memory_in_place_of_their_own_is_that_of_each_unlike_card(run: Callable[..., Any]) -> None:
    """`check` did so; `fit`, `estimate` and `speed` answered for 24 and 12 GiB whatever --memory said."""
    cards = ["--gpu", "3090+3060", "--memory", "8GiB"]
    asked = ["llama-2-7b", "--engine", "llamacpp", *cards, "--json"]
    words = ["--", "llama-server", "-m", "Llama-2-7B-F16.gguf", "-ngl", "99", "-c", "4096", "-np", "1"]
    checked = run("check", "--model", "llama-2-7b", *cards, "--json", *words).out
    for command in ("fit", "estimate"):
        found = run(command, *asked, "--seq", "4k").json
        assert "has 8.00 GiB" in found["engine"]["refusal"] and found["engine"]["refusal"] in checked
    speed = ["speed", "llama-2-7b", "--dtype", "q4_k_m", "--engine", "llamacpp", "--batch", "64", "--json", "--gpu"]
    assert "with 8GiB + RTX-3060-12GB with 8GiB" in run(*speed, *cards[1:]).json["device"]
    assert run("fit", "llama-2-7b", *cards, "--json").json["capacity_bytes"] == 8 << 30


def test_engines_say_how_many_devices_and_a_sweep_wants_their_number_on_its_axis(
    run: Callable[..., Any], tmp_path: Any
) -> None:
    assert run("engines", "qwen3-8b", "--gpu", "2x3090").out.startswith("qwen3-8b on 2 x RTX-3090-24GB, requests")
    path = str(tmp_path / "grid.csv")
    said = run("sweep", "fit", "model=qwen3-8b", "gpu=2x3090", "seq=4k", "-o", path).refused()
    assert "their number is an axis: gpu=RTX-3090-24GB tp=2" in said
    assert "unlike cards" in run("sweep", "fit", "model=qwen3-8b", "gpu=3090+3060", "seq=4k", "-o", path).refused()

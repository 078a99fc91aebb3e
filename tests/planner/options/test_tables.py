"""Every flag has a reader that names it, and a section under which it is listed."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest

from planner.errors import KvplanError
from planner.options.tables import ENGINE_FLAGS, ESTIMATE, PLACEMENT_FLAGS, Flag, quick_values, read_values

QUESTIONS = ("fit", "speed", "plan", "simulate", "engines")
TABLES: dict[str, tuple[Flag, ...]] = {
    "estimate": ESTIMATE,
    **{name: import_module(f"planner.options.{name}").FLAGS for name in QUESTIONS},
}
SECTIONS = {"Model", "Load", "Device", "Layout", "Precision", "Engine", "Output"}


@pytest.mark.parametrize("name", TABLES)
def test_every_flag_is_listed_once_under_a_known_section(name: str) -> None:
    names = [flag.name for flag in TABLES[name]]
    assert len(names) == len(set(names))
    assert {flag.section for flag in TABLES[name]} <= SECTIONS


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("value", [b"bytes", {"a": 1}, 1.5j], ids=repr)
def test_a_value_of_the_wrong_type_is_one_line_that_names_the_flag(name: str, value: Any) -> None:
    for flag in TABLES[name]:
        with pytest.raises(KvplanError) as caught:
            read_values([flag], {flag.parameter: value})
        assert flag.name in str(caught.value) and "\n" not in str(caught.value), flag.name


def test_a_number_is_read_as_its_text_is() -> None:
    texts = read_values(ESTIMATE, {"seq": "1k,8192", "batch": "8", "tp": "2", "swap_space": "4", "parallel": "3"})
    numbers = read_values(ESTIMATE, {"seq": [1024, 8192], "batch": 8, "tp": 2, "swap_space": 4, "parallel": 3})
    assert texts == numbers


def test_only_engine_flags_have_owners() -> None:
    assert not [flag.name for flag in ESTIMATE if flag.owners and flag not in (*ENGINE_FLAGS, *PLACEMENT_FLAGS)]


def test_the_quick_way_reads_what_the_table_reads() -> None:
    values = quick_values(["gpt2", "--seq", "1k", "--overhead", "context=1GiB", "--json"], ESTIMATE)
    assert values is not None
    given = read_values(ESTIMATE, values)
    assert (given["model"], given["seq"], given["overhead"]) == ("gpt2", (1024,), (("context", 1 << 30),))
    assert given["as_json"] is True

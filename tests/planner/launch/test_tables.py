"""Every flag of the engines' own parsers, as recorded, is classified and takes what the parser says."""

from __future__ import annotations

from pathlib import Path

import pytest

from planner.engines.base import Options
from planner.launch.llamacpp import BENCH
from planner.launch.read import TABLES
from planner.launch.table import MATTERS, QUIET, USED, Table
from planner.launch.values import READERS

CASES = Path(__file__).parents[2] / "cases" / "flags"
LISTS = {
    "vllm-0.33.0": TABLES["vllm"],
    "sglang-0.5.23": TABLES["sglang"],
    "llamacpp-0.5.0": TABLES["llamacpp"],
    "llama-bench-0.5.0": BENCH,
    "lmdeploy-0.18.0": TABLES["lmdeploy"],
    "tensorrt-llm-1.2": TABLES["tensorrt-llm"],
}


def recorded(name: str) -> list[tuple[list[str], str]]:
    rows = [line.split("\t") for line in (CASES / f"{name}.txt").read_text().splitlines()]
    return [(names.split(), takes) for names, takes in rows]


@pytest.mark.parametrize("name", LISTS)
def test_every_flag_of_the_recorded_parser_is_classified(name: str) -> None:
    missing = [flag for names, _ in recorded(name) for flag in names if LISTS[name].find(flag)[0] is None]
    assert not missing, f"{name}: classify these in planner/launch/: {missing}"


@pytest.mark.parametrize("name", LISTS)
def test_a_flag_takes_what_its_parser_says(name: str) -> None:
    """A flag that takes perhaps a value (?) also covers what older versions took."""
    wrong = {}
    for names, takes in recorded(name):
        for flag in names:
            known, off = LISTS[name].find(flag)
            if known is not None and not off and known.takes not in (takes, "?"):
                wrong[flag] = (known.takes, takes)
    assert not wrong


def test_the_lists_are_whole() -> None:
    """The parsers' own counts: a list cut short would hold the tests above up."""
    assert {name: len(recorded(name)) for name in LISTS} == {
        "vllm-0.33.0": 320,
        "sglang-0.5.23": 531,
        "llamacpp-0.5.0": 264,
        "llama-bench-0.5.0": 47,
        "lmdeploy-0.18.0": 100,
        "tensorrt-llm-1.2": 32,
    }


@pytest.mark.parametrize("table", {**TABLES}.values(), ids=TABLES)
def test_a_used_flag_has_a_reader_and_one_that_matters_says_why(table: Table) -> None:
    for flag in table.flags:
        assert flag.kind in (USED, MATTERS, QUIET)
        if flag.kind == USED:
            assert flag.reader in READERS and flag.field
        if flag.kind == MATTERS:
            assert len(flag.effect) > 5


@pytest.mark.parametrize("table", {**TABLES}.values(), ids=TABLES)
def test_no_name_stands_in_two_rows(table: Table) -> None:
    names = [name for flag in table.flags for name in flag.names]
    assert sorted({name for name in names if names.count(name) > 1}) == []


def test_the_engines_fields_are_fields_of_options_or_of_the_question() -> None:
    """A field that nothing reads would be a flag that is called used and is not."""
    folder = Path(__file__).parents[3] / "planner" / "launch"
    others = ("tabbyapi.py", "mlx.py", "lmstudio.py")  # each with its table before its question
    source = (folder / "fields.py").read_text()
    source += "".join((folder / name).read_text().partition("\nTABLE")[2] for name in others)
    fields = {flag.field for table in TABLES.values() for flag in table.flags if flag.kind == USED}
    unread = {name for name in fields if name not in Options.__dataclass_fields__ and f'"{name}"' not in source}
    assert unread == set()

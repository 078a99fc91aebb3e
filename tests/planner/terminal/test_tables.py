"""Tables, bars and colour for a terminal."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.terminal.tables import bar, colour, table


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_colour_goes_to_terminals_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert colour("x", "1", Terminal()) == "\x1b[1mx\x1b[0m"
    assert colour("x", "1", io.StringIO()) == "x"


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", ""), ("NO_COLOR", "1"), ("TERM", "dumb")])
def test_colour_is_left_out_where_it_is_not_wanted(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv(name, value)
    assert colour("x", "1", Terminal()) == "x"


def test_a_table_aligns_names_left_and_numbers_right() -> None:
    assert table(["name", "size"], [["a", "10"], ["longer", "5"]]).split("\n") == [
        "name    size",
        "a         10",
        "longer     5",
    ]


def test_a_table_refuses_a_row_of_another_width() -> None:
    with pytest.raises((IndexError, ValueError)):
        table(["a", "b"], [["1"]])


parts = st.lists(st.integers(0, 10**13), min_size=1, max_size=4)


@given(sizes=parts, capacity=st.integers(1, 10**13))
def test_a_bar_is_always_as_wide_and_marks_the_end_of_memory_only_where_it_overflows(
    sizes: list[int], capacity: int
) -> None:
    drawn = bar([(f"p{i}", size) for i, size in enumerate(sizes)], capacity, 40)
    cells = drawn[1 : drawn.index("]")]
    over = sum(sizes) > capacity
    assert len(cells) == 40 + over
    assert ("|" in cells) is over
    assert ("end of memory" in drawn) is over


def test_the_cells_of_a_bar_are_in_proportion() -> None:
    assert bar([("weights", 50), ("KV", 25)], 100, 8).startswith("[####==..]")
    assert bar([("weights", 100), ("KV", 100)], 100, 8).startswith("[####|====]")


def test_a_full_bar_has_no_free_cell() -> None:
    assert bar([("weights", 100)], 100, 8).startswith("[########]")

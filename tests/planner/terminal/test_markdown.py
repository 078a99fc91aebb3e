"""Markdown on a terminal: within its width, every word there, numbers with their units."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.terminal.markdown import grid, screen

WORDS = st.lists(st.text("abcdefg", min_size=1, max_size=9), min_size=1, max_size=12).map(" ".join)
CELLS = st.one_of(WORDS, st.integers(0, 9999).map(str), st.floats(0, 99).map(lambda value: f"{value:.1f} %"))


@given(st.lists(st.tuples(WORDS, CELLS, CELLS, CELLS), min_size=2, max_size=6), st.integers(60, 120))
def test_a_table_of_short_words_fits_and_loses_none(rows: list[tuple[str, str, str, str]], most: int) -> None:
    lines = grid(rows, most)
    assert max(map(len, lines)) <= most
    assert sorted(" ".join(lines).split()) == sorted(" ".join(" ".join(row) for row in rows).split())


@given(st.lists(st.one_of(WORDS, WORDS.map("- {}".format), WORDS.map("## {}".format)), min_size=1, max_size=8))
def test_text_fits_and_loses_no_word(blocks: list[str]) -> None:
    shown = screen("\n\n".join(blocks))
    assert max(map(len, shown.splitlines())) <= 80
    assert shown.replace("-", "").split() == " ".join(blocks).replace("-", "").replace("#", "").split()


def test_a_number_keeps_its_unit_and_a_long_name_goes_on_after_a_hyphen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    assert "10.8 %" in screen("it was off by so much that one saw 10.8 % of it").splitlines()[1]
    lines = grid([["row", "tokens"], ["llmtracker-llama31-70b-fp8-mi300x", "312,208"]], 30)
    assert lines[1:] == ["llmtracker-llama31-    312,208", "70b-fp8-mi300x"]

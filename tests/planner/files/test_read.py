"""Files that anybody may have written: bounded, and one line that says what is wrong."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.files.read import LARGEST, BadFile, decode, figure, parse_json, read_text


@dataclass(frozen=True)
class Row:
    name: str
    seconds: float
    count: int = 1
    parts: tuple[int, ...] = ()


def test_a_text_is_read_whole_and_its_mark_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"\xef\xbb\xbf{}")
    assert read_text(str(path), most_bytes=10, what="a row") == "{}"


def test_an_endless_device_is_read_to_the_bound_and_no_further() -> None:
    with pytest.raises(BadFile, match="/dev/zero: is larger than 1 MiB"):
        read_text("/dev/zero", most_bytes=1 << 20, what="a row")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_that_nobody_writes_to_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BadFile, match="is a pipe"):
        read_text(str(tmp_path / "pipe"), most_bytes=10, what="a row")


@pytest.mark.parametrize(("name", "words"), [("", "cannot be read"), ("none", "cannot be read"), ("\0", "zero byte")])
def test_what_is_no_file_is_refused(tmp_path: Path, name: str, words: str) -> None:
    with pytest.raises(BadFile, match=words):
        read_text(f"{tmp_path}/{name}", most_bytes=10, what="a row")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not JSON"),
        ("NaN", "NaN is not a figure"),
        ("[1e400]", "1e400 is no figure"),
        ("1" * 5000, "5,000 digits"),
        ('"\\ud800"', "half of one"),
        ("[" * 100_000, "nested too deep"),
    ],
)
def test_json_that_no_program_can_use_is_refused(text: str, words: str) -> None:
    with pytest.raises(BadFile, match=words) as refused:
        parse_json(text, "a.json")
    assert str(refused.value).isprintable()


def test_a_pair_of_halves_is_a_character() -> None:
    assert parse_json('"\\ud83d\\ude00"', "a.json") == "\U0001f600"


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ({"name": "a"}, "row: lacks seconds"),
        ({"name": 1, "seconds": 1}, "row.name: wants a text"),
        ({"name": "a", "seconds": True}, "row.seconds: wants a number"),
        ({"name": "a", "seconds": 10**400}, "row.seconds"),
        ({"name": "a", "seconds": 1, "parts": [1, "2"]}, r"row.parts\[1\]: wants a whole number"),
        ({"name": "a", "seconds": 1, "nmae": 1}, "'nmae' is not known"),
        ([], "wants an object"),
    ],
)
def test_the_key_that_is_wrong_is_named(raw: object, words: str) -> None:
    with pytest.raises(BadFile, match=words):
        decode(Row, raw, "row")


def test_a_figure_lies_between_its_bounds() -> None:
    assert figure(3, "x", low=0, high=3) == 3
    for wrong in (-1, float("nan"), float("inf"), LARGEST * 10, "1", None, True):
        with pytest.raises(BadFile):
            figure(wrong, "x", low=0)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**50), 10**50) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=7), inner, max_size=3),
    max_leaves=10,
)


@given(raw=json_values | st.fixed_dictionaries({"name": json_values, "seconds": json_values}))
def test_any_value_becomes_a_row_or_one_line(raw: object) -> None:
    try:
        found = decode(Row, raw, "row")
    except BadFile as error:
        assert "\n" not in str(error)
    else:
        assert isinstance(found, Row) and abs(found.seconds) <= LARGEST


@given(raw=json_values)
def test_json_text_is_read_as_it_was_written_or_refused_in_one_line(raw: object) -> None:
    text = json.dumps(raw)
    try:
        assert parse_json(text, "a.json") == raw
    except BadFile as error:
        assert str(error).isprintable()


def test_control_characters_of_a_file_are_written_out() -> None:
    found = decode(Row, {"name": "a\x1b[31mb\n\u202ec", "seconds": 1}, "x")
    assert found.name == "a\\x1b[31mb\n\\x202ec"

"""Reading and writing of lengths, sizes and counts: the one place that rounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner import units
from planner.errors import BadRequest


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("24GiB", 24 * 2**30), ("24 gib", 24 * 2**30), ("24g", 24 * 2**30), ("80GB", 80 * 10**9),
        ("1.5TiB", 3 * 2**39), ("512MiB", 2**29), ("1b", 1), ("1048576", 2**20), (" 8 GiB ", 2**33),
    ],
)  # fmt: skip
def test_a_size_is_binary_with_an_i_and_decimal_without(text: str, size: int) -> None:
    assert units.parse_bytes(text) == size


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "-1GiB",
        "nan",
        "1e9",
        "24GiBs",
        "GiB",
        ".5GiB",
        "5.GiB",
        "٣GiB",
        "0",
        "0GiB",
        "0.1b",
        "2000000TiB",
        "9" * 99,
    ],
)
def test_what_is_no_size_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(BadRequest, match="write"):
        units.parse_bytes(text)


@pytest.mark.parametrize("text", ["24", "80", "1024", "24.5"])
def test_a_bare_number_too_small_for_bytes_is_asked_for_its_unit(text: str) -> None:
    with pytest.raises(BadRequest, match="no unit"):
        units.parse_bytes(text)


def test_the_message_names_the_option_it_came_from() -> None:
    with pytest.raises(BadRequest, match=r"^--memory 'x' is not a size"):
        units.parse_bytes("x", "--memory")


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("8192", 8192), ("8k", 8192), ("8K", 8192), ("1M", 2**20), ("1.5k", 1536), ("8_192", 8192), (" 1 k ", 1024)],
)
def test_a_k_of_tokens_is_1024(text: str, tokens: int) -> None:
    assert units.parse_tokens(text) == tokens


@pytest.mark.parametrize(
    "text",
    ["", "0", "-1", "1e30", "nan", "inf", "1.5", "0.0001k", "8kk", "1_", "_1", "8,192", "٣", "10000000001",
     "9" * 500, "8192" + " " * 90 + "k"],
)  # fmt: skip
def test_what_is_no_length_is_refused(text: str) -> None:
    with pytest.raises(BadRequest):
        units.parse_tokens(text)


def test_a_range_doubles_and_ends_at_its_end() -> None:
    assert units.parse_lengths("1k..6k") == [1024, 2048, 4096, 6144]
    assert units.parse_lengths("5..5") == [5]


def test_a_list_keeps_its_order_and_loses_its_repeats() -> None:
    assert units.parse_lengths("8k,1k,8k,512") == [8192, 1024, 512]


@pytest.mark.parametrize("text", ["8k..1k", "1k..", "..1k", "..", "1k,,2k", "1k,", ",", "1k..2k..3k"])
def test_a_broken_list_or_range_is_refused(text: str) -> None:
    with pytest.raises(BadRequest, match="--seq"):
        units.parse_lengths(text)


@pytest.mark.parametrize("text", ["8,192", "16,384", "1,000", "131,072", "262,144", "1,048,576"])
def test_a_number_with_thousands_commas_is_not_taken_for_two_lengths(text: str) -> None:
    with pytest.raises(BadRequest, match=f"write {text.replace(',', '')}"):
        units.parse_lengths(text)


def test_three_digit_lengths_in_rising_order_are_a_list() -> None:
    assert units.parse_lengths("128,256,512") == [128, 256, 512]
    assert units.parse_lengths("8, 192") == [8, 192]


@given(st.integers(0, 1 << 60))
def test_printed_sizes_are_within_half_a_hundredth_of_their_unit(size: int) -> None:
    number, unit = units.human_bytes(size).split()
    factor = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}[unit]
    assert abs(float(number.replace(",", "")) * factor - size) <= 0.00501 * factor + size * 1e-9


@given(st.integers(1, 10**10))
def test_a_printed_length_reads_back_as_itself(tokens: int) -> None:
    assert units.parse_tokens(units.human_tokens(tokens).replace(",", "")) == tokens


def test_a_small_size_is_never_printed_as_zero() -> None:
    assert units.gib(1) == "<0.01 GiB"
    assert units.gib(0) == "0.00 GiB"


@given(st.integers(0, 10**18), st.integers(1, 10**9))
def test_ceil_div_is_the_least_number_of_parts(a: int, b: int) -> None:
    parts = units.ceil_div(a, b)
    assert parts * b >= a > (parts - 1) * b

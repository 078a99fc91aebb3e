"""What a sweep's words mean."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.errors import BadRequest
from planner.sweeps.axes import DEFAULTS, MAX_POINTS, OF_QUESTION, QUESTIONS, parse_grid


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("seq=1k..8k", (1024, 2048, 4096, 8192)),
        ("seq=1k..6k", (1024, 2048, 4096, 6144)),
        ("seq=1k..128k:x8", (1024, 8192, 65536, 131072)),
        ("seq=1k..4k:+1k", (1024, 2048, 3072, 4096)),
        ("seq=1k,8k,1k", (1024, 8192)),
        ("seq=5..5", (5,)),
        ("batch=1..8", (1, 2, 4, 8)),
        ("batch=1..10:+3", (1, 4, 7, 10)),
    ],
)
def test_values_are_lists_and_ranges_with_their_step(text: str, values: tuple[int, ...]) -> None:
    name = text.split("=")[0]
    base = "model=gpt2" if name == "seq" else "model=gpt2 seq=1k"
    assert parse_grid("estimate", [base, text]).given[name] == values


def test_the_last_axis_given_varies_fastest_and_the_others_have_their_default() -> None:
    grid = parse_grid("estimate", ["batch=1,8", "model=a,b seq=1k"])
    batch, model = grid.axes.index("batch"), grid.axes.index("model")
    assert [(point[batch], point[model]) for point in grid.points()] == [(1, "a"), (1, "b"), (8, "a"), (8, "b")]
    assert all(point[grid.axes.index("tp")] == DEFAULTS["tp"] == 1 for point in grid.points())


@given(st.lists(st.integers(1, 4), min_size=3, max_size=3))
def test_a_grid_has_as_many_points_as_its_axes_multiply_to(sizes: list[int]) -> None:
    models, batches, lengths = (range(1, size + 1) for size in sizes)
    words = f"model={','.join(f'm{i}' for i in models)} batch={','.join(map(str, batches))} seq={','.join(map(str, lengths))}"
    grid = parse_grid("estimate", [words])
    points = grid.points()
    assert len(grid) == len(points) == len(set(points)) == sizes[0] * sizes[1] * sizes[2]


@pytest.mark.parametrize("question", QUESTIONS)
def test_every_point_has_a_value_for_every_axis(question: str) -> None:
    grid = parse_grid(question, ["model=gpt2", "seq=1k gpu=l4" if question != "speed" else "gpu=l4 prompt=1k answer=8"])
    assert [len(point) for point in grid.points()] == [len(OF_QUESTION[question])]


@pytest.mark.parametrize(
    ("question", "words", "said"),
    [
        ("guess", "model=gpt2", "'guess' is not a question"),
        ("estimate", "model=gpt2", "needs seq=..."),
        ("speed", "model=gpt2", "needs gpu=..., prompt=..., answer=..."),
        ("fit", "model=gpt2 seq=1k", "needs a device"),
        ("fit", "model=gpt2 gpu=l4 memory=24GiB", "give one of them"),
        ("estimate", "model=gpt2 seq=1k seq=2k", "'seq=2k' is not an axis"),
        ("estimate", "model=gpt2 seq=1k prompt=2k", "'prompt=2k' is not an axis of estimate"),
        ("estimate", "model=gpt2 seq=1k batch", "'batch' is not an axis"),
        ("estimate", "model= seq=1k", "model= names no value"),
        ("estimate", "model=gpt2 seq=,", "seq= names no value"),
        ("estimate", "model=gpt2 seq=0", "seq '0'"),
        ("estimate", "model=gpt2 seq=-1k", "seq '-1k'"),
        ("estimate", "model=gpt2 seq=nan", "seq 'nan'"),
        ("estimate", "model=gpt2 seq=8k..1k", "is not a range"),
        ("estimate", "model=gpt2 seq=1k..8k:x1", "is not a range"),
        ("estimate", "model=gpt2 seq=1k..8k:y2", "is not a range"),
        ("estimate", "model=gpt2 seq=1k..8k:", "is not a range"),
        ("estimate", "model=gpt2 seq=1..9999999999:+1", "more than 1,000,000 values"),
        ("estimate", "model=gpt2 seq=1k batch=1.5", "batch '1.5'"),
        ("estimate", "model=gpt2 seq=1k batch=99999999999", "batch '99999999999'"),
        ("estimate", "model=gpt2 seq=1..2000:+1 batch=1..2000:+1", "at most"),
    ],
)  # fmt: skip
def test_what_is_no_grid_is_refused(question: str, words: str, said: str) -> None:
    with pytest.raises(BadRequest) as refused:
        parse_grid(question, [words])
    assert said in str(refused.value)


def test_the_largest_grid_is_stated() -> None:
    assert len(parse_grid("estimate", ["model=gpt2 seq=1..1000:+1 batch=1..1000:+1"])) == MAX_POINTS


def test_a_name_that_is_not_utf_8_is_refused() -> None:
    with pytest.raises(BadRequest, match="not UTF-8"):
        parse_grid("estimate", ["model=gp\udcfft2", "seq=1k"])

"""The figures by their data: lines, limits, labels; not by their pixels."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from planner.units import GIB
from reports import measured, plots, roofs, tables
from reports.compare import comparison
from reports.kinds import KINDS, MODELS, PLANS, RUNS, frame_of
from reports.plans import PlanFile
from reports.question import Question, question
from reports.runs import Run
from reports.style import byte_axis, new_figure, save, short, spread, token_axis

Make = Callable[..., Run]
ROOT = Path(__file__).resolve().parents[2]


def labels(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for found in figure.legends for text in found.get_texts()]


@pytest.fixture
def asked(five: Question, make_run: Make, plan_answer: dict[str, object]) -> Question:
    """Models, devices, two runs and a plan: what every kind needs."""
    runs = (make_run("a"), make_run("b", 1.5))
    return replace(five, runs=runs, plans=(PlanFile("plan", "plan.json", plan_answer),))


def frame_for(name: str, asked: Question) -> pd.DataFrame:
    kind = KINDS[name]
    return frame_of(kind, asked, 1 if kind.needs == MODELS else 0)


@pytest.mark.parametrize("name", KINDS)
def test_a_figure_function_returns_a_figure_and_leaves_its_frame_alone(name: str, asked: Question) -> None:
    frame = frame_for(name, asked)
    before = frame.copy(deep=True)
    figure = KINDS[name].draw(frame)
    assert isinstance(figure, Figure)
    pd.testing.assert_frame_equal(frame, before)


@pytest.mark.parametrize("name", KINDS)
def test_every_axis_of_numbers_names_its_unit(name: str, asked: Question) -> None:
    for axes in KINDS[name].draw(frame_for(name, asked)).axes:
        for axis in (axes.xaxis, axes.yaxis):
            written = axis.get_label().get_text()
            if not written or written == "KV dtype":  # names at the ticks
                assert all(not text.get_text().replace(".", "").isdigit() for text in axis.get_ticklabels())
            else:
                assert re.search(r"\(.+\)$", written), written


@pytest.mark.parametrize("name", KINDS)
def test_the_same_frame_gives_the_same_bytes(name: str, asked: Question) -> None:
    frame = frame_for(name, asked)
    assert save(KINDS[name].draw(frame), "svg") == save(KINDS[name].draw(frame), "svg")


@pytest.mark.parametrize("name", KINDS)
def test_each_figure_says_what_to_see_and_has_a_text_alternative(name: str, asked: Question) -> None:
    frame = frame_for(name, asked)
    sees, alternative = KINDS[name].sees(frame), KINDS[name].alt(frame)
    assert sees.endswith(".") and 20 < len(sees) < 400
    assert alternative.endswith(".") and len(alternative) > 60
    assert "nan" not in (sees + alternative).lower().replace("finance", "")


@pytest.mark.parametrize("kind", ["svg", "png", "pdf"])
def test_the_files_hold_no_date_and_no_version(kind: str, five: Question) -> None:
    data = save(plots.bytes_per_token(tables.bytes_per_token(five)), kind)
    for words in (b"Matplotlib v", b"CreationDate", b"dc:date", b"Software"):
        assert words not in data


def test_memory_lines_and_limits_are_drawn_where_the_frame_says(five: Question) -> None:
    frame = tables.memory_vs_length(five)
    axes = plots.memory_vs_length(frame).axes[0]
    for name, line in zip(
        five.names.values(), [x for x in axes.lines if not x.get_label().startswith("_")], strict=True
    ):
        rows = frame[(frame["role"] == "line") & (frame["series"] == name)]
        assert line.get_label() == name
        assert list(line.get_xdata()) == [float(n) for n in rows["context_tokens"]]
        assert list(line.get_ydata()) == pytest.approx([n / GIB for n in rows["total_bytes"]])
    heights = {round(float(line.get_ydata()[0]) * GIB) for line in axes.lines if list(line.get_xdata()) == [0, 1]}
    assert heights == {place.capacity.bytes for place in five.places}


def test_each_limit_is_named_and_each_crossing_has_its_length(five: Question) -> None:
    frame = tables.memory_vs_length(five)
    axes = plots.memory_vs_length(frame).axes[0]
    written = labels(axes)
    for place in five.places:
        assert any(text.startswith(place.name) for text in written)
    crossing = frame[frame["role"] == "crossing"].iloc[0]
    assert f"{int(crossing['context_tokens']):,}" in written
    rings = [line for line in axes.lines if line.get_marker() == "o" and line.get_markerfacecolor() == "#ffffff"]
    assert [float(line.get_xdata()[0]) for line in rings] == list(frame[frame["role"] == "crossing"]["context_tokens"])


def test_many_crossings_keep_their_rings_and_lose_their_labels() -> None:
    q = question(("llama-7b", "llama-2-7b", "llama-3.1-8b", "mistral-7b-v0.1"), gpus=("l4", "l40s", "h100-sxm"))
    frame = tables.memory_vs_batch(q)
    count = int((frame["role"] == "crossing").sum())
    assert count > 8
    axes = plots.memory_vs_batch(frame).axes[0]
    assert sum(line.get_markerfacecolor() == "#ffffff" for line in axes.lines) == count
    assert len(axes.texts) == 3  # the devices


def test_bars_end_at_the_share_of_the_device_and_are_cut_beyond(five: Question) -> None:
    frame = tables.memory_parts(five)
    axes = plots.memory_bars(frame).axes[0]
    ends = [
        max(p.get_x() + p.get_width() for p in axes.patches if abs(p.get_y() + p.get_height() / 2 - row) < 1e-9)
        for row in range(len(frame))
    ]
    shares = [max(1.0, n) * 100 for n in frame["total_bytes"] / frame["capacity_bytes"]]
    assert ends == pytest.approx([min(share, 160) for share in shares])
    written = labels(axes)
    assert any("x)" in text for text in written) and len(written) == len(frame)


def test_the_border_runs_between_what_fits_and_what_does_not(five: Question) -> None:
    frame = tables.feasible_region(five, 1, 0)
    axes = plots.feasible_region(frame).axes[0]
    lengths, batches = sorted(set(frame["context_tokens"])), sorted(set(frame["batch"]))
    fits = {(row["batch"], row["context_tokens"]): row["fits"] for row in frame.to_dict("records")}
    edges = sum(fits[b, n] != fits[b, m] for b in batches for n, m in itertools.pairwise(lengths))
    edges += sum(fits[b, n] != fits[c, n] for n in lengths for b, c in itertools.pairwise(batches))
    assert len(axes.lines) == edges > 0
    assert len(axes.texts) == len(frame) == len(lengths) * len(batches)


def test_bytes_a_token_are_sorted_and_carry_the_family(five: Question) -> None:
    figure = plots.bytes_per_token(tables.bytes_per_token(five))
    names = [text.get_text().replace("\n", " ") for text in figure.axes[0].get_yticklabels()]
    assert names == [
        "llama-7b (MHA)",
        "gemma-3-27b (window)",
        "llama-3.1-8b (GQA)",
        "deepseek-v3 (MLA)",
        "qwen3-next-80b-a3b (hybrid)",
    ]
    assert legend(figure) == ["next token adds"]


def test_the_scatter_has_the_identity_line(make_run: Make) -> None:
    figure = plots.prediction_scatter(measured.prediction_scatter([make_run()]))
    assert [axes.get_xlabel() for axes in figure.axes] == ["Predicted (MiB)", "Predicted (ms)"]
    for axes in figure.axes:
        identity = axes.lines[0]
        assert list(identity.get_xdata()) == list(identity.get_ydata())
        assert axes.get_xlim() == axes.get_ylim()


def test_the_crossing_of_cached_and_uncached_speed_is_marked(make_run: Make) -> None:
    figure = plots.speed_vs_output(measured.speed_vs_output([make_run()]))
    axes = figure.axes[0]
    assert any(list(line.get_xdata()) == [50, 50] for line in axes.lines)
    assert "the cache pays from 50 tokens" in labels(axes)
    assert legend(figure) == ["static cache", "no cache (estimated)"]


def test_a_speed_line_has_the_measured_tokens_a_second(make_run: Make) -> None:
    axes = plots.speed_vs_output(measured.speed_vs_output([make_run()])).axes[0]
    cached = next(line for line in axes.lines if line.get_label() == "static cache")
    assert list(cached.get_xdata()) == [10, 100, 1000]
    assert list(cached.get_ydata()) == pytest.approx([1 / 0.03] * 3)


def test_predicted_speedups_stand_beside_the_measured(make_run: Make) -> None:
    figure = plots.speedup(measured.speedup([make_run()]))
    dotted = next(line for line in figure.axes[0].lines if str(line.get_label()).startswith("predicted"))
    assert (list(dotted.get_xdata()), list(dotted.get_ydata())) == ([100], [1.4])


def test_roofs_bend_where_bandwidth_meets_the_rate(five: Question) -> None:
    frame = roofs.roofline(five)
    axes = plots.roofline(frame).axes[0]
    roof = frame[frame["role"] == "roof"].iloc[0]
    line = next(line for line in axes.lines if line.get_label() == roof["label"])
    assert line.get_xdata()[1] == pytest.approx(roof["flops_per_s"] / roof["bandwidth_bytes_per_s"])
    points = frame[frame["role"] == "point"]
    for row in points.to_dict("records"):  # no bound lies above its roof
        meets = frame[(frame["role"] == "roof") & (frame["device"] == row["device"])]
        reach = max(
            min(row["intensity_flops_per_byte"] * r["bandwidth_bytes_per_s"], r["flops_per_s"])
            for r in meets.to_dict("records")
        )
        assert row["flops_per_s"] <= reach * 1.000001


def test_bars_of_a_comparison_are_filled_beyond_the_spread_alone(make_run: Make) -> None:
    axes = plots.comparison(comparison(make_run("a"), make_run("b", 1.01))).axes[0]
    assert {patch.get_facecolor()[:3] for patch in axes.patches} == {(1.0, 1.0, 1.0)}
    axes = plots.comparison(comparison(make_run("a"), make_run("b", 2.0))).axes[0]
    assert (1.0, 1.0, 1.0) not in {patch.get_facecolor()[:3] for patch in axes.patches}


def test_no_figure_loads_pyplot() -> None:
    code = (
        "import sys\nfrom reports.question import question\nfrom reports.kinds import KINDS, frame_of\n"
        "k = KINDS['memory-bars']\nk.draw(frame_of(k, question(('gpt2',), gpus=('t4',))))\n"
        "assert 'matplotlib.pyplot' not in sys.modules and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=1800)


def test_the_readers_own_style_changes_nothing(five: Question) -> None:
    import matplotlib

    frame = tables.bytes_per_token(five)
    plain = save(plots.bytes_per_token(frame), "svg")
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "red", "lines.linewidth": 9}):
        assert save(plots.bytes_per_token(frame), "svg") == plain


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_spread_keeps_the_order_and_the_distance(places: list[float]) -> None:
    gap = 0.05
    moved = spread(places, gap, 0.0, high=1.0)
    ranked = sorted(range(len(places)), key=lambda i: places[i])
    near = [moved[b] - moved[a] for a, b in itertools.pairwise(ranked)]
    assert all(distance >= gap - 1e-5 for distance in near)
    assert all(-1e-6 <= place <= 1 + 1e-6 for place in moved)


@given(st.text(min_size=1, max_size=200))
def test_short_names_are_no_longer_than_asked(name: str) -> None:
    assert len(short(name)) <= 30


@given(st.lists(st.integers(1, 1 << 50), min_size=1, max_size=6))
def test_an_axis_of_bytes_has_its_unit_and_ticks(sizes: list[int]) -> None:
    _, axes = new_figure()
    unit = byte_axis(axes, "y", [float(n) for n in sizes], label="Memory")
    assert re.fullmatch(r"Memory \((B|KiB|MiB|GiB|TiB)\)", axes.get_ylabel())
    axes.plot([0, 1], [min(sizes) / unit, max(sizes) / unit])
    assert 1 <= len(axes.get_yticks()) <= 20


def test_the_kinds_need_what_their_names_say() -> None:
    assert {kind.needs for kind in KINDS.values()} == {MODELS, RUNS, "two runs", PLANS}
    from kvplan.plots import KINDS_OF_MODELS, KINDS_OF_PLANS, KINDS_OF_RUNS
    from reports.commands.plot import KIND_NAMES

    assert tuple(KINDS) == KIND_NAMES
    assert [name.replace("_", "-") for name in (*KINDS_OF_MODELS, *KINDS_OF_RUNS, *KINDS_OF_PLANS)] == list(KINDS)


@pytest.mark.parametrize(("most", "shown"), [(2, ["1", "2"]), (3, ["1", "2", "3"]), (16, ["1", "2", "4", "8", "16"])])
def test_no_count_stands_twice_on_an_axis_of_whole_numbers(most: int, shown: list[str]) -> None:
    axes = Figure().add_subplot()
    axes.plot([1, most], [1, 1])
    token_axis(axes, "x", [1.0, float(most)], label="users")
    axes.figure.canvas.draw()
    assert [tick.get_text() for tick in axes.get_xticklabels()] == shown

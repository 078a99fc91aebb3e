"""The numbers behind the figures, against formulas worked by hand and the scalar path."""

from __future__ import annotations

from dataclasses import replace

import pytest

from planner.lookup import model_spec
from planner.memory.estimate import estimate
from planner.memory.request import Capacity, Request
from reports import tables
from reports.question import Question, question


def test_a_token_takes_what_the_formula_says(five: Question) -> None:
    table = tables.bytes_per_token(five).set_index("model")
    assert table.loc["llama-7b", "next_token_bytes"] == 2 * 32 * 32 * 128 * 2  # layers x heads x width x K and V x fp16
    assert table.loc["llama-3.1-8b", "next_token_bytes"] == 2 * 32 * 8 * 128 * 2
    assert table.loc["deepseek-v3", "next_token_bytes"] == 61 * (512 + 64) * 2  # arXiv:2405.04434
    assert table.loc["gemma-3-27b", "next_token_bytes"] == 10 * 2 * 16 * 128 * 2  # past the window 10 layers grow
    assert list(table["attention"]) == ["MHA", "GQA", "MLA", "window", "hybrid"]


def test_a_window_keeps_more_on_average_than_the_next_token_adds(five: Question) -> None:
    table = tables.bytes_per_token(five).set_index("model")
    assert table.loc["gemma-3-27b", "average_bytes"] > table.loc["gemma-3-27b", "next_token_bytes"]


def test_the_parts_of_a_device_and_what_is_free_make_its_memory(five: Question) -> None:
    table = tables.memory_parts(five)
    parts = table[["weight_bytes", "cache_bytes", "activation_bytes", "overhead_bytes", "free_bytes"]].sum(axis=1)
    assert (parts == table["capacity_bytes"]).all()
    assert len(table) == 10


@pytest.mark.parametrize("axis", ["context_tokens", "batch"])
def test_a_crossing_is_the_last_point_that_fits(five: Question, axis: str) -> None:
    table = tables.memory_vs_length(five) if axis == "context_tokens" else tables.memory_vs_batch(five)
    room = {place.name: place.capacity for place in five.places}
    crossings = table[table["role"] == "crossing"]
    assert len(crossings)
    for row in crossings.to_dict("records"):
        spec = model_spec(row["series"])
        key = "seq_tokens" if axis == "context_tokens" else "batch"
        asked = replace(five.request, **{key: int(row[axis])})
        beyond = replace(five.request, **{key: int(row[axis]) + 1})
        assert estimate(spec, asked, room[row["device"]]).fits
        assert not estimate(spec, beyond, room[row["device"]]).fits


def test_the_lines_are_those_of_the_scalar_path(five: Question) -> None:
    table = tables.memory_vs_length(five)
    line = table[(table["role"] == "line") & (table["series"] == "gemma-3-27b")]
    for row in list(line.to_dict("records"))[::5]:
        answer = estimate(
            model_spec("gemma-3-27b"),
            replace(five.request, seq_tokens=int(row["context_tokens"])),
            five.places[0].capacity,
        )
        assert answer.per_device.total_bytes == row["total_bytes"]
        assert answer.per_device.kv_bytes == row["cache_bytes"]


def test_one_model_is_drawn_with_its_kv_dtypes() -> None:
    table = tables.memory_vs_length(question(("llama-3.1-8b",), gpus=("l4",)))
    assert list(dict.fromkeys(table["series"].dropna())) == ["KV in bf16", "KV in fp8", "KV in int4"]


def test_curves_reach_to_where_the_first_device_is_full() -> None:
    q = question(("llama-3.1-8b",), gpus=("rtx-4090",))
    assert q.lengths[-1] > 56_951  # `kvplan fit llama-3.1-8b --gpu rtx-4090`: its longest context
    assert (tables.memory_vs_length(q)["role"] == "crossing").any()


@pytest.mark.parametrize(
    ("dtype", "share"),
    [
        ("fp8", 0.5),
        ("q8_0", 34 / 64),
        ("q4_0", 18 / 64),
        ("int4", 18 / 64),
        ("nvfp4", 9 / 32),
    ],  # bytes of 32 values / 64
)
def test_savings_count_the_scales(dtype: str, share: float) -> None:
    table = tables.kv_dtype_savings(question(("llama-3.1-8b",), gpus=("l4",))).set_index("kv_dtype")
    assert table.loc[dtype, "ratio"] == pytest.approx(share)
    assert table.loc[dtype, "code_bytes"] + table.loc[dtype, "scale_bytes"] == table.loc[dtype, "kv_bytes"]


def test_a_dtype_that_a_model_cannot_take_is_left_out(five: Question) -> None:
    table = tables.kv_dtype_savings(five)
    assert list(table[table["kv_dtype"] == "fp8_ds_mla"]["model"]) == ["deepseek-v3"]


def test_the_region_fits_where_the_estimate_does() -> None:
    q = question(("llama-3.1-8b",), gpus=("rtx-4090",))
    table = tables.feasible_region(q)
    assert table["fits"].any() and not table["fits"].all()
    for row in list(table.to_dict("records"))[::11]:
        answer = estimate(q.specs[0], Request(row["context_tokens"], row["batch"]), q.places[0].capacity)
        assert bool(answer.fits) == row["fits"] and answer.per_device.total_bytes == row["total_bytes"]
    assert (table["held_tokens"] == table["batch"] * table["context_tokens"]).all()


def test_verdicts_say_how_many_and_how_long() -> None:
    row = tables.verdicts(question(("llama-3.1-8b",), gpus=("rtx-4090",))).iloc[0]
    assert (row["fits"], row["most_sequences"], row["longest_tokens"]) == (True, 6, 56_951)  # as `kvplan fit` answers
    assert row["binds_first"] == "memory" and row["step_bound_by"] == "bandwidth"


def test_what_does_not_fit_has_changes_and_a_number_of_devices(five: Question) -> None:
    verdicts, changes = tables.verdicts(five), tables.changes(five)
    short = verdicts[~verdicts["fits"] & (verdicts["free_bytes"] < 0)]  # beyond its positions no change helps
    assert set(zip(short["model"], short["device"], strict=True)) == set(
        zip(changes["model"], changes["device"], strict=True)
    )
    deepseek = short[(short["model"] == "deepseek-v3") & (short["device"] == "H100-SXM5-80GB")].iloc[0]
    assert deepseek["fewest_devices"] * deepseek["capacity_bytes"] > deepseek["total_bytes"]


def test_two_models_of_one_name_stay_apart(tmp_path: object) -> None:
    spec = model_spec("gpt2")
    q = question((spec, spec), gpus=("t4",))
    assert list(q.names.values()) == ["gpt2", "gpt2 (2)"]


def test_lengths_default_to_what_a_model_can_do() -> None:
    assert question(("gpt2",)).request.seq_tokens == 1024
    assert question(("gpt2", "llama-3.1-8b")).request.seq_tokens == 8192


def test_without_a_device_usual_ones_are_shown_and_said() -> None:
    q = question(("gpt2",))
    assert q.usual and len(q.places) == 3
    assert not question(("gpt2",), memories=(Capacity("1 GiB", 1 << 30),)).usual

"""The grid says what the scalar path says, in blocks of bounded size, or refuses."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.errors import BadRequest, KvplanError
from planner.memory.estimate import estimate
from planner.memory.grid import INT64_MAX, Grid, GridBlock, Refused
from planner.memory.request import Capacity, Request
from planner.memory.sharding import Sharding
from planner.model.spec import ModelSpec
from planner.readers.huggingface import read_config

pytest.importorskip("numpy")

LLAMA = {
    "model_type": "llama",
    "hidden_size": 512,
    "num_hidden_layers": 5,
    "vocab_size": 1003,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "intermediate_size": 1376,
    "torch_dtype": "bfloat16",
    "tie_word_embeddings": True,
}
MISTRAL = {**LLAMA, "model_type": "mistral", "sliding_window": 700, "torch_dtype": "float32"}
MAMBA = {
    "model_type": "mamba",
    "hidden_size": 256,
    "num_hidden_layers": 4,
    "vocab_size": 500,
    "state_size": 16,
    "intermediate_size": 512,
    "conv_kernel": 4,
    "time_step_rank": 16,
}
T5 = {
    "model_type": "t5",
    "d_model": 64,
    "d_kv": 16,
    "d_ff": 128,
    "num_layers": 3,
    "num_decoder_layers": 3,
    "num_heads": 4,
    "vocab_size": 300,
}
SPECS = tuple(read_config(config, name=str(config["model_type"])) for config in (LLAMA, MISTRAL, MAMBA, T5))
CARD = Capacity("card", 10**9)
HOST = Capacity("host", 2 * 10**9, "host")


def scalar(block: GridBlock, device: int, batch: int, length: int, base: Request) -> dict[str, int]:
    """The same configuration, asked of `estimate`."""
    request = replace(
        base,
        seq_tokens=block.lengths[length],
        batch=block.batches[batch],
        dtype=block.dtype,
        k_dtype=block.kv_dtype,
        v_dtype=block.kv_dtype,
        sharding=block.sharding,
    )
    answer = estimate(block.spec, request, block.devices[device])
    on_device, free = answer.per_device, answer.free_bytes
    assert free is not None
    return {
        "kv_bytes": on_device.kv_bytes,
        "state_bytes": on_device.state_bytes,
        "weight_bytes": on_device.weight_bytes,
        "activation_bytes": on_device.activation.bytes,
        "overhead_bytes": on_device.overhead_bytes,
        "total_bytes": on_device.total_bytes,
        "capacity_bytes": block.devices[device].bytes,
        "free_bytes": free,
        "fits": int(bool(answer.fits)),
    }


def disagreements(grid: Grid) -> list[Any]:
    """Every configuration of the grid that the scalar path answers otherwise."""
    found = []
    for block in grid.blocks():
        devices, batches, lengths = block.shape
        for at in ((d, b, n) for d in range(devices) for b in range(batches) for n in range(lengths)):
            ours, theirs = block.point(*at), scalar(block, *at, grid.base)
            if ours != theirs:
                found.append((block, at, ours, theirs))
    return found


shardings = st.builds(Sharding, tp=st.sampled_from((1, 2, 3, 8)), pp=st.integers(1, 3), dp=st.integers(1, 3))
bases = st.builds(
    Request,
    seq_tokens=st.just(1),
    prefill_tokens=st.none() | st.integers(1, 100_000),
    fused_attention=st.booleans(),
    activation_override=st.none() | st.integers(0, 10**9),
    overhead_override=st.dictionaries(st.sampled_from(("context", "mine")), st.integers(0, 10**9), max_size=2),
)
capacities = st.builds(Capacity, st.just("any"), st.integers(0, 4 * 10**9), st.sampled_from(("cuda", "host")))


def some(values: st.SearchStrategy[Any], most: int) -> st.SearchStrategy[list[Any]]:
    return st.lists(values, min_size=1, max_size=most)


@settings(deadline=None, max_examples=60)
@given(
    specs=some(st.sampled_from(SPECS), 2),
    devices=some(capacities, 3),
    batches=some(st.integers(1, 5000), 3),
    lengths=some(st.integers(1, 200_000), 3),
    layouts=some(shardings, 2),
    dtypes=some(st.sampled_from((None, "fp16", "fp32", "int8", "q4_k_m")), 2),
    kv_dtypes=some(st.sampled_from((None, "fp8", "int8", "kivi2_g32")), 2),
    base=bases,
    block=st.integers(1, 40),
)
def test_every_configuration_agrees_with_the_scalar_path(
    specs: list[ModelSpec],
    devices: list[Capacity],
    batches: list[int],
    lengths: list[int],
    layouts: list[Sharding],
    dtypes: list[str | None],
    kv_dtypes: list[str | None],
    base: Request,
    block: int,
) -> None:
    grid = Grid(specs, devices, batches, lengths, layouts, dtypes, kv_dtypes, base, block)
    assert not disagreements(grid)


def test_every_configuration_is_answered_once_whatever_the_block_size() -> None:
    devices = [Capacity(f"card {n}", n * 10**8) for n in range(1, 6)]
    fits = {}
    for block in (1, 2, 7, 30, 10**6):
        grid = Grid(SPECS[:2], devices, range(1, 8), range(100, 1000, 90), block=block)
        seen = [
            (found.spec.name, device.name, batch, length, bool(found.fits[d, b, n]))
            for found in grid.blocks()
            for d, device in enumerate(found.devices)
            for b, batch in enumerate(found.batches)
            for n, length in enumerate(found.lengths)
        ]
        assert len(seen) == len(set(seen)) == grid.size == 2 * 5 * 7 * 10
        fits[block] = sorted(seen)
    assert all(each == fits[1] for each in fits.values())


@pytest.mark.parametrize("block", [1, 3, 64, 1000])
def test_no_block_is_larger_than_asked(block: int) -> None:
    grid = Grid(SPECS[:1], [CARD] * 9, range(1, 30), range(1, 30), block=block)
    sizes = [found.size for found in grid.blocks()]
    assert max(sizes) <= block
    assert sum(sizes) == grid.size


def test_a_host_has_its_own_overhead_in_one_grid_with_cards() -> None:
    grid = Grid(SPECS[:1], [CARD, HOST, CARD], [1, 4], [100, 5000])
    assert not disagreements(grid)
    overheads = {block.devices[0].kind: block.point(0, 0, 0)["overhead_bytes"] for block in grid.blocks()}
    assert overheads["host"] < overheads["cuda"]


def test_stages_of_a_pipeline_take_turns_as_the_fullest() -> None:
    """Few sequences: the embedding's stage is the fullest; many: the stage with more layers."""
    wide = read_config({**LLAMA, "vocab_size": 200_000, "tie_word_embeddings": False}, name="wide")
    grid = Grid([wide], [CARD], [1, 10, 100, 10_000], [10, 1000, 10_000], [Sharding(pp=2), Sharding(pp=3)])
    assert not disagreements(grid)


def test_a_device_with_not_a_byte_to_spare_fits() -> None:
    need = estimate(SPECS[0], Request(100, batch=3), CARD).per_device.total_bytes
    devices = [Capacity("exact", need), Capacity("one short", need - 1)]
    (block,) = Grid(SPECS[:1], devices, [3], [100]).blocks()
    assert [bool(fits) for fits in block.fits[:, 0, 0]] == [True, False]
    assert block.free_bytes[:, 0, 0].tolist() == [0, -1]


def test_dtypes_of_none_keep_those_of_the_base_request() -> None:
    base = Request(seq_tokens=1, dtype="fp32", k_dtype="int8", v_dtype="fp8")
    grid = Grid(SPECS[:1], [CARD], [3], [100], base=base)
    (block,) = grid.blocks()
    answer = estimate(SPECS[0], replace(base, seq_tokens=100, batch=3), CARD)
    assert block.point(0, 0, 0)["total_bytes"] == answer.per_device.total_bytes


def test_arrays_have_one_shape_and_whole_numbers() -> None:
    (block,) = Grid(SPECS[2:3], [CARD, CARD], [1, 2, 3], [5, 6, 7, 8]).blocks()
    for name in ("kv", "state", "weight", "activation", "overhead", "total", "free"):
        column = getattr(block, f"{name}_bytes")
        assert column.shape == block.shape == (2, 3, 4)
        assert column.dtype == "int64"
    assert block.fits.dtype == bool


# -- refusals --------------------------------------------------------------------------------------------


def test_what_the_scalar_path_refuses_raises_here_too() -> None:
    odd = read_config({**LLAMA, "head_dim": 80}, name="odd")
    with pytest.raises(BadRequest, match="blocks of 32"):
        list(Grid([odd], [CARD], [1], [10], kv_dtypes=["q8_0"]).blocks())


def test_refusals_are_collected_when_a_list_is_given() -> None:
    odd = read_config({**LLAMA, "head_dim": 80}, name="odd")
    refused: list[Refused] = []
    grid = Grid([odd], [CARD], [1], [10], kv_dtypes=["q8_0", "fp8"])
    assert [block.kv_dtype for block in grid.blocks(refused)] == ["fp8"]
    assert [(each.spec.name, each.kv_dtype) for each in refused] == [("odd", "q8_0")]


def test_numbers_beyond_64_bits_are_refused_not_wrapped() -> None:
    request = Request(10**10, batch=10**9)
    assert estimate(SPECS[0], request).per_device.total_bytes > INT64_MAX
    with pytest.raises(BadRequest, match="64-bit"):
        list(Grid(SPECS[:1], [CARD], [1, 10**9], [10**10]).blocks())


def test_tokens_beyond_64_bits_are_refused_even_where_bytes_would_not_be() -> None:
    """A model of states alone keeps few bytes, yet batch x length is an intermediate of the activations."""
    with pytest.raises(BadRequest, match="64-bit"):
        list(Grid(SPECS[2:3], [CARD], [10**9], [10**10]).blocks())


def test_the_largest_numbers_below_the_limit_are_exact() -> None:
    curve = estimate(SPECS[0], Request(10**9)).per_device
    most = (INT64_MAX - 10**15) * 9 // 10 // curve.kv_bytes
    assert not disagreements(Grid(SPECS[:1], [CARD], [most], [10**9]))
    with pytest.raises(BadRequest, match="64-bit"):
        list(Grid(SPECS[:1], [CARD], [2 * most], [10**9]).blocks())


@pytest.mark.parametrize("override", [10**30, -1])
def test_impossible_overrides_are_refused(override: int) -> None:
    for base in (
        Request(1, activation_override=override),
        Request(1, overhead_override={"context": override}),
    ):
        with pytest.raises(BadRequest):
            list(Grid(SPECS[:1], [CARD], [1], [10], base=base).blocks())


@pytest.mark.parametrize(
    "change",
    [
        {"specs": []},
        {"devices": []},
        {"batches": []},
        {"lengths": []},
        {"dtypes": []},
        {"batches": [0]},
        {"lengths": [0, 5]},
        {"lengths": [5, 10**11]},
        {"lengths": [5.0]},
        {"batches": [True]},
        {"batches": ["8"]},
        {"devices": [Capacity("bad", -1)]},
        {"devices": [Capacity("bad", 10**30)]},
        {"shardings": [Sharding(tp=0)]},
        {"shardings": [Sharding(pp=99)]},
        {"dtypes": ["no such"]},
        {"kv_dtypes": ["no such"]},
        {"block": 0},
    ],
)
def test_axes_that_mean_nothing_are_refused(change: dict[str, Any]) -> None:
    axes: dict[str, Any] = {"specs": SPECS[:1], "devices": [CARD], "batches": [1], "lengths": [10], **change}
    with pytest.raises(KvplanError):
        list(Grid(**axes).blocks())


def test_missing_numpy_is_one_line_that_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numpy", None)
    with pytest.raises(KvplanError) as caught:
        Grid(SPECS[:1], [CARD], [1], [10]).blocks()
    assert "pip install 'llm-kvplan[grid]'" in str(caught.value)
    assert "\n" not in str(caught.value)

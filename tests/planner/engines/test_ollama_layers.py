"""Layers and SIZE as ollama's own code has them: figures of its logs, and what must hold of any model."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.engines.ollama_graph import Graph
from planner.engines.ollama_layers import MINIMUM_BYTES, _counted, _laid_out, _Model, human
from planner.engines.ollama_releases import default_context, default_slots, own_engine
from planner.units import GIB, MIB

SIZES = st.lists(st.integers(MIB, GIB), min_size=1, max_size=60)
FREE = st.lists(st.integers(0, 48 * GIB), min_size=1, max_size=4)


def _model(layers: list[int], last: int, graph: int, vision: int, measured: bool) -> _Model:
    return _Model(tuple(layers), last, 0, 0, Graph(graph, graph, vision), measured)


@given(SIZES, st.integers(0, 4 * GIB), st.integers(0, 8 * GIB), FREE)
def test_counted_layers_stay_within_the_cards(layers: list[int], last: int, graph: int, free: list[int]) -> None:
    found = _counted(_model(layers, last, graph, 0, False), free, tuple(range(len(free))))
    assert 0 <= found.layers <= found.of == len(layers) + 1
    assert sum(found.cards) == found.layers
    assert found.vram_bytes <= found.size_bytes
    assert found.size_bytes >= sum(layers) + last
    assert found.vram_bytes <= sum(free)


@given(SIZES, st.integers(0, 4 * GIB), st.integers(0, 8 * GIB), st.integers(0, 4 * GIB), FREE)
def test_laid_out_layers_stay_within_the_cards(
    layers: list[int], last: int, graph: int, vision: int, free: list[int]
) -> None:
    found = _laid_out(_model(layers, last, graph, vision, True), free)
    assert sum(found.cards) == found.layers <= found.of
    assert found.size_low <= found.size_bytes
    if found.layers < found.of:
        assert found.vram_bytes <= sum(free)


def test_more_memory_never_takes_fewer_layers() -> None:
    model = _model([500 * MIB] * 32, GIB, GIB, 0, False)
    counts = [_counted(model, [free * GIB], (0,)).layers for free in range(1, 32)]
    assert counts == sorted(counts) and counts[0] == 0 and counts[-1] == 33


def test_a_card_below_the_minimum_takes_none() -> None:
    model = _model([500 * MIB] * 4, GIB, GIB, 0, False)
    assert _counted(model, [MINIMUM_BYTES + GIB], (0,)).text.endswith("100% CPU")


@pytest.mark.parametrize(
    ("size", "printed"), [(148_900_000_000, "148 GB"), (9_440_000_000, "9.4 GB"), (10_000_000_000, "10 GB")]
)
def test_sizes_are_printed_as_ollama_prints_them(size: int, printed: str) -> None:
    assert human(size) == printed


def test_defaults_change_at_the_release_that_changed_them() -> None:
    assert [default_slots(version) for version in ((0, 6, 6), (0, 6, 7), (0, 10))] == [4, 2, 1]
    assert [default_context(version) for version in ((0, 6, 6), (0, 15, 4), (0, 15, 5))] == [2048, 4096, None]
    assert [own_engine("gpt_oss", version) for version in ((0, 10), (0, 11))] == [False, True]

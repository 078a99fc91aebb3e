"""Unlike cards that share a model step as fast as they are together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.catalogue.entries import find_device
from planner.speed.unlike_cards import one_after_another, side_by_side

CARDS = tuple(map(find_device, ("rtx-3090", "rtx-3060", "rtx-4090")))


@given(sizes=st.lists(st.integers(1, 1 << 40), min_size=3, max_size=3))
def test_the_step_takes_as_long_as_all_cards_one_after_another(sizes: list[int]) -> None:
    made = one_after_another(CARDS[1], CARDS, sizes)
    seconds = sum(size / (card.bandwidth_bytes_per_s or 0) for size, card in zip(sizes, CARDS, strict=True))
    assert sum(sizes) / (made.bandwidth_bytes_per_s or 0) == pytest.approx(seconds, rel=1e-9)


@given(sizes=st.lists(st.integers(1, 1 << 40), min_size=3, max_size=3))
def test_cards_side_by_side_wait_for_the_slowest(sizes: list[int]) -> None:
    made = side_by_side(CARDS[1], CARDS, sizes)
    seconds = max(size / (card.bandwidth_bytes_per_s or 0) for size, card in zip(sizes, CARDS, strict=True))
    assert sum(sizes) / 3 / (made.bandwidth_bytes_per_s or 0) == pytest.approx(seconds, rel=1e-9)


def test_alike_cards_are_as_they_were() -> None:
    card = CARDS[0]
    for make in (one_after_another, side_by_side):
        made = make(card, (card, card), (5, 5))
        assert made.bandwidth_bytes_per_s == pytest.approx(card.bandwidth_bytes_per_s)
        assert made.dense_flops_per_s == pytest.approx(card.dense_flops_per_s)

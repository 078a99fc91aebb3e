"""Rotary frequencies and their scalings, against the papers' own words."""

from __future__ import annotations

import math

import pytest

from tests.profiler.small_models import NEEDS_TORCH

torch = pytest.importorskip("torch", reason=NEEDS_TORCH)

from profiler.recipes import Rope
from profiler.rope import RopeTable, frequencies, rotate


def scaled(**scaling: object) -> Rope:
    return Rope(64, 10_000.0, False, tuple(sorted(scaling.items())))


def test_plain_frequencies_fall_from_one_to_nearly_the_base() -> None:
    table, factor = frequencies(Rope(64, 10_000.0))
    assert table[0] == 1.0 and factor == 1.0
    assert table[-1].item() == pytest.approx(10_000.0 ** (-62 / 64))


def test_linear_scaling_divides_all_frequencies() -> None:
    plain, _ = frequencies(Rope(64, 10_000.0))
    assert torch.equal(frequencies(scaled(rope_type="linear", factor=4.0))[0], plain / 4)


def test_llama3_keeps_short_waves_and_slows_long_ones() -> None:
    plain, _ = frequencies(Rope(64, 10_000.0))
    table, _ = frequencies(
        scaled(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
               original_max_position_embeddings=1024)
    )  # fmt: skip
    turns = 1024 * plain / (2 * math.pi)  # how often a pair turns within the trained length
    assert torch.equal(table[turns > 4], plain[turns > 4])
    assert torch.allclose(table[turns < 1], plain[turns < 1] / 8)
    between = (turns > 1) & (turns < 4)
    assert between.any() and (table[between] < plain[between]).all() and (table[between] > plain[between] / 8).all()


def test_yarn_lengthens_queries_and_keys_by_its_attention_factor() -> None:
    _, factor = frequencies(scaled(rope_type="yarn", factor=40.0, original_max_position_embeddings=4096))
    assert factor == pytest.approx(0.1 * math.log(40) + 1)  # arXiv:2309.00071, section 3.4


@pytest.mark.parametrize("interleaved", [False, True])
def test_scores_depend_on_the_distance_alone(interleaved: bool) -> None:
    table = RopeTable(Rope(16, 10_000.0), torch.device("cpu"))
    q, k = torch.randn(1, 1, 1, 16), torch.randn(1, 1, 1, 16)

    def score(at: int, other: int) -> float:
        turned = [rotate(x, *table(torch.tensor([p]), q.dtype), interleaved) for x, p in ((q, at), (k, other))]
        return float((turned[0] * turned[1]).sum())

    assert score(7, 3) == pytest.approx(score(107, 103), abs=1e-4)
    assert score(7, 3) != pytest.approx(score(8, 3), abs=1e-4)


def test_a_part_of_each_head_can_pass_unturned() -> None:
    table = RopeTable(Rope(8, 10_000.0), torch.device("cpu"))
    x = torch.randn(2, 3, 5, 32)
    turned = rotate(x, *table(torch.arange(5), x.dtype), False)
    assert torch.equal(turned[..., 8:], x[..., 8:])
    assert not torch.equal(turned[:, :, 1:, :8], x[:, :, 1:, :8])

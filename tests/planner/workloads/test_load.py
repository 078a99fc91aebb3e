"""Loads: bins keep the mean, and decoding sequences are met as renewal theory says."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.errors import BadRequest
from planner.workloads.lengths import LengthMix, from_percentiles
from planner.workloads.load import binned, held_sequences, load, trace_hit_share
from planner.workloads.traces import Trace

COUNTS = st.dictionaries(st.integers(1, 10**5), st.integers(1, 50), min_size=1, max_size=40)


@given(COUNTS)
def test_bins_keep_the_mean_to_the_rounding_of_a_token(counts: dict[int, int]) -> None:
    bins = binned(counts.items())
    mean = sum(tokens * count for tokens, count in counts.items()) / sum(counts.values())
    assert sum(item.share for item in bins) == pytest.approx(1)
    assert abs(sum(item.tokens * item.share for item in bins) - mean) <= 0.5 + 1e-6 * mean


@given(COUNTS)
def test_bins_rise_and_stay_within_the_lengths(counts: dict[int, int]) -> None:
    tokens = [item.tokens for item in binned(counts.items())]
    assert tokens == sorted(set(tokens)) and min(counts) <= tokens[0] and tokens[-1] <= max(counts)


@given(st.dictionaries(st.integers(2, 4000), st.integers(1, 9), min_size=1, max_size=8), st.integers(1, 5000))
def test_an_output_is_met_in_proportion_to_its_length_and_on_average_half_done(
    outputs: dict[int, int], prompt: int
) -> None:
    # E[prompt + age] with age of a renewal process: prompt + E[O²] / (2 E[O])
    found = held_sequences((prompt, output, 0, float(count)) for output, count in outputs.items())
    first = sum(output * count for output, count in outputs.items())
    square = sum(output**2 * count for output, count in outputs.items())
    assert sum(held.tokens * held.share for held in found) == pytest.approx(prompt + square / (2 * first), abs=1.1)


def test_own_tokens_lie_behind_the_common_prefix() -> None:
    found = load(LengthMix({1000: 1}, ""), LengthMix({100: 1}, ""), users=1, prefix_share=0.5)
    assert {held.tokens - held.own_tokens for held in found.held_sequences} == {496}  # 500 in whole blocks of 16
    own = load(LengthMix({1000: 1}, ""), LengthMix({100: 1}, ""), users=1, prefix_share=0.5, prefix_common=False)
    assert {held.tokens - held.own_tokens for held in own.held_sequences} == {0}


def test_a_log_normal_mix_has_its_percentiles_in_the_bins() -> None:
    found = load(from_percentiles("p50=800,p95=6000"), from_percentiles("p50=200,p95=900"), users=1)
    until, seen = {}, 0.0
    for item in found.prompts:
        seen += item.share
        until[round(seen, 3)] = item.tokens
    assert abs(until[0.55] / 800 - 1) < 0.02 and abs(until[0.96] / 6000 - 1) < 0.05


def test_a_pair_says_who_has_which() -> None:
    # long prompts with long outputs: found together, so a decoding sequence holds more than if they were independent
    pairs = [(100, 10), (1000, 1000)]
    mixes = LengthMix({100: 1, 1000: 1}, ""), LengthMix({10: 1, 1000: 1}, "")
    together, apart = load(*mixes, users=1, pairs=pairs), load(*mixes, users=1)

    def held(found: object) -> float:
        return sum(item.tokens * item.share for item in found.held_sequences)  # type: ignore[attr-defined]

    assert held(together) > held(apart)
    assert together.longest_tokens == 2000


@pytest.mark.parametrize("asked", [{}, {"users": 1, "rate_per_s": 1.0}])
def test_one_of_users_and_rate_is_wanted(asked: dict[str, object]) -> None:
    with pytest.raises(BadRequest, match="--users 200, or --rate"):
        load(LengthMix({1: 1}, ""), LengthMix({9: 1}, ""), **asked)  # type: ignore[arg-type]


def test_an_output_of_one_token_decodes_nothing_and_is_refused() -> None:
    with pytest.raises(BadRequest, match="at least 2"):
        load(LengthMix({10: 1}, ""), LengthMix({1: 1}, ""), users=1)


def test_a_block_counts_as_found_only_behind_blocks_that_are() -> None:
    def column(*values: int) -> array[int]:
        return array("q", values)

    trace = Trace("", "Mooncake", column(0, 1), column(1024, 1024), column(9, 9), column(1, 2, 3, 2), column(2, 4))
    assert trace_hit_share(trace) == 0


@pytest.mark.parametrize("mix", ["p50=800,p95=6000", "p50=800,p95=12000", "p50=2000,p95=20000"])
def test_bins_of_prompts_keep_the_squares_that_waits_grow_with(mix: str) -> None:
    """The last fiftieth in one bin kept a fifth of them where p95 is fifteen times the median."""
    prompts = from_percentiles(mix)
    whole = sum(tokens**2 * count for tokens, count in prompts.counts.items()) / prompts.total
    cut = load(prompts, LengthMix({100: 1}, ""), rate_per_s=1.0).prompts
    assert sum(item.tokens**2 * item.share for item in cut) == pytest.approx(whole, rel=0.02)
    assert sum(item.tokens * item.share for item in cut) == pytest.approx(prompts.mean, rel=1e-3)

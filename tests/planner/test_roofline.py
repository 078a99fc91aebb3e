"""Bytes, FLOPs and bounds of steps worked by hand; expectations against measured ones."""

from __future__ import annotations

import pytest

from planner.memory import Request, estimate
from planner.resolve import device, model_spec
from planner.roofline import compute_bound_batch, decode_step, peak_flops_per_s, prefill_step


def test_a_decode_step_reads_the_weights_once_and_every_cache() -> None:
    answer = estimate(model_spec("llama-7b"), Request(2048))
    weights = (6_738_415_616 - 32_000 * 4096) * 2  # the embedding is looked up, not read
    cache = 2 * 32 * 32 * 128 * 2 * 2048
    assert decode_step(answer, 1).read_bytes == weights + cache
    assert decode_step(answer, 8).read_bytes == weights + 8 * cache


def test_a_tied_head_is_read_and_the_table_of_positions_is_not() -> None:
    answer = estimate(model_spec("gpt2"), Request(1, dtype="fp32"))
    weights = (124_439_808 - 1024 * 768) * 4  # 124,439,808: official count; wpe is looked up
    assert decode_step(answer, 1).read_bytes == weights + answer.kv_bytes


def test_decode_flops_are_two_a_weight_and_the_scores() -> None:
    answer = estimate(model_spec("llama-7b"), Request(1000))
    weights = 6_738_415_616 - 32_000 * 4096
    scores = 32 * 4 * 32 * 128 * 1000  # layers x (q k and p v, multiply and add) x heads x width x tokens
    assert decode_step(answer, 3).flops == 3 * (2 * weights + scores)


def test_more_sequences_hit_more_experts() -> None:
    answer = estimate(model_spec("mixtral-8x7b"), Request(1))
    one, many = decode_step(answer, 1).read_bytes, decode_step(answer, 64).read_bytes
    assert one < 0.35 * answer.weight_bytes  # 2 of 8 experts
    assert many > 0.95 * answer.weight_bytes


def test_prefill_is_bound_by_compute_and_decode_by_bandwidth() -> None:
    h100 = device("h100-sxm")
    answer = estimate(model_spec("llama-3.1-8b"), Request(4096))
    peak = peak_flops_per_s(h100, answer)
    assert h100.bandwidth_bytes_per_s and peak == h100.dense_flops_per_s["bf16"]
    rates = (float(h100.bandwidth_bytes_per_s), peak)
    assert decode_step(answer, 1).bound_by(*rates) == "bandwidth"
    assert prefill_step(answer, 1).bound_by(*rates) == "compute"
    assert decode_step(answer, 1).seconds(*rates) == pytest.approx(decode_step(answer, 1).read_bytes / 3.35e12)


def test_weights_in_fp8_run_at_the_fp8_rate() -> None:
    h100 = device("h100-sxm")
    assert peak_flops_per_s(h100, estimate(model_spec("deepseek-v3"), Request(1))) == h100.dense_flops_per_s["fp8"]


def test_the_turning_batch_is_the_first_that_computes() -> None:
    answer = estimate(model_spec("llama-3.1-8b"), Request(16))
    rates = (3.35e12, 989.4e12)
    batch = compute_bound_batch(answer, *rates)
    assert batch is not None
    assert decode_step(answer, batch).bound_by(*rates) == "compute"
    assert decode_step(answer, batch - 1).bound_by(*rates) == "bandwidth"
    long = estimate(model_spec("llama-7b"), Request(4096))  # each sequence's cache alone is more reading than work
    assert compute_bound_batch(long, *rates) is None

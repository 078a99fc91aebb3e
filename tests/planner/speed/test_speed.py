"""Bytes, FLOPs and bounds of steps worked by hand; expectations against measured ones."""

from __future__ import annotations

import math
import statistics
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.catalogue.device import Device, Interconnect
from planner.catalogue.entries import models
from planner.errors import BadRequest
from planner.lookup import device, model_spec
from planner.memory.estimate import Estimate, estimate
from planner.memory.request import Request
from planner.memory.sharding import Sharding
from planner.model.parameters import all_weights
from planner.readers import read_entry
from planner.readers.by_hand import by_hand
from planner.speed.constants import DEFAULT, Constants, Queue, Shape, constants_for
from planner.speed.measured_point import with_measured_point
from planner.speed.passes import Prompt, prefill_pass, prefill_seconds, rates_of
from planner.speed.speed import Figure, Speed, model_constants, speed, tpot_range
from planner.speed.step import step_ps
from planner.speed.step_model import step_model
from planner.speed.terms import prefill_terms
from planner.speed.work import (
    compute_bound_batch,
    decode_of,
    decode_step,
    mean_reach,
    pairs,
    peak_flops_per_s,
    prefill_step,
    work,
    work_of,
)
from planner.units import PS_PER_SECOND

H100 = device("h100-sxm")


def asked(name: str, **request: object) -> Estimate:
    return estimate(model_spec(name), Request(1, **request))  # type: ignore[arg-type]


def ask(answer: Estimate, gpu: Device = H100, **question: object) -> Speed:
    given = {"prompt_tokens": 1000, "output_tokens": 200, "batch": 8, "load": "static"} | question
    return speed(answer, gpu, **given)  # type: ignore[arg-type]


# -- bytes and FLOPs, by hand ------------------------------------------------------------------------------


def test_a_decode_step_reads_the_weights_once_and_every_cache() -> None:
    answer = estimate(model_spec("llama-7b"), Request(2048))
    weights = (6_738_415_616 - 32_000 * 4096) * 2  # the embedding is looked up, not read
    cache = 2 * 32 * 32 * 128 * 2 * 2048
    assert decode_step(answer, 1).read_bytes == weights + cache
    assert decode_step(answer, 8).read_bytes == weights + 8 * cache
    assert decode_step(answer, 8).cache_bytes == 8 * cache


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


def test_expert_ranks_read_their_own_experts_alone() -> None:
    whole = work(asked("deepseek-v3")).experts[0].read_bytes
    assert work(asked("deepseek-v3", sharding=Sharding(tp=8, ep=8))).experts[0].read_bytes == pytest.approx(whole / 8)


def test_tensor_parallel_ranks_split_kv_heads_until_there_are_no_more() -> None:
    tokens = {tp: work(asked("llama-3-70b", sharding=Sharding(tp=tp))).reads[0].token_bytes for tp in (1, 4, 8, 16)}
    assert tokens[1] == 2 * 80 * 8 * 128 * 2
    assert tokens[4] == tokens[1] / 4
    assert tokens[8] == tokens[1] / 8 == tokens[16]  # 8 KV heads: sixteen ranks hold each twice


def test_a_latent_is_read_once_for_all_heads_and_copied_on_every_rank() -> None:
    for tp in (1, 8):
        reads = work(asked("deepseek-v3", sharding=Sharding(tp=tp))).reads
        assert [read.token_bytes for read in reads] == [61 * 576 * 2]  # layers x (512 + 64) x bf16


def test_window_layers_read_no_more_than_their_window() -> None:
    sums = work(asked("gemma-3-27b"))
    assert {read.reach for read in sums.reads} == {None, 1024}
    near, far = (decode_of(sums, 1, length, last_tokens=length).cache_bytes for length in (1024, 8192))
    assert far - near == (8192 - 1024) * 10 * 2 * 16 * 128 * 2  # the 10 global layers alone


def test_a_cache_that_is_shared_is_read_by_each_layer_that_attends_over_it() -> None:
    answer = estimate(model_spec("gemma-3n-e4b"), Request(500))
    assert decode_step(answer, 1).cache_bytes > 1.5 * answer.kv_bytes


def test_a_recurrent_layer_reads_its_state_whatever_the_length() -> None:
    answer = asked("mamba-2.8b")
    assert decode_step(answer, 4, 100).read_bytes == decode_step(answer, 4, 100_000).read_bytes
    assert decode_step(answer, 4).cache_bytes == 4 * answer.state_bytes


def test_prefill_flops_are_two_a_weight_and_token_and_half_the_square_of_scores() -> None:
    answer = asked("llama-7b")
    body, head = 6_738_415_616 - 2 * 32_000 * 4096, 32_000 * 4096
    scores = 32 * 4 * 32 * 128 * (1000 * 1001 / 2)
    assert prefill_step(answer, 1, 1000).flops == 2 * 1000 * body + 2 * head + scores


@given(st.one_of(st.none(), st.integers(1, 60)), st.integers(1, 80), st.integers(0, 80))
def test_means_and_pairs_are_those_counted_one_by_one(reach: int | None, first: int, more: int) -> None:
    far = reach or 10**9
    lengths = [min(length, far) for length in range(first, first + more + 1)]
    assert mean_reach(reach, first, first + more) == pytest.approx(statistics.mean(lengths))
    counted = sum(min(before, far) for before in range(first + 1, first + more + 2))
    assert pairs(reach, more + 1, first) == pytest.approx(counted)


# -- bounds ------------------------------------------------------------------------------------------------


def test_prefill_is_bound_by_compute_and_decode_by_bandwidth() -> None:
    answer = estimate(model_spec("llama-3.1-8b"), Request(4096))
    peak = peak_flops_per_s(H100, answer)
    assert H100.bandwidth_bytes_per_s and peak == H100.dense_flops_per_s["bf16"]
    rates = (float(H100.bandwidth_bytes_per_s), peak)
    assert decode_step(answer, 1).bound_by(*rates) == "bandwidth"
    assert prefill_step(answer, 1).bound_by(*rates) == "compute"
    assert decode_step(answer, 1).seconds(*rates) == pytest.approx(decode_step(answer, 1).read_bytes / 3.35e12)


def test_weights_run_at_the_rate_of_their_type_where_the_device_has_it() -> None:
    assert peak_flops_per_s(H100, asked("deepseek-v3")) == H100.dense_flops_per_s["fp8"]
    b200, a100 = device("b200"), device("a100-sxm4-80gb")
    assert peak_flops_per_s(b200, asked("llama-3-8b", dtype="nvfp4")) == b200.dense_flops_per_s["fp4"]
    assert peak_flops_per_s(a100, asked("llama-3-8b", dtype="fp8")) == a100.dense_flops_per_s["bf16"]
    assert peak_flops_per_s(a100, asked("llama-3-8b", dtype="awq")) == a100.dense_flops_per_s["bf16"]


def test_the_turning_batch_is_the_first_that_computes() -> None:
    answer = estimate(model_spec("llama-3.1-8b"), Request(16))
    rates = (3.35e12, 989.4e12)
    batch = compute_bound_batch(answer, *rates)
    assert batch is not None
    assert decode_step(answer, batch).bound_by(*rates) == "compute"
    assert decode_step(answer, batch - 1).bound_by(*rates) == "bandwidth"
    long = estimate(model_spec("llama-7b"), Request(4096))  # each sequence's cache alone is more reading than work
    assert compute_bound_batch(long, *rates) is None


def ordered(figure: Figure, *, time: bool) -> bool:
    if time:
        return 0 < figure.bound <= figure.low <= figure.value <= figure.high < math.inf
    return 0 < figure.low <= figure.value <= figure.high <= figure.bound < math.inf


def test_every_model_of_the_catalogue_is_answered() -> None:
    for entry in models():
        found = ask(estimate(read_entry(entry), Request(1)), load="serving")
        assert ordered(found.tpot_seconds, time=True) and ordered(found.ttft_seconds, time=True), entry.name


@settings(deadline=None, max_examples=150)
@given(
    name=st.sampled_from(["llama-3.1-8b", "gemma-3-27b", "deepseek-v3", "mamba-2.8b", "gpt-oss-20b", "t5-large"]),
    gpu=st.sampled_from(["h100-sxm", "l40s", "rtx-4090", "mi300x", "apple-m2-ultra"]),
    engine=st.sampled_from([None, "vllm", "vllm==0.6.3", "sglang", "llamacpp", "tensorrt-llm", "nobody-knows"]),
    load=st.sampled_from(["static", "serving"]),
    dtype=st.sampled_from([None, "fp8", "q4_k_m"]),
    layout=st.sampled_from([Sharding(), Sharding(tp=2), Sharding(tp=4, pp=2), Sharding(dp=3)]),
    prompt=st.integers(1, 200_000),
    output=st.integers(1, 20_000),
    batch=st.integers(1, 2_000),
)
def test_ranges_hold_the_expectation_and_stay_on_their_side_of_the_bound(
    name: str, gpu: str, engine: str | None, load: str, dtype: str | None, layout: Sharding, prompt: int, output: int, batch: int
) -> None:  # fmt: skip
    found = ask(
        asked(name, dtype=dtype, sharding=layout), device(gpu), engine=engine, load=load, prompt_tokens=prompt,
        output_tokens=output, batch=batch,
    )  # fmt: skip
    for figure in (found.tpot_seconds, found.ttft_seconds, found.request_seconds):
        assert ordered(figure, time=True)
    for figure in (found.decode_tokens_per_s, found.prefill_tokens_per_s):
        assert ordered(figure, time=False)
    assert sum(found.tpot_parts.values()) == pytest.approx(found.tpot_seconds.value) or (
        found.tpot_seconds.value == found.tpot_seconds.bound
    )
    assert found.binds in found.tpot_parts
    assert 0 < found.share_achieved <= 1


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 500), st.integers(1, 500), st.integers(1, 30_000))
def test_more_sequences_never_take_less_time_and_never_give_fewer_tokens(batch: int, more: int, prompt: int) -> None:
    answer = asked("llama-3.1-8b")
    few, many = (ask(answer, batch=n, prompt_tokens=prompt, engine="vllm") for n in (batch, batch + more))
    assert many.tpot_seconds.value >= few.tpot_seconds.value
    assert many.decode_tokens_per_s.value >= 0.999 * few.decode_tokens_per_s.value
    assert many.ttft_seconds.value >= few.ttft_seconds.value


# -- expectations ------------------------------------------------------------------------------------------


def test_a_step_agrees_with_the_line_that_vllm_published() -> None:
    # Llama-3.1-8B, bf16, one H100, vLLM 0.19: 6.44 ms + 4.37e-5 ms for each cached token.
    answer = asked("llama-3.1-8b")
    found = [
        ask(answer, engine="vllm==0.19.0", batch=1, output_tokens=1, prompt_tokens=n).tpot_seconds for n in (1, 100_001)
    ]
    assert found[0].low < 6.44e-3 < found[0].high
    assert found[0].value == pytest.approx(6.44e-3, rel=0.12)
    assert (found[1].value - found[0].value) / 1e5 == pytest.approx(4.37e-8, rel=0.15)


def test_the_parts_of_a_step_by_hand() -> None:
    answer = asked("llama-3-70b", sharding=Sharding(tp=4))
    c = replace(DEFAULT, unshared_reads=1e-12)
    found = ask(answer, constants=c, batch=16)
    step = decode_of(work(answer), 16, 1001, last_tokens=1200)
    weights, cache = step.read_bytes - step.cache_bytes, step.cache_bytes
    assert found.tpot_parts["bandwidth"] == pytest.approx((weights / 0.85 + cache / 0.8) / 3.35e12)
    assert found.tpot_parts["layers"] == pytest.approx(80 * 65e-6)
    assert found.tpot_parts["sequences"] == pytest.approx(16 * 27e-6)
    message = 16 * 8192 * 2 * 2 * 3 / 4 / (450e9 * 0.75)  # rows x hidden x bf16, 2 (tp - 1) / tp of it
    size = 16 * 8192 * 2  # of one all-reduce; it is near a large one by size / (size + 1 MiB), for three more ranks
    large = 4.6e-6 * 3 * size / (size + (1 << 20))
    assert found.tpot_parts["all-reduce"] == pytest.approx(160 * (2e-6 * 1.5 + message + large))


def test_ranks_that_share_pcie_wait_longer_for_each_other() -> None:
    answer = asked("llama-3-70b", sharding=Sharding(tp=4))
    linked, shared = (
        ask(answer, device(name), constants=DEFAULT).tpot_parts["all-reduce"] for name in ("h100-sxm", "l40s")
    )
    assert shared - linked > 160 * 4 * 3.2e-6
    bridge = device("rtx-3090")
    assert bridge.interconnect == Interconnect("NVLink", 56_250_000_000)
    two, four = (rates_of(bridge, asked("llama-3-8b", sharding=Sharding(tp=n))) for n in (2, 4))
    assert two.rank_seconds == 0 and four.rank_seconds > 0 and four.link_bytes_per_s < two.link_bytes_per_s


def test_under_load_the_prompts_of_others_take_their_share() -> None:
    answer = asked("llama-3.1-8b")
    alone, loaded = (ask(answer, load=load, engine="vllm==0.11", batch=32) for load in ("static", "serving"))
    added = loaded.tpot_parts["prefill of others"]
    assert loaded.tpot_seconds.value == pytest.approx(alone.tpot_seconds.value + added)
    longer = ask(answer, load="serving", engine="vllm==0.11", batch=32, output_tokens=400)
    assert longer.tpot_parts["prefill of others"] == pytest.approx(added / 2)
    assert "prefill of others" not in ask(answer, load="serving", engine="vllm", batch=1).tpot_parts


def test_pipeline_stages_are_passed_one_after_the_other() -> None:
    one, four = (ask(asked("llama-3-70b", dtype="fp8", sharding=Sharding(pp=n)), batch=1) for n in (1, 4))
    assert four.tpot_seconds.value == pytest.approx(one.tpot_seconds.value, rel=0.02)  # all weights, whatever the stage
    assert four.ttft_seconds.value == pytest.approx(one.ttft_seconds.value, rel=0.02)
    many = [
        ask(asked("llama-3-70b", dtype="fp8", sharding=Sharding(pp=n)), batch=64).ttft_seconds.value for n in (1, 4)
    ]
    assert many[1] < 0.6 * many[0]  # four micro-batches keep the stages busy: (4 + 3) / 16 of the time


def test_the_simulator_sums_the_same_steps() -> None:
    for name, layout in (
        ("llama-3.1-8b", Sharding()),
        ("gemma-3-27b", Sharding(tp=2)),
        ("deepseek-v3", Sharding(tp=8, ep=8)),
    ):
        answer = asked(name, sharding=layout)
        found = ask(answer, engine="vllm", output_tokens=1)
        steps = step_model(answer, H100, found.constants)
        reached = [8 * min(1001, reach or 1001) for reach in steps.reaches]
        assert step_ps(steps, 8, reached) / PS_PER_SECOND == pytest.approx(found.tpot_seconds.value, rel=1e-6)


def test_a_measured_point_is_given_back() -> None:
    answer = asked("llama-3.1-8b")
    constants = with_measured_point("tpot_ms=14.2 batch=8 seq=2048", answer, H100, engine="vllm")
    found = ask(answer, constants=constants, prompt_tokens=2048, output_tokens=1, batch=8)
    assert found.tpot_seconds.value == pytest.approx(14.2e-3, rel=1e-3)
    assert "14.2" in found.constants_from


def test_what_cannot_be_answered_is_refused_in_one_line() -> None:
    blank = Device("blank", 1 << 30, ("test",), None)
    with pytest.raises(BadRequest, match=r"bandwidth|FLOP"):
        ask(asked("llama-7b"), blank)
    with pytest.raises(BadRequest, match="weights"):
        ask(estimate(by_hand({"layers": 2, "heads": 2, "head_dim": 8}), Request(1)))
    for wrong in ({"batch": 0}, {"prompt_tokens": -1}, {"output_tokens": True}, {"load": "heavy"}, {"batch": 1.5}):
        with pytest.raises(BadRequest):
            ask(asked("llama-7b"), **wrong)
    for text in ("", "tpot_ms=0 batch=1", "tpot_ms=nan", "batch=2", "tpot_ms=14 batch=x", "tpot_ms=0.001", "speed=3"):
        with pytest.raises(BadRequest):
            with_measured_point(text, asked("llama-7b"), H100)


def test_answers_name_where_their_constants_come_from() -> None:
    assert constants_for("vllm", H100).origin.startswith("fitted on")
    assert "none on" in constants_for("vllm", device("a30")).origin
    assert "no rows of tgi" in constants_for("tgi", device("l4")).origin
    assert constants_for(None, device("tpu-v5e")).origin.startswith("fitted on")
    seen, unseen = constants_for("tensorrt-llm", H100), constants_for("tensorrt-llm", device("a30"))
    assert unseen.tpot_high / unseen.tpot_low > seen.tpot_high / seen.tpot_low


def test_a_shape_that_was_measured_stretches_the_parts_of_its_steps_alone() -> None:
    llama = asked("llama-7b")
    shapes = ((work(llama).shape, Shape(roof=1.25, fixed=0.5, prompts=2.0)), ("2x8 bf16", Shape(roof=3.0)))
    plain, scaled = (
        ask(llama, batch=8, load="serving", constants=replace(DEFAULT, shapes=found)) for found in ((), shapes)
    )
    factors = {"bandwidth": 1.25, "compute": 1.25, "prefill of others": 2.0}
    for name, seconds in plain.tpot_parts.items():
        assert scaled.tpot_parts[name] == pytest.approx(factors.get(name, 0.5) * seconds)
    again = ask(llama, batch=8, load="serving", constants=scaled.constants)
    assert again.tpot_seconds == scaled.tpot_seconds  # found again, applied once


def test_a_shape_that_was_measured_stretches_what_a_first_token_waits_for() -> None:
    llama = asked("llama-7b")

    def first(**factors: float) -> float:
        constants = replace(DEFAULT, shapes=((work(llama).shape, Shape(**factors)),))
        return ask(llama, batch=8, load="serving", constants=constants).ttft_seconds.value

    assert first(waiting=2.0) + first(prompt=2.0) == pytest.approx(3 * first())  # all of it is one or the other


def test_a_model_whose_shape_no_row_has_gets_the_range_of_such_models() -> None:
    llama = asked("llama-7b")
    known = replace(DEFAULT, shapes=((work(llama).shape, Shape()),), new_low=0.4, new_high=3.0)
    other = replace(known, shapes=(("2x8 bf16", Shape()),))
    seen, new = (ask(llama, constants=constants).tpot_seconds for constants in (known, other))
    assert new.value == seen.value and new.high == pytest.approx(3.0 * new.value) and seen.high < new.high


def test_a_first_token_under_load_waits_by_the_queue_of_its_engine() -> None:
    llama = asked("llama-7b")

    def first(batch: int, **queue: float) -> float:
        constants = replace(DEFAULT, queue=replace(Queue(seconds=0.0), **queue))
        return ask(llama, batch=batch, load="serving", constants=constants).ttft_seconds.value

    assert first(8, seconds=0.2) == pytest.approx(first(8) + 0.2)
    prompt = first(8, own=2.0) - first(8, own=1.0)
    assert first(8, share=0.5) - first(8, share=0.25) == pytest.approx(0.25 * 7 * prompt)
    assert first(1, seconds=0.2, own=3.0) == first(1)  # nobody to wait for


def test_attention_of_a_prefill_runs_at_the_rate_of_the_float_type() -> None:
    fp8 = asked("llama-3.1-8b", dtype="fp8")
    made = prefill_pass(work(fp8), rates_of(H100, fp8), 1, prompt=Prompt(4096))
    pairs = 4096 * 4097 / 2
    assert made.attention_seconds == pytest.approx(4 * 32 * 32 * 128 * pairs / 989.4e12, rel=1e-3)
    assert made.compute_seconds < made.attention_seconds + 2 * 8.03e9 * 4096 / 1978.9e12


def test_a_card_with_less_power_reads_prompts_slower_than_its_peak_says() -> None:
    """RTX 6000 Ada: 728 dense int8 TOPS at 300 W; RTX 4090: 661 at 450 W. llama-bench pp512 of Llama-3-8B in Q4_K_M read
    5,792 and 7,139 tokens a second there (XiongjieDai/GPU-Benchmarks-on-LLM-Inference), against the order of the peaks."""
    answer = asked("llama-3-8b", dtype="q4_k_m")
    rates = []
    for name in ("rtx-6000-ada", "rtx-4090"):
        found = speed(answer, device(name), prompt_tokens=512, output_tokens=1, batch=1, load="static",
                      engine="llamacpp==b2800")  # fmt: skip
        rates.append(found.prefill_tokens_per_s.value)
    assert rates[0] < rates[1]
    assert rates == pytest.approx([5792, 7139], rel=0.15)


def test_a_prompts_pieces_each_read_all_weights_and_pad_each_expert() -> None:
    answer = asked("gpt-oss-20b", dtype="mxfp4")
    sums, rates = work(answer), rates_of(device("rtx-4090"), answer)
    whole = prefill_pass(sums, rates, 1, prompt=Prompt(2048))
    cut = prefill_pass(sums, rates, 1, prompt=Prompt(2048), ubatch=512)
    assert cut.steps == 4 and cut.expert_compute_seconds == pytest.approx(whole.expert_compute_seconds)
    assert cut.weight_seconds == pytest.approx(4 * whole.weight_seconds)
    assert cut.expert_seconds == pytest.approx(4 * whole.expert_seconds, rel=1e-3)  # each piece hits all 32 experts
    assert whole.pad_seconds * 2048 * 4 / 32 == pytest.approx(whole.expert_compute_seconds, rel=1e-3)


def test_tokens_that_are_kept_are_attended_to_and_not_computed_again() -> None:
    answer = asked("llama-3.1-8b")
    sums, rates = work(answer), rates_of(H100, answer)
    alone = prefill_pass(sums, rates, 1, prompt=Prompt(512))
    after = prefill_pass(sums, rates, 1, prompt=Prompt(512, cached=7680))
    assert after.compute_seconds == alone.compute_seconds
    assert after.attention_seconds == pytest.approx(
        alone.attention_seconds * (512 * 7680 + 512 * 513 / 2) / (512 * 513 / 2)
    )


def test_ranks_over_pcie_get_of_it_what_was_measured() -> None:
    """All-reduces of 512 MiB on RTX PRO 6000, bytes sent a second and rank: vLLM 0.24 in aiconfigurator 0.12 (095f58a)."""
    card = device("rtx-pro-6000")
    reached = constants_for("vllm", card).link_efficiency
    for ranks, measured in ((2, 38.8e9), (4, 30.0e9), (8, 24.2e9)):
        rate = rates_of(card, asked("llama-3.1-8b", sharding=Sharding(tp=ranks))).link_bytes_per_s
        assert rate * reached == pytest.approx(measured, rel=0.3)
    geforce, plain = (
        rates_of(device(name), asked("llama-3.1-8b", sharding=Sharding(tp=2))) for name in ("rtx-4090", "l40s")
    )
    assert geforce.link_bytes_per_s == plain.link_bytes_per_s / 2  # no peer access: through host memory


def test_early_builds_of_llamacpp_read_prompts_of_experts_slower() -> None:
    card, answer = device("ryzen-ai-max-395-128gb"), asked("qwen3-30b-a3b", dtype="q4_k_m")
    early, now = (ask(answer, card, engine=name, batch=1) for name in ("llamacpp==b5300", "llamacpp==b9000"))
    assert early.ttft_seconds.value > 1.5 * now.ttft_seconds.value
    assert early.tpot_seconds.value == pytest.approx(now.tpot_seconds.value)


def test_prompts_on_a_device_have_a_factor_for_each_kind_of_weights() -> None:
    step = prefill_pass(
        work(asked("llama-3.1-8b", dtype="q4_k_m")), rates_of(H100, asked("llama-3.1-8b")), 1, prompt=Prompt(1000)
    )
    slower = replace(DEFAULT, packed_prompt_scale=1.5)
    assert prefill_seconds(step, slower) == pytest.approx(1.5 * prefill_seconds(step, DEFAULT))
    assert prefill_seconds(replace(step, packed=False), slower) == prefill_seconds(replace(step, packed=False), DEFAULT)
    routed = replace(DEFAULT, experts_prompt_scale=2.0)
    assert prefill_seconds(replace(step, routed_layers=32), routed) > 1.9 * prefill_seconds(step, routed)


def test_a_prompt_through_several_cards_has_a_wider_range_that_is_widened_once() -> None:
    constants = replace(DEFAULT, stages_low=0.2, stages_high=6.0)
    one, four = (work(asked("llama-3.1-8b", sharding=Sharding(pp=stages))) for stages in (1, 4))
    found = model_constants(constants, four)
    assert (found.ttft_low, found.ttft_high) == (0.2, 6.0)
    assert model_constants(constants, one).ttft_low == DEFAULT.ttft_low
    assert model_constants(found, four) == found


def test_a_prefills_terms_multiply_out_where_a_boards_power_slows_it() -> None:
    answer, card = asked("llama-3-8b", dtype="q4_k_m"), device("l40s")
    found = ask(answer, card, engine="llamacpp==b2700", batch=1, prompt_tokens=8192)
    assert found.constants.power_share > 0.1
    term = next(term for term in prefill_terms(answer, card, found) if term.name.strip("()") == "compute")
    text = term.text.replace(",", "").replace("FLOP/s", "").replace("FLOP", "").replace(" x ", "*")
    assert eval(text) == pytest.approx(term.value, rel=2e-3)


def test_attention_of_a_chunk_is_slowed_by_the_boards_power_in_a_simulated_step_too() -> None:
    answer, card = asked("llama-3-8b", dtype="q4_k_m"), device("l40s")
    slowed = replace(DEFAULT, power_share=1.0)
    ratio = rates_of(card, answer).power_ratio

    def products(constants: Constants) -> float:
        step = step_model(answer, card, constants)
        return step_ps(step, 0, [0] * len(step.reaches), chunks=[(8192, 0)]) / PS_PER_SECOND

    assert ratio > 1.02
    assert products(slowed) == pytest.approx(products(DEFAULT) * ratio, rel=0.02)


def test_the_width_of_a_format_stretches_its_ranges_once_and_no_other_format() -> None:
    """0.8 ^ 1.5 = 0.7155; experts keep to their own range, and a measured point to its."""
    plain = replace(
        DEFAULT, tpot_low=0.8, tpot_high=1.25, experts_low=0.7, experts_high=1.5, ttft_low=0.5, ttft_high=2.0,
        shapes=(("2x8 fp8", Shape()), ("2x8 bf16", Shape())), widths=(("fp8", 1.5), ("prompts fp8", 2.0)),
    )  # fmt: skip
    wide = plain.of_model("2x8 fp8", experts=False)
    assert (wide.tpot_low, wide.tpot_high) == pytest.approx((0.7155, 1.3975), rel=1e-4)
    assert (wide.ttft_low, wide.ttft_high) == (0.25, 4.0)
    assert wide.of_model("2x8 fp8", experts=False) == wide
    assert plain.of_model("2x8 bf16", experts=False).tpot_low == 0.8
    routed = plain.of_model("2x8 fp8", experts=True)
    assert tpot_range(routed, True) == (0.7, 1.5) and tpot_range(wide, False) == (wide.tpot_low, wide.tpot_high)
    assert plain.scaled(tpot=2.0).of_model("2x8 fp8", experts=False).tpot_low == 0.8


@pytest.mark.parametrize(
    ("name", "rows", "columns"), [("gemma-4-e4b", 262_144, 42 * 256), ("gemma-3n-e4b", 262_144, 35 * 256)]
)
def test_a_per_layer_embedding_table_is_looked_up_and_not_read(name: str, rows: int, columns: int) -> None:
    # config.json: vocab_size_per_layer_input, num_hidden_layers x hidden_size_per_layer_input
    spec = model_spec(name)
    tables = [w for w, _ in all_weights(spec) if w.rows == rows and w.cols == columns]
    assert len(tables) == 1
    sums = work_of(spec)
    read = sum(w.parameters * n for w, n in all_weights(spec)) - sum(w.parameters for w in (*spec.towers, *tables))
    assert sums.weight_bytes + sums.head_bytes == pytest.approx(2 * read, rel=0.02)  # norms of the towers apart


def test_a_whole_request_of_a_static_batch_has_the_range_that_requests_showed() -> None:
    """0.9 and 1.2 of the expectation; under load, with a measured point or on another backend what TTFT and TPOT say."""
    llama = asked("llama-7b")
    known = replace(
        constants_for("vllm==0.6.0", H100, "static"), shapes=(), widths=(), request_low=0.9, request_high=1.2
    )
    lengths = {"prompt_tokens": 512, "output_tokens": 64, "batch": 4, "constants": known}
    static, served = speed(llama, H100, load="static", **lengths), speed(llama, H100, load="serving", **lengths)
    request = static.request_seconds
    assert (request.low / request.value, request.high / request.value) == pytest.approx((0.9, 1.2))
    assert served.request_seconds.high == served.ttft_seconds.high + 63 * served.tpot_seconds.high
    pointed = speed(llama, H100, load="static", **(lengths | {"constants": known.scaled(tpot=1.1)}))
    assert pointed.request_seconds.high == pointed.ttft_seconds.high + 63 * pointed.tpot_seconds.high

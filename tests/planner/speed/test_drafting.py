"""Speculative decoding: tokens a step, what verifying takes, and from which batch on it does not pay."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.errors import BadRequest
from planner.lookup import device, model_spec
from planner.memory.estimate import Estimate, estimate
from planner.memory.request import Request
from planner.speed.constants import DEFAULT
from planner.speed.drafted_steps import DraftedSteps
from planner.speed.drafting import METHODS, Drafts, drafts, one_layer, tokens_a_step
from planner.speed.passes import rates_of
from planner.speed.speed import Case, Speed, drafting_pays_below, speed
from planner.speed.step import step_ps
from planner.speed.step_model import step_model
from planner.speed.work import decode_of, work
from planner.units import PS_PER_SECOND

H100 = device("h100-sxm")


def llama() -> Estimate:
    return estimate(model_spec("llama-3.1-8b"), Request(1024))


def ask(drafting: Drafts | None, batch: int = 1, one: Estimate | None = None) -> Speed:
    return speed(
        one or llama(), H100, prompt_tokens=1024, output_tokens=128, batch=batch, load="static", constants=DEFAULT,
        drafts=drafting,
    )  # fmt: skip


@given(st.integers(0, 16), st.floats(0, 1))
def test_a_step_gives_one_token_and_each_run_of_accepted_ones(tokens: int, acceptance: float) -> None:
    found = tokens_a_step(tokens, acceptance)
    assert 1 <= found <= tokens + 1 + 1e-9
    if acceptance < 1:
        assert found == pytest.approx((1 - acceptance ** (tokens + 1)) / (1 - acceptance))


def test_verifying_reads_the_weights_and_each_cache_once_and_computes_for_every_token() -> None:
    sums = work(llama())
    one, four = (decode_of(sums, 8, 1024, last_tokens=1024, verified=verified) for verified in (1, 4))
    assert one.read_bytes == four.read_bytes
    assert four.flops == pytest.approx(4 * one.flops)


def test_drafted_tokens_hit_more_experts() -> None:
    sums = work(estimate(model_spec("mixtral-8x7b"), Request(1024)))
    one, four = (decode_of(sums, 1, 1024, last_tokens=1024, verified=verified).expert_bytes for verified in (1, 4))
    assert four / one == pytest.approx((1 - 0.75**4) / 0.25)  # 2 of 8 experts, four tokens


def test_free_drafts_divide_the_time_of_a_step() -> None:
    plain, drafted = ask(None), ask(drafts(3, method="ngram", acceptance=1.0))
    assert drafted.tpot_seconds.value == pytest.approx(plain.tpot_seconds.value / 4, rel=0.02)
    assert drafted.tpot_seconds.bound <= drafted.tpot_seconds.value


@pytest.mark.parametrize("method", ["ngram", "mtp", "eagle3"])
@pytest.mark.parametrize("model", ["llama-3.1-8b", "mixtral-8x7b"])
@pytest.mark.parametrize("batch", [1, 32])
def test_steps_of_a_plan_and_the_formulas_of_speed_say_the_same_of_drafts(model: str, method: str, batch: int) -> None:
    one = estimate(model_spec(model), Request(1024))
    drafting = drafts(3, method=method, target=work(one))
    steps = DraftedSteps(step_model(one, H100, DEFAULT), drafting)
    mean = 1024 + (1 + 128) / 2
    mine = step_ps(steps, batch, [round(batch * mean)] * len(steps.reaches)) / PS_PER_SECOND
    assert mine == pytest.approx(ask(drafting, batch, one).tpot_seconds.value, rel=0.02)


def test_prompts_of_others_take_as_long_with_drafts_as_without() -> None:
    plain = step_model(llama(), H100, DEFAULT)
    drafted = DraftedSteps(plain, drafts(3, method="ngram"))
    added = [steps.terms(8, [(512, 0)]).compute_ps - steps.terms(8, ()).compute_ps for steps in (plain, drafted)]
    assert added[0] == added[1] > 0


def test_drafts_that_are_never_accepted_cost_their_steps() -> None:
    sums = work(llama())
    plain, drafted = ask(None), ask(drafts(3, method="eagle3", acceptance=0.0, target=sums))
    assert drafted.tpot_parts["drafts"] > 3 * one_layer(sums).weight_bytes / 3.35e12
    assert drafted.tpot_seconds.value > plain.tpot_seconds.value


def test_the_range_of_a_method_is_in_the_range_of_the_answer() -> None:
    given_, published = (drafts(3, method="eagle3", acceptance=a, target=work(llama())) for a in (0.7, None))
    assert published.acceptance == METHODS["eagle3"].acceptance
    narrow, wide = ask(given_).tpot_seconds, ask(published).tpot_seconds
    assert wide.low < narrow.low and wide.high > narrow.high


def test_drafting_stops_paying_where_steps_are_bound_by_compute() -> None:
    one = llama()
    found = drafts(4, method="ngram", acceptance=0.3)
    case = Case(work(one), rates_of(H100, one), DEFAULT, 1024, 128, 1, "static", 0, found)
    first = drafting_pays_below(case)
    assert first is not None and 8 < first < 512
    for batch, pays in ((first - 1, True), (first, False)):
        assert (ask(found, batch).tpot_seconds.value < ask(None, batch).tpot_seconds.value) is pays


def test_what_is_no_share_and_no_method_is_refused() -> None:
    for acceptance in (-0.1, 1.1, float("nan")):
        with pytest.raises(BadRequest, match="--acceptance"):
            drafts(3, method="mtp", acceptance=acceptance)
    with pytest.raises(BadRequest, match="ngram"):
        drafts(3, method="magic")


def test_a_batch_beyond_memory_queues() -> None:
    one = llama()
    room, beyond = (
        speed(one, H100, prompt_tokens=1024, output_tokens=128, batch=batch, constants=DEFAULT, most=32)
        for batch in (32, 96)
    )
    assert beyond.tpot_seconds.value == room.tpot_seconds.value  # flat: no more than 32 run
    assert beyond.decoding == 32 and beyond.to_dict()["queued"] == 64
    assert beyond.decode_tokens_per_s.value == room.decode_tokens_per_s.value
    assert beyond.ttft_seconds.value == pytest.approx(
        room.ttft_seconds.value + 2 * room.request_seconds.value, rel=0.01
    )

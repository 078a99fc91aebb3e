"""Constants fitted to points of a deployment meet its other points.

`tests/cases/served_smollm2_135m_shape.json`: a real vLLM 0.32 on two cores of an unnamed machine, whose bandwidth and
FLOP/s are set here a third above what those points need.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from planner.catalogue.device import Device
from planner.errors import BadRequest
from planner.lookup import device, model_spec
from planner.memory.estimate import Estimate, estimate
from planner.memory.request import Request
from planner.serving.block_pool import Pool
from planner.serving.replica import Policy
from planner.serving.scheduler import simulate
from planner.serving.steady_state import Replica
from planner.speed.constants import Constants, constants_for
from planner.speed.measured_fit import MOST_POINTS, Fitted, fitted
from planner.speed.measured_point import MEASURED_SPREAD
from planner.speed.observed import Observed
from planner.speed.speed import speed
from planner.speed.step_model import step_model
from planner.units import PS_PER_SECOND
from planner.workloads.arrivals import Arrival
from planner.workloads.lengths import LengthMix
from planner.workloads.load import load

SERVED = json.loads((Path(__file__).parents[2] / "cases" / "served_smollm2_135m_shape.json").read_text())
CORES: Device = replace(
    device("l4"),
    name="two cores",
    vendor="CPU",
    bandwidth_bytes_per_s=22 * 10**9,
    dense_flops_per_s={"bf16": 600 * 10**9, "fp16": 600 * 10**9},
)


def model() -> Estimate:
    return estimate(model_spec("smollm2-135m"), Request(2048, dtype="bf16", k_dtype="bf16", v_dtype="bf16"))


def decode(batch: int) -> Observed:
    return Observed(batch, 32, 96, "static", None, SERVED[f"static_b{batch}"]["tpot_ms"] / 1e3, "served")


def prefill(tokens: int) -> Observed:
    return Observed(1, tokens, 2, "static", SERVED[f"prefill_{tokens}"]["ttft_ms"] / 1e3, None, "served")


def eight() -> Fitted:
    points = [decode(batch) for batch in (1, 4, 16)] + [prefill(tokens) for tokens in (64, 256, 512, 1024, 1900)]
    return fitted(points, model(), CORES, base=constants_for("vllm", CORES))


@pytest.mark.parametrize("batch", [2, 8, 32])
def test_eight_points_of_a_server_give_tpot_at_others_within_8_percent(batch: int) -> None:
    found = speed(model(), CORES, prompt_tokens=32, output_tokens=96, batch=batch, load="static", constants=eight().constants)  # fmt: skip
    assert found.tpot_seconds.value == pytest.approx(SERVED[f"static_b{batch}"]["tpot_ms"] / 1e3, rel=0.08)


# rate -> how far off mean TTFT, p95 TTFT and mean TPOT may be
LOADS = dict.fromkeys(("rate_1.0", "rate_2.0", "rate_3.0", "rate_4.0"), (0.1, 0.1, 0.1))


def eleven() -> Fitted:
    points = [decode(n) for n in (1, 2, 4, 8, 16, 32)] + [prefill(tokens) for tokens in (64, 256, 512, 1024, 1900)]
    return fitted(points, model(), CORES, base=constants_for("vllm", CORES))


def off(rate: str, found: Constants | None = None) -> tuple[float, float, float]:
    """Mean TTFT, its p95 and mean TPOT of the simulated server, over those measured, less 1."""
    found, measured = found or eight().constants, SERVED[rate]
    arrivals = [Arrival(round(at * PS_PER_SECOND), prompt, output) for at, prompt, output in measured["plan"]]
    ran = simulate(arrivals, step_model(model(), CORES, found), Pool.of_blocks(100_000), policy=Policy(32, 512))
    ttft, tpot, before = sorted(ran.ttft_seconds()), ran.tpot_seconds(), found.before_seconds
    return (
        (sum(ttft) / len(ttft) + before) / measured["ttft_mean"] - 1,
        (ttft[int(0.95 * (len(ttft) - 1))] + before) / measured["ttft_p95"] - 1,
        sum(tpot) / len(tpot) / measured["tpot_mean"] - 1,
    )


@pytest.mark.parametrize("rate", LOADS)
def test_the_same_points_give_a_server_under_load(rate: str) -> None:
    """Static batches and prompts alone, at one context: simulated arrivals are those that were sent."""
    for found, most in zip(off(rate), LOADS[rate], strict=True):
        assert abs(found) < most


@pytest.mark.parametrize("rate", LOADS)
def test_points_up_to_the_batch_that_is_reached_give_all_of_them_within_11_percent(rate: str) -> None:
    """Mean TTFT at 2 requests/s is 10.4 % off, all else within 8 %."""
    assert all(abs(found) < 0.11 for found in off(rate, eleven().constants))


def test_a_step_of_sequences_and_a_prompt_starts_once() -> None:
    """Timed on a real vLLM: both in full, less what a step takes whatever is in it (docs/simulate.md)."""
    steps = step_model(model(), CORES, eight().constants)
    both, decode, chunk = (steps.terms(n, chunks) for n, chunks in ((8, ((64, 64),)), (8, ()), (0, ((64, 64),))))
    assert both.fixed_ps < decode.fixed_ps + chunk.fixed_ps
    assert both.memory_ps == pytest.approx(decode.memory_ps + chunk.memory_ps, rel=0.01)


def test_a_requests_way_in_is_work_of_the_same_cores() -> None:
    """On a processor the first piece of a prompt is longer by it, and nothing comes before; on a GPU it is the other way round."""
    found = eight().constants
    assert found.before_seconds == 0 < found.request_seconds
    first, later = (step_model(model(), CORES, found).terms(0, ((64, before),)).fixed_ps for before in (0, 512))
    assert first - later == pytest.approx(found.request_seconds * PS_PER_SECOND, rel=1e-6)
    gpu = constants_for("vllm", device("h100-sxm"))
    assert gpu.before_seconds == gpu.request_seconds > 0


def test_a_processor_that_reads_and_computes_in_turn_is_told_from_one_that_does_both() -> None:
    assert eight().constants.serial == 1
    gpu = device("h100-sxm")
    base = constants_for("vllm", gpu)
    points = []
    for batch in (1, 16, 64, 256):
        made = speed(model(), gpu, prompt_tokens=512, output_tokens=128, batch=batch, load="static", constants=base)
        points.append(Observed(batch, 512, 128, "static", None, made.tpot_seconds.value, "made"))
    assert fitted(points, model(), gpu, base=base).constants.serial == 0


def test_what_grows_with_the_batch_at_one_length_is_not_blamed_on_the_cache() -> None:
    base, found = constants_for("vllm", CORES), eight().constants
    assert found.cache_efficiency == pytest.approx(base.cache_efficiency, rel=0.2)


def test_an_answer_says_how_many_points_and_how_far_off_those_left_out_were() -> None:
    found = eight()
    assert found.points == 8
    assert (found.tpot.points, found.ttft.points) == (3, 5)
    assert 0 < found.ttft.mean <= found.ttft.worst < 0.3
    assert found.constants.origin.startswith("8 measured points given (served), TPOT ")
    assert found.constants.tpot_high == pytest.approx(1 + found.tpot.worst)


@pytest.mark.parametrize("stretch", [0.8, 1.0, 1.7])
def test_points_made_with_known_constants_are_met(stretch: float) -> None:
    gpu = device("h100-sxm")
    base = constants_for("vllm", gpu)
    true = replace(base, memory_efficiency=base.memory_efficiency / stretch, step_seconds=base.step_seconds * 2)
    points = []
    for batch, prompt in ((1, 512), (4, 512), (16, 1024), (64, 2048)):
        made = speed(model(), gpu, prompt_tokens=prompt, output_tokens=128, batch=batch, constants=true)
        points.append(Observed(batch, prompt, 128, "serving", made.ttft_seconds.value, made.tpot_seconds.value, "made"))
    found = fitted(points, model(), gpu, base=base)
    for point in points:
        again = speed(
            model(), gpu, prompt_tokens=point.prompt_tokens, output_tokens=128, batch=point.batch, constants=found.constants
        )  # fmt: skip
        assert again.tpot_seconds.value == pytest.approx(point.tpot_seconds, rel=0.03)
        assert again.ttft_seconds.value == pytest.approx(point.ttft_seconds, rel=0.03)


def test_a_time_below_the_bound_names_the_file_and_the_bound() -> None:
    fast = replace(decode(1), tpot_seconds=0.001)
    with pytest.raises(BadRequest, match=r"served: tpot 1 ms, and two cores cannot be faster than 12\.3 ms"):
        fitted([fast], model(), CORES, base=constants_for("vllm", CORES))


def test_no_point_and_too_many_are_refused() -> None:
    for points in ([], [decode(1)] * (MOST_POINTS + 1)):
        with pytest.raises(BadRequest, match="--measured"):
            fitted(points, model(), CORES, base=constants_for("vllm", CORES))


def test_few_points_have_no_narrower_range_than_one() -> None:
    found = fitted([decode(4)] * 3, model(), CORES, base=constants_for("vllm", CORES))
    assert found.tpot.worst < 0.1
    assert found.constants.tpot_high >= MEASURED_SPREAD["tpot"]
    assert found.constants.ttft_high >= MEASURED_SPREAD["ttft"]


def test_two_points_leave_none_out() -> None:
    found = fitted([decode(1), decode(4)], model(), CORES, base=constants_for("vllm", CORES))
    assert found.tpot.points == 0
    assert "too few points to leave one out" in found.constants.origin


if __name__ == "__main__":
    print("requests/s  mean TTFT  p95 TTFT  mean TPOT")
    for name in LOADS:
        print(f"{name.removeprefix('rate_'):>10}" + "".join(f"{100 * share:+9.0f} %" for share in off(name)))


def test_a_queue_that_points_under_load_show_is_part_of_plan() -> None:
    """Points made with requests that wait twice as long: plan's time to the first token waits longer by what they show."""
    gpu = device("h100-sxm")
    base = constants_for("vllm", gpu)
    slow = replace(base, queue=replace(base.queue, share=3 * base.queue.share))
    points = []
    for batch in (4, 16, 64):
        made = speed(model(), gpu, prompt_tokens=1024, output_tokens=128, batch=batch, load="serving", constants=slow)
        points.append(Observed(batch, 1024, 128, "serving", made.ttft_seconds.value, made.tpot_seconds.value, "made"))
    scale = fitted(points, model(), gpu, base=base).constants.queue_scale
    assert 1.5 < scale < 4
    asked = load(LengthMix({1024: 1}, ""), LengthMix({128: 1}, ""), rate_per_s=20.0)
    waits = [
        Replica(step_model(model(), gpu, base), asked, chunk_tokens=2048, most=256, queue_scale=one)
        .ttft(8.0)
        .wait_seconds
        for one in (1.0, scale)
    ]
    assert waits[1] == pytest.approx(scale * waits[0], rel=0.2) and waits[0] > 0

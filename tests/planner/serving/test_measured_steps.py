"""Steps measured on an engine predict what that engine does under load.

`tests/cases/served_smollm2_135m_shape.json`: a real vLLM 0.32 on two cores (one thread, bf16, a SmolLM2-135M shape,
max_num_seqs 32, max_num_batched_tokens 512, no prefix caching), 60 arrivals at 1, 2, 3 and 4 requests/s on 2026-11-29:
static steps by batch (prompts of 32, answers of 96), prefills by length, and TTFT and TPOT of each run.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from planner.errors import BadRequest
from planner.lookup import model_spec
from planner.memory.estimate import estimate
from planner.memory.request import Request
from planner.serving.block_pool import Pool
from planner.serving.replica import Policy
from planner.serving.scheduler import simulate
from planner.speed.measured_steps import MeasuredSteps, measured_steps
from planner.speed.work import Work, work
from planner.workloads.arrivals import Arrival

SERVED: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "cases" / "served_smollm2_135m_shape.json").read_text()
)


def sums() -> Work:
    return work(estimate(model_spec("smollm2-135m"), Request(2048, dtype="bf16", k_dtype="bf16", v_dtype="bf16")))


def steps() -> MeasuredSteps:
    decode = {key[8:]: point["tpot_ms"] for key, point in SERVED.items() if key.startswith("static_b")}
    prefill = {key[8:]: point["ttft_ms"] for key, point in SERVED.items() if key.startswith("prefill_")}
    file = {"decode_ms": decode, "decode_context": 80, "prefill_ms": prefill, "chunk_tokens": 512}
    return measured_steps(json.dumps(file), "points.json", sums())


@pytest.mark.parametrize("rate", ["rate_1.0", "rate_2.0", "rate_3.0", "rate_4.0"])
def test_static_and_prefill_points_predict_the_engine_under_load(rate: str) -> None:
    """Mean TTFT and TPOT within 10 %, p95 of TTFT within 15 %."""
    wanted = SERVED[rate]
    arrivals = [Arrival(round(seconds * 1e12), prompt, output) for seconds, prompt, output in wanted["plan"]]
    run = simulate(arrivals, steps(), Pool.of_blocks(100_000), policy=Policy(32, 512))
    ttft, tpot = run.ttft_seconds(), run.tpot_seconds()
    assert sum(ttft) / len(ttft) == pytest.approx(wanted["ttft_mean"], rel=0.10)
    assert sum(tpot) / len(tpot) == pytest.approx(wanted["tpot_mean"], rel=0.10)
    assert sorted(ttft)[int(0.95 * (len(ttft) - 1))] == pytest.approx(wanted["ttft_p95"], rel=0.15)


def test_measured_places_are_met() -> None:
    found = steps()
    for sequences, seconds in found.decode:
        terms = found.terms(sequences, ())
        assert terms.memory_ps + sequences * 80 * found.kv_ps[0] == pytest.approx(seconds * 1e12, rel=1e-6)
    assert found.chunk_seconds(256, 0) == dict(found.prefill)[256]


def test_a_cached_token_costs_its_bytes_at_the_bandwidth_that_one_sequence_reached() -> None:
    token, weights = 2 * 30 * 3 * 64 * 2, 134_515_008 * 2
    seconds = SERVED["static_b1"]["tpot_ms"] / 1e3
    assert steps().kv_ps[0] == pytest.approx(token * seconds / (weights + 80 * token) * 1e12, rel=1e-3)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"decode_ms": {"1": 0}, "prefill_ms": {"1": 1, "2": 2}}', '{"decode_ms": {"x": 1}}',
             '{"decode_ms": {"1": 1}, "prefill_ms": {"1": 1}}', '{"decode_ms": {"1": NaN}, "prefill_ms": {"1": 1}}']
)  # fmt: skip
def test_other_files_are_refused_with_the_form_that_is_wanted(text: str) -> None:
    with pytest.raises(BadRequest):
        measured_steps(text, "points.json", sums())


def mean_times(rate: str, policy: Policy) -> tuple[float, float, float]:
    """(mean TTFT, its 95th percentile, mean TPOT) in seconds of the recorded arrivals under other settings."""
    arrivals = [Arrival(round(seconds * 1e12), prompt, output) for seconds, prompt, output in SERVED[rate]["plan"]]
    run = simulate(arrivals, steps(), Pool.of_blocks(100_000), policy=policy)
    ttft, tpot = run.ttft_seconds(), run.tpot_seconds()
    return sum(ttft) / len(ttft), sorted(ttft)[int(0.95 * (len(ttft) - 1))], sum(tpot) / len(tpot)


def test_fewer_sequences_at_once_wait_longer_and_decode_faster() -> None:
    wide, narrow = (mean_times("rate_4.0", policy) for policy in (Policy(32, 512), Policy(8, 512)))
    assert narrow[0] > 2 * wide[0] and narrow[2] < wide[2]


if __name__ == "__main__":
    print("requests/s  max_num_seqs  tokens a step  mean TTFT  p95 TTFT  mean TPOT")
    for rate in ("rate_1.0", "rate_2.0", "rate_3.0", "rate_4.0"):
        for seats, tokens in ((32, 512), (8, 128)):
            ttft, late, tpot = mean_times(rate, Policy(seats, tokens))
            times = f"{1e3 * ttft:6,.0f} ms  {1e3 * late:5,.0f} ms  {1e3 * tpot:6.1f} ms"
            print(f"{rate[5:]:>10}  {seats:12}  {tokens:13}  {times}")

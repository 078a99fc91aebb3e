"""Hugging Face's inference-benchmarker (0.1 to 1.1): a JSON object with a result for each step of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from planner.measured.points import MeasuredFile, MeasuredPoint, at, count, milli, number, words

TOOL = "inference-benchmarker"


def inference_benchmarker(raw: Mapping[str, Any]) -> MeasuredFile | None:
    """Reads a point for each step, without warm-ups; None where it is no such file."""
    results = raw.get("results")
    if not isinstance(results, list) or not any(
        "inter_token_latency_ms_avg" in item for item in results if isinstance(item, Mapping)
    ):
        return None
    steps = [item for item in results[:1000] if isinstance(item, Mapping) and words(item.get("id")) != "warmup"]
    points = tuple(_point(item, raw) for item in steps if count(item.get("successful_requests")))
    return MeasuredFile(TOOL, points)  # fmt: skip


def _point(step: Mapping[str, Any], raw: Mapping[str, Any]) -> MeasuredPoint:
    requests = count(step.get("successful_requests"))
    prompt, output = number(step.get("total_tokens_sent")), number(step.get("total_tokens"))
    kind = words(at(step, "config", "executor_type")) or words(step.get("executor_type")) or ""
    rate = number(at(step, "config", "rate")) or number(step.get("rate"))
    seconds, per_s = (
        milli(step.get("e2e_latency_ms_avg")),
        number(step.get("successful_request_rate")) or number(step.get("request_rate")),
    )
    fixed = number(at(step, "config", "max_vus")) or number(step.get("max_vus"))
    return MeasuredPoint(
        tool=TOOL, source="", model=words(at(raw, "config", "model_name")) or words(raw.get("model_name")),
        sequences=fixed if fixed and "arrival" not in kind.lower() else per_s * seconds if per_s and seconds else None,
        rate_per_s=rate if "arrival" in kind.lower() else None,
        prompt_tokens=prompt / requests if prompt and requests else None,
        output_tokens=output / requests if output and requests else None,
        ttft_seconds=milli(step.get("time_to_first_token_ms_avg")), tpot_seconds=milli(step.get("inter_token_latency_ms_avg")),
        request_seconds=seconds, output_tokens_per_s=number(step.get("token_throughput_secs")), requests=requests,
        percentiles=tuple(
            (name, float(share), value) for name, key in (("ttft", "time_to_first_token"), ("tpot", "inter_token_latency"), ("request", "e2e_latency"))
            for share in (50, 95, 99) if (value := milli(step.get(f"{key}_ms_p{share}"))) is not None
        ),
    )  # fmt: skip

"""Hugging Face's inference-benchmarker: a JSON object with a result for each step of a run.

Its writers.rs has two forms: `inter_token_latency_ms_avg`, `_p90`, `_p95` beside one another, and later an object
`inter_token_latency_ms` with `avg` and p50 to p99; alike for time_to_first_token and e2e_latency. Milliseconds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from planner.measured.points import MeasuredFile, MeasuredPoint, at, count, milli, number, strange, words

TOOL = "inference-benchmarker"
KEYS = frozenset("config results start_time end_time system".split())
STEP_KEYS = frozenset(
    "id executor_type config total_requests total_tokens token_throughput_secs duration_ms failed_requests "
    "successful_requests request_rate successful_request_rate total_tokens_sent".split()
)
_TIME = re.compile(r"(?:time_to_first_token|inter_token_latency|e2e_latency)_ms(?:_avg|_p[0-9]{2})?")


def inference_benchmarker(raw: Mapping[str, Any]) -> MeasuredFile | None:
    """Reads a point for each step, without warm-ups; None where it is no such file."""
    results = raw.get("results")
    if not isinstance(results, list) or not any(
        "inter_token_latency_ms_avg" in item or isinstance(item.get("inter_token_latency_ms"), Mapping)
        for item in results
        if isinstance(item, Mapping)
    ):
        return None
    steps = [item for item in results[:1000] if isinstance(item, Mapping) and words(item.get("id")) != "warmup"]
    points = tuple(_point(item, raw) for item in steps if count(item.get("successful_requests")))
    notes = strange(raw, KEYS, TOOL) + strange(
        {key: 0 for step in steps for key in step if not _TIME.fullmatch(str(key))}, STEP_KEYS, TOOL
    )
    return MeasuredFile(TOOL, points, notes)  # fmt: skip


def _time(step: Mapping[str, Any], name: str, end: str) -> float | None:
    """Reads seconds of `name` in either form; `end` is avg, p50, ..."""
    return milli(step.get(f"{name}_ms_{end}")) or milli(at(step, f"{name}_ms", end))


def _point(step: Mapping[str, Any], raw: Mapping[str, Any]) -> MeasuredPoint:
    requests = count(step.get("successful_requests"))
    prompt, output = number(step.get("total_tokens_sent")), number(step.get("total_tokens"))
    kind = words(at(step, "config", "executor_type")) or words(step.get("executor_type")) or ""
    rate = number(at(step, "config", "rate")) or number(step.get("rate"))
    seconds, per_s = (
        _time(step, "e2e_latency", "avg"),
        number(step.get("successful_request_rate")) or number(step.get("request_rate")),
    )
    fixed = number(at(step, "config", "max_vus")) or number(step.get("max_vus"))
    return MeasuredPoint(
        tool=TOOL, source="", model=words(at(raw, "config", "model_name")) or words(raw.get("model_name")),
        sequences=fixed if fixed and "arrival" not in kind.lower() else per_s * seconds if per_s and seconds else None,
        rate_per_s=rate if "arrival" in kind.lower() else None,
        prompt_tokens=prompt / requests if prompt and requests else None,
        output_tokens=output / requests if output and requests else None,
        ttft_seconds=_time(step, "time_to_first_token", "avg"), tpot_seconds=_time(step, "inter_token_latency", "avg"),
        request_seconds=seconds, output_tokens_per_s=number(step.get("token_throughput_secs")), requests=requests,
        percentiles=tuple(
            (name, float(share), value) for name, key in (("ttft", "time_to_first_token"), ("tpot", "inter_token_latency"), ("request", "e2e_latency"))
            for share in (50, 95, 99) if (value := _time(step, key, f"p{share}")) is not None
        ),
    )  # fmt: skip

"""AIPerf's and GenAI-Perf's profile exports: JSON (profile_export_aiperf.json, *_genai_perf.json) and CSV.

AIPerf 0.1 to 0.13 and GenAI-Perf 0.0.3 to 0.0.16: an object a metric with unit, avg and percentiles.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from planner.files.read import csv_rows
from planner.measured.points import MeasuredFile, MeasuredPoint, at, count, number, strange, words

AIPERF, GENAI = "AIPerf", "GenAI-Perf"
# What stands beside the metrics, each an object with its unit
KEYS = frozenset(
    "input_config aiperf_version schema_version start_time end_time was_cancelled error_summary benchmark_id telemetry_data "
    "telemetry_stats server_metrics_data metadata run_info is_complete".split()
)
# Metrics that AIPerf 0.13 and GenAI-Perf 0.0.16 write (`tag` and `header` of aiperf/metrics), and the beginnings of their families
METRICS = frozenset(
    "time_to_first_token time_to_second_token time_to_first_output_token inter_token_latency inter_chunk_latency request_latency "
    "request_throughput request_count request_goodput request_error_rate requested_osl input_sequence_length output_sequence_length "
    "input_token_throughput output_token_throughput output_token_throughput_per_user output_token_throughput_per_request "
    "output_token_count output_tokens_per_joule output_tokens_per_second_per_watt output_tps_per_watt prefill_throughput_per_user "
    "e2e_output_token_throughput benchmark_duration decode_duration goodput goodput_per_watt good_request_count good_request_fraction "
    "goodrequestfraction effective_latency effective_latency_co_aware error_isl error_input_sequence_length error_request_count "
    "completed_request_count completed_requests completed_requests_success_error context_overflow_count stream_setup_latency stream_prefill_latency "
    "min_request_timestamp max_request_timestamp minimum_request_timestamp max_response_timestamp maximum_response_timestamp rtfx "
    "inverse_real_time_factor_rtfx num_images number_of_images image_latency image_throughput audio_duration video_inference_time "
    "video_peak_memory thinking_efficiency overall_thinking_efficiency reasoning_token_count performance_per_watt grace_period "
    "theoretical_prefix_cache_hit".split()
)
FAMILIES = (
    "usage_", "total_", "overall_", "http_", "network_", "replay_", "spec_", "draft_", "accepted_", "acceptance_", "token_weighted_",
    "energy_", "gpu_", "average_gpu", "nvidia_", "amd_", "credit_", "osl_", "accuracy_", "cpu_", "power_", "effective_", "active_",
    "tokens_in_flight",
)  # fmt: skip
_COLUMN = re.compile(r"metric|unit|value|avg|min|max|std|count|sum|p\d{1,2}(?:\.\d{1,2})?", re.IGNORECASE)
SECONDS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "sec": 1.0, "seconds": 1.0}
_NAMES = {
    "ttft": ("time_to_first_token",), "tpot": ("inter_token_latency",), "request": ("request_latency",),
}  # fmt: skip
_HEADERS = re.compile(r"(.+?)\s*\(([^()]{1,40})\)")


def aiperf(raw: Mapping[str, Any]) -> MeasuredFile | None:
    """Reads the point of a profile; None where it is no such export."""
    if not isinstance(raw.get("request_latency"), Mapping) or "request_throughput" not in raw:
        return None
    tool = AIPERF if "aiperf_version" in raw or "schema_version" in raw else GENAI
    config = raw.get("input_config")
    model = (
        _first(at(config, "endpoint", "model_names"))
        or _first(at(config, "models"))
        or _first(at(config, "model_names"))
    )
    others = {
        key: 0 for key, value in raw.items() if not (isinstance(value, Mapping) and "unit" in value and _is_metric(key))
    }
    point = _point(raw, tool, words(raw.get("aiperf_version")), model, _asked(config))
    return MeasuredFile(tool, (point,), _recounted(raw) + strange(others, KEYS, tool))


def aiperf_csv(text: str) -> MeasuredFile | None:
    """Reads the point of a CSV export; None where it is none."""
    rows = csv_rows(text[: 1 << 20], 1 << 16)
    if not rows or not rows[0] or rows[0][0] != "Metric" or "avg" not in rows[0]:
        return None
    header, raw = rows[0], dict[str, Any]()
    columns = [one for one in header if one and not _COLUMN.fullmatch(one[:20])]
    for row in rows[1:]:
        if row and row[0] == "Endpoint":
            break  # the devices' own table, of telemetry
        if len(row) > 1 and row[0] == "Metric":
            header = row
            columns += [one for one in row if one and not _COLUMN.fullmatch(one[:20])]
            continue
        if not row or not row[0]:
            continue
        match = _HEADERS.fullmatch(row[0][:200])
        name, unit = match.groups() if match else (row[0], "")
        key = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
        stats = {"avg" if head == "Value" else head: value for head, value in zip(header[1:], row[1:], strict=False)}
        raw[key] = {"unit": unit, **stats}
    if "request_latency" not in raw:
        return None
    point = _point(raw, AIPERF, None, None, (None, None))
    note = (
        "the CSV names neither model nor concurrency: the mean that was reached is taken; the JSON beside it says both"
    )
    unknown = dict.fromkeys([*columns, *(key for key in raw if not _is_metric(key))], 0)
    return MeasuredFile(AIPERF, (point,), (note, *_recounted(raw), *strange(unknown, KEYS, AIPERF)))


def _is_metric(key: str) -> bool:
    return key in METRICS or key.startswith(FAMILIES)


def _point(  # parameters: what all runs of a file share, beside the run
    raw: Mapping[str, Any], tool: str, version: str | None, model: str | None, asked: tuple[float | None, float | None]
) -> MeasuredPoint:
    sequences, rate = asked
    times = {name: _seconds(raw, keys[0], "avg") for name, keys in _NAMES.items()}
    (prompt, output), counted = _lengths(raw), number(at(raw, "output_sequence_length", "avg"))
    rate_out, shown = number(at(raw, "output_token_throughput", "avg")), dict(_NAMES)
    if _recounted(raw) and output and counted:
        decoded = times["request"] - times["ttft"] if times["request"] and times["ttft"] else 0.0
        times["tpot"] = decoded / (output - 1) if decoded > 0 and output > 1 else None
        rate_out = rate_out and rate_out * output / counted
        shown.pop("tpot")
    per_s = number(at(raw, "request_throughput", "avg"))
    reached = per_s * times["request"] if per_s and times["request"] else None  # Little's law
    return MeasuredPoint(
        tool=tool,
        source="",
        version=version,
        model=model,
        sequences=sequences or reached,
        rate_per_s=rate,
        prompt_tokens=prompt,
        output_tokens=output,
        ttft_seconds=times["ttft"],
        tpot_seconds=times["tpot"],
        request_seconds=times["request"],
        output_tokens_per_s=rate_out,
        requests=count(at(raw, "request_count", "avg")),
        percentiles=tuple(
            (name, share, seconds)
            for name, keys in shown.items()
            for share in (50.0, 95.0, 99.0)
            if (seconds := _seconds(raw, keys[0], f"p{share:g}")) is not None
        ),
    )


def _lengths(raw: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """Returns tokens of a prompt and an answer, as the server counted them where it did (usage)."""
    prompt, output = (number(at(raw, f"{side}_sequence_length", "avg")) for side in ("input", "output"))
    sent, made = (number(at(raw, f"usage_{side}_tokens", "avg")) for side in ("prompt", "completion"))
    return sent or prompt, made or output


def _recounted(raw: Mapping[str, Any]) -> tuple[str, ...]:
    """Says so where the server counted other answers than the client; nothing where the two agree.

    AIPerf takes the text of an answer apart with its own tokenizer unless --use-server-token-count is given, and its time a
    token is over that count. A text does not always go back to the tokens that made it.
    """
    output, made = _lengths(raw)[1], number(at(raw, "output_sequence_length", "avg"))
    if not output or not made or abs(made - output) <= 0.005 * output:
        return ()
    return (
        f"answers are {made:.4g} tokens by AIPerf's tokenizer and {output:.4g} by the server: the server's count is taken",
    )


def _seconds(raw: Mapping[str, Any], name: str, end: str) -> float | None:
    value, unit = number(at(raw, name, end)), at(raw, name, "unit")
    scale = SECONDS.get(unit.lower().strip()) if isinstance(unit, str) else None
    return None if value is None or scale is None else value * scale


def _asked(config: Any) -> tuple[float | None, float | None]:
    """(concurrency, requests a second) as the run was asked for, wherever a version keeps them."""
    places = [config, *(at(config, key) for key in ("loadgen", "load", "perf_analyzer", "stimulus"))]
    places.append(at(config, "perf_analyzer", "stimulus"))
    phases = at(config, "phases")
    places += (
        phases[-3:] if isinstance(phases, list) else list(phases.values())[-3:] if isinstance(phases, Mapping) else []
    )
    found: list[float | None] = []
    for key in ("concurrency", "request_rate"):
        found.append(next((value for place in places if (value := number(at(place, key))) is not None), None))
    return found[0], found[1]


def _first(raw: Any) -> str | None:
    """The name in a text, a list of texts or a list of objects with a name."""
    item = raw[0] if isinstance(raw, list) and raw else raw
    if isinstance(item, Mapping):
        item = next((value for key in ("name", "model", "items") if (value := item.get(key))), None)
        item = item[0] if isinstance(item, list) and item else item
        item = item.get("name") if isinstance(item, Mapping) else item
    return words(item)

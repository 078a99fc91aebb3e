"""Benchmarks without a server: `vllm bench latency` and `throughput`, optimum-benchmark, trtllm-bench.

vLLM writes neither batch nor lengths into these two files, so they give no point of a curve: what they say
is shown. optimum-benchmark 0.4 to 0.6 writes benchmark_report.json and benchmark.json (with the scenario beside).
trtllm-bench 0.17 to 1.0 writes --report_json.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from planner.measured.points import MeasuredFile, MeasuredPoint, at, count, milli, number, strange, words

LATENCY, THROUGHPUT = "vllm bench latency", "vllm bench throughput"
OPTIMUM, TRTLLM = "optimum-benchmark", "trtllm-bench"
# tensorrt_llm/bench/dataclasses/reporting.py, get_statistics_dict
TRTLLM_KEYS = frozenset(
    "engine machine world_info request_info performance streaming_metrics decoding_stats energy dataset".split()
)
OPTIMUM_KEYS = frozenset(("config", "report"))
LATENCY_KEYS = frozenset(("avg_latency", "latencies", "percentiles", "model_id"))
THROUGHPUT_KEYS = frozenset(
    ("elapsed_time", "num_requests", "total_num_tokens", "requests_per_second", "tokens_per_second", "model_id")
)


def vllm_latency(raw: Mapping[str, Any]) -> MeasuredFile | None:
    """Reads the mean time of a batch; the file does not say of how many sequences or tokens."""
    if "avg_latency" not in raw or "latencies" not in raw:
        return None
    percentiles = tuple(
        ("request", share, value)
        for key, seconds in list((raw.get("percentiles") or {}).items())[:20]
        if (share := number(key)) is not None and (value := number(seconds)) is not None and share <= 100
    ) if isinstance(raw.get("percentiles"), Mapping) else ()  # fmt: skip
    point = MeasuredPoint(
        tool=LATENCY, source="", load="static", engine="vllm", model=words(raw.get("model_id")),
        request_seconds=number(raw.get("avg_latency")), percentiles=percentiles,
    )  # fmt: skip
    note = "the file says neither batch nor lengths: nothing can be fitted to it; `vllm bench serve --save-result` says them"
    return MeasuredFile(LATENCY, (point,), (note, *strange(raw, LATENCY_KEYS, LATENCY)))


def vllm_throughput(raw: Mapping[str, Any]) -> MeasuredFile | None:
    """Reads the tokens a second of a whole batch of requests, prompts and outputs together."""
    if "tokens_per_second" not in raw or "total_num_tokens" not in raw:
        return None
    requests = count(raw.get("num_requests"))
    point = MeasuredPoint(
        tool=THROUGHPUT, source="", engine="vllm", model=words(raw.get("model_id")), requests=requests,
        request_seconds=None,
    )  # fmt: skip
    rate = number(raw.get("tokens_per_second"))
    note = (
        f"{rate or 0:,.0f} tokens a second, prompts and outputs together: the file does not part them, so nothing can be "
        "fitted to it; `vllm bench serve --save-result` parts them"
    )
    return MeasuredFile(THROUGHPUT, (point,), (note, *strange(raw, THROUGHPUT_KEYS, THROUGHPUT)))


def optimum(raw: Mapping[str, Any]) -> MeasuredFile | None:
    """Reads prefill and decode of optimum-benchmark: one static batch through torch or another backend."""
    report = raw.get("report") if isinstance(raw.get("report"), Mapping) else raw
    prefill, decode = at(report, "prefill", "latency"), at(report, "decode", "latency")
    if not isinstance(prefill, Mapping) or "mean" not in prefill:
        return None
    scenario = at(raw, "config", "scenario")
    shapes = at(scenario, "input_shapes")
    batch = number(at(shapes, "batch_size"))
    output = number(at(scenario, "generate_kwargs", "max_new_tokens"))
    decoding = number(at(decode, "mean"))
    point = MeasuredPoint(
        tool=OPTIMUM,
        source="",
        load="static",
        version=words(at(raw, "config", "environment", "optimum_benchmark_version")),
        engine="transformers" if at(raw, "config", "backend", "name") in (None, "pytorch") else words(at(raw, "config", "backend", "name")),
        model=words(at(raw, "config", "backend", "model")),
        sequences=batch,
        prompt_tokens=number(at(shapes, "sequence_length")),
        output_tokens=output,
        ttft_seconds=number(prefill.get("mean")),
        tpot_seconds=decoding / (output - 1) if decoding and output and output > 1 else None,
        output_tokens_per_s=number(at(report, "decode", "throughput", "value")),
        prefill_tokens_per_s=None,
    )  # fmt: skip
    targets = {
        key: value
        for key, value in raw.items()
        if not isinstance(value, Mapping) or not {"latency", "memory"} & set(value)
    }
    note = strange(targets, OPTIMUM_KEYS, OPTIMUM) + (
        () if batch else ("batch and lengths stand in benchmark.json, not in benchmark_report.json: give that file",)
    )
    return MeasuredFile(OPTIMUM, (point,), note)


def trtllm(raw: Mapping[str, Any]) -> MeasuredFile | None:
    """Reads trtllm-bench's report: lengths, concurrency, and the latency block where --streaming was on."""
    performance, request = raw.get("performance"), raw.get("request_info")
    if not isinstance(performance, Mapping) or not isinstance(request, Mapping):
        return None
    streaming = raw.get("streaming_metrics")
    point = MeasuredPoint(
        tool=TRTLLM,
        source="",
        engine="tensorrt-llm",
        version=words(at(raw, "engine", "version")),
        model=words(at(raw, "engine", "model")),
        sequences=number(request.get("avg_num_concurrent_requests")) or number(at(raw, "world_info", "max_concurrency")),
        prompt_tokens=number(request.get("avg_input_length")) or number(at(request, "avg_num_input_tokens")),
        output_tokens=number(request.get("avg_output_length")) or number(at(request, "avg_num_output_tokens")),
        ttft_seconds=milli(at(streaming, "avg_ttft_ms")),
        tpot_seconds=milli(at(streaming, "avg_tpot_ms")) or milli(at(streaming, "time_per_output_token_ms")),
        request_seconds=milli(performance.get("avg_request_latency_ms")),
        output_tokens_per_s=number(performance.get("system_output_throughput_tok_s")),
        requests=count(request.get("num_requests")),
        percentiles=tuple(
            (name, share, value)
            for name, found in (("ttft", at(streaming, "ttft_percentiles")), ("tpot", at(streaming, "tpot_percentiles")), ("request", performance.get("request_latency_percentiles_ms")))
            for share, value in _shares(found)
        ),
    )  # fmt: skip
    return MeasuredFile(TRTLLM, (point,), strange(raw, TRTLLM_KEYS, TRTLLM))


def _shares(raw: Any) -> list[tuple[float, float]]:
    """Lists (50, seconds), (95, ...), (99, ...) of an object of percentiles in milliseconds."""
    return [(share, value) for share in (50.0, 95.0, 99.0) if (value := milli(at(raw, f"p{share:g}"))) is not None]

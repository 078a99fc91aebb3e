"""Benchmarks of a server that write one flat object a run: `vllm bench serve`, SGLang's bench_serving, LLMPerf.

vLLM (benchmarks/serve.py of 0.6 to 0.33, --save-result), a JSON object; SGLang (bench_serving.py of 0.4 to 0.5.23,
--output-file), a line of JSON a run; LLMPerf (token_benchmark_ray.py), *_summary.json, whose TPOT is of whole requests (`_after_first`). Times are milliseconds but
LLMPerf's, which are seconds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from planner.measured.points import MeasuredFile, MeasuredPoint, count, mean, milli, number, strange, words

VLLM, SGLANG, LLMPERF = "vllm bench serve", "sglang bench_serving", "LLMPerf"
_TIMED = ("ttft", "tpot", "itl", "e2el", "client_queue_time", "e2el_including_client_queue")
_VLLM_KEYS = frozenset(
    "date endpoint_type backend label model_id tokenizer_id num_prompts request_rate burstiness max_concurrency duration "
    "completed failed total_input_tokens total_output_tokens request_throughput request_goodput output_throughput "
    "total_token_throughput input_lens output_lens ttfts itls latencies start_times queue_times generated_texts errors "
    "max_output_tokens_per_s max_concurrent_requests rtfx best_of use_beam_search request_goodput: rps_change_events "
    "ramp_up_strategy ramp_up_start_rps ramp_up_end_rps total_input input_requests probe_completed probe_failed "
    "probe_median_e2el_ms probe_p99_e2el_ms probe_max_e2el_ms steady_state_metrics tensor_parallel_size".split()
)
_SGLANG_KEYS = frozenset(
    "tag backend dataset_name request_rate max_concurrency sharegpt_output_len random_input_len random_output_len "
    "random_range_ratio duration completed total_input_tokens total_input_text_tokens total_input_vision_tokens "
    "total_output_tokens total_output_tokens_retokenized request_throughput input_throughput output_throughput "
    "total_throughput mean_e2e_latency_ms median_e2e_latency_ms std_e2e_latency_ms p90_e2e_latency_ms "
    "p95_e2e_latency_ms p99_e2e_latency_ms concurrency accept_length max_output_tokens_per_s max_concurrent_requests "
    "server_info input_lens output_lens ttfts itls generated_texts errors model base_url warmup_requests".split()
)
_LLMPERF_KEYS = frozenset(
    "version name model mean_input_tokens stddev_input_tokens mean_output_tokens stddev_output_tokens "
    "num_concurrent_requests timestamp results_num_requests_started results_error_rate results_number_errors "
    "results_error_code_frequency results_mean_output_throughput_token_per_s results_num_completed_requests "
    "results_num_completed_requests_per_min".split()
)
_LLMPERF_FIGURE = re.compile(
    r"results_(?:inter_token_latency_s|ttft_s|end_to_end_latency_s|request_output_throughput_token_per_s|number_input_tokens|"
    r"number_output_tokens|number_total_tokens)_(?:quantiles_p[0-9]{1,3}|mean|min|max|stddev)"
)
_PERCENTILE = re.compile(r"(?:p([\d.]{1,6})|mean|median|std|max)_([a-z0-9_]{2,40})_ms")


def vllm_serve(raw: Mapping[str, Any]) -> MeasuredFile | None:
    """Reads the run of a `vllm bench serve --save-result` file; None where it is no such file."""
    if "model_id" not in raw or "request_throughput" not in raw or "completed" not in raw:
        return None
    known = _VLLM_KEYS | {
        key for key in raw if _PERCENTILE.fullmatch(key) or key.startswith(("spec_decode_", "diffusion_"))
    }
    point = _flat(raw, VLLM, engine=_server(raw), latency="e2el")
    return MeasuredFile(VLLM, (point,) if point else (), _without(point) + strange(raw, known, VLLM))


def sglang_serve(raw: Mapping[str, Any]) -> MeasuredFile | None:
    """Reads the run of a line of SGLang's bench_serving; None where it is no such line."""
    if "request_throughput" not in raw or (
        "total_output_tokens_retokenized" not in raw and "mean_e2e_latency_ms" not in raw
    ):
        return None
    known = _SGLANG_KEYS | {key for key in raw if _PERCENTILE.fullmatch(key)}
    point = _flat(raw, SGLANG, engine=_server(raw), latency="e2e_latency")
    return MeasuredFile(SGLANG, (point,) if point else (), _without(point) + strange(raw, known, SGLANG))


def llmperf(raw: Mapping[str, Any]) -> MeasuredFile | None:
    """Reads the summary of LLMPerf's token_benchmark_ray.py, whose times are seconds; None where it is none."""
    if "results_ttft_s_mean" not in raw and "results_inter_token_latency_s_mean" not in raw:
        return None
    percentiles = tuple(
        (name, float(share), value)
        for name, key in (("ttft", "ttft_s"), ("request", "end_to_end_latency_s"))
        for share in (50, 95, 99)
        if (value := number(raw.get(f"results_{key}_quantiles_p{share}"))) is not None
    )
    ttft, request = number(raw.get("results_ttft_s_mean")), number(raw.get("results_end_to_end_latency_s_mean"))
    output = number(raw.get("results_number_output_tokens_mean")) or number(raw.get("mean_output_tokens"))
    point = MeasuredPoint(
        tool=LLMPERF,
        source="",
        version=words(raw.get("version")),
        model=words(raw.get("model")),
        sequences=number(raw.get("num_concurrent_requests")),
        prompt_tokens=number(raw.get("results_number_input_tokens_mean")) or number(raw.get("mean_input_tokens")),
        output_tokens=output,
        ttft_seconds=ttft,
        tpot_seconds=_after_first(request, ttft, output),
        request_seconds=request,
        output_tokens_per_s=number(raw.get("results_mean_output_throughput_token_per_s")),
        requests=count(raw.get("results_num_completed_requests")),
        percentiles=percentiles,
    )
    known = _LLMPERF_KEYS | {key for key in raw if _LLMPERF_FIGURE.fullmatch(str(key))}
    return MeasuredFile(LLMPERF, (point,), strange(raw, known, LLMPERF))


def _after_first(request: float | None, ttft: float | None, output: float | None) -> float | None:
    """Computes TPOT from whole requests: LLMPerf's inter_token_latency is a request's time over its tokens, the first with them.

    Source: llmperf/ray_clients/openai_chat_completions_client.py, where the time to the first token is the first of those
    that are summed; a published run (Yi-1.5-34B, 16 at once) has 18.07 s, 5.37 s to the first of 159.3 tokens, and says
    0.1135 s.

    >>> round(_after_first(18.07, 5.368, 159.3), 4), _after_first(1.0, 2.0, 9.0)
    (0.0802, None)
    """
    if request is None or ttft is None or output is None or output <= 1 or request <= ttft:
        return None
    return (request - ttft) / (output - 1)


def _server(raw: Mapping[str, Any]) -> str | None:
    """The engine, where the backend is one: "openai" says only how it was asked."""
    backend = (words(raw.get("backend")) or "").lower()
    return next(
        (name for name in ("vllm", "sglang", "tensorrt-llm", "lmdeploy", "tgi") if backend.startswith(name)), None
    )


def _flat(raw: Mapping[str, Any], tool: str, *, engine: str | None, latency: str) -> MeasuredPoint | None:
    """The point of a flat object; None where no request ended."""
    requests = count(raw.get("completed"))
    if not requests:
        return None
    prompt, output = (number(raw.get(f"total_{side}_tokens")) for side in ("input", "output"))
    rate = number(raw.get("request_rate"))
    seconds = milli(raw.get(f"mean_{latency}_ms")) or mean(raw.get("latencies"))
    per_s = number(raw.get("request_throughput"))
    asked = number(raw.get("max_concurrency"))
    reached = number(raw.get("concurrency")) or (per_s * seconds if per_s and seconds else None)  # Little's law
    names = {"ttft": "ttft", "tpot": "tpot", "itl": "itl", latency: "request"}
    return MeasuredPoint(
        tool=tool,
        source="",
        engine=engine,
        model=words(raw.get("model_id")) or words(raw.get("model")),
        sequences=min(asked, float(requests)) if asked else reached or (None if rate else float(requests)),
        rate_per_s=rate,
        prompt_tokens=prompt / requests if prompt else mean(raw.get("input_lens")),
        output_tokens=output / requests if output else mean(raw.get("output_lens")),
        ttft_seconds=milli(raw.get("mean_ttft_ms")) or mean(raw.get("ttfts")),
        tpot_seconds=milli(raw.get("mean_tpot_ms")) or milli(raw.get("mean_itl_ms")),
        request_seconds=seconds,
        output_tokens_per_s=number(raw.get("output_throughput")),
        requests=requests,
        percentiles=_percentiles(raw, names),
    )


def _percentiles(raw: Mapping[str, Any], names: Mapping[str, str]) -> tuple[tuple[str, float, float], ...]:
    """Median and percentiles of the metrics in `names`, in seconds."""
    found = {}
    for key in raw:
        match = _PERCENTILE.fullmatch(key) if isinstance(key, str) else None
        seconds = milli(raw[key]) if match and match[2] in names else None
        share = 50.0 if key.startswith("median") else number(match[1]) if match and match[1] else None
        if match and seconds is not None and share is not None and share <= 100:
            found[names[match[2]], share] = seconds
    return tuple((name, share, seconds) for (name, share), seconds in sorted(found.items()))


def _without(point: MeasuredPoint | None) -> tuple[str, ...]:
    return () if point else ("no request of this run ended: it holds no point",)

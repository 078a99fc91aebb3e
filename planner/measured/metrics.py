"""A server's /metrics, read once or twice: what runs, what waits, what the time was between two reads.

Names are those of the engines' own sources: vLLM (v1/metrics/loggers.py, 0.6 to 0.33), SGLang (0.4 to 0.5.23),
llama-server (tools/server), TGI (router), TensorRT-LLM (metrics/collector.py, `trtllm_`, to 1.1 through Dynamo `trtllm:`),
Dynamo's frontend. Samples come as (name, labels, value); who reads the text is not this file's matter.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from planner.measured.points import MeasuredPoint, words

Sample = tuple[str, Mapping[str, str], float]

PREFIXES = (
    ("vllm:", "vllm"), ("sglang:", "sglang"), ("llamacpp:", "llamacpp"), ("tgi_", "tgi"), ("trtllm", "tensorrt-llm"),
    ("dynamo_frontend_", "dynamo"),
)  # fmt: skip
# What is asked -> names without prefix, the newest first; a counter may end in _total or not.
GAUGES = {
    "running": ("num_requests_running", "num_running_reqs", "requests_processing", "batch_current_size", "active_requests", "inflight_requests", "num_active_requests"),
    "waiting": ("num_requests_waiting", "num_queue_reqs", "requests_deferred", "queue_size", "queued_requests", "num_queued_requests", "server_queue_length"),
    "cache_share": ("kv_cache_usage_perc", "gpu_cache_usage_perc", "token_usage", "kv_cache_usage_ratio", "kv_cache_utilization"),
    "hit_share": ("cache_hit_rate", "kv_cache_hit_rate"),
    "pool_tokens": ("max_total_num_tokens",),
}  # fmt: skip
COUNTERS = {
    "preemptions": ("num_preemptions", "num_retracted_requests"),
    "prefix_hits": (
        "prefix_cache_hits",
        "gpu_prefix_cache_hits",
        "cached_tokens",
        "prompt_tokens_cached",
        "prompt_cached_tokens",
    ),
    "prefix_queries": ("prefix_cache_queries", "gpu_prefix_cache_queries"),
    "prompt_tokens": ("prompt_tokens",),
    "output_tokens": ("generation_tokens", "tokens_predicted"),
    "prompt_seconds": ("prompt_seconds",),
    "output_seconds": ("tokens_predicted_seconds",),
    "decodes": ("n_decode",),  # llama-server: a call gives each sequence that decodes a token
}
HISTOGRAMS = {
    "ttft": ("time_to_first_token_seconds",),
    "tpot": ("inter_token_latency_seconds", "time_per_output_token_seconds", "request_time_per_output_token_seconds", "request_mean_time_per_token_duration"),
    "request": ("e2e_request_latency_seconds", "request_duration", "request_duration_seconds"),
    "prompt_length": ("request_prompt_tokens", "request_input_length", "input_sequence_tokens", "prompt_tokens_histogram"),
    "output_length": ("request_generation_tokens", "request_generated_tokens", "output_sequence_tokens", "generation_tokens_histogram"),
}  # fmt: skip


@dataclass(frozen=True)
class Histogram:
    """Sum and count of what was observed, and how many were at most each bound."""

    total: float = 0.0
    count: float = 0.0
    buckets: Mapping[float, float] = field(default_factory=dict)

    def since(self, before: Histogram | None) -> Histogram:
        """Returns what came after `before`; all of it where the server was started anew."""
        if before is None or self.count < before.count or self.total < before.total:
            return self
        buckets = {bound: max(0.0, value - before.buckets.get(bound, 0.0)) for bound, value in self.buckets.items()}
        return Histogram(self.total - before.total, self.count - before.count, buckets)

    @property
    def mean(self) -> float | None:
        """Returns the mean; None where nothing was counted."""
        return self.total / self.count if self.count > 0 and self.total >= 0 else None

    def quantile(self, share: float) -> float | None:
        """Returns the value below which that share lies, on a straight line inside its bucket as Prometheus does;
        None beyond the last bound.

        >>> Histogram(3.0, 4, {0.5: 2.0, 1.0: 4.0, math.inf: 4.0}).quantile(0.75)
        0.75
        """
        wanted, below, low = share * self.count, 0.0, 0.0
        for bound, value in sorted(self.buckets.items()):
            if value >= wanted and value > below:
                return None if math.isinf(bound) else low + (bound - low) * (wanted - below) / (value - below)
            below, low = max(below, value), bound
        return None


@dataclass(frozen=True)
class Reading:
    """One read of /metrics; a figure that the server does not have is missing."""

    engine: str
    model: str | None
    gauges: Mapping[str, float]
    counters: Mapping[str, float]
    histograms: Mapping[str, Histogram]


def reading(samples: Iterable[Sample]) -> Reading | None:
    """Reads the figures of one scrape; None where no engine that is known wrote it. Several ranks or models are summed."""
    kept = [(name, labels, value) for name, labels, value in samples if math.isfinite(value)]
    counts: dict[str, int] = {}
    for name, _, _ in kept:
        for prefix, engine in PREFIXES:
            if name.startswith(prefix):
                counts[engine] = counts.get(engine, 0) + 1
    if not counts:
        return None
    engine = next((engine for _, engine in PREFIXES if engine in counts and engine != "dynamo"), "dynamo")
    prefix = next(prefix for prefix, found in PREFIXES if found == engine)
    own = [(name[len(prefix) :].lstrip("_:"), labels, value) for name, labels, value in kept if name.startswith(prefix)]
    models = {words(labels.get("model_name") or labels.get("model") or "") for _, labels, _ in own} - {None}
    gauges = {key: _gauge(own, names, key.endswith("_share")) for key, names in GAUGES.items()}
    found_gauges = {
        key: value
        for key, value in gauges.items()
        if value is not None and value >= 0 and not (key.endswith("_share") and value > 1)
    }
    if (pool := _vllm_pool(own) or _trtllm_pool(own)) is not None:
        found_gauges["pool_tokens"] = pool
    counters = {
        key: _sum(own, [form for name in names for form in (f"{name}_total", name)]) for key, names in COUNTERS.items()
    }
    histograms = {key: _histogram(own, names) for key, names in HISTOGRAMS.items()}
    return Reading(
        engine,
        next(iter(models)) if len(models) == 1 else None,
        found_gauges,
        {key: value for key, value in counters.items() if value is not None and value >= 0},
        {key: value for key, value in histograms.items() if value is not None},
    )


def _named(own: list[Sample], name: str) -> list[Sample]:
    return [sample for sample in own if sample[0] == name]


def _gauge(own: list[Sample], names: Iterable[str], share: bool) -> float | None:
    """Counts of ranks are summed; of shares the fullest rank counts."""
    for name in names:
        values = [value for _, _, value in _named(own, name)]
        if values:
            return max(values) if share else sum(values)
    return None


def _sum(own: list[Sample], names: Iterable[str]) -> float | None:
    for name in names:
        values = [value for _, _, value in _named(own, name)]
        if values:
            return sum(values)
    return None


def _histogram(own: list[Sample], names: Iterable[str]) -> Histogram | None:
    for name in names:
        counts, sums = _named(own, f"{name}_count"), _named(own, f"{name}_sum")
        if not counts or not sums:
            continue
        buckets: dict[float, float] = {}
        for _, labels, value in _named(own, f"{name}_bucket"):
            try:
                bound = float(labels.get("le", ""))
            except ValueError:
                continue
            if not math.isnan(bound):
                buckets[bound] = buckets.get(bound, 0.0) + value
        return Histogram(sum(value for *_, value in sums), sum(value for *_, value in counts), buckets)
    return None


def _trtllm_pool(own: list[Sample]) -> float | None:
    """Tokens of the pool: TensorRT-LLM's blocks times their tokens."""
    blocks, size = (_gauge(own, (name,), True) for name in ("kv_cache_max_blocks", "kv_cache_tokens_per_block"))
    return blocks * size if blocks and size and 0 < blocks * size < 1e12 else None


def _vllm_pool(own: list[Sample]) -> float | None:
    """Tokens of the pool, from the labels of vLLM's cache_config_info."""
    for _, labels, _ in _named(own, "cache_config_info"):
        blocks, size = labels.get("num_gpu_blocks", ""), labels.get("block_size", "")
        if blocks.isdecimal() and size.isdecimal() and len(blocks) < 12 and len(size) < 7:
            return float(int(blocks) * int(size))
    return None


@dataclass(frozen=True)
class Served:
    """What a server does: gauges now, means and rates between two reads, or since its start.

    seconds   between the reads; None where that is not known, and since the start, where no rate is
    between   two reads, not the time since the server started
    decoding  sequences of a step on the mean, where the server counts steps (llama-server)
    """

    engine: str
    model: str | None
    seconds: float | None
    running: float | None
    waiting: float | None
    cache_share: float | None
    pool_tokens: float | None
    preemptions: float | None
    prefix_hit_share: float | None
    ttft_seconds: float | None
    ttft_p95_seconds: float | None
    tpot_seconds: float | None
    tpot_p95_seconds: float | None
    request_seconds: float | None
    prompt_tokens: float | None
    output_tokens: float | None
    requests: float | None
    requests_per_s: float | None
    output_tokens_per_s: float | None
    decoding: float | None = None
    between: bool = False

    def point(self, source: str) -> MeasuredPoint:
        """Returns the same figures as a point of a benchmark."""
        return MeasuredPoint(
            tool="/metrics", source=source, engine=self.engine, model=self.model, sequences=self.in_flight,
            prompt_tokens=self.prompt_tokens, output_tokens=self.output_tokens, ttft_seconds=self.ttft_seconds,
            tpot_seconds=self.tpot_seconds, request_seconds=self.request_seconds,
            output_tokens_per_s=self.output_tokens_per_s, requests=round(self.requests) if self.requests else None,
        )  # fmt: skip

    @property
    def in_flight(self) -> float | None:
        """Requests at once between the reads, by Little's law; else those that run now, or that decoded together."""
        if self.requests_per_s and self.request_seconds:
            return max(1.0, self.requests_per_s * self.request_seconds)
        return self.running or (None if self.decoding is None else max(1.0, self.decoding))


def served(now: Reading, before: Reading | None = None, seconds: float | None = None) -> Served:
    """Computes what happened between two scrapes of one server; without `before`, since its start.

    >>> one = Reading("vllm", None, {"running": 2.0}, {"output_tokens": 100.0}, {"ttft": Histogram(1.0, 10)})
    >>> two = Reading("vllm", None, {"running": 3.0}, {"output_tokens": 400.0}, {"ttft": Histogram(3.0, 20)})
    >>> found = served(two, one, 10.0)
    >>> found.ttft_seconds, found.output_tokens_per_s, found.running
    (0.2, 30.0, 3.0)
    """
    spans = {key: value.since(before.histograms.get(key) if before else None) for key, value in now.histograms.items()}
    counts = {key: _grown(now, before, key) for key in now.counters}
    mean = {key: value.mean for key, value in spans.items()}
    queries, hits = counts.get("prefix_queries") or counts.get("prompt_tokens"), counts.get("prefix_hits")
    if now.engine == "llamacpp" and queries and hits:
        queries += hits  # its prompt tokens leave out those that were cached
    requests = spans["request"].count if "request" in spans else spans["ttft"].count if "ttft" in spans else None
    tpot, ttft = mean.get("tpot"), mean.get("ttft")
    if tpot is None and counts.get("output_tokens") and counts.get("output_seconds"):
        tpot = counts["output_seconds"] / counts["output_tokens"]  # llama-server counts, it has no histograms
    ends = {key: spans[key].quantile(0.95) for key in ("ttft", "tpot") if key in spans}
    elapsed = seconds if before is not None and seconds and seconds > 0 else None
    output = counts.get("output_tokens")
    return Served(
        engine=now.engine, model=now.model, seconds=elapsed, running=now.gauges.get("running"),
        waiting=now.gauges.get("waiting"), cache_share=now.gauges.get("cache_share"),
        pool_tokens=now.gauges.get("pool_tokens"), preemptions=counts.get("preemptions"),
        prefix_hit_share=min(1.0, hits / queries) if queries and hits is not None else now.gauges.get("hit_share"),
        ttft_seconds=ttft, ttft_p95_seconds=ends.get("ttft"), tpot_seconds=tpot or None, tpot_p95_seconds=ends.get("tpot"),
        request_seconds=mean.get("request"), prompt_tokens=mean.get("prompt_length") or _each(counts.get("prompt_tokens"), requests),
        output_tokens=mean.get("output_length") or _each(output, requests), requests=requests,
        requests_per_s=requests / elapsed if requests and elapsed else None,
        output_tokens_per_s=output / elapsed if output and elapsed else None,
        decoding=_each(output, counts.get("decodes")), between=before is not None,
    )  # fmt: skip


def _each(total: float | None, requests: float | None) -> float | None:
    """Tokens of each request or step, where an engine counts both and has no histogram."""
    return total / requests if total and requests else None


def _grown(now: Reading, before: Reading | None, key: str) -> float:
    """How much a counter grew; all of it where the server was started anew."""
    value, old = now.counters[key], (before.counters.get(key, 0.0) if before else 0.0)
    return value - old if value >= old else value


def to_dict(found: Served) -> dict[str, Any]:
    """Returns the JSON contract: base units, keys that stay; null where the server does not say."""
    return dict(vars(found))

"""GuideLLM's report: JSON or YAML, a benchmark for each load of a sweep."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from planner.measured.points import MeasuredFile, MeasuredPoint, at, count, milli, number, strange, words

TOOL = "GuideLLM"
MOST_BENCHMARKS = 1000
KEYS = frozenset("metadata args config benchmarks conclusions type_ version".split())


def guidellm(raw: Mapping[str, Any]) -> MeasuredFile | None:
    """Reads a point for each benchmark of the report; None where it is no such report."""
    benchmarks = raw.get("benchmarks")
    if not isinstance(benchmarks, list) or not all(isinstance(item, Mapping) for item in benchmarks):
        return None
    if not any("metrics" in item for item in benchmarks):
        return None
    version = words(at(raw, "metadata", "guidellm_version"))
    points = tuple(
        _point(item, version, _asked(raw))
        for item in benchmarks[:MOST_BENCHMARKS]
        if isinstance(item.get("metrics"), Mapping)
    )
    kept = tuple(point for point in points if point.requests)
    left = len(benchmarks) - len(kept)
    notes = (f"{left} benchmarks of the report have no request that ended",) if left else ()
    return MeasuredFile(TOOL, kept, notes + strange(raw, KEYS, TOOL))


def _point(raw: Mapping[str, Any], version: str | None, asked: float | None) -> MeasuredPoint:
    metrics = raw["metrics"]
    strategy = at(raw, "config", "strategy") or at(raw, "args", "strategy") or at(raw, "scheduler", "strategy") or {}
    kind = words(at(strategy, "type_")) or words(at(strategy, "kind")) or ""
    streams = number(at(strategy, "streams")) or number(at(strategy, "max_concurrency"))
    model = words(at(raw, "config", "backend", "model")) or words(at(raw, "worker", "backend_model"))
    return MeasuredPoint(
        tool=TOOL,
        source="",
        version=version,
        model=model,
        sequences=1.0 if kind == "synchronous" else (streams if kind == "concurrent" else None) or _mean(metrics, "request_concurrency"),
        rate_per_s=number(at(strategy, "rate")) if kind in ("constant", "poisson", "asynchronous") else None,
        prompt_tokens=_mean(metrics, "prompt_token_count") or asked,  # a server without usage counts none
        output_tokens=_mean(metrics, "output_token_count"),
        ttft_seconds=milli(_mean(metrics, "time_to_first_token_ms")),
        tpot_seconds=milli(_mean(metrics, "inter_token_latency_ms")),
        request_seconds=_mean(metrics, "request_latency"),
        output_tokens_per_s=_mean(metrics, "output_tokens_per_second"),
        requests=count(at(metrics, "request_totals", "successful")) or count(at(metrics, "time_to_first_token_ms", "successful", "count")),
        percentiles=tuple(
            (name, share, seconds)
            for name, key, unit in (("ttft", "time_to_first_token_ms", 1e3), ("tpot", "inter_token_latency_ms", 1e3), ("request", "request_latency", 1.0))
            for share in (50.0, 95.0, 99.0)
            if (value := number(at(metrics, key, "successful", "percentiles", f"p{share:g}"))) is not None
            and (seconds := value / unit)
        ),
    )  # fmt: skip


def _mean(metrics: Mapping[str, Any], name: str) -> float | None:
    """The mean of what succeeded."""
    return number(at(metrics, name, "successful", "mean"))


def _asked(raw: Mapping[str, Any]) -> float | None:
    """Prompt tokens of the synthetic data that was asked for."""
    data = at(raw, "config", "spec", "data") or at(raw, "config", "data")
    return number(at(data[0], "prompt_tokens")) if isinstance(data, list) and len(data) == 1 else None

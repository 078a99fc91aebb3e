"""Reads a benchmark's file, whichever wrote it: known by its content, never by its name.

Bounded: 64 MiB of UTF-8 text; numbers that are none are left out; a file that no reader knows is refused with the list
of what is read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from planner.errors import one_line
from planner.files.read import parse_json, read_text
from planner.measured.aiperf import aiperf, aiperf_csv
from planner.measured.answers import answer_timings, ollama_verbose
from planner.measured.guidellm import guidellm
from planner.measured.inference_benchmarker import inference_benchmarker
from planner.measured.llama_bench import llama_bench, llama_bench_csv, llama_bench_md
from planner.measured.offline import optimum, trtllm, vllm_latency, vllm_throughput
from planner.measured.points import BadMeasured, MeasuredFile
from planner.measured.serving import llmperf, sglang_serve, vllm_serve

MOST_BYTES = 64 << 20
MOST_YAML_BYTES = 8 << 20  # a YAML parser is a hundred times slower
OBJECTS: tuple[Callable[[Mapping[str, Any]], MeasuredFile | None], ...] = (
    guidellm, inference_benchmarker, aiperf, vllm_serve, sglang_serve, llmperf, trtllm, optimum, vllm_latency,
    vllm_throughput, answer_timings,
)  # fmt: skip
TEXTS: tuple[Callable[[str], MeasuredFile | None], ...] = (aiperf_csv, llama_bench_csv, llama_bench_md, ollama_verbose)
KNOWN = (
    "vllm bench serve/latency/throughput, SGLang bench_serving, llama-bench (json, jsonl, csv, md), GuideLLM, AIPerf, "
    "GenAI-Perf, inference-benchmarker, LLMPerf, optimum-benchmark, trtllm-bench, ollama, llama-server and LM Studio timings"
)


TAGS = (ValueError, TypeError, RecursionError, OverflowError, AttributeError, LookupError)
"""What PyYAML raises for a tag whose value is not of its kind, as `!!timestamp x`."""


def read_measured(path: str, option: str = "") -> MeasuredFile:
    """Returns the points of the benchmark file at `path`; BadMeasured, in one line, where none is known."""
    text = read_text(path, most_bytes=MOST_BYTES, what="a benchmark's file", option=option, error=BadMeasured)
    shown = f"{option} {one_line(path, 120)}".strip()
    found = measured_text(text, shown)
    if found is None:
        raise BadMeasured(f"{shown}: no benchmark's file that is known here; read are: {KNOWN}")
    return found.of(path)


def measured_text(text: str, where: str) -> MeasuredFile | None:
    """Reads the points in a text; None where no reader knows it, BadMeasured where it is known and damaged."""
    start = text.lstrip()[:1]
    if start in ("{", "["):
        return _json(text, where)
    for reader in TEXTS:
        found = reader(text)
        if found is not None:
            return found
    return _yaml(text, where)


def _json(text: str, where: str) -> MeasuredFile | None:
    """One object, a list of rows, or lines of JSON; what stands before the first brace of a log is left out."""
    try:
        raw = parse_json(text, where, error=BadMeasured)
    except BadMeasured:
        rows = list(_lines(text, where))
        return _joined(rows) if rows else _refuse(where, text)
    if isinstance(raw, list):
        rows = [row for row in raw if isinstance(row, Mapping)]
        return llama_bench(rows) if rows and len(rows) == len(raw) and "avg_ts" in rows[0] else _joined(rows)
    return _joined([raw]) if isinstance(raw, Mapping) else None  # a single row of llama-bench is one, too


def _refuse(where: str, text: str) -> MeasuredFile | None:
    """Says what is wrong with a text that begins as JSON."""
    parse_json(text, where, error=BadMeasured)
    return None


def _lines(text: str, where: str) -> Iterator[Mapping[str, Any]]:
    """The objects of lines of JSON; nothing where a line is none."""
    rows = []
    for line in text.splitlines()[:100_000]:
        if not line.strip():
            continue
        try:
            raw = parse_json(line, where, error=BadMeasured)
        except BadMeasured:
            return
        if not isinstance(raw, Mapping):
            return
        rows.append(raw)
    yield from rows


def _joined(rows: list[Mapping[str, Any]]) -> MeasuredFile | None:
    """The points of several objects that one tool wrote, in their order."""
    if rows and all("n_prompt" in row and "avg_ts" in row for row in rows):
        return llama_bench(rows)
    files = [found for row in rows if (found := _object(row)) is not None]
    if not files:
        return None
    points = tuple(point for found in files for point in found.points)
    notes = tuple(dict.fromkeys(note for found in files for note in found.notes))
    if len(files) < len(rows):
        notes += (f"{len(rows) - len(files)} of {len(rows)} objects are no run of a benchmark that is known",)
    return MeasuredFile(files[0].tool, points, notes)


def _object(raw: Mapping[str, Any]) -> MeasuredFile | None:
    return next((found for reader in OBJECTS if (found := reader(raw)) is not None), None)


def _yaml(text: str, where: str) -> MeasuredFile | None:
    """GuideLLM's report as YAML; plain data alone, no aliases (they multiply)."""
    if "benchmarks:" not in text or len(text) > MOST_YAML_BYTES:
        return None
    import yaml

    class Plain(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
        """Safe, and without aliases."""

        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.events.AliasEvent):
                raise BadMeasured(f"{where}: an alias of YAML, which no benchmark writes")
            return super().compose_node(parent, index)

    try:
        raw = yaml.load(text, Loader=Plain)
        json.dumps(raw, allow_nan=True)
    except (yaml.YAMLError, *TAGS) as wrong:
        raise BadMeasured(f"{where}: is damaged or not YAML ({one_line(str(wrong), 80)})") from None
    return _object(raw) if isinstance(raw, Mapping) else None

"""A benchmark's file is known by its content, and its points are in seconds, tokens and requests at once."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from planner.measured.answers import ollama_verbose
from planner.measured.points import BadMeasured, MeasuredPoint
from planner.measured.reader import measured_text, read_measured

CASES = Path(__file__).parents[2] / "cases" / "benchmarks"
FILES = sorted(path.name for path in CASES.iterdir() if path.suffix in (".json", ".jsonl", ".csv", ".md", ".txt", ".yaml") and path.name != "README.md")  # fmt: skip

# file -> tool, points, and of the last point: sequences, prompt, output, TTFT, TPOT (what the file says, by hand)
SAID = {
    "vllm-serve.json": ("vllm bench serve", 1, 16, 1024, 256, 0.4, 0.026),
    "sglang.jsonl": ("sglang bench_serving", 2, 8, 1024, 256, 0.3, 0.03725),
    "llama-bench.json": ("llama-bench", 3, 1, 4096, 128, None, 1 / 40),
    "llama-bench.jsonl": ("llama-bench", 3, 1, 4096, 128, None, 1 / 40),
    "llama-bench.csv": ("llama-bench", 3, 1, 4096, 128, None, 1 / 40),
    "llama-bench.md": ("llama-bench", 3, 1, 4096, 128, None, 1 / 40),
    "guidellm.json": ("GuideLLM", 1, 4, 256, 32, 0.303898, 0.0260509),
    "guidellm.yaml": ("GuideLLM", 1, 4, 256, 32, 0.303898, 0.0260509),
    "llmperf.json": ("LLMPerf", 1, 4, 552, 149, 0.5, 3.1 / 148),
    "optimum.json": ("optimum-benchmark", 1, 2, 128, 101, 0.05, 0.01),
    "trtllm.json": ("trtllm-bench", 1, 16, 1000, 200, 0.2, 0.024),
    "genai-perf.json": ("GenAI-Perf", 1, 4, 512, 101, 0.15, 0.0185),
    "genai-perf.csv": ("AIPerf", 1, 4, 512, 101, 0.15, 0.0185),
    "inference-benchmarker.json": ("inference-benchmarker", 1, 4.08, 200, 200, 0.1, 0.02),
    "inference-benchmarker-nested.json": ("inference-benchmarker", 1, 4.08, 200, 200, 0.1, 0.02),
    "ollama-verbose.txt": ("ollama", 1, 1, 26, 259, 0.130079, 4.23271 / 259),
    "ollama.json": ("ollama", 1, 1, 26, 259, 0.130079, 4.23271 / 259),
    "llama-server.json": ("llama-server", 1, 1, 36, 50, 0.1, 0.02),
    "lmstudio.json": ("LM Studio", 1, 1, 24, 53, 0.111, 1 / 51.43),
}


def last(name: str) -> MeasuredPoint:
    return read_measured(str(CASES / name)).points[-1]


@pytest.mark.parametrize("name", sorted(SAID))
def test_a_file_gives_what_it_says(name: str) -> None:
    tool, points, *figures = SAID[name]
    found = read_measured(str(CASES / name))
    assert (found.tool, len(found.points)) == (tool, points)
    point = found.points[-1]
    said = [point.sequences, point.prompt_tokens, point.output_tokens, point.ttft_seconds, point.tpot_seconds]
    assert said == [None if figure is None else pytest.approx(figure, rel=1e-5) for figure in figures]
    assert point.observed() is not None


def test_percentiles_are_seconds() -> None:
    assert ("ttft", 99.0, 0.9) in last("vllm-serve.json").percentiles
    assert last("genai-perf.json").to_dict()["percentiles"]["ttft_p95_seconds"] == pytest.approx(0.15)


def test_a_key_that_no_version_writes_is_named() -> None:
    raw = json.loads((CASES / "vllm-serve.json").read_text()) | {"warp_factor": 9}
    found = measured_text(json.dumps(raw), "x")
    assert found is not None
    assert "warp_factor" in found.notes[0]
    assert not read_measured(str(CASES / "vllm-serve.json")).notes


OBJECTS = [name for name in FILES if name.endswith((".json", ".jsonl"))]


@pytest.mark.parametrize("name", OBJECTS)
def test_every_reader_names_what_it_does_not_know_and_nothing_that_it_does(name: str) -> None:
    assert not [note for note in read_measured(str(CASES / name)).notes if "no version" in note]
    raw = (
        json.loads((CASES / name).read_text().splitlines()[0])
        if name.endswith("l")
        else json.loads((CASES / name).read_text())
    )
    first = raw[0] if isinstance(raw, list) else raw
    inside = first.get("timings") or first.get("stats") or first  # where an answer's timings stand
    inside["warp_factor"] = 9
    found = measured_text(json.dumps(raw), "x")
    assert found is not None
    assert any("warp_factor" in note for note in found.notes), found.notes


def test_llmperfs_time_between_tokens_leaves_out_the_first() -> None:
    """Its own inter_token_latency has the first token in it (a published run: 0.1135 s, where (18.07 - 5.368) / 158.3 = 0.0802)."""
    raw = {
        "results_ttft_s_mean": 5.367653, "results_end_to_end_latency_s_mean": 18.069606, "num_concurrent_requests": 16,
        "results_inter_token_latency_s_mean": 0.113501, "results_number_output_tokens_mean": 159.276786,
        "results_inter_token_latency_s_quantiles_p95": 0.12, "results_number_input_tokens_mean": 550.0,
    }  # fmt: skip
    found = measured_text(json.dumps(raw), "x")
    assert found is not None
    assert found.points[0].tpot_seconds == pytest.approx(0.08024, rel=1e-3)
    assert not [name for name, _, _ in found.points[0].percentiles if name == "tpot"]


def test_a_rate_takes_the_mean_of_requests_at_once_by_littles_law() -> None:
    raw = json.loads((CASES / "vllm-serve.json").read_text()) | {"max_concurrency": None, "request_rate": 2.5, "mean_e2el_ms": 7000.0}  # fmt: skip
    found = measured_text(json.dumps(raw), "x")
    assert found is not None
    assert found.points[0].sequences == pytest.approx(2.1333 * 7)
    assert found.points[0].rate_per_s == 2.5


def test_latency_and_throughput_say_that_nothing_can_be_fitted_to_them() -> None:
    for raw in (
        {"avg_latency": 1.5, "latencies": [1.5], "percentiles": {"50": 1.5}},
        {"elapsed_time": 9.0, "num_requests": 3, "total_num_tokens": 900, "requests_per_second": 0.3, "tokens_per_second": 100.0},
    ):  # fmt: skip
        found = measured_text(json.dumps(raw), "x")
        assert found is not None
        assert found.points[0].observed() is None
        assert "nothing can be fitted" in found.notes[0]


def test_a_text_of_something_else_is_no_benchmark(tmp_path: Path) -> None:
    for text in ("", "hello", "[]", "{}", "[1, 2]", '{"a": 1}', "| a | b |\n"):
        assert measured_text(text, "x") is None
    path = tmp_path / "x.txt"
    path.write_text("hello")
    with pytest.raises(BadMeasured, match="no benchmark's file that is known here"):
        read_measured(str(path))


def test_changed_files_are_read_or_refused_in_one_line() -> None:
    """3,000 changed files: cut, bytes changed, values of another kind, numbers without end."""
    rng = random.Random(18)
    texts = [(CASES / name).read_text() for name in FILES]
    odd = ["null", "-1", "1e308", "1e999", "NaN", "[]", "{}", '"x"', "true", "9" * 60, '"\\ud800"', "[[[["]
    for _ in range(3000):
        text = rng.choice(texts)
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(text) + 1)
            size = rng.choice((0, 1, 2, 8))
            text = text[:at] + rng.choice([*odd, chr(rng.randrange(1, 0x2FFF)), ""]) + text[at + size :]
        if rng.random() < 0.2:
            text = text[: rng.randrange(len(text) + 1)]
        try:
            found = measured_text(text, "changed")
        except BadMeasured as refused:
            assert "\n" not in str(refused)
            continue
        for point in found.points if found else ():
            point.observed()
            json.dumps(point.to_dict(), allow_nan=False)


@pytest.mark.parametrize("value", ["!!timestamp 'x'", "!!int '-'", "!!float ''", "!!bool 'x'", "*a", "[" * 500])
def test_yaml_that_holds_no_plain_values_is_one_line(value: str) -> None:
    with pytest.raises(BadMeasured) as found:
        measured_text(f"benchmarks:\n- config: {value}\n", "file.yaml")
    assert "\n" not in str(found.value)


def test_csv_that_pythons_reader_refuses_is_no_benchmark() -> None:
    text = "n_prompt,avg_ts\n1,2\r~\x07"
    assert measured_text(text, "file") is None


@pytest.mark.parametrize(
    ("name", "old", "new", "key"),
    [
        ("llama-bench.md", "backend", "backnd", "backnd"),
        ("llama-bench.csv", "build_commit", "build_comit", "build_comit"),
        ("genai-perf.csv", "Request Count", "Requests Counted", "requests_counted"),
        ("genai-perf.csv", ",p99,", ",quantile99,", "quantile99"),
        ("genai-perf.json", '"request_count"', '"requests_counted"', "requests_counted"),
        ("ollama-verbose.txt", "load duration", "warm duration", "warm duration"),
        ("guidellm.yaml", "metadata", "metdata", "metdata"),
    ],
)
def test_every_reader_names_a_key_that_it_does_not_know(
    name: str, old: str, new: str, key: str, tmp_path: Path
) -> None:
    """Tables and texts as well: a column of Markdown, a row or a column of CSV, a line of `ollama run --verbose`."""
    text = (CASES / name).read_text()
    assert old in text
    path = tmp_path / name
    path.write_text(text.replace(old, new))
    notes = read_measured(str(path)).notes
    assert any("no version of" in note and key in note for note in notes), notes


def test_text_of_the_next_answer_is_no_key_that_ollama_printed() -> None:
    """`note: yes` of a later answer was reported as a key that is not known."""
    block = (CASES / "ollama-verbose.txt").read_text()
    found = ollama_verbose(f"{block}\n>>> and now?\nnote: yes\n\nanswer: 42\n\n{block}")
    alone = ollama_verbose(block)
    assert found is not None and alone is not None
    assert (len(found.points), found.notes) == (2 * len(alone.points), alone.notes)
    odd = ollama_verbose(block.replace("eval rate:", "new rate:  1 tokens/s\neval rate:"))
    assert odd is not None and any("new rate" in note for note in odd.notes)


def recounted(usage: float | None) -> str:
    """A profile of AIPerf whose client counts 95.25 tokens an answer, and whose server says `usage`."""
    stats = {"request_latency": ("ms", 2175.0), "time_to_first_token": ("ms", 771.0), "inter_token_latency": ("ms", 14.9),
             "request_throughput": ("requests/sec", 1.82), "input_sequence_length": ("tokens", 256), "output_sequence_length": ("tokens", 95.25),
             "output_token_throughput": ("tokens/sec", 173.4), "usage_completion_tokens": ("tokens", usage)}  # fmt: skip
    made = {name: {"unit": unit, "avg": value} for name, (unit, value) in stats.items() if value is not None}
    return json.dumps(made | {"aiperf_version": "0.13.0"})


def test_answers_of_aiperf_are_as_long_as_the_server_says() -> None:
    """Its own tokenizer may take another number of tokens out of the text: 95 for 32 that were made."""
    found = measured_text(recounted(32), "x")
    assert found is not None and "the server's count is taken" in found.notes[0]
    (point,) = found.points
    assert (point.output_tokens, point.tpot_seconds) == (32, pytest.approx((2.175 - 0.771) / 31))
    assert point.output_tokens_per_s == pytest.approx(173.4 * 32 / 95.25)


@pytest.mark.parametrize("usage", [None, 95.25])
def test_aiperf_that_agrees_with_its_server_is_read_as_it_is(usage: float | None) -> None:
    found = measured_text(recounted(usage), "x")
    assert found is not None and not found.notes
    assert (found.points[0].output_tokens, found.points[0].tpot_seconds) == (95.25, pytest.approx(0.0149))

"""Files of a real llama-server (tests/cases/llama-server): its log, /metrics, /props and timings say the same of one server."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from planner.measured.reader import read_measured
from planner.measured.server_config import ServerConfig, server_config

Run = Callable[..., Any]
CASES = Path(__file__).parents[1] / "cases" / "llama-server"


def test_its_ledger_closes_on_the_cache_by_hand(run: Run) -> None:
    """2 x 4 layers x 2 heads x 64 x 2 bytes x 8,192 cells = 16 MiB, as it prints."""
    ledger = run("reconcile", CASES / "server.log", "--json").json["ledgers"][0]
    cache = next(entry for entry in ledger["entries"] if entry["name"] == "KV cache")
    assert cache["logged_bytes"] == cache["predicted_bytes"] == 2 * 4 * 2 * 64 * 2 * 8192 == 16 << 20
    assert ledger["closes"] and all(figure["agrees"] for figure in ledger["figures"])


def test_time_between_tokens_is_that_between_the_first_and_the_last() -> None:
    """`predicted_ms` of 64 tokens spans 63 steps there; `predicted_per_token_ms` says so."""
    lines = [json.loads(line)["timings"] for line in (CASES / "answers.jsonl").read_text().splitlines()]
    points = read_measured(str(CASES / "answers.jsonl")).points
    for point, said in zip(points, lines, strict=True):
        assert point.tpot_seconds == pytest.approx(said["predicted_ms"] / 63e3)
        assert point.ttft_seconds == pytest.approx(said["prompt_ms"] / 1e3)
    assert [point.prompt_tokens for point in points] == [64, 256, 512, 1024]


def test_two_reads_under_load_say_how_many_decoded_together(run: Run) -> None:
    pytest.importorskip("prometheus_client")
    found = run("watch", CASES / "metrics-1.txt", CASES / "metrics-2.txt", "--every", "10s", "--json").json
    assert found["output_tokens_per_s"] == pytest.approx(4 * 4 * 64 / 10)
    assert 2 < found["decoding"] <= 4  # four users, four slots
    assert found["prefix_hit_share"] == 0


def test_with_its_lengths_it_is_held_against_what_is_expected(run: Run) -> None:
    pytest.importorskip("prometheus_client")
    reads = (
        CASES / "metrics-1.txt",
        CASES / "metrics-2.txt",
        "--every",
        "10s",
        "--gpu",
        "l4",
        "--model",
        "gpt2",
        "--json",
    )
    assert "--prompt N --answer N" in run("watch", *reads).json["why_not"]
    found = run("watch", *reads, "--prompt", "256", "--answer", "64").json
    assert (found["expected"]["batch"], found["expected"]["prompt_tokens"], found["prompt_tokens"]) == (4, 256, 256)
    assert found["advice"]["now"]["tpot_seconds"] == pytest.approx(found["tpot_seconds"], rel=0.1)


def test_it_says_its_slots_and_their_context() -> None:
    raw = json.loads((CASES / "props.json").read_text())
    assert server_config("llamacpp", raw) == ServerConfig("random-4m-F16.gguf", None, longest_tokens=2048, slots=4)


def test_log_timings_and_metrics_are_one_page(run: Run) -> None:
    pytest.importorskip("prometheus_client")
    files = (CASES / "server.log", CASES / "answers.jsonl", CASES / "metrics-1.txt", CASES / "metrics-2.txt")
    found = run("reconcile", *files, "--gpu", "l4", "--json").json
    assert len(found["ledgers"]) == 1
    assert [one["measured"]["tool"] for one in found["speed"]].count("llama-server") == 4
    assert found["load"]["engine"] == "llamacpp"
    page = run("reconcile", *files, "--gpu", "l4", "--model", "gpt2").out.splitlines()
    assert page[0] == "llamacpp gpt2 on l4"
    assert run("reconcile", *files, "--gpu", "l4").out.startswith("llamacpp random-4m on l4\n")

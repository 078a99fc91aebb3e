"""Logs that people pasted (public threads; the names say which issue or pull request), read as they were pasted.

What each prints is shown even where no model is known; where one is, ours is held against it.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import pytest

from planner.catalogue.entries import find_device, find_model
from planner.engines.base import Options
from planner.memory.request import device_capacity
from planner.readers import read_entry
from planner.reconcile.facts import Log, engines_of
from planner.reconcile.ledger import Given, Ledger
from planner.reconcile.patterns import ARGUMENTS, PATTERNS
from planner.reconcile.reader import Source
from planner.reconcile.runs import ledger_of
from planner.units import GIB, MIB

LOGS = Path(__file__).parents[2] / "cases" / "logs" / "field"


def read(name: str, model: str | None = None, gpu: str | None = None, **given: Any) -> Ledger:
    spec = read_entry(find_model(model)) if model else None
    capacity = device_capacity(find_device(gpu)) if gpu else None
    (run,) = engines_of(Log().read(Source(str(LOGS / name)).lines()))
    return ledger_of(run, Given(spec, capacity, **given))


def logged(made: Ledger, entry: str) -> float | None:
    size = made.logged_bytes(entry)
    return None if size is None else round(size / GIB, 2)


@pytest.mark.parametrize(
    ("name", "given", "version", "figures"),
    [
        ("club3090-652-qwen36-35b-nvfp4-5090.log", {"gpu": "rtx-5090"}, "0.24.0", {"tokens": 569878}),
        ("club3090-594-qwen36-27b-fp8-2x3090.log", {"model": "qwen3.5-27b", "gpu": "rtx-3090"}, "0.24.0", {"tokens": 300220}),
        (
            "vllm-32105-glm47fp8-pp8.log",
            {"model": "glm-4.5", "gpu": "a100-sxm4-80gb", "pp": 8, "dtype": "fp8", "version": "0.15.0"},
            "0.15.0",
            {"needed_gib": 71.16, "estimated_max_len": 81392},
        ),
        ("trtllm-1188-qwen25-05b-a4000.log", {"model": "qwen2.5-0.5b", "dtype": "int8"}, None, {"tokens": 395776}),
        ("pr23269-qwen36-35b-mtp.log", {"model": "qwen3.5-35b-a3b"}, None, {"KV cache MiB": 1280}),
        ("kobold1054-llama31-8b.log", {"model": "llama-3.1-8b", "version": "b3500"}, "b3500", {"KV cache MiB": 4108}),
        ("ollama17037-gemma3-4b.log", {"model": "gemma-3-4b"}, None, {"KV cache MiB": 2734}),
        ("lmstudio1176-qwen3vl-8b.log", {"model": "qwen3-vl-8b"}, None, {"KV cache MiB": 1224}),
        (
            "ollama12403-deci-49b.log",
            {"model": "llama-3.3-nemotron-super-49b", "max_model_len": 20000},
            None,
            {"KV cache MiB": 3871},
        ),
    ],
)  # fmt: skip
def test_figures_agree(name: str, given: dict[str, Any], version: str | None, figures: dict[str, float]) -> None:
    made = read(name, **given)
    assert made.version == version
    for figure, value in figures.items():
        found = next(one for one in made.figures if one.name == figure)
        assert (round(found.logged, 2), found.agrees) == (value, True)


@pytest.mark.parametrize(
    ("name", "readings"),
    [
        ("vllm-44376-dsv4flash-2xgh200.log", {
            "cache needed for the longest request, GiB": 6.66, "cache there, GiB": 5.44, "longest request, tokens": 30000,
            "longest that would fit, tokens": 13528,
        }),
        ("sglang-29575-line.log", {
            "tokens in the pool": 2086558, "longest request, tokens": 256000, "most running requests": 33,
            "whole contexts in the pool": 8,
        }),
        ("vllm-49878-gemma4-026.log", {"free at the start, GiB": 93.88, "cache there, GiB": 49}),
        ("vllm-12569-llama31-70b-w8a8.log", {"blocks": 1381, "longest requests at once": 10.79}),
        ("1cat-237-v100x4.log", {"tokens in the pool": 215401, "longest requests at once": 26.29}),
        ("tpu-145-v6e4.log", {"tokens in the pool": 811008, "blocks": 3168}),
        ("vllm-0.32-cpu-start.log", {"cache there, GiB": 1, "tokens in the pool": 524288, "longest requests at once": 128}),
        ("vllm-23278-gptoss120b-h100.log", {"cache there, GiB": -2.14}),
        ("jetson-795-orin-nx-qwen2-7b-q4km.log", {"blocks": 11836, "longest requests at once": 946.88}),
        ("trtllm-224-llama2-7b-a10.log", {"tokens in the pool": 10718}),
    ],
)  # fmt: skip
def test_what_a_log_says_is_shown_without_a_model(name: str, readings: dict[str, float]) -> None:
    made = read(name)
    assert {key: made.readings.get(key) for key in readings} == readings


def test_lines_without_their_prefix_count() -> None:
    """TensorRT-LLM 1188: engine 875 MiB, context 773.51 MiB, runtime 2.66 GB, decoder 5.76 GB, pool 4.53 GiB."""
    made = read("trtllm-1188-qwen25-05b-a4000.log", "qwen2.5-0.5b", dtype="int8")
    parts = ("engine (weights)", "execution context", "runtime buffers", "decoder buffers", "KV cache pool")
    assert [logged(made, part) for part in parts] == [0.85, 0.76, 2.66, 5.76, 4.53]


def test_weights_alone_are_worth_a_ledger() -> None:
    assert logged(read("vllm-33155-gptoss120b-h100-0141.log"), "weights") == 64.38
    made = read("inferencex-2128-dsv4pro-h200.log")
    assert logged(made, "weights") == 125.65 and "refused to start" in str(made.stopped)


def test_two_caches_of_one_device_add_up() -> None:
    made = read("ollama17037-gemma3-4b.log", "gemma-3-4b")
    assert (made.logged_bytes("KV cache"), made.closes) == (2734 * MIB, True)


def test_devices_with_spaces_in_their_names_close() -> None:
    assert read("kobold1054-llama31-8b.log", "llama-3.1-8b", version="b3500").closes


def test_snapshots_of_the_state_are_read() -> None:
    """n_rs_seq = 2: 188.44 MiB, three states of 62.81; the context comes from n_ctx_seq and the cells."""
    made = read("pr23269-qwen36-35b-mtp.log", "qwen3.5-35b-a3b")
    state = next(entry for entry in made.entries if entry.name == "recurrent state")
    assert state.predicted is not None and abs(state.predicted.bytes / MIB - 188.44) < 0.01


def test_a_log_pasted_in_another_order_is_one_server() -> None:
    made = read("club3090-91-qwen36-27b-int4-2x3090.log")
    assert (made.version, made.tp, made.readings["tokens in the pool"]) == ("0.20.1", 2, 619479)


def test_no_advice_that_is_in_force_already() -> None:
    made = read("club3090-652-qwen36-35b-nvfp4-5090.log", gpu="rtx-5090")
    assert not [room for room in made.more_room if "kv-cache-dtype" in room.flags]


def test_flags_that_a_log_lacks_can_be_added() -> None:
    """The drafter and the cache mode decide the blocks; a flag of the user stands in place of the log's."""
    given = {"model": "qwen3.5-27b", "gpu": "rtx-3090"}
    other = read("club3090-594-qwen36-27b-fp8-2x3090.log", **given, options=Options(num_speculative_tokens=1))
    tokens = next(figure for figure in other.figures if figure.name == "tokens")
    assert not tokens.agrees and tokens.low > 300220


def test_large_buffers_beside_layers_on_the_cpu_are_said_to_be_outside() -> None:
    made = read("ollama12403-deci-49b.log", "llama-3.3-nemotron-super-49b", max_model_len=20000)
    buffer = next(entry for entry in made.entries if entry.name == "compute buffer on CUDA0")
    assert round((buffer.logged or 0) / MIB, 2) == 1331.12 and "not modelled" in buffer.reason


def test_no_pattern_grows_with_the_square_of_a_line() -> None:
    """Every repetition of any character has a bound: `X.*?Y` over a long line without Y is quadratic."""
    written = [pattern.regex.pattern for pattern in PATTERNS]
    written += [regex.pattern for _, _, arguments in ARGUMENTS for _, regex in arguments]
    assert not [text for text in written if re.search(r"(?<!\\)\.[*+](?!-)|\]\*\?|\]\+\?", text)]


def test_every_log_of_the_folder_has_a_ledger() -> None:
    for path in sorted(LOGS.glob("*.log")):
        runs = engines_of(Log().read(Source(str(path)).lines()))
        assert runs, path.name
        assert all(ledger_of(run, Given()).to_dict() for run in runs)


def test_the_case_rows_name_logs_that_are_here() -> None:
    rows = list(csv.DictReader((LOGS / "reconcile.csv").open()))
    assert rows and all((LOGS / row["log"]).exists() for row in rows)

"""`kvplan speed`: its figures, their order, what memory admits, where constants come from, by output and exit code."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kvplan
from planner.commands.pages.speed import BAR_WIDTH, FILLS, share_bar
from planner.machine import device as local_device
from planner.machine.calibration import AttentionTime, Calibration, HeldBack, LayerTime, MatmulTime, Rate
from tests.planner.readers.test_gguf import CASES, write

TIMES = ("ttft_seconds", "tpot_seconds", "request_seconds")
RATES = ("decode_tokens_per_s", "prefill_tokens_per_s")
LLAMA = ("llama-3.1-8b", "--gpu", "h100-sxm", "--prompt", "2k", "--answer", "500")

Run = Callable[..., Any]


# -- the JSON contract -------------------------------------------------------------------------------------


def test_one_batch_stands_at_the_top_and_in_the_list(run: Run) -> None:
    found = run("speed", *LLAMA, "--batch", "8", "--json").json
    (batch,) = found["batches"]
    assert {key: found[key] for key in batch} == batch
    for name in (*TIMES, *RATES):
        assert all(f"{name}{end}" in batch for end in ("", "_low", "_high", "_bound"))
    assert {"binds", "constants_from", "compute_bound_batch", "largest_batch", "fits", "share_achieved"} <= set(found)


def test_several_batches_stand_in_the_list_alone(run: Run) -> None:
    found = run("speed", *LLAMA, "--batch", "1,8", "--json").json
    assert [batch["batch"] for batch in found["batches"]] == [1, 8]
    assert "tpot_seconds" not in found and found["prompt_tokens"] == 2048 and found["output_tokens"] == 500


@pytest.mark.parametrize("model", ["llama-3.1-8b", "gpt-oss-20b", "gemma-3-27b", "mamba-2.8b", "deepseek-v2-lite"])
@pytest.mark.parametrize("load", ["static", "serving"])
def test_no_expectation_beats_its_bound_and_each_lies_in_its_range(run: Run, model: str, load: str) -> None:
    for batch in run("speed", model, "--gpu", "h100-sxm", "--load", load, "--json").json["batches"]:
        for name in TIMES:
            assert 0 < batch[f"{name}_bound"] <= batch[f"{name}_low"] <= batch[name] <= batch[f"{name}_high"]
        for name in RATES:
            assert 0 < batch[f"{name}_low"] <= batch[name] <= batch[f"{name}_high"] <= batch[f"{name}_bound"]


def test_the_bound_of_a_decode_step_is_bytes_over_bandwidth(run: Run) -> None:
    # Llama-3.1-8B: 7,504,924,672 weights without the input embedding, 131,072 B of cache a token; H100 SXM 3.35 TB/s
    flags = ("--prompt", "1000", "--answer", "1", "--batch", "4", "--load", "static", "--json")
    found = run("speed", "llama-3.1-8b", "--gpu", "h100-sxm", *flags).json
    by_hand = (2 * 7_504_924_672 + 4 * 1001 * 131_072) / 3.35e12
    assert found["tpot_seconds_bound"] == pytest.approx(by_hand, rel=1e-4)
    assert found["share_achieved"] == pytest.approx(by_hand / found["tpot_seconds"], rel=1e-4)


def test_the_figures_of_a_batch_agree_with_each_other(run: Run) -> None:
    found = run("speed", *LLAMA, "--batch", "32", "--tp", "2", "--json").json
    assert found["decode_tokens_per_s"] == pytest.approx(32 / found["tpot_seconds"])
    assert found["tokens_per_s_user"] == pytest.approx(1 / found["tpot_seconds"])
    assert found["decode_tokens_per_s_device"] == pytest.approx(found["decode_tokens_per_s"] / 2)
    assert found["request_seconds"] == pytest.approx(found["ttft_seconds"] + 499 * found["tpot_seconds"])
    assert sum(found["tpot_parts_seconds"].values()) == pytest.approx(found["tpot_seconds"])
    assert found["binds"] == max(found["tpot_parts_seconds"], key=found["tpot_parts_seconds"].get)


def test_decode_turns_compute_bound_at_the_batch_that_is_named(run: Run) -> None:
    flags = ("llama-3.1-70b", "--gpu", "h100-sxm", "--tp", "8", "--prompt", "128", "--answer", "64", "--load", "static")
    ridge = run("speed", *flags, "--batch", "1", "--json").json["compute_bound_batch"]
    below, at = run("speed", *flags, "--batch", f"{ridge - 1},{ridge}", "--json").json["batches"]
    assert "bandwidth" in below["tpot_parts_seconds"] and "compute" in at["tpot_parts_seconds"]


def test_a_long_cache_never_turns_compute_bound(run: Run) -> None:
    found = run("speed", "llama-7b", "--gpu", "h100-sxm", "--prompt", "2000", "--batch", "1", "--json").json
    assert found["compute_bound_batch"] is None  # a KV head a query head: a byte read computes one FLOP


# -- memory ------------------------------------------------------------------------------------------------


def test_memory_admits_what_fit_says(run: Run) -> None:
    found = run("speed", "llama-3.1-8b", "--gpu", "rtx-4090", "--prompt", "7k", "--answer", "1k", "--json").json
    fit = run("fit", "llama-3.1-8b", "--gpu", "rtx-4090", "--seq", "8k", "--json").json
    assert found["largest_batch"] == fit["most_sequences"] == 6
    assert [batch["fits"] for batch in found["batches"]] == [True, False, False, False]


def test_the_largest_batch_fits_and_one_more_does_not(run: Run) -> None:
    flags = ("speed", "llama-3.1-8b", "--gpu", "rtx-4090", "--prompt", "7k", "--answer", "1k", "--json")
    assert [batch["fits"] for batch in run(*flags, "--batch", "6,7").json["batches"]] == [True, False]


def test_replicas_of_an_engine_admit_each_their_own(run: Run) -> None:
    flags = ("llama-3.1-8b", "--gpu", "h100-sxm", "--dp", "2", "--engine", "vllm==0.11.2", "--json")
    one = run("estimate", *flags, "--seq", "2548").json["engine"]["most_requests"]
    both = run("speed", *flags, "--prompt", "2k", "--answer", "500", "--batch", "1").json["largest_batch"]
    assert both == 2 * one > 0


@pytest.mark.parametrize("engine", ["vllm==0.11.2", "sglang", "tensorrt-llm"])
def test_an_engine_admits_what_its_own_pool_holds(run: Run, engine: str) -> None:
    found = run("speed", *LLAMA, "--batch", "1", "--engine", engine, "--json").json
    answer = run("estimate", "llama-3.1-8b", "--gpu", "h100-sxm", "--seq", "2548", "--engine", engine, "--json").json
    assert found["largest_batch"] == answer["engine"]["most_requests"] > 0
    assert found["engine"] == engine


def test_slots_are_counted_until_they_no_longer_fit(run: Run) -> None:
    flags = ("llama-3.1-8b", "--gpu", "rtx-4090", "--engine", "llamacpp")
    most = run("speed", *flags, "--prompt", "3k", "--answer", "1k", "--batch", "1", "--json").json["largest_batch"]
    assert run("estimate", *flags, "--seq", "4k", "--batch", str(most)).code == 0
    assert run("estimate", *flags, "--seq", "4k", "--batch", str(most + 1)).code == 3


def test_exit_3_only_when_no_batch_fits(run: Run) -> None:
    flags = ("llama-3.1-8b", "--gpu", "rtx-4090", "--prompt", "7k", "--answer", "1k")
    some = run("speed", *flags, "--batch", "4,64")
    assert some.code == 0 and "64 *" in some.out and "* is more than that" in some.out
    assert run("speed", *flags, "--batch", "64").code == 3
    assert run("speed", "deepseek-v3", "--gpu", "l4,h200", "--batch", "1").code == 3
    assert run("speed", "llama-3.1-70b", "--gpu", "l4,mi300x", "--batch", "1").code == 0


# -- devices, formats, files -------------------------------------------------------------------------------


def test_several_devices_are_a_list_and_one_table(run: Run) -> None:
    flags = ("speed", "llama-3.1-8b", "--gpu", "l4,h100-sxm", "--batch", "1,8")
    slow, fast = run(*flags, "--json").json
    assert (slow["device"], fast["device"]) == ("L4", "H100-SXM5-80GB")
    assert slow["batches"][0]["tpot_seconds"] > fast["batches"][0]["tpot_seconds"]
    rows = list(csv.DictReader(io.StringIO(run(*flags, "--csv").out)))
    assert [(row["device"], row["batch"]) for row in rows] == [
        ("L4", "1"), ("L4", "8"), ("H100-SXM5-80GB", "1"), ("H100-SXM5-80GB", "8"),
    ]  # fmt: skip
    assert float(rows[1]["tpot_seconds"]) == slow["batches"][1]["tpot_seconds"]
    page = run(*flags).out
    assert "L4: memory admits" in page and "H100-SXM5-80GB: memory admits" in page


def test_smaller_weights_and_caches_are_faster(run: Run) -> None:
    def bound(*more: str) -> float:
        found = run("speed", *LLAMA, "--batch", "64", "--load", "static", *more, "--json").json
        return float(found["tpot_seconds_bound"])

    assert bound("--dtype", "fp8", "--kv-dtype", "fp8") < bound("--dtype", "fp8") < bound()


def test_output_counts_tokens_and_o_names_the_file(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "speed.json"
    done = run("speed", *LLAMA, "--json", "-o", path)
    assert (done.code, done.out) == (0, "")
    assert json.loads(path.read_text())["output_tokens"] == 500


def test_a_config_file_is_as_good_as_a_name(run: Run, tmp_path: Path) -> None:
    config = {"model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32, "vocab_size": 32000,
              "num_attention_heads": 32, "intermediate_size": 11008, "torch_dtype": "float16"}  # fmt: skip
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    ours = run("speed", "--config", path, "--gpu", "l4", "--batch", "1", "--json").json
    named = run("speed", "llama-7b", "--gpu", "l4", "--batch", "1", "--json").json
    assert ours["tpot_seconds"] == pytest.approx(named["tpot_seconds"])


def test_a_gguf_file_runs_in_llama_cpp_unless_said_otherwise(run: Run, tmp_path: Path) -> None:
    path = write(CASES["gqa"], tmp_path)
    found = run("speed", path, "--gpu", "rtx-4090", "--batch", "1", "--json").json
    assert "llama.cpp" in found["constants_from"] and any("a GGUF file" in note for note in found["notes"])
    other = run("speed", path, "--gpu", "rtx-4090", "--engine", "vllm", "--batch", "1", "--json").json
    assert "llama.cpp" not in other["constants_from"] and not other["notes"]
    assert "weights as stored" in run("speed", path, "--gpu", "rtx-4090").out


def test_the_function_answers_as_the_command_does(run: Run) -> None:
    ours = kvplan.speed(
        "llama-3.1-8b", gpu="h100-sxm", prompt=2048, answer=500, batch=[1, 8], engine="vllm", load="static", tp=2
    ).to_dict()
    flags = ("--batch", "1,8", "--engine", "vllm", "--load", "static", "--tp", "2")
    assert json.loads(json.dumps(ours)) == run("speed", *LLAMA, *flags, "--json").json
    single = kvplan.speed("gpt2", gpu="l4", prompt=100, answer=10)
    assert single["batch"] == 1 and single["tpot_seconds"] == single["batches"][0]["tpot_seconds"]


def test_the_range_names_the_rows_it_was_checked_on(run: Run) -> None:
    measured = "llama-3.3-70b", "--gpu", "h100-sxm", "--tp", "4", "--dtype", "fp8"
    seen = run("speed", *measured, "--engine", "vllm", "--batch", "1", "--json").json["constants_checked"]
    assert seen["split"] == "rows left out" and seen["rows"] > 50 and seen["in_range_percent"] > 80
    new = run("speed", *LLAMA, "--engine", "vllm", "--batch", "1", "--json").json
    assert (
        new["constants_checked"]["split"] == "model left out"
        and "none of a model of this shape" in new["constants_from"]
    )
    unseen = run("speed", "llama-3.1-8b", "--gpu", "a10", "--engine", "vllm", "--batch", "1", "--json").json
    assert ", none on A10" in unseen["constants_from"]
    assert unseen["constants_checked"]["split"] == "device left out"
    given = run("speed", *LLAMA, "--measured", "tpot_ms=20 batch=8 seq=2k", "--json").json
    assert given["constants_checked"] is None


# -- a measured point --------------------------------------------------------------------------------------


def test_a_measured_point_is_met_and_moves_the_others(run: Run) -> None:
    flags = ("speed", "llama-3.1-8b", "--gpu", "h100-sxm", "--prompt", "2047", "--answer", "1", "--load", "static")
    plain = run(*flags, "--batch", "8,32", "--json").json["batches"]
    slow_ms = 2e3 * plain[0]["tpot_seconds"]
    found = run(*flags, "--batch", "8,32", "--measured", f"tpot_ms={slow_ms} batch=8 seq=2047", "--json").json
    assert found["batches"][0]["tpot_seconds"] == pytest.approx(slow_ms / 1e3, rel=1e-3)
    assert plain[1]["tpot_seconds"] < found["batches"][1]["tpot_seconds"] <= 2.01 * plain[1]["tpot_seconds"]
    assert found["constants_from"].startswith("measured point")


@pytest.mark.parametrize("load", ["static", "serving"])
def test_a_point_without_lengths_is_at_those_that_are_asked(run: Run, load: str) -> None:
    flags = ("speed", *LLAMA, "--load", load, "--batch", "1", "--json")
    slow_ms = 1.5e3 * run(*flags).json["tpot_seconds"]
    found = run(*flags, "--measured", f"tpot_ms={slow_ms} ttft_ms=900").json
    assert found["tpot_seconds"] == pytest.approx(slow_ms / 1e3)
    assert found["ttft_seconds"] == pytest.approx(0.9)


def test_a_rate_of_all_sequences_is_a_time_between_tokens(run: Run) -> None:
    flags = ("speed", *LLAMA, "--batch", "8", "--json", "--measured")
    rate, time = (run(*flags, f"{point} batch=8 seq=2k").json for point in ("tok_s=400", "tpot_ms=20"))
    assert rate["tpot_seconds"] == pytest.approx(time["tpot_seconds"])


def test_a_point_faster_than_the_device_is_refused(run: Run) -> None:
    line = run("speed", *LLAMA, "--measured", "tpot_ms=1 batch=8 seq=2048").refused()
    assert "cannot be faster than" in line


# -- this machine ------------------------------------------------------------------------------------------

SHAPES = ((2304, 768), (768, 768), (3072, 768), (768, 3072), (50257, 768))


def machine(**more: Any) -> Calibration:
    """An imagined CPU: a product reads its matrix at 40 GB/s or computes 100 GFLOP/s, attention reads at 20 GB/s."""
    return Calibration(
        environment={"device": "imagined", "device_kind": "cpu", "threads": 2, "date": "2026-01-02T03:04:05+00:00"},
        rates={"read_bytes_per_s": Rate(40e9, 39e9, 41e9), "fp32_flops_per_s": Rate(1e11, 1e11, 1e11)},
        matmuls=tuple(
            MatmulTime("fp32", "plain", o, i, rows, max(o * i * 4 / 40e9, 2 * rows * o * i / 1e11))
            for o, i in SHAPES
            for rows in (1, 4, 16, 256, 4096)
        ),
        attention=tuple(
            AttentionTime("fp32", batch, 12, 1, 64, context, 1, batch * 12 * context * 128 * 4 / 20e9)
            for batch in (1, 16)
            for context in (64, 1024)
        )
        + tuple(AttentionTime("fp32", 1, 12, 1, 64, n, n, 1e-6 * n) for n in (16, 1024)),
        layers=tuple(LayerTime("fp32", "learned", rows, 768, 50e-6, 1e-3) for rows in (1, 1024)),
        **more,
    )


@pytest.fixture
def calibrated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Calibration]:
    """`calibrated(held_back=...)` leaves the imagined machine's device file where --gpu local reads it."""
    monkeypatch.setenv("KVPLAN_CONFIG_DIR", str(tmp_path))
    monkeypatch.setattr(
        local_device, "local_device", lambda: local_device.with_measured_rates(local_device.from_host())
    )

    def write(**more: Any) -> Calibration:
        found = machine(**more)
        (tmp_path / "local-device.json").write_text(found.to_json())
        return found

    return write


GPT2 = (
    "speed",
    "gpt2",
    "--gpu",
    "local",
    "--dtype",
    "fp32",
    "--kv-dtype",
    "fp32",
    "--prompt",
    "500",
    "--answer",
    "100",
)


def test_without_a_device_file_local_asks_for_a_calibration(run: Run, calibrated: Any) -> None:
    assert "run kvplan calibrate" in run(*GPT2).refused()


def test_this_machine_answers_from_its_calibration(run: Run, calibrated: Any) -> None:
    file = calibrated()
    found = run(*GPT2, "--batch", "4", "--json").json
    spec = kvplan.show("gpt2")
    steps = [file.step_seconds(spec, batch=4, context_tokens=n, dtype="fp32") for n in range(501, 601)]
    assert found["tpot_seconds"] == pytest.approx(sum(steps) / len(steps), rel=1e-3)
    first = file.step_seconds(spec, batch=4, context_tokens=500, new_tokens=500, dtype="fp32")
    assert found["ttft_seconds"] == pytest.approx(first)
    assert sum(found["tpot_parts_seconds"].values()) == pytest.approx(found["tpot_seconds"])
    assert found["load"] == "static" and found["device"] == "cpu"
    assert "calibration" in found["constants_from"] and "2026-01-02" in found["constants_from"]


def test_the_range_is_what_the_steps_held_back_showed(run: Run, calibrated: Any) -> None:
    held = [HeldBack("gpt2", "decode", "fp32", "plain", 1, 64, 1.0, ratio) for ratio in (0.9, 1.0, 1.3)]
    held.append(HeldBack("unseen", "decode", "fp32", "plain", 1, 64, 1.0, 5.0))
    calibrated(held_back=tuple(held))
    found = run(*GPT2, "--batch", "1", "--json").json
    assert found["tpot_seconds_high"] / found["tpot_seconds"] == pytest.approx(1.3)
    assert found["tpot_seconds_low"] / found["tpot_seconds"] == pytest.approx(0.9)
    assert "holds 3 of 3 decode steps held back" in found["constants_from"]
    assert "no prefill step was held back, range assumed" in found["constants_from"]


FP32 = ("--dtype", "fp32", "--kv-dtype", "fp32")


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        ([*FP32, "--engine", "vllm"], "of torch, not of vllm"),
        ([*FP32, "--load", "serving"], "--load static"),
        (["--dtype", "bf16", "--kv-dtype", "fp32"], "no products in bf16, plain"),
        ([*FP32, "--linear", "packed"], "no products in fp32, packed"),
        (["--dtype", "fp32", "--kv-dtype", "int8"], "over a cache in int8"),
        ([*FP32, "--tp", "2"], "of one device"),
        ([*FP32, "--measured", "tpot_ms=500 batch=1 seq=500"], "taken in place of this machine's calibration"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_the_calibration_does_not_cover_is_said(run: Run, calibrated: Any, flags: list[str], reason: str) -> None:
    calibrated()
    found = run("speed", "gpt2", "--gpu", "local", *flags, "--json").json
    assert any(reason in note for note in found["notes"]), found["notes"]
    assert "this machine's calibration:" not in found["constants_from"]


def test_linear_is_for_this_machine_alone(run: Run) -> None:
    assert "--linear goes with --gpu local" in run("speed", "gpt2", "--gpu", "l4", "--linear", "plain").refused(2)


# -- for people --------------------------------------------------------------------------------------------

UNITS = {"ms": 1e-3, "us": 1e-6, "s": 1.0, "h": 3600.0}


def evaluated(text: str) -> float:
    """An explained term worked out: x is times, commas and units are taken out."""
    text = re.sub(
        r" (?:others|tokens|over PCIe|of (?:the head|experts|products|attention|state))", "", text.replace(",", "")
    )
    text = re.sub(r"(\d) (ms|us|s|h)\b", lambda m: f"{m[1]}*{UNITS[m[2]]}", text)
    text = re.sub(r" (?:B/s|FLOP/s|B|FLOP)\b", "", text).replace(" x ", " * ")
    assert re.fullmatch(r"[\d.e+*/() -]+", text), text
    return float(eval(text))


@pytest.mark.parametrize(
    "flags",
    [
        ["llama-3.1-8b", "--gpu", "h100-sxm", "--batch", "1,64"],
        ["llama-3.1-70b", "--gpu", "h100-sxm", "--tp", "4", "--pp", "2", "--batch", "16"],
        ["gpt-oss-20b", "--gpu", "l40s", "--load", "static", "--batch", "4"],
        ["llama-3.1-70b", "--gpu", "rtx-4090", "--tp", "8", "--batch", "4"],
        ["deepseek-v3", "--gpu", "h200", "--tp", "8", "--ep", "16", "--dp", "2", "--batch", "64"],
        ["mamba-2.8b", "--gpu", "l4", "--batch", "8"],
        ["llama-3.1-8b", "--gpu", "l4", "--measured", "tpot_ms=100 ttft_ms=900 batch=2 seq=1024", "--batch", "8"],
    ],
    ids=lambda flags: " ".join(flags),
)
def test_every_explained_term_can_be_redone_by_hand(run: Run, flags: list[str]) -> None:
    page = run("speed", *flags, "--explain").out
    checked = 0
    for line in page.splitlines():
        match = re.fullmatch(r"  ([a-z( )-]+?)  +(.+) = (.+)", line)
        if match:
            checked += 1
            assert evaluated(match[2]) == pytest.approx(evaluated(match[3]), rel=0.01), line
    assert checked >= 10


def test_the_explained_parts_come_to_the_answer(run: Run) -> None:
    flags = ("speed", "llama-3.1-70b", "--gpu", "h100-sxm", "--tp", "4", "--batch", "16")
    found, page = run(*flags, "--json").json, run(*flags, "--explain").out
    shown = {match[1]: evaluated(match[3]) for match in re.finditer(r"^  ([a-z -]+?)  +(.+) = (.+ m?s)$", page, re.M)}
    assert shown["between two tokens"] == pytest.approx(found["tpot_seconds"], rel=0.01)
    assert shown["first token"] == pytest.approx(found["ttft_seconds"], rel=0.01)


def test_the_page_says_bound_range_memory_and_source(run: Run) -> None:
    page = run("speed", *LLAMA, "--engine", "vllm").out
    for words in ("TTFT", "TPOT", "bound", "reached", "binds", "memory admits", "decode is bound by", "constants: ", "checked: on ",
                  "Where the time between tokens goes"):  # fmt: skip
        assert words in page
    assert max(map(len, page.splitlines())) <= 170


@given(st.dictionaries(st.sampled_from(list(FILLS)), st.floats(1e-9, 1e3), min_size=1))
def test_a_bar_is_always_as_wide(parts: dict[str, float]) -> None:
    assert len(share_bar(parts)) == BAR_WIDTH


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        (["llama-7b"], 2, "--gpu NAME"),
        (["llama-7b", "--gpu", "l4", "--batch", "1,,2"], 1, "--batch '' is not a whole number"),
        (["llama-7b", "--gpu", "l4", "--batch", "0"], 1, "--batch '0'"),
        (["llama-7b", "--gpu", "l4", "--batch", "nan"], 1, "--batch 'nan'"),
        (["llama-7b", "--gpu", "l4", "--prompt", "0"], 1, "--prompt '0' is out of range"),
        (["llama-7b", "--gpu", "l4", "--answer", "-3"], 1, "--answer '-3'"),
        (["llama-7b", "--gpu", "l4", "--load", "busy"], 1, "write static or serving"),
        (["llama-7b", "--gpu", "l4,,t4"], 1, "names an empty device"),
        (["llama-7b", "--gpu", "no-such"], 1, "no-such"),
        (["no-such", "--gpu", "l4"], 1, "no-such"),
        (["llama-7b", "--gpu", "l4", "--measured", "fast"], 1, "write for example"),
        (["llama-7b", "--gpu", "l4,t4", "--measured", "tpot_ms=99"], 2, "--measured is of one device"),
        (["llama-7b", "--gpu", "l4", "--max-model-len", "4k"], 2, "--engine"),
        (["llama-7b", "--gpu", "l4", "--engine", "vllm", "--mem-fraction-static", "0.8"], 2, "not a flag of vllm"),
        (["llama-7b", "--gpu", "l4", "--explain", "--json"], 2, "--explain is for people"),
        (["--layers", "4", "--kv-heads", "2", "--head-dim", "64", "--gpu", "l4"], 1, "weights"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_input_is_one_line(run: Run, flags: list[str], code: int, words: str) -> None:
    assert words in run("speed", *flags).refused(code)


def test_the_help_has_an_example_that_runs(run: Run) -> None:
    words = run("speed", "--help").out
    example = re.search(r"Example: kvplan (speed .+)", words)
    assert example is not None
    assert run(*example[1].split()).code == 0


# -- drafts, queues, energy --------------------------------------------------------------------------------


def test_drafted_tokens_are_never_accepted_without_effect(run: Run) -> None:
    engine = (*LLAMA, "--engine", "vllm", "--batch", "1", "--num-speculative-tokens", "3")
    assert "--drafter" in run("speed", *engine).refused(2)
    plain, drafted = (
        run("speed", *LLAMA, "--engine", "vllm", "--batch", "1", *more, "--json").json
        for more in ((), ("--num-speculative-tokens", "3", "--drafter", "eagle3"))
    )
    assert drafted["tokens_a_step"] == pytest.approx(1 + 0.7 + 0.49 + 0.343)
    assert drafted["tpot_seconds"] < 0.6 * plain["tpot_seconds"]
    assert any("drafting" in note for note in drafted["notes"])


def test_a_draft_model_runs_its_own_steps(run: Run) -> None:
    asked = ("--batch", "1", "--draft-tokens", "4", "--acceptance", "0.8", "--json")
    model = run("speed", *LLAMA, "--drafter", "llama-3.2-1b", *asked).json
    lookup = run("speed", *LLAMA, "--drafter", "ngram", *asked).json
    assert model["tpot_parts_seconds"]["drafts"] > 0 and "drafts" not in lookup["tpot_parts_seconds"]
    assert model["tpot_seconds"] > lookup["tpot_seconds"]


def test_acceptance_wants_drafts_and_a_share(run: Run) -> None:
    assert "--draft-tokens" in run("speed", *LLAMA, "--acceptance", "0.7").err
    assert "--acceptance" in run("speed", *LLAMA, "--draft-tokens", "2", "--acceptance", "7").err


def test_energy_is_said_with_its_range_and_grid(run: Run) -> None:
    found = run("speed", *LLAMA, "--batch", "8", "--grid", "400g/kWh", "--json").json
    assert found["co2_grams_per_million_tokens"] == pytest.approx(0.4 * found["wh_per_million_tokens"])
    assert found["wh_per_million_tokens_low"] < found["wh_per_million_tokens"] < found["wh_per_million_tokens_high"]


def test_speed_and_check_say_the_same_of_unlike_cards_and_it_lies_between_two_of_each(run: Callable[..., Any]) -> None:
    def alone(gpu: str) -> float:
        words = ("--gpu", gpu, "--engine", "llamacpp", "--prompt", "1k", "--answer", "256", "--batch", "1", "--json")
        return float(run("speed", "llama-3.1-8b", *words).json["tpot_seconds"])

    slow, both, fast = alone("2x3060"), alone("3090+3060"), alone("2x3090")
    # bf16, 16.06 GB: a third is read at 360 GB/s, two thirds at 936
    assert fast < both < slow and both == pytest.approx(slow / 3 + 2 * fast / 3, rel=0.05)
    line = "llama-server -m llama-3.1-8b.gguf -c 8192 -np 1 -ngl 99".split()
    found = run("check", "--gpu", "3090+3060", "--model", "llama-3.1-8b", "--json", "--", *line).json
    assert found["speed"][0]["tpot_seconds"] == pytest.approx(both, rel=0.05)

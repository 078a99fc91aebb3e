"""`kvplan check` as it is used: output, exit code, and what `--emit` prints pasted back."""

from __future__ import annotations

import io
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from kvplan.cli import main

VLLM = "vllm serve Qwen/Qwen3-8B --max-model-len 8192"


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["check", *words])
    said = capsys.readouterr()
    return int(ended.value.code or 0), said.out, said.err


def answer(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    code, out, err = run(capsys, "--json", *words)
    assert not err
    found: dict[str, Any] = json.loads(out)
    assert found["exit_code"] == code == (0 if found["starts"] else 3)
    return found


def test_the_verdict_is_the_second_line_and_every_flag_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(
        capsys, "--gpu", "rtx-4090", "--", *shlex.split(VLLM), "--port", "80", "--enforce-eager", "--nonesuch", "1"
    )
    lines = out.splitlines()
    assert code == 0 and lines[0].startswith("qwen3-8b, weights bf16, KV bf16, vLLM")
    assert " STARTS, TIGHTLY: " in lines[1] and "requests of 8k tokens at once" in lines[1]
    assert "used: --max-model-len 8192" in out and "no effect on memory or speed: --port 80" in out
    assert "--enforce-eager: no CUDA graphs" in out and "not known: --nonesuch 1" in out
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("gpu, tokens, code", [("rtx-4090", "8192", 0), ("rtx-4090", "40960", 3)])
def test_text_json_and_exit_code_agree(capsys: pytest.CaptureFixture[str], gpu: str, tokens: str, code: int) -> None:
    words = ["--gpu", gpu, "--", "vllm", "serve", "Qwen/Qwen3-8B", "--max-model-len", tokens]
    seen, out, _ = run(capsys, *words)
    found = answer(capsys, *words)
    assert seen == code == found["exit_code"]
    assert f" {found['verdict'].upper()}: " in " ".join(out.splitlines()[1:3]).replace(",", "")
    assert (found["verdict"] in ("starts", "starts tightly")) == found["starts"]
    assert found["requests"] > 0 if found["starts"] else found["requests"] == 0


def test_the_verdict_is_that_of_the_engine_itself(capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, "--gpu", "rtx-4090", "--", *shlex.split(VLLM))
    with pytest.raises(SystemExit):
        main(
            [
                "estimate",
                "qwen3-8b",
                "--engine",
                "vllm",
                "--gpu",
                "rtx-4090",
                "--max-model-len",
                "8192",
                "--seq",
                "8192",
                "--json",
            ]
        )
    engine = json.loads(capsys.readouterr().out)["engine"]
    assert found["requests"] == engine["most_requests"]
    assert found["engine_answer"]["pool_bytes"] == engine["pool_bytes"]


def test_the_cache_is_said_with_its_ends(capsys: pytest.CaptureFixture[str]) -> None:
    """What a start command does not settle is a range: Qwen3-30B-A3B on four A10 was logged with 198,784 tokens, 4.55 GiB."""
    words = "--gpu 4xa10 --engine vllm==0.8.5 -- vllm serve Qwen/Qwen3-30B-A3B -tp 4 --max-model-len 8192"
    _, out, _ = run(capsys, *shlex.split(words))
    found = re.search(r"cache ([\d.]+) GiB \(([\d.]+) GiB to ([\d.]+) GiB\), ([\d,]+)\s+tokens", out)
    assert found and float(found[2]) < 4.55 < float(found[3])


def test_every_change_that_is_advised_makes_it_start(capsys: pytest.CaptureFixture[str]) -> None:
    start = "vllm serve Qwen/Qwen3-8B"
    found = answer(capsys, "--gpu", "rtx-4090", "--", *shlex.split(start))
    assert not found["starts"] and found["advice"]
    for one in found["advice"]:
        change, _, devices = one["change"].partition(" on ")
        gpu = f"{devices.split()[0]}xrtx-4090" if devices else "rtx-4090"
        again = answer(capsys, "--gpu", gpu, "--", *shlex.split(start), *shlex.split(change))
        assert again["starts"] and again["requests"] == one["requests"], change


def test_too_few_devices_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, "--gpu", "2xrtx-4090", "--", *shlex.split(VLLM), "-tp", "4")
    assert found["reasons"] == ["it takes 4 devices, and there are 2"]


def test_a_context_beyond_the_models_own_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """vLLM: "User-specified max_model_len is greater than the derived max_model_len"."""
    found = answer(capsys, "--gpu", "h100-sxm", "--", "vllm", "serve", "Qwen/Qwen3-8B", "--max-model-len", "131072")
    assert not found["starts"] and found["reasons"][0].startswith(
        "131,072 tokens are more than the model's 40,960 positions"
    )


def test_experts_on_the_host_leave_the_device(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["llama-server", "-hf", "Qwen/Qwen3-30B-A3B:Q8_0", "-c", "16384", "-ngl", "99"]
    refused = answer(capsys, "--gpu", "rtx-4090", "--", *words)
    moved = answer(capsys, "--gpu", "rtx-4090", "--", *words, "--n-cpu-moe", "24")
    pattern = answer(
        capsys, "--gpu", "rtx-4090", "--", *words, "-ot", r"blk\.([0-9]|1[0-9]|2[0-3])\.ffn_.*_exps\.weight=CPU"
    )
    assert not refused["starts"] and moved["starts"] and moved["no_speed"]
    assert moved["host_weight_bytes"] == pattern["host_weight_bytes"] > 0
    # 24 of 48 layers and the embedding; experts are 3 x 128 x 2048 x 768 numbers a layer, q8_0 has 34 bytes for 32 of them.
    assert moved["host_weight_bytes"] == (24 * 3 * 128 * 2048 * 768 + 151_936 * 2048) * 34 // 32
    assert "at most" in moved["no_speed"] and moved["kv_dtype"] == "f16"


def test_a_file_and_stdin_are_the_command_in_them(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "run.sh"
    script.write_text(f"#!/bin/bash\nexport HF_TOKEN=hf_hunter2hunter2\n{VLLM} \\\n  --tensor-parallel-size 2\n")
    by_file = answer(capsys, "--gpu", "2xrtx-4090", str(script))
    assert by_file["sharding"]["tp"] == 2 and "hunter2" not in json.dumps(by_file)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(script.read_bytes())))
    assert answer(capsys, "--gpu", "2xrtx-4090", "-") == by_file
    assert answer(capsys, "--gpu", "2xrtx-4090", script.read_text()) == by_file


@pytest.mark.parametrize(
    "words, code, said",
    [
        ([], 2, "paste a command after --"),
        (["--gpu", "rtx-4090", "/nonexistent/x.sh"], 1, "cannot be read"),
        (["--gpu", "rtx-4090", "/"], 1, "cannot be read"),
        (["--gpu", "rtx-4090", "--", "ls", "-la"], 1, "no server is started"),
        (["--gpu", "rtx-4090", "--", "ollama", "serve"], 1, "names no model; add --model NAME"),
        (["--gpu", "rtx-4090", "--", "vllm", "serve", "no/such-model-9b"], 1, "--model NAME or FILE"),
        (["--gpu", "rtx-4090", "--", "vllm", "serve", "$MODEL"], 1, "a variable that the text does not set"),
        (["--gpu", "0x3090", "--", *shlex.split(VLLM)], 1, "0x3090"),
        (["--gpu", "rtx-4090", "--engine", "sglang", "--", *shlex.split(VLLM)], 2, "the text starts vllm"),
    ],
)
def test_a_wrong_question_gets_one_line(
    capsys: pytest.CaptureFixture[str], words: list[str], code: int, said: str
) -> None:
    seen, out, err = run(capsys, *words)
    assert seen == code and said in err and err.count("\n") == 1 and not out


def test_no_file_that_the_text_names_is_opened(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "qwen3-8b").mkdir()
    (tmp_path / "other.gguf").write_bytes(b"GGUF")
    assert (
        answer(capsys, "--gpu", "h100-sxm", "--", "vllm", "serve", "./qwen3-8b", "--max-model-len", "4096")["model"]
        == "qwen3-8b"
    )
    code, _, err = run(capsys, "--gpu", "h100-sxm", "--", "llama-server", "-m", "other.gguf")
    assert code == 1 and "no model" in err


def test_unlike_cards_together_are_filled_by_their_memory(capsys: pytest.CaptureFixture[str]) -> None:
    """llama.cpp splits layers by memory: 24 + 12 GB hold what two cards of 12 GB do not."""
    words = ["--", "llama-server", "-hf", "Qwen/Qwen3-32B:Q6_K", "-c", "8192", "-ngl", "99"]
    assert answer(capsys, "--gpu", "3090+3060", *words)["starts"]
    assert not answer(capsys, "--gpu", "2x3060", *words)["starts"]
    assert not answer(capsys, "--gpu", "3090+3060", *words, "-ts", "1,1")["starts"]


def test_a_card_with_other_memory_keeps_its_speed(capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, "--gpu", "rtx-4090", "--memory", "48GiB", "--", *shlex.split(VLLM))
    assert found["device_bytes"] == 48 << 30 and found["speed"]


@pytest.mark.parametrize(
    "words, model, weights",
    [
        (["vllm", "serve", "Qwen/Qwen3.6-27B-FP8", "--max-model-len", "8192"], "qwen3.6-27b-fp8", "fp8_block"),
        (["llama-server", "-m", "/m/Meta-Llama-3.1-8B-Instruct-Q4_K_M.gguf", "-c", "8192"], "llama-3.1-8b", "q4_k_m"),
        (["ollama", "run", "qwen3:30b-a3b"], "qwen3-30b-a3b", "q4_k_m"),
    ],
)
def test_models_are_named_as_people_name_them(
    capsys: pytest.CaptureFixture[str], words: list[str], model: str, weights: str
) -> None:
    found = answer(capsys, "--gpu", "h100-sxm", "--", *words)
    assert (found["model"], found["weight_dtype"]) == (model, weights)


ENGINES = {
    "vllm": ["--max-model-len", "8192", "--gpu-memory-utilization", "0.9", "--max-num-seqs", "32"],
    "sglang": ["--max-model-len", "8192", "--mem-fraction-static", "0.85"],
    "llamacpp": ["--ctx-size", "32768", "--parallel", "4", "--kv-dtype", "q8_0", "--dtype", "q8_0"],
    "ik_llamacpp": ["--ctx-size", "32768", "--parallel", "4", "--dtype", "q8_0"],
    "ollama": ["--ctx-size", "16384", "--parallel", "2", "--dtype", "q4_k_m"],
    "tensorrt-llm": ["--max-model-len", "8192"],
    "lmdeploy": ["--max-model-len", "8192", "--kv-dtype", "int8"],
}


@pytest.mark.parametrize("engine", ENGINES)
def test_what_emit_prints_can_be_pasted_back(capsys: pytest.CaptureFixture[str], engine: str) -> None:
    with pytest.raises(SystemExit):
        main(["estimate", "qwen3-8b", "--engine", engine, "--gpu", "h100-sxm", *ENGINES[engine], "--emit", "--json"])
    first = json.loads(capsys.readouterr().out)["engine"]
    words = shlex.split(first["command"])
    again = answer(capsys, "--gpu", "h100-sxm", "--model", "qwen3-8b", "--", *words)
    assert again["flags"]["not_known"] == []
    assert again["engine"] == ("llamacpp" if engine == "ik_llamacpp" else engine) and again["starts"]
    assert again["engine_answer"]["pool_tokens"] == first["pool_tokens"]


@pytest.mark.parametrize("form", ["compose", "k8s"])
@pytest.mark.parametrize("engine", [name for name in ENGINES if name != "ik_llamacpp"])
def test_a_file_that_starts_it_says_the_same(capsys: pytest.CaptureFixture[str], engine: str, form: str) -> None:
    words = ["estimate", "qwen3-8b", "--engine", engine, "--gpu", "h100-sxm", *ENGINES[engine], "--emit", form]
    with pytest.raises(SystemExit):
        main(words)
    text = capsys.readouterr().out
    with pytest.raises(SystemExit):
        main([*words, "--json"])
    first = json.loads(capsys.readouterr().out)["engine"]
    assert first["file"].strip() == text.strip()
    again = answer(capsys, "--gpu", "h100-sxm", "--model", "qwen3-8b", text)
    assert again["flags"]["not_known"] == [] and again["devices_given"] == 1
    assert (again["engine"], again["engine_answer"]["pool_tokens"]) == (engine, first["pool_tokens"])


def test_a_model_may_stand_after_emit(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["estimate", "--engine", "vllm", "--seq", "8k", "--gpu", "h100-sxm", "--emit", "qwen3-8b"])
    assert not ended.value.code and "vllm serve Qwen/Qwen3-8B" in capsys.readouterr().out


def test_a_tensor_parallel_size_that_does_not_divide_the_heads_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, "--gpu", "rtx-4090", "--", *shlex.split(VLLM), "-tp", "3")
    assert not found["starts"] and "attention heads (32) must be divisible" in found["reasons"][0]


@pytest.mark.parametrize("name, model", [("deepseek-r1", "deepseek-r1-0528-qwen3-8b"), ("gpt-oss", "gpt-oss-20b"),
                                         ("mistral", "mistral-7b-v0.3"), ("qwen3-coder", "qwen3-coder-30b-a3b")])  # fmt: skip
def test_ollama_run_without_a_tag_is_the_latest_one(capsys: pytest.CaptureFixture[str], name: str, model: str) -> None:
    assert answer(capsys, "--gpu", "3090", "--", "ollama", "run", name)["model"] == model


def test_an_online_quantization_counts_though_the_name_says_bf16(capsys: pytest.CaptureFixture[str]) -> None:
    words = shlex.split("vllm serve someone/Qwen3-8B-BF16 --quantization fp8 --max-model-len 8192")
    assert answer(capsys, "--gpu", "rtx-4090", "--", *words)["weight_dtype"] == "fp8"


@pytest.mark.parametrize(
    ("model", "weights"),
    [("/models/cyankiwi/Qwen3.6-35B-A3B-AWQ-4bit", "awq int4 (group 32)"),
     ("/models/mine/Qwen3.6-35B-A3B-AWQ-4bit", "awq int4 (group 128)"),
     ("https://huggingface.co/unsloth/Qwen3-14B-GGUF/resolve/main/Qwen3-14B-Q6_K.gguf", "gguf Q6_K")],
)  # fmt: skip
def test_a_path_or_an_address_says_who_published_and_which_file(
    capsys: pytest.CaptureFixture[str], model: str, weights: str
) -> None:
    start = f"llama-server --model-url {model}" if model.endswith(".gguf") else f"vllm serve {model}"
    with pytest.raises(SystemExit):
        main(["check", "--gpu", "a100-sxm4-80gb", "--json", "--", *start.split()])
    assert json.loads(capsys.readouterr().out)["read_as"]["weights"] == weights


def test_a_config_that_the_command_names_is_said_to_hold_the_model(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["check", "--gpu", "l4", "--", "vllm", "serve", "--config", "my.yaml"])
    assert "the model is in my.yaml, which is not opened: kvplan check my.yaml" in capsys.readouterr().err


@pytest.mark.parametrize("server", ["vllm serve", "python -m sglang.launch_server --model-path"])
def test_weights_in_host_memory_are_said_and_not_timed(capsys: pytest.CaptureFixture[str], server: str) -> None:
    length = "--max-model-len" if server == "vllm serve" else "--context-length"
    command = [*server.split(), "Qwen/Qwen3-14B", "--cpu-offload-gb", "12", length, "8192"]
    code, out, _ = run(capsys, "--gpu", "rtx-4090", "--", *command)
    assert code == 0 and "weights 15.51 GiB; 12.00 GiB of weights on the host" in " ".join(out.split())
    assert "tok/s" not in out and "not timed yet" in out
    found = answer(capsys, "--gpu", "rtx-4090", "--", *command)
    assert found["host_weight_bytes"] == 12 << 30 and found["weight_bytes_a_device"] >> 30 == 15


def test_buffers_of_llama_cpp_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(
        capsys, "check", "--gpu", "rtx-4090", "--", "llama-server", "-hf", "Qwen/Qwen3-8B-GGUF:Q4_K_M", "-c", "8192"
    )
    assert re.search(r"a request 1\.12 GiB; buffers \d\.\d\d GiB;", " ".join(out.split()))


def test_sglang_starts_with_a_pool_below_its_context_length_as_a_server_of_the_logs_did(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """tests/cases/logs/sglang-tp4.log: max_total_num_tokens=46611, context_len=131072, and it serves."""
    words = "python -m sglang.launch_server --model-path meta-llama/Llama-3.1-8B-Instruct".split()
    found = answer(capsys, "--gpu", "l4", "--", *words)
    assert found["starts"] and found["requests"] == 1 and 13_000 < found["seq_tokens"] < 37_000
    assert any("refuses requests of more than" in note for note in found["notes"])


def test_a_request_beyond_sglangs_pool_is_too_long_as_in_estimate(run: Any) -> None:
    asked = ("--gpu", "l4", "--seq", "32k")
    command = ("--", "sglang", "serve", "--model-path", "Qwen/Qwen3-8B")
    estimate = ("estimate", "qwen3-8b", *asked, "--engine", "sglang")
    found, other = run("check", *asked, "--json", *command), run(*estimate, "--json")
    assert (found.code, found.json["verdict"]) == (other.code, other.json["verdict"]) == (3, "too long")
    said, estimated = (
        run(*words).out.split("\n\n")[0].split("\n", 1)[1] for words in (("check", *asked, *command), estimate)
    )
    assert said.split() == estimated.split() and "REFUSES" not in said

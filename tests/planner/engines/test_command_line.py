"""`--engine` on estimate and fit, `--emit`, and `kvplan engines`, as a shell would call them."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from kvplan.cli import main
from planner.options.engine import options_of
from planner.units import GIB


def run(line: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as caught:
        main(line.split())
    said = capsys.readouterr()
    return int(caught.value.code or 0), said.out, said.err


def block(line: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    _, out, _ = run(line + " --json", capsys)
    found: dict[str, Any] = json.loads(out)["engine"]
    return found


def test_a_given_pool_is_cut_as_the_engine_cuts_it(capsys: pytest.CaptureFixture[str]) -> None:
    """17.20 GiB of Llama-3.2-1B on 0.11.2: 563,744 tokens and 275.27 at once were logged."""
    found = block("estimate llama-3.2-1b --engine vllm==0.11.2 --kv-pool 17.20GiB --max-model-len 2048", capsys)
    assert found["printed_tokens"] == pytest.approx(563744, rel=3e-4)
    assert found["max_concurrency"] == pytest.approx(275.27, rel=3e-4)
    assert (found["name"], found["version"], found["block_tokens"]) == ("vllm", "0.11.2", 16)
    assert found["request_bytes"] == 2048 * 32768


def test_a_device_gives_a_pool_with_its_range(capsys: pytest.CaptureFixture[str]) -> None:
    found = block("estimate llama-3.1-8b --seq 4k --engine vllm==0.11.2 --gpu l4 --max-model-len 8k", capsys)
    assert found["pool_bytes_low"] < found["pool_bytes"] < found["pool_bytes_high"]
    higher = block(
        "estimate llama-3.1-8b --seq 4k --engine vllm==0.11.2 --gpu l4 --max-model-len 8k --gpu-memory-utilization 0.95",
        capsys,
    )
    gained = higher["pool_bytes"] - found["pool_bytes"]
    assert gained == pytest.approx(0.05 * 22.16 * GIB, rel=0.01)


def test_the_engines_verdict_is_the_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, _ = run("estimate llama-3.1-8b --seq 8k --batch 4 --engine sglang --kv-pool 4GiB", capsys)
    assert code == 0
    code, _, _ = run("estimate llama-3.1-8b --seq 8k --batch 5 --engine sglang --kv-pool 4GiB", capsys)
    assert code == 3


def test_fit_answers_in_the_engines_terms(capsys: pytest.CaptureFixture[str]) -> None:
    found = block("fit llama-3.1-8b --gpu l4 --seq 4k --engine vllm==0.11.2 --max-model-len 8k", capsys)
    assert found["most_requests"] == found["pool_blocks"] // 256
    assert found["longest_context_tokens"] == found["pool_tokens"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("estimate llama-7b --seq 1k --max-model-len 8k", "say whose with --engine"),
        ("estimate llama-7b --seq 1k --emit", "say which with --engine"),
        ("estimate llama-7b --seq 1k --engine vlm", "did you mean vllm"),
        ("estimate llama-7b --seq 1k --engine sglang --parallel 4", "not a flag of sglang"),
        ("estimate llama-7b --seq 1k --engine vllm --gpu-memory-utilization 1.5", "not a share"),
        ("estimate llama-7b --seq 1k --engine vllm --gpu-memory-utilization abc", "not a number"),
        ("estimate llama-7b --seq 1k --engine vllm --kv-dtype q8_0", "vllm has no KV dtype q8_0"),
        ("estimate llama-7b --seq 1k --engine llamacpp --kv-dtype fp8", "llamacpp has no KV dtype fp8"),
        ("estimate llama-7b --seq 1k --engine llamacpp --flash-attn maybe", "maybe"),
        ("estimate llama-7b --seq 1k --engine vllm --block-size 0", "is out of range"),
        ("estimate llama-7b --seq 1k --engine transformers --emit", "is a library and has no start command"),
        ("engines llama-7b", "a device is wanted"),
    ],
)
def test_what_cannot_be_meant_is_one_line(line: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(line, capsys)
    assert (code in (1, 2), out) == (True, "")
    assert words in err and err.count("\n") == 1


def test_emit_prints_the_start_command(capsys: pytest.CaptureFixture[str]) -> None:
    line = "estimate llama-3.1-8b --engine vllm --kv-pool 8GiB --max-model-len 8k --max-num-seqs 64 --tp 2 --emit"
    _, out, _ = run(line, capsys)
    out = " ".join(out.replace("\\\n", " ").split())  # a long command is broken over lines
    assert "vllm serve meta-llama/" in out
    assert "--tensor-parallel-size 2 --max-model-len 8192" in out
    assert "--max-num-seqs 64" in out
    assert "--max-num-seqs 64" in block(line, capsys)["command"]


def test_engines_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run("engines gemma-3-27b --gpu h200 --max-model-len 32k --json", capsys)
    rows = {row["label"]: row for row in json.loads(out)["engines"]}
    assert len(rows) == 10
    assert rows["vLLM to 0.7 (V0)"]["request_bytes"] == 32768 * 62 * 2 * 16 * 128 * 2
    assert rows["llama.cpp 2026"]["request_bytes"] == 2 * 16 * 128 * 2 * (10 * 32768 + 52 * 1536)
    assert all(row["differences"] for row in rows.values())
    code, page, _ = run("engines mamba-2.8b --kv-pool 8GiB --seq 4k", capsys)
    assert code == 0 and "kept no pool" in page


def test_an_estimate_without_an_engine_loads_no_engine() -> None:
    """The plain way stays as light as it was."""
    script = (
        "import sys; from kvplan.cli import main\n"
        "try: main(['estimate', 'llama-7b', '--seq', '1k', '-o', '/dev/null'])\n"
        "except SystemExit: pass\n"
        "print([name for name in sys.modules if 'engine' in name or name == 'fractions'])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_flag_that_says_off_is_not_a_flag_left_out() -> None:
    """`--flash-attn off` pads V rows; leaving it out does not."""
    on, off = ({"flash_attn": value} for value in (None, False))
    assert options_of(on, "llamacpp").flash_attn is None and options_of(off, "llamacpp").flash_attn is False
    assert options_of({"swa_full": False}, "llamacpp").swa_full is False
    assert options_of({"no_enable_prefix_caching": True}, "vllm").prefix_caching is False

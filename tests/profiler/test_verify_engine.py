"""`kvplan verify --engine vllm`, without vLLM: what is asked of it, how its answer is compared, and what is said where it is not there."""

from __future__ import annotations

import json
import stat
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from planner.units import GIB
from profiler import verify_engine, vllm_child
from profiler.commands import verify
from tests.planner.engines.test_vllm_against_vllm import CONFIGS, ROWS


def interpreter(tmp_path: Path, answer: dict[str, object]) -> str:
    """A stand-in for a Python that has vLLM: prints the answer that vLLM gave."""
    path = tmp_path / "python"
    path.write_text(f"#!{sys.executable}\nprint({vllm_child.MARK + json.dumps(answer)!r})\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_a_cut_config_keeps_heads_windows_and_states() -> None:
    whole = {
        "architectures": ["Gemma3ForConditionalGeneration"],
        "text_config": {
            "num_hidden_layers": 62, "layer_types": ["sliding_attention"] * 62, "num_attention_heads": 32, "head_dim": 128,
            "sliding_window": 1024, "intermediate_size": 21504, "vocab_size": 262208, "num_experts": 128, "bos_token_id": 2,
        },
    }  # fmt: skip
    small = verify_engine.cut(whole, 4)
    assert small["architectures"] == ["Gemma3ForCausalLM"]
    assert (small["num_hidden_layers"], len(small["layer_types"])) == (4, 4)
    assert (small["num_attention_heads"], small["head_dim"], small["sliding_window"]) == (32, 128, 1024)
    assert (small["intermediate_size"], small["vocab_size"], small["num_experts"]) == (256, 1024, 8)


def test_recorded_answers_agree_and_a_changed_one_differs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit 0 where vLLM and kvplan say the same, 3 where not."""
    recorded = [row for row in ROWS if row["config"] == "qwen3-8b" and row["blocks"]]
    rows = [
        {
            "bytes": int(float(row["pool_gib"]) * GIB), "blocks": int(row["blocks"]), "groups": 1, "tokens": int(row["tokens"]),
            "block_tokens": 128, "concurrency": float(row["concurrency"]),
        }
        for row in recorded
    ]  # fmt: skip
    answer = {"version": "0.32.0", "platform": "cpu", "max_num_batched_tokens": 4096, "rows": rows}
    config = tmp_path / "config.json"
    config.write_text(json.dumps(CONFIGS["qwen3-8b"]))
    monkeypatch.setenv("KVPLAN_ENGINE_PYTHON", interpreter(tmp_path, answer))
    found = CliRunner().invoke(verify.command, [str(config), "--engine", "vllm", "--json"])
    assert found.exit_code == 0 and json.loads(found.output)["models"][0]["agrees"]
    rows[0]["blocks"] += 1
    monkeypatch.setenv("KVPLAN_ENGINE_PYTHON", interpreter(tmp_path, answer))
    other = CliRunner().invoke(verify.command, [str(config), "--engine", "vllm"])
    assert other.exit_code == 3 and "differs" in other.output


def test_states_are_those_of_the_processor_that_vllm_ran_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without AMX and AVX-512 BF16 vLLM keeps the model's type: 273 blocks of 640 tokens in 1 GiB, 151 of 1,152 in fp32."""
    config = CONFIGS["qwen3-next-80b-a3b-12"]
    for fp32, blocks, block, tokens, at_once in ((False, 273, 640, 117706, 14.3684), (True, 151, 1152, 88356, 10.7857)):
        row = {
            "bytes": GIB,
            "blocks": blocks,
            "groups": 4,
            "tokens": tokens,
            "block_tokens": block,
            "concurrency": at_once,
        }
        answer = {
            "version": "0.32.0",
            "platform": "cpu",
            "max_num_batched_tokens": 4096,
            "fp32_states": fp32,
            "rows": [row],
        }
        monkeypatch.setenv("KVPLAN_ENGINE_PYTHON", interpreter(tmp_path, answer))
        assert verify_engine.verify_vllm("qwen3-next-80b-a3b", config).agrees


def test_a_cut_keeps_layers_that_others_share() -> None:
    """Gemma 3n: 10 of 30 layers share a cache; of 12 it is 4, after layers of both kinds that keep theirs."""
    kinds = (["sliding_attention"] * 4 + ["full_attention"]) * 6
    short = verify_engine.cut({"num_hidden_layers": 30, "num_kv_shared_layers": 10, "layer_types": kinds})
    assert (short["num_hidden_layers"], short["num_kv_shared_layers"]) == (12, 4)


def test_without_vllm_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KVPLAN_ENGINE_PYTHON", "/nowhere/python")
    with pytest.raises(
        Exception, match=r"KVPLAN_ENGINE_PYTHON: /nowhere/python does not run .*; name a Python that has vLLM"
    ):
        verify_engine.verify_vllm("qwen3-8b", CONFIGS["qwen3-8b"])


def test_an_interpreter_that_has_none_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for text, said in (
        ("import sys; sys.exit(\"No module named 'vllm'\")", "verify-vllm"),
        ("", "ended with exit code 0"),
    ):
        path = tmp_path / "python"
        path.write_text(f"#!{sys.executable}\n{text}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("KVPLAN_ENGINE_PYTHON", str(path))
        if said == "verify-vllm":
            with pytest.raises(Exception, match=said):
                verify_engine.verify_vllm("qwen3-8b", CONFIGS["qwen3-8b"])
        else:
            assert said in verify_engine.verify_vllm("qwen3-8b", CONFIGS["qwen3-8b"]).error

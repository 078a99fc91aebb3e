"""A shell completes models, devices, number types, engines, choices and commands."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from planner.commands.completion import completions, device_names, model_names


def test_models_and_devices_complete_by_their_beginning_in_any_case() -> None:
    assert "qwen3-8b" in model_names("QWEN3-8")
    assert all(name.lower().startswith("h100") for name in device_names("h100"))
    assert "l4,H100-SXM5-80GB" in device_names("l4,h100-sxm")


def test_options_complete_by_what_they_take() -> None:
    assert completions("kv_dtype", "D", "fp8")[:1] == ["fp8"]  # type: ignore[index]
    assert "bf16" in (completions("dtype", "D", "b") or ())
    assert completions("attention", "fused|eager", "") == ["fused", "eager"]
    assert completions("config", "FILE", "x") is None  # files are the shell's


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_gets_its_script_and_the_names(shell: str) -> None:
    def asked(instruction: str, words: str = "", at: str = "") -> str:
        environment = {
            **os.environ,
            "_KVPLAN_COMPLETE": f"{shell}_{instruction}",
            "COMP_WORDS": words,
            "COMP_CWORD": at,
        }
        command = [sys.executable, "-c", "import sys; sys.argv = ['kvplan']; from kvplan.cli import main; main()"]
        return subprocess.run(command, capture_output=True, text=True, env=environment, check=False).stdout

    assert "kvplan" in asked("source")
    assert "qwen3-8b" in asked("complete", "kvplan estimate qwen3-8", "qwen3-8" if shell == "fish" else "2")

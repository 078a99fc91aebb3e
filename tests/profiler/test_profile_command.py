"""`kvplan profile` and `kvplan calibrate` on the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kvplan.cli import main
from tests.profiler.small_models import NEEDS_TORCH, small

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Run:
    code: int
    out: str
    err: str


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Run]:
    monkeypatch.setenv("KVPLAN_CONFIG_DIR", str(tmp_path))

    def call(*arguments: str) -> Run:
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        captured = capsys.readouterr()
        code = ended.value.code
        return Run(code if isinstance(code, int) else 0, captured.out, captured.err)

    return call


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(dict(small("llama").config)))
    return str(path)


QUICK = (
    "--dtype",
    "fp32",
    "--device",
    "cpu",
    "--answer",
    "3,6",
    "--prompt",
    "4",
    "--repeats",
    "1",
    "--cache",
    "static",
)
WITHOUT_TORCH = """
import sys
from importlib.util import find_spec
import importlib.util
importlib.util.find_spec = lambda name, *rest: None if name == "torch" else find_spec(name, *rest)
from kvplan.cli import main
main(sys.argv[1:])
"""


@pytest.mark.parametrize("command", [["profile", "gpt2"], ["calibrate"]])
def test_a_missing_torch_is_one_line_that_names_the_extra(command: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *command], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and "pip install 'llm-kvplan[profile]'" in done.stderr


@pytest.mark.parametrize("command", ["profile", "calibrate"])
def test_help_needs_no_torch_and_has_an_example(command: str) -> None:
    code = "import sys; from kvplan.cli import main\ntry: main(sys.argv[1:])\nfinally: sys.stderr.write(str('torch' in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code, command, "--help"], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert "Example: kvplan" in done.stdout and done.stderr == "False"


def test_a_profile_prints_predictions_beside_measurements(run: Callable[..., Run], config: str, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason=NEEDS_TORCH)
    found = run("profile", config, *QUICK)
    assert found.code == 0, found.err
    for words in ("predicted", "measured", "exact", "TTFT", "TPOT", "no cache", "speedup", "the whole result:"):
        assert words in found.out, words
    files = list((tmp_path / "results").glob("*.json"))
    assert len(files) == 1 and json.loads(files[0].read_text())["kind"] == "kvplan measurement"


def test_json_is_the_whole_result_and_writes_no_file(run: Callable[..., Run], config: str, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason=NEEDS_TORCH)
    found = json.loads(run("profile", config, *QUICK, "--json").out)
    assert found["schema_version"] == 1 and found["environment"]["threads"]
    assert not (tmp_path / "results").exists()


def test_a_sweep_is_written_as_it_goes_and_resumed(run: Callable[..., Run], config: str, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason=NEEDS_TORCH)
    path = tmp_path / "sweep.json"
    first = run(
        "profile", config, "--sweep", "batch=1,2", "context=16", "cache=static,int8", *QUICK[:4], "-o", str(path)
    )
    assert first.code == 0, first.err
    before = json.loads(path.read_text())["points"]
    more = run("profile", config, "--resume", str(path), "batch=1,2", "context=16,32", "cache=static,int8", *QUICK[:4])
    assert more.code == 0, more.err
    after = json.loads(path.read_text())["points"]
    assert before == after[: len(before)] and len([p for p in after if p["what"] == "decode"]) == 8


def test_a_size_that_is_not_exact_is_exit_code_3(
    run: Callable[..., Run], config: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch", reason=NEEDS_TORCH)
    from profiler import memory

    real: Any = memory.strategy_bytes
    monkeypatch.setattr(memory, "strategy_bytes", lambda *a, **k: real(*a, **k) + 1)
    found = run("profile", config, *QUICK)
    assert found.code == 3 and ("off" in found.out or "within 2 %" in found.out)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("profile",), 2),
        (("profile", "gpt2", "llama-7b"), 2),
        (("profile", "gpt2", "batch=1"), 2),
        (("profile", "gpt2", "--batch", "0"), 1),
        (("profile", "gpt2", "--seed", "x"), 1),
        (("profile", "gpt2", "--seed", str(2**63)), 1),
        (("profile", "gpt2", "-o", "."), 1),  # before minutes of measuring
        (("profile", "gpt2", "--trace", "/dev/null/trace.json"), 1),
        (("profile", "gpt2", "--sweep", "batch=1", "-o", "/dev/null/result.json"), 1),
        (("profile", "gpt2", "--answer", "1,x"), 1),
        (("profile", "gpt2", "--text", "hello"), 1),
        (("profile", "gpt2", "--sweep", "speed=9"), 1),
        (("profile", "gpt2", "--resume", "/nowhere.json"), 1),
        (("profile", "gpt2", "--tp", "2"), 1),
        (("profile", "nonesuch"), 1),
        (("calibrate", "-o", "."), 1),
        (("calibrate", "-o", "/dev/null/device.json"), 1),
        (("calibrate", "--dtype", "int8"), 1),
        (("calibrate", "--linear", "fast"), 1),
        (("calibrate", "--device", "tpu"), 1),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else str(value),
)
def test_what_is_wrong_is_one_line(
    run: Callable[..., Run], arguments: tuple[str, ...], code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch", reason=NEEDS_TORCH)
    monkeypatch.delenv("RANK", raising=False)
    found = run(*arguments)
    assert (found.code, found.out) == (code, "")
    assert found.err.startswith("kvplan: ") and found.err.count("\n") == 1


def test_ctrl_c_is_exit_code_130_with_one_line_and_keeps_what_is_done(
    run: Callable[..., Run], config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from profiler import speed

    def interrupt(*arguments: object, **more: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(speed, "decode_times", interrupt)
    done = run("profile", "--config", config, *QUICK, "-o", str(tmp_path / "run.json"))
    assert done.code == 130 and "kvplan: interrupted" in done.err and "Traceback" not in done.err
    assert json.loads((tmp_path / "run.json").read_text())["complete"] is False

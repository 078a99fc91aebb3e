"""A recorded row is a case: `kvplan accuracy` reads what `kvplan reconcile --record` wrote, and it agrees."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from kvplan.cli import main

CASES = Path(__file__).parents[2] / "cases"
LOGS = CASES / "logs"
SERVERS = ("vllm-v0.log", "vllm-hybrid.log", "vllm-v1-tp2.log", "sglang-tp4.log")
LLAMAS = ("llama-cpp.log", "ik-llama-cpp.log", "ollama.log")


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    said = capsys.readouterr()
    return int(caught.value.code or 0), said.out, said.err


@pytest.mark.parametrize("new", [True, False], ids=["a new file", "the shipped case file"])
@pytest.mark.parametrize(("name", "logs"), [("engine_logs.csv", SERVERS), ("llamacpp_memory.csv", LLAMAS)])
def test_recorded_rows_are_read_and_agree(
    name: str, logs: tuple[str, ...], new: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name
    before = 0
    if not new:
        shutil.copy(CASES / name, path)
        shutil.copytree(CASES / "configs", tmp_path / "configs")
        before = len(path.read_text().splitlines()) - 1
    for log in logs:
        assert run(["reconcile", str(LOGS / log), "--record", str(path)], capsys)[0] == 0
    code, out, _ = run(["accuracy", "--cases", str(tmp_path), "--json"], capsys)
    found = json.loads(out)
    assert code == 0
    assert sum(engine["rows"] for engine in found["engines"]) == before + len(logs)
    assert found["not_asked"] == found["unexplained"] == []


def test_a_model_and_a_card_that_the_log_lacks_are_recorded_as_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """TensorRT-LLM does not name its model; the card of an option makes the row one of first principles."""
    path = tmp_path / "engine_logs.csv"
    model = ["--model", "llama-3.3-nemotron-super-49b"]
    run(["reconcile", str(LOGS / "tensorrt-llm.log"), *model, "--record", str(path)], capsys)
    run(["reconcile", str(LOGS / "sglang-tp4.log"), "--gpu", "a10g", "--record", str(path)], capsys)
    _, out, _ = run(["accuracy", "--cases", str(tmp_path), "--json"], capsys)
    found = json.loads(out)
    assert {engine["engine"]: engine["exact"] for engine in found["engines"]} == {"sglang": 1, "tensorrt-llm": 1}
    assert found["first_principles"]["rows"] == 1


def test_the_two_kinds_of_rows_are_kept_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    servers, llamas = tmp_path / "engine_logs.csv", tmp_path / "llamacpp_memory.csv"
    run(["reconcile", str(LOGS / "vllm-v0.log"), "--record", str(servers)], capsys)
    run(["reconcile", str(LOGS / "llama-cpp.log"), "--record", str(llamas)], capsys)
    for log, path in (("llama-cpp.log", servers), ("vllm-v0.log", llamas)):
        text = path.read_text()
        code, _, err = run(["reconcile", str(LOGS / log), "--record", str(path)], capsys)
        assert code == 1
        assert "has no column" in err and err.count("\n") == 1
        assert path.read_text() == text


@pytest.mark.parametrize("data", [b"\xff\xfe\x00\x01", b"not,a,case\n"])
def test_a_file_that_is_no_case_file_is_left_alone(
    data: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "some.csv"
    path.write_bytes(data)
    code, _, err = run(["reconcile", str(LOGS / "vllm-v0.log"), "--record", str(path)], capsys)
    assert code == 1
    assert err.startswith("kvplan: --record") and err.count("\n") == 1
    assert path.read_bytes() == data

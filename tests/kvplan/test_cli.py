"""The commands, by what they print and how they end."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shlex
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kvplan import __version__
from kvplan.table import COMMANDS
from planner.errors import KvplanError

Runner = Callable[..., Any]
LLAMA = {
    "model_type": "llama", "hidden_size": 512, "num_hidden_layers": 4, "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "vocab_size": 1000, "intermediate_size": 1024, "max_position_embeddings": 4096,
}  # fmt: skip
CONTRACT = {
    "schema_version": int, "model": str, "model_type": str, "batch": int, "seq_tokens": int, "kv_dtype": str,
    "kv_bytes": int,
    "state_bytes": int, "kv_bytes_per_token": int, "parameters": int, "active_parameters": int,
    "parameters_by_part": dict,
    "weight_dtype": str, "weight_bytes": int, "sharding": dict, "devices": int, "device": str, "per_device": dict,
    "assumptions": list, "warnings": list, "exactness": dict,
}  # fmt: skip
PER_DEVICE = {
    "kv_bytes": int, "state_bytes": int, "weight_bytes": int, "activation_bytes": int, "overhead_bytes": int,
    "total_bytes": int, "capacity_bytes": int, "free_bytes": int, "fits": bool,
}  # fmt: skip


# -- help ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_every_command_has_an_example_in_one_line(run: Runner, name: str) -> None:
    helped = run(name, "--help")
    assert helped.code == 0
    assert re.search(rf"^  Example: kvplan {name}\b", helped.out, re.MULTILINE)


@pytest.mark.parametrize("name", ["estimate", "fit", "compare-models", "models", "show", "gpus"])
def test_the_example_of_a_planning_command_runs_as_it_stands(run: Runner, name: str) -> None:
    (line,) = re.findall(r"^  Example: (.*)$", run(name, "--help").out, re.MULTILINE)
    for example in line.split(";"):
        assert run(*shlex.split(example)[1:]).code in (0, 3)


def test_without_a_command_the_help_lists_them_all(run: Runner) -> None:
    for ended in (run(), run("--help"), run("-h")):
        assert ended.code == 0
        for name in COMMANDS:
            assert name in ended.out


def test_the_version_is_printed(run: Runner) -> None:
    assert __version__ in run("--version").out


# -- estimate --------------------------------------------------------------------------------------------


def test_llama_7b_at_8192_prints_the_equation_with_its_numbers(run: Runner) -> None:
    ended = run("estimate", "llama-7b", "--seq", "8192")
    assert ended.code == 0 and ended.err == ""
    assert "2 x 1 x 8192 x 32 x 128 x 2 B x 32 layers = 4,294,967,296 B = 4.00 GiB" in ended.out
    assert "6,738,415,616 parameters = 13,476,831,232 B" in ended.out
    assert "524,288 B" in ended.out
    assert "\x1b" not in ended.out


def test_json_is_a_contract_of_keys_and_types(run: Runner) -> None:
    found = run("estimate", "llama-7b", "--seq", "8192", "--memory", "24GiB", "--json").json
    for keys, part in ((CONTRACT, found), (PER_DEVICE, found["per_device"])):
        for key, kind in keys.items():
            assert type(part[key]) is kind, key
    assert (found["kv_bytes"], found["weight_bytes"], found["kv_bytes_per_token"]) == (4294967296, 13476831232, 524288)
    assert found["per_device"]["capacity_bytes"] == 24 << 30


def test_without_a_device_the_contract_keeps_its_keys(run: Runner) -> None:
    found = run("estimate", "llama-7b", "--json").json
    assert CONTRACT.keys() <= found.keys() and PER_DEVICE.keys() <= found["per_device"].keys()
    assert found["device"] is None and found["per_device"]["fits"] is None


def test_several_lengths_are_a_list_in_json_and_rows_elsewhere(run: Runner) -> None:
    found = run("estimate", "llama-7b", "--seq", "1k,8k,32k", "--json").json
    assert [row["seq_tokens"] for row in found] == [1024, 8192, 32768]
    rows = list(csv.DictReader(io.StringIO(run("estimate", "llama-7b", "--seq", "1k..4k", "--csv").out)))
    assert [(row["seq_tokens"], row["kv_bytes"]) for row in rows] == [
        ("1024", "536870912"),
        ("2048", "1073741824"),
        ("4096", "2147483648"),
    ]
    assert rows[0]["per_device.total_bytes"].isdigit()
    page = run("estimate", "llama-7b", "--seq", "1k..4k").out
    assert "512.00 MiB" in page and "2.00 GiB" in page


@pytest.mark.parametrize(
    ("memory", "code", "words"),
    [("24GiB", 0, "FITS 24GiB of memory"), ("12GiB", 3, "DOES NOT FIT 12GiB of memory: short by 2.48 GiB")],
)
def test_whether_it_fits_is_the_exit_code_and_a_sentence(run: Runner, memory: str, code: int, words: str) -> None:
    ended = run("estimate", "llama-7b", "--seq", "2k", "--memory", memory)
    assert ended.code == code and ended.err == ""
    assert words in ended.out.splitlines()[1]  # the verdict is the second line


def test_what_does_not_fit_is_told_what_would(run: Runner) -> None:
    out = run("estimate", "llama-3.1-8b", "--seq", "128k", "--gpu", "l4").out
    assert "short by" in out and "end of memory" in out
    changes = re.findall(r"^    .*(?:saves|adds) .* GiB  +--.*$", out, re.MULTILINE)
    assert 2 <= len(changes) <= 3


def test_explain_names_the_symbols_the_fields_and_the_sources(run: Runner) -> None:
    out = run("estimate", "gemma-3-27b", "--seq", "8k", "--explain").out
    assert "2 (K and V) x batch x tokens" in out and "sliding_window" in out and "docs/formulas.md" in out


def test_gpus_n_is_tensor_parallel_up_to_8_and_then_stages(run: Runner) -> None:
    found = run("estimate", "llama-3.1-70b", "--seq", "8k", "--gpus", "16", "--json").json
    assert (found["sharding"]["tp"], found["sharding"]["pp"], found["devices"]) == (8, 2, 16)


def test_a_model_by_hand_needs_no_catalogue(run: Runner) -> None:
    ended = run("estimate", "--layers", "32", "--kv-heads", "8", "--head-dim", "128", "--seq", "8k", "--json")
    assert ended.json["kv_bytes"] == 2 * 8192 * 8 * 128 * 2 * 32
    whole = run("estimate", "--layers", "32", "--heads", "32", "--hidden", "4096", "--intermediate", "11008",
    "--vocab", "32000",
                "--seq", "8k", "--json")  # fmt: skip
    assert whole.json["parameters"] == 6_738_415_616
    window = run(
        "estimate",
        "--layers",
        "2",
        "--heads",
        "4",
        "--head-dim",
        "8",
        "--sliding-window",
        "100",
        "--seq",
        "8k",
        "--json",
    )
    assert window.json["kv_bytes"] == 2 * 100 * 4 * 8 * 2 * 2


@pytest.mark.parametrize("how", ["--config", "path", "folder", "plain folder"])
def test_a_config_json_is_read_however_it_is_named(
    run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    folder = tmp_path / "my-model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(LLAMA))
    monkeypatch.chdir(tmp_path)
    words = {
        "--config": ["--config", "my-model/config.json"],
        "path": ["./my-model/config.json"],
        "folder": [str(folder)],
        "plain folder": ["my-model"],
    }
    found = run("estimate", *words[how], "--seq", "100", "--json").json
    assert (found["model"], found["kv_bytes"]) == ("my-model", 2 * 100 * 2 * 64 * 2 * 4)


def test_the_quick_way_and_the_slow_way_answer_alike(run: Runner) -> None:
    quick = run("estimate", "llama-7b", "--seq", "8k", "--batch", "2")
    slow = run(
        "estimate", "--batch", "1", "llama-7b", "--seq", "8k", "--batch", "2"
    )  # an option given twice goes to click
    assert (quick.code, quick.out) == (slow.code, slow.out)


# -- files -----------------------------------------------------------------------------------------------


def test_a_file_is_written_whole_and_keeps_its_permissions(run: Runner, tmp_path: Path) -> None:
    path = tmp_path / "answer.json"
    path.write_text("old")
    path.chmod(0o600)
    ended = run("estimate", "gpt2", "--json", "-o", path)
    assert (ended.code, ended.out, ended.err) == (0, "", "")
    assert json.loads(path.read_text())["model"] == "gpt2"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["answer.json"]


def test_a_link_keeps_pointing_where_it_did(run: Runner, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")
    assert run("estimate", "gpt2", "-o", tmp_path / "link").code == 0
    assert (tmp_path / "link").is_symlink() and (tmp_path / "target").read_text()


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from planner.terminal.output import write_whole

    path = tmp_path / "answer"
    path.write_text("old")

    def broken(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", broken)
    with pytest.raises(KvplanError, match="No space left"):
        write_whole(str(path), "new")
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["answer"]


def test_places_that_are_no_file_are_refused_and_left_alone(run: Runner, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "file").write_text("old")
    places = ["", tmp_path, f"{tmp_path}/", tmp_path / "no" / "such" / "folder", tmp_path / "file" / "x",
    tmp_path / "pipe",
              tmp_path / "loop", tmp_path / ("a" * 300)]  # fmt: skip
    for place in places:
        assert "-o" in run("estimate", "gpt2", "-o", place).refused()
    assert sorted(os.listdir(tmp_path)) == ["file", "loop", "pipe"]
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_a_device_file_is_written_to_and_never_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """/dev/null stays a device: nothing is renamed over it, whoever runs this (a terminal stands in for it here)."""
    from planner.files import write

    controller, terminal = os.openpty()
    monkeypatch.setattr(write, "_replace", lambda *_: pytest.fail("a device was replaced"))
    write.write_bytes(os.ttyname(terminal), b"answer\n")
    assert os.read(controller, 100).split() == [b"answer"]
    os.close(controller)
    os.close(terminal)


def test_a_dash_is_the_screen(run: Runner) -> None:
    assert run("estimate", "gpt2", "-o", "-").out == run("estimate", "gpt2").out


# -- fit, compare-models, models, show, gpus ---------------------------------------------------------------


def test_fit_answers_the_inverse_questions(run: Runner) -> None:
    found = run("fit", "llama-3.1-8b", "--gpu", "rtx-4090", "--seq", "8k", "--json").json
    assert found["most_sequences"] == 6
    assert found["sequence_bytes"] == 1 << 30
    assert found["fewest_devices"] == {"devices": 1, "tp": 1, "pp": 1}
    assert found["longest_context_tokens"] <= found["longest_context_limit_tokens"] == 131072
    holders = [row["capacity_bytes"] for row in found["devices_that_hold_it"]]
    assert holders == sorted(holders) and holders


@pytest.mark.parametrize(("memory", "code"), [("24GiB", 0), ("8GiB", 3)])
def test_fit_ends_with_3_where_not_one_sequence_fits(run: Runner, memory: str, code: int) -> None:
    ended = run("fit", "llama-7b", "--memory", memory)
    assert ended.code == code and ended.err == "" and "most sequences" in ended.out


def test_fit_with_real_lengths_holds_more_than_at_the_longest(run: Runner, tmp_path: Path) -> None:
    path = tmp_path / "lengths.csv"
    path.write_text("tokens\n" + "500\n" * 95 + "8000\n" * 5)
    mix = run("fit", "llama-3.1-8b", "--gpu", "rtx-4090", "--lengths", path, "--json").json["length_mix"]
    assert (mix["p50_tokens"], mix["longest_tokens"]) == (500, 8000)
    assert mix["sequences_at_longest"] < mix["safe_sequences"] < mix["average_sequences"]
    assert "at once in 99 of 100 moments" in run("fit", "llama-3.1-8b", "--gpu", "rtx-4090", "--lengths", path).out


def test_fit_of_a_state_model_has_no_bound_by_length(run: Runner) -> None:
    found = run("fit", "mamba-2.8b", "--memory", "24GiB", "--seq", "1k", "--json").json
    assert found["sequence_bytes"] == 23_592_960
    assert len({row["most_sequences"] for row in found["by_length"]}) <= 2  # activations alone


def test_compare_models_is_a_row_a_model(run: Runner) -> None:
    names = ["llama-2-7b", "llama-3.1-8b", "deepseek-v3"]
    found = run("compare-models", *names, "--seq", "32k", "--json").json
    assert [row["model"] for row in found] == names
    assert [row["kv_bytes"] for row in found] == [
        2 * 32768 * 32 * 128 * 2 * 32,
        2 * 32768 * 8 * 128 * 2 * 32,
        32768 * 576 * 2 * 61,
    ]
    out = run("compare-models", *names, "--seq", "32k").out
    assert all(name in out for name in names)


@pytest.mark.parametrize(("memory", "code"), [("24GiB", 0), ("1GiB", 3)])
def test_compare_models_ends_with_3_where_none_fits(run: Runner, memory: str, code: int) -> None:
    assert run("compare-models", "llama-7b", "gpt3-175b", "--seq", "1k", "--memory", memory).code == code


def test_models_are_found_by_every_word(run: Runner) -> None:
    out = run("models", "llama 3.1").out
    assert "llama-3.1-8b" in out and "llama-2-7b" not in out
    found = run("models", "gpt-oss", "--json").json
    assert {row["name"] for row in found} == {"gpt-oss-20b", "gpt-oss-120b"} and all(row["source"] for row in found)
    rows = list(csv.DictReader(io.StringIO(run("models", "--csv").out)))
    assert len(rows) >= 240


def test_show_groups_the_layers_and_names_the_fields(run: Runner) -> None:
    out = run("show", "gemma-3-27b").out
    assert "sliding window 1024" in out and "full attention" in out and "sliding_window" in out
    found = run("show", "gemma-3-27b", "--json").json
    assert [(group["layers"], group["cache"], group["window_tokens"]) for group in found["groups"]] == [
        (52, ["sliding window 1024"], 1024),
        (10, ["full attention"], None),
    ]
    assert found["parameters"] == sum(found["parameters_by_part"].values())
    assert len(list(csv.DictReader(io.StringIO(run("show", "gemma-3-27b", "--csv").out)))) == 2


def test_gpus_are_found_by_name_and_vendor(run: Runner) -> None:
    assert "H100-SXM5-80GB" in run("gpus", "h100").out
    found = run("gpus", "amd", "--json").json
    assert len(found) >= 3 and all(row["vendor"] == "AMD" for row in found)
    sizes = [row["memory_bytes"] for row in found]  # none where it is what the user put in
    assert None in sizes and all(size > 2**30 for size in sizes if size is not None)
    assert len(list(csv.DictReader(io.StringIO(run("gpus", "--csv").out)))) >= 70


def test_gpus_local_is_the_device_of_this_machine(run: Runner) -> None:
    (found,) = run("gpus", "local", "--json").json
    assert found["memory_bytes"] > 0


# -- every way out ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nope"], "no command 'nope'"),
        (["estimat", "gpt2"], "did you mean estimate"),
        (["--nope"], "--nope"),
        (["estimate", "gpt2", "--nope"], "--nope"),
        (["fit", "gpt2", "more"], "more"),
        (["estimate"], "which MODEL"),
        (["estimate", "gpt2", "--config", "x"], "one of them"),
        (["estimate", "gpt2", "--layers", "3"], "exclude each other"),
        (["estimate", "gpt2", "--seq"], "--seq"),
        (["estimate", "gpt2", "--json", "--csv"], "exclude each other"),
        (["estimate", "gpt2", "--json", "--explain"], "--explain"),
        (["estimate", "gpt2", "--kv-dtype", "fp8", "--k-dtype", "fp8"], "--kv-dtype"),
        (["estimate", "gpt2", "--gpus", "4", "--tp", "2"], "--gpus"),
        (["fit", "gpt2"], "a device is wanted"),
        (["fit", "gpt2", "--memory", "1GiB", "--json", "--csv"], "exclude each other"),
        (["compare-models"], "which MODEL"),
        (["models", "--json", "--csv"], "exclude each other"),
        (["gpus", "a", "b"], "b"),
        (["show"], "which MODEL"),
        (["\x1b[31mred"], "red"),
        (["estimate", "--\x1b[31mred"], "red"),
    ],
)
def test_a_command_line_that_cannot_be_meant_ends_with_2(run: Runner, arguments: list[str], words: str) -> None:
    assert words in run(*arguments).refused(2)


def shell(command: str) -> subprocess.CompletedProcess[str]:
    program = shlex.join([sys.executable, "-m", "kvplan"])
    script = command.replace("kvplan", program)
    return subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=1800, check=False)


@pytest.mark.parametrize("arguments", ["estimate gpt2", "models --json", "--help"])
def test_a_reader_that_goes_away_is_no_error(arguments: str) -> None:
    ended = shell(f"kvplan {arguments} | true; exit ${{PIPESTATUS[0]}}")
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize(
    ("command", "code"),
    [("kvplan estimate gpt2 >&-", 0), ("kvplan --help >&-", 0), ("kvplan nope 2>&-", 2), ("kvplan models <&-", 0)],
)
def test_closed_streams_change_nothing_but_what_is_seen(command: str, code: int) -> None:
    ended = shell(command)
    assert (ended.returncode, ended.stderr) == (code, "")
    assert ended.stdout == "" or "models" in command


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_one_line(run: Runner) -> None:
    ended = shell("kvplan estimate gpt2 > /dev/full")
    assert (ended.returncode, ended.stderr) == (1, "kvplan: No space left on device\n")


def test_names_that_the_terminal_cannot_show_are_escaped(tmp_path: Path) -> None:
    folder = tmp_path / "modèle"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(LLAMA))
    ended = shell(f"PYTHONIOENCODING=ascii kvplan estimate {shlex.quote(str(folder))}")
    assert ended.returncode == 0 and r"mod\xe8le" in ended.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["latency", "gpt2"], "did you mean speed?"),
        (["devices"], "did you mean gpus?"),
        (["estimat", "gpt2"], "did you mean estimate?"),
        (["estimate", "gpt2", "--context", "8k"], "did you mean --seq?"),
        (["speed", "gpt2", "--gpu", "l4", "--output-tokens", "100"], "did you mean --answer?"),
        (["fit", "gpt2", "--vram", "24GiB"], "did you mean --memory?"),
    ],
)
def test_what_is_suggested_is_near_in_meaning(run: Runner, words: list[str], said: str) -> None:
    assert said in run(*words).refused(2)


def test_a_family_of_models_is_asked_back_and_no_command(run: Runner) -> None:
    line = run("llama").refused()
    assert "no command" not in line and "llama-3.1-8b" in line


@pytest.mark.parametrize("engine", ["llamacpp", "ollama", "vllm"])
def test_no_verdict_is_given_of_a_device_that_is_not_named(run: Runner, engine: str) -> None:
    asked = ("estimate", "qwen3-8b", "--engine", engine, "--seq", "8k")
    assert run(*asked, "--json").json["verdict"] is None
    said = run(*asked).out.splitlines()[1]
    assert "1.12 GiB of cache" in said and "about " in said


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_what_the_shell_evaluates_and_says_where(run: Runner, shell: str) -> None:
    script = run("completion", shell)
    assert script.code == 0 and "_KVPLAN_COMPLETE" in script.out and "kvplan" in script.out
    assert f"kvplan completion {shell}" in run("completion").out
    wrong = run("completion", "tcsh")
    assert wrong.code == 2 and "bash" in wrong.err


@pytest.mark.parametrize(
    "name, engine", [("vllm", "vllm"), ("llama.cpp", "llamacpp"), ("sglang", "sglang"), ("vllm==0.11.2", "vllm")]
)
def test_the_name_of_an_engine_alone_says_what_to_ask(run: Runner, name: str, engine: str) -> None:
    found = run(name)
    assert found.code == 2 and f"--engine {engine}" in found.err and "did you mean" not in found.err

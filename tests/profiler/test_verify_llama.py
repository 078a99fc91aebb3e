"""`kvplan verify --engine llamacpp`, without libllama: what its answers mean, and what is said where it is not there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from planner.errors import KvplanError
from profiler import verify_llama
from profiler.commands import verify
from tests.planner.engines.test_llamacpp_against_libllama import ROWS
from tests.record_llamacpp import unpacked

ROW = next(row for row in ROWS if row["model"] == "gemma-3-1b")


def said(context: dict[str, Any]) -> str:
    """Lines as libllama logs them, of a recorded context."""
    sizes = [0.0] * (len(context["cells"]) - 1) + [context["kv_mib"]]
    return "\n".join(
        f"llama_kv_cache: size = {size:7.2f} MiB ({cells:6d} cells,   4 layers,  1/1 seqs), K (f16): 0.00 MiB, V (f16): 0.00 MiB"
        for size, cells in zip(sizes, context["cells"], strict=True)
    )


def library(monkeypatch: pytest.MonkeyPatch, changed: float = 0.0, aborts: tuple[int, ...] = ()) -> None:
    """A libllama that says what was recorded; in one context something more; and that aborts in others."""

    def child(asked: str) -> list[dict[str, Any]]:
        given = json.loads(asked)
        answers: list[dict[str, Any]] = [{"library": "libllama.so", "version": "0.5.0", "loaded": True, "log": ""}]
        for index in range(given["start"], len(given["questions"])):
            answers.append({"begin": index})
            if index in aborts:
                return answers
            context = next(one for one in ROW["contexts"] if one["question"] == given["questions"][index])
            more = {**context, "kv_mib": context["kv_mib"] + (changed if index == 2 else 0.0)}
            # one line of the whole size, for the sum is what is compared
            log = said(more).replace("   0.00 MiB (", "   0.001 MiB (")
            answers.append({"index": index, "made": True, "log": log})
        return answers

    monkeypatch.setattr(verify_llama, "_child", child)


def run(tmp_path: Path, *options: str) -> Any:
    file = unpacked(ROW, tmp_path)
    return CliRunner().invoke(verify.command, [str(file), "--engine", "llamacpp", "--library", str(tmp_path), *options])


def test_exit_code_is_0_where_all_contexts_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library(monkeypatch)
    found = run(tmp_path)
    assert found.exit_code == 0 and "17 of 17 contexts agree" in found.output


def test_exit_code_is_3_on_a_difference_and_both_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library(monkeypatch, changed=8.0)
    found = run(tmp_path)
    assert found.exit_code == 3 and "differs" in found.output and "16 of 17" in found.output
    made = json.loads(run(tmp_path, "--json").output)["models"][0]
    assert [one["agrees"] for one in made["contexts"]].count(False) == 1 and made["agrees"] is False


def test_a_context_in_which_the_library_aborts_is_not_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library(monkeypatch, aborts=(1, 4))
    found = run(tmp_path)
    assert found.exit_code == 0 and found.output.count("not compared") == 2 and "15 of 15" in found.output


def test_without_a_library_it_is_said_how_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(verify_llama.LIBRARY, raising=False)
    for options, words in (
        (["gpt2", "--engine", "llamacpp"], "libllama reads GGUF files"),
        ([str(unpacked(ROW, tmp_path)), "--engine", "llamacpp"], "--library"),
        (
            [str(unpacked(ROW, tmp_path)), "--engine", "llamacpp", "--library", str(tmp_path / "nowhere")],
            "does not exist",
        ),
    ):
        with pytest.raises(KvplanError, match=words):
            CliRunner().invoke(verify.command, options, catch_exceptions=False)


def test_a_folder_without_a_libllama_ends_in_one_line(tmp_path: Path) -> None:
    found = run(tmp_path)
    assert (
        found.exit_code == 1
        and "holds no libllama" in " ".join(found.output.split())
        and "Traceback" not in found.output
    )

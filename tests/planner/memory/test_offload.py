"""llama.cpp's split between card and host: every byte is on one side, and the card holds the last layers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from planner.commands import fit, show
from planner.lookup import model_spec
from planner.memory.estimate import estimate
from planner.memory.offload import most_layers, offload
from planner.memory.request import Capacity, Request
from tests.planner.readers.headers import write_gguf
from tests.planner.readers.test_gguf import CASES, write

ROOM = Capacity("a card", 1 << 40)


@pytest.mark.parametrize("name", ["gqa", "moe", "window of six", "hybrid delta"])
def test_every_byte_of_weights_and_cache_is_on_one_side(tmp_path: Path, name: str) -> None:
    spec = model_spec(write(CASES[name], tmp_path))
    answer = estimate(spec, Request(1000, batch=3), ROOM)
    for ngl in range(len(spec.layers) + 2):
        found = offload(answer, ngl)
        assert found.device_weight_bytes + found.host_weight_bytes == answer.weight_bytes
        assert found.device_cache_bytes + found.host_cache_bytes == answer.kv_bytes + answer.state_bytes
    assert offload(answer, 0).device_weight_bytes == 0
    assert offload(answer, 99).host_weight_bytes == spec.stored.bytes_of("embedding")  # type: ignore[union-attr]


def test_the_last_layers_go_first(tmp_path: Path) -> None:
    spec = model_spec(write(CASES["hybrid delta"], tmp_path))  # three recurrent layers, then attention
    answer = estimate(spec, Request(1000), ROOM)
    assert offload(answer, 1).device_cache_bytes == answer.kv_bytes
    assert offload(answer, 1).host_cache_bytes == answer.state_bytes


def test_a_tied_head_is_a_second_copy_on_the_card(tmp_path: Path) -> None:
    case = CASES["gqa"]
    tensors = {name: shape for name, shape in case.tensors.items() if name != "output.weight"}
    write_gguf(tmp_path / "m.gguf", case.pairs, tensors)
    answer = estimate(model_spec(str(tmp_path / "m.gguf")), Request(8), ROOM)
    found, table = offload(answer, 4), answer.spec.stored.bytes_of("embedding")  # type: ignore[union-attr]
    assert answer.spec.tied
    assert found.device_weight_bytes + found.host_weight_bytes == answer.weight_bytes + table
    assert found.host_weight_bytes == table


def test_the_most_layers_that_fit_are_the_last_that_do(tmp_path: Path) -> None:
    spec = model_spec(write(CASES["window of six"], tmp_path))
    answer = estimate(spec, Request(1000), ROOM)
    for ngl in (0, 1, 5, 13, 14):
        wanted = offload(answer, ngl)
        assert most_layers(answer, wanted.device_bytes) == wanted
    assert most_layers(answer, 0).ngl == 0


def test_fit_answers_it_for_gguf_files_alone(tmp_path: Path) -> None:
    path = write(CASES["gqa"], tmp_path)
    found = CliRunner().invoke(fit.command, [path, "--memory", "24GiB", "--seq", "1k", "--json"])
    assert json.loads(found.output)["offload"]["ngl"] == 4
    assert "offload" not in json.loads(CliRunner().invoke(fit.command, ["gpt2", "--memory", "24GiB", "--json"]).output)
    assert (
        "--n-gpu-layers 4, 3 of 3 layers and the head"
        in CliRunner().invoke(fit.command, [path, "--memory", "24GiB"]).output
    )


def test_show_lists_what_is_stored(tmp_path: Path) -> None:
    path = write(CASES["moe"], tmp_path)
    stored = json.loads(CliRunner().invoke(show.command, [path, "--json"]).output)["stored"]
    assert sum(stored["bytes_by_dtype"].values()) == sum(stored["bytes_by_part"].values()) == stored["bytes"]
    assert len(stored["layer_bytes"]) == 2
    assert "MXFP4" in CliRunner().invoke(show.command, [path]).output


def test_ngl_asks_for_so_many_layers_and_is_refused_elsewhere(tmp_path: Path) -> None:
    path = write(CASES["gqa"], tmp_path)
    line = [path, "--memory", "24GiB", "--seq", "1k", "--json"]
    done = CliRunner().invoke(fit.command, [*line, "--engine", "llamacpp", "--ngl", "1"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.output)["offload"]["layers_on_device"] == 1
    assert CliRunner().invoke(fit.command, [*line, "--ngl", "0"]).exit_code == 0
    for wrong in ([*line, "--ngl", "99"], [*line, "--ngl", "-1"], ["gpt2", *line[1:], "--ngl", "1"]):
        assert CliRunner().invoke(fit.command, wrong).exception is not None

"""llama.cpp's split between card and host: every byte is on one side, and the card holds the last layers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from planner.commands import fit, show
from planner.lookup import model_spec
from planner.memory.estimate import estimate
from planner.memory.offload import best_split, offload, read_bytes
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


def test_the_best_split_that_fit_are_the_last_that_do(tmp_path: Path) -> None:
    spec = model_spec(write(CASES["window of six"], tmp_path))
    answer = estimate(spec, Request(1000), ROOM)
    for ngl in (0, 1, 5, 13, 14):
        wanted = offload(answer, ngl)
        assert best_split(answer, wanted.device_bytes) == wanted
    assert best_split(answer, 0).ngl == 0


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
    done = CliRunner().invoke(fit.command, [*line, "--ngl", "1"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.output)["offload"]["layers_on_device"] == 1
    by_engine = json.loads(CliRunner().invoke(fit.command, [*line, "--engine", "llamacpp", "--ngl", "1"]).output)
    assert (
        "offload" not in by_engine
        and by_engine["engine"]["head_on_cards"]
        and not by_engine["engine"]["layers_on_cards"]
    )
    assert CliRunner().invoke(fit.command, [*line, "--ngl", "0"]).exit_code == 0
    for wrong in ([*line, "--ngl", "99"], [*line, "--ngl", "-1"], ["gpt2", *line[1:], "--ngl", "1"]):
        assert CliRunner().invoke(fit.command, wrong).exception is not None


def test_experts_leave_the_card_before_layers_do(tmp_path: Path) -> None:
    """Every layer and the head stay on the card, and the experts of as few layers as will do lie on the host."""
    spec = model_spec(write(CASES["moe"], tmp_path))
    answer = estimate(spec, Request(1000), ROOM)
    whole = offload(answer, len(spec.layers) + 1)
    assert best_split(answer, whole.device_bytes).cpu_moe_layers == 0
    found = best_split(answer, whole.device_bytes - 1, 1 << 30)
    assert (found.ngl, found.cpu_moe_layers, found.host_fits) == (len(spec.layers) + 1, 1, True)
    assert found.device_weight_bytes + found.host_weight_bytes == answer.weight_bytes
    assert found.flags == f"--n-gpu-layers {found.ngl} --n-cpu-moe 1"
    everything = offload(answer, len(spec.layers) + 1, len(spec.layers))
    fewer = best_split(answer, everything.device_bytes - 1)
    assert fewer.ngl < found.ngl and fewer.cpu_moe_layers == len(spec.layers)


def test_a_token_reads_only_the_experts_that_are_active(tmp_path: Path) -> None:
    spec = model_spec(write(CASES["moe"], tmp_path))
    answer = estimate(spec, Request(1000), ROOM)
    on_card, on_host = (read_bytes(answer, offload(answer, len(spec.layers) + 1, moe)) for moe in (0, len(spec.layers)))
    assert sum(on_card) == pytest.approx(sum(on_host), abs=2) and on_card[1] == 0 < on_host[1]
    assert sum(on_card) < answer.weight_bytes + answer.kv_bytes


def test_fit_finds_the_split_and_says_so(tmp_path: Path) -> None:
    """`kvplan fit FILE.gguf --memory M --host-memory H`: exit 0 where card and host together hold it."""
    path = write(CASES["moe"], tmp_path)
    args = [path, "--memory", "1GiB", "--seq", "1000", "--json"]
    small = CliRunner().invoke(fit.command, [*args, "--host-memory", "64GiB"])
    block = json.loads(small.output)["offload"]
    assert small.exit_code == 0 and block["host_fits"] is True
    assert block["flags"].startswith("--n-gpu-layers")

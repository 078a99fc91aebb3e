"""`kvplan sweep`: a file in the order of the grid, one line on the screen."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

Runner = Callable[..., Any]


def test_a_sweep_writes_one_row_a_point(run: Runner, tmp_path: Path) -> None:
    path = tmp_path / "grid.csv"
    found = run("sweep", "estimate", "model=gpt2,llama-7b", "seq=1k,8k", "-o", path)
    assert (found.code, found.out) == (0, f"4 points in {path}\n")
    rows = list(csv.DictReader(path.open()))
    assert [(row["model"], row["seq_tokens"]) for row in rows] == [
        ("gpt2", "1024"), ("gpt2", "8192"), ("llama-7b", "1024"), ("llama-7b", "8192"),
    ]  # fmt: skip
    assert rows[3]["kv_bytes"] == "4294967296"


def test_refused_points_are_counted_and_named(run: Runner, tmp_path: Path) -> None:
    found = run("sweep", "estimate", "model=gpt2,nope", "seq=1k", "-o", tmp_path / "a.csv")
    assert found.code == 0 and "2 points" in found.out and "1 refused" in found.out
    assert "no model is called 'nope'" in (tmp_path / "a.csv").read_text()


def test_a_sweep_without_one_answer_fails_with_its_first_reason(run: Runner, tmp_path: Path) -> None:
    line = run("sweep", "estimate", "model=nope", "seq=1k,2k", "-o", tmp_path / "a.csv").refused()
    assert "no point was answered" in line and "no model is called 'nope'" in line
    assert (tmp_path / "a.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("estimate", "model=gpt2", "seq=1k"), 2, "where to?"),
        (("estimate", "model=gpt2", "seq=1k", "-o", "{}/a.csv", "--workers", "2", "--ray", "auto"), 2, "give one of them"),
        (("estimate", "model=gpt2", "seq=1k", "-o", "{}/a.txt"), 1, "name a .csv or a .parquet file"),
        (("estimate", "model=gpt2", "seq=1k", "-o", "{}/no/a.csv"), 1, "folder"),
        (("estimate", "model=gpt2", "seq=1k", "-o", "{}/a.csv", "--workers", "0"), 1, "--workers '0'"),
        (("estimate", "model=gpt2", "seq=1k", "-o", "{}/a.csv", "--workers", "99999"), 1, "--workers 99,999"),
        (("estimate", "model=gpt2", "seq=0", "-o", "{}/a.csv"), 1, "seq '0'"),
        (("guess", "model=gpt2", "-o", "{}/a.csv"), 1, "'guess' is not a question"),
        (("estimate", "-o", "{}/a.csv"), 1, "needs model=..., seq=..."),
    ],
)  # fmt: skip
def test_wrong_input_is_one_line_and_no_file(
    run: Runner, tmp_path: Path, arguments: tuple[str, ...], code: int, said: str
) -> None:
    assert said in run("sweep", *(word.format(tmp_path) for word in arguments)).refused(code)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(find_spec("pyarrow") is not None, reason="pyarrow is installed")
def test_parquet_names_its_extra_where_it_is_missing(run: Runner, tmp_path: Path) -> None:
    line = run("sweep", "estimate", "model=gpt2", "seq=1k", "-o", tmp_path / "a.parquet").refused()
    assert "pip install 'llm-kvplan[parquet]'" in line


@pytest.mark.skipif(find_spec("ray") is not None, reason="ray is installed")
def test_ray_names_its_extra_where_it_is_missing(run: Runner, tmp_path: Path) -> None:
    line = run("sweep", "estimate", "model=gpt2", "seq=1k", "-o", tmp_path / "a.csv", "--ray", "auto").refused()
    assert "pip install 'llm-kvplan[cluster]'" in line


@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C of a terminal")
@pytest.mark.parametrize("workers", ["1", "2"])
def test_ctrl_c_keeps_what_is_done_and_resume_goes_on(run: Runner, tmp_path: Path, workers: str) -> None:
    """The grid takes minutes; it is stopped as soon as the first points are saved."""
    rest = ("model=llama-3.1-8b,qwen2.5-7b,gpt2", "gpu=l4,h100-sxm", "kv_dtype=bf16,fp8", "tp=1,2")
    path = tmp_path / "a.csv"
    command = [sys.executable, "-m", "kvplan", "sweep", "fit", "seq=1k..1M:+1k", *rest, "-o", str(path)]
    began = subprocess.Popen(
        [*command, "--workers", workers], stderr=subprocess.PIPE, text=True, start_new_session=True, cwd=tmp_path
    )
    while not path.exists() and began.poll() is None:  # the event, however long a busy machine takes to reach it
        time.sleep(0.05)
    os.killpg(began.pid, signal.SIGINT)
    _, said = began.communicate()
    assert began.returncode == 130, said
    assert said.count("\n") == 1 and "--resume goes on" in said, said
    done = len(path.read_text().splitlines()) - 1
    assert 0 < done < 24_576
    small = ("sweep", "fit", "seq=1k,2k", *rest)
    assert f"{min(done, 48)} of them kept" in run(*small, "-o", path, "--resume").out
    run(*small, "-o", tmp_path / "b.csv")
    assert path.read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_rope_scaling_moves_the_limit_of_positions_and_is_refused_without_rope(run: Runner, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    grid = ("sweep", "fit", "model=qwen3-8b,gpt2", "gpu=l40s", "seq=64k")
    run(*grid, "-o", path)
    assert [row["verdict"] for row in csv.DictReader(path.open())] == ["only with RoPE scaling", "too long"]
    run(*grid, "-o", path, "--rope-scaling", "4", "--resume")  # another model than the rows that are there
    scaled, table = csv.DictReader(path.open())
    assert (scaled["verdict"], scaled["longest_context_tokens"]) == ("fits", "163840")
    assert "--rope-scaling: gpt2 has no RoPE" in table["refused"]

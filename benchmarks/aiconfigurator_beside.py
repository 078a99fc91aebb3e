"""TPOT of measured rows beside what aiconfigurator says of the same rows, and what kvplan's shipped fit says.

    python benchmarks/aiconfigurator_beside.py [--every 6] [--seconds 150]

Wants aiconfigurator (0.12.0 here; from its wheels, `pip install aiconfigurator`). Every n-th row of dense models under a
closed loop on H100, H200 and B200 in vLLM and TensorRT-LLM, each told its KV format. aiconfigurator has measured operators of
these devices; kvplan's fit has seen these rows: docs/accuracy.md has it on rows that it had not.
"""

from __future__ import annotations

import argparse
import csv
import logging
import sys
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from kvplan import api

HF = {"qwen3-32b": "Qwen/Qwen3-32B", "llama-3-70b": "meta-llama/Meta-Llama-3.1-70B"}
SYSTEMS = {"H100-SXM-80GB": ("h100_sxm", "h100-sxm"), "H200-SXM-141GB": ("h200_sxm", "h200-sxm"), "B200-180GB": ("b200_sxm", "b200-hgx")}  # fmt: skip
ENGINES = {"vLLM": ("vllm", "vllm"), "TensorRT-LLM": ("trtllm", "tensorrt-llm")}
FORMATS = {"FP8": ("fp8", "fp8"), "BF16": ("bfloat16", "bf16"), "FP16": ("bfloat16", "fp16"), "NVFP4": ("nvfp4", "nvfp4")}  # fmt: skip


def theirs(row: dict[str, str]) -> float:
    """Milliseconds between two tokens by aiconfigurator, its own step of a server that reads prompts besides."""
    from aiconfigurator.cli.api import cli_estimate  # type: ignore[import-not-found]

    found = cli_estimate(
        HF[row["model"]], SYSTEMS[row["gpu"]][0], mode="agg", backend_name=ENGINES[row["engine"]][0],
        isl=int(row["prompt"]), osl=int(row["output"]), batch_size=int(row["batch"]), tp_size=int(row["tp"]),
        gemm_quant_mode=FORMATS[row["weight_dtype"].upper()][0], kvcache_quant_mode=FORMATS[row["kv_dtype"].upper()][0],
    )  # fmt: skip
    return float(found.get()["tpot"])


def ours(row: dict[str, str]) -> float:
    """The same by the shipped fit."""
    answer = api.speed(
        row["model"], gpu=SYSTEMS[row["gpu"]][1], engine=ENGINES[row["engine"]][1], batch=int(row["batch"]), tp=int(row["tp"]),
        prompt=int(row["prompt"]), answer=int(row["output"]), dtype=FORMATS[row["weight_dtype"].upper()][1],
        kv_dtype=FORMATS[row["kv_dtype"].upper()][1],
    )  # fmt: skip
    return float(answer["tpot_seconds"]) * 1e3


def rows_of(every: int) -> list[dict[str, str]]:
    """Every n-th row that both can answer."""
    text = (ROOT / "tests" / "cases" / "serving_speed.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    return [
        row for row in rows
        if row["model"] in HF and row["gpu"] in SYSTEMS and row["engine"] in ENGINES and row["load"] == "closed_loop"
        and row["measured"] == "tpot_ms" and not row["apart"] and row["pp"] == "1" and row["dp"] in ("", "1")
        and row["weight_dtype"].upper() in FORMATS and row["kv_dtype"].upper() in FORMATS
    ][::every]  # fmt: skip


def main() -> int:
    """Prints median error, 90th percentile and the median ratio of both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=150.0)
    asked = parser.parse_args()
    logging.disable(logging.CRITICAL)
    found: dict[str, list[float]] = {"aiconfigurator": [], "kvplan, shipped fit": []}
    refused, until = 0, time.monotonic() + asked.seconds
    for row in rows_of(asked.every):
        if time.monotonic() > until:
            break
        try:
            pair = theirs(row), ours(row)
        except Exception:  # a layout or format that one of them has not
            refused += 1
            continue
        for name, value in zip(found, pair, strict=True):
            found[name].append(value / float(row["value"]))
    print(f"TPOT of {len(found['aiconfigurator'])} rows; {refused} that one of them does not answer")
    for name, ratios in found.items():
        errors = sorted(abs(ratio - 1) for ratio in ratios)
        worst = errors[int(0.9 * (len(errors) - 1))] if errors else 0.0
        print(f"{name:22}median error {median(errors):6.1%}   P90 {worst:6.1%}   said / measured {median(ratios):.2f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

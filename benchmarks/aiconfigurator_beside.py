"""TPOT of measured rows beside what aiconfigurator says of the same rows, and what kvplan says where it had not seen them.

    python benchmarks/aiconfigurator_beside.py [--seconds 1500]

Every dense row of `tests/cases/serving_speed.csv` under a closed loop on H100, H200 and B200 in vLLM and TensorRT-LLM whose KV
format is recorded, each asked with that format. aiconfigurator (0.12.0; `pip install aiconfigurator`, from its wheels) has
measured operators of these devices. Its answers are kept in `tests/cases/aiconfigurator.csv`: rows that the file has are not
asked again, and so it is printed without aiconfigurator, too; `--seconds` says how long further rows are asked, in a shuffled
order. kvplan's figure is of constants fitted without the row's fifth of the rows (the folds of `fit_speed.py`).
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import logging
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np

from benchmarks import fit_speed
from tests.speed_truth import QUEUED, Row, llamacpp_rows, serving_rows

KEPT = ROOT / "tests" / "cases" / "aiconfigurator.csv"
HF = {"qwen3-32b": "Qwen/Qwen3-32B", "llama-3-70b": "meta-llama/Meta-Llama-3.1-70B"}
SYSTEMS = {"H100-SXM-80GB": "h100_sxm", "H200-SXM-141GB": "h200_sxm", "B200-180GB": "b200_sxm"}
ENGINES = {"vLLM": "vllm", "TensorRT-LLM": "trtllm"}
FORMATS = {"FP8": "fp8", "BF16": "bfloat16", "FP16": "bfloat16", "FP4": "nvfp4"}
NAMES = ("model", "gpu", "engine", "weight_dtype", "kv_dtype", "tp", "batch", "prompt", "output", "value")
Key = tuple[str, ...]


def theirs(row: dict[str, str]) -> str:
    """Milliseconds between two tokens by aiconfigurator, its own step of a server that reads prompts besides; "" for none."""
    from aiconfigurator.cli.api import cli_estimate  # type: ignore[import-not-found]

    try:
        found = cli_estimate(
            HF[row["model"]], SYSTEMS[row["gpu"]], mode="agg", backend_name=ENGINES[row["engine"]],
            isl=int(row["prompt"]), osl=int(row["output"]), batch_size=int(row["batch"]), tp_size=int(row["tp"]),
            gemm_quant_mode=FORMATS[row["weight_dtype"]], kvcache_quant_mode=FORMATS[row["kv_dtype"]],
        )  # fmt: skip
        return f"{float(found.get()['tpot']):.5g}"
    except Exception:  # a layout or format that it has not
        return ""


def asked_rows() -> list[dict[str, str]]:
    """Lists the rows that both are asked, in a shuffled order."""
    rows = csv.DictReader((ROOT / "tests" / "cases" / "serving_speed.csv").read_text(encoding="utf-8").splitlines())
    kept = [
        row for row in rows
        if row["model"] in HF and row["gpu"] in SYSTEMS and row["engine"] in ENGINES and row["load"] == "closed_loop"
        and row["measured"] == "tpot_ms" and not row["apart"] and row["pp"] == "1" and row["dp"] in ("", "1")
        and row["weight_dtype"] in FORMATS and row["kv_dtype"] in FORMATS
    ]  # fmt: skip
    random.Random(0).shuffle(kept)
    return kept


def answers(rows: Sequence[dict[str, str]], seconds: float) -> dict[Key, str]:
    """Reads the answers that are kept, and asks for those that are not for so many seconds."""
    found: dict[Key, str] = {}
    if KEPT.exists():
        with KEPT.open(encoding="utf-8", newline="") as file:
            found = {tuple(line[name] for name in NAMES): line["said"] for line in csv.DictReader(file)}
    until = time.monotonic() + seconds
    asks = importlib.util.find_spec("aiconfigurator") is not None
    for row in rows:
        key = tuple(row[name] for name in NAMES)
        if key not in found and asks and time.monotonic() < until:
            found[key] = theirs(row)
    with KEPT.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow((*NAMES, "said"))
        writer.writerows((*key, said) for key, said in sorted(found.items()))
    return found


def left_out(wanted: set[Key]) -> dict[Key, float]:
    """Computes ours / measured of the wanted rows, each by constants that its fifth of the rows had no share in."""
    rows = [row for row in (*serving_rows().rows, *llamacpp_rows().rows) if row.kind != QUEUED]
    data = fit_speed.data_of(rows)
    usable = np.flatnonzero([not row.apart for row in rows])
    folds, places = fit_speed.folds_of(len(rows)), [i for i in usable if described(rows[i]) in wanted]
    found: dict[Key, float] = {}
    for fold in range(fit_speed.FOLDS):
        index = np.array([i for i in places if folds[i] == fold], int)
        entries = fit_speed.build(data, usable[folds[usable] != fold], index)
        for i, error in zip(index, fit_speed.errors_of(data, entries, index), strict=True):
            found[described(rows[i])] = float(np.exp(error))
    return found


def described(row: Row) -> Key:
    """What tells a row from the others of one model and engine: device, layout, batch, lengths and the measured value."""
    return (row.model, row.device.name.split("-")[0], str(row.answer.request.sharding.tp), str(row.batch),
            str(row.prompt), str(row.output), f"{row.value:g}")  # fmt: skip


def raw_described(row: dict[str, str]) -> Key:
    """The same of a row as the file has it."""
    return (row["model"], row["gpu"].split("-")[0], row["tp"], row["batch"], row["prompt"], row["output"], f"{float(row['value']):g}")  # fmt: skip


def line(name: str, ratios: Sequence[float]) -> str:
    """Writes median error, 90th percentile and the median of said / measured."""
    errors = sorted(abs(ratio - 1) for ratio in ratios)
    worst = errors[round(0.9 * (len(errors) - 1))]
    return f"{name:32}median error {median(errors):6.1%}   P90 {worst:6.1%}   said / measured {median(ratios):.2f}"


def main() -> int:
    """Prints both beside each other, all rows and by device and engine."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1500.0)
    asked = parser.parse_args()
    logging.disable(logging.CRITICAL)
    rows = asked_rows()
    said = answers(rows, asked.seconds)
    both = [(row, said[key]) for row in rows if said.get(key := tuple(row[name] for name in NAMES))]
    ours = left_out({raw_described(row) for row, _ in both})
    refused = sum(not answer for answer in said.values())
    print(
        f"TPOT of {len(both)} rows of {len(rows)}; {refused} that aiconfigurator does not answer, the others not asked"
    )
    groups: dict[str, list[tuple[float, float]]] = {"all": []}
    for row, answer in both:
        pair = (float(answer) / float(row["value"]), ours[raw_described(row)])
        for name in ("all", f"{row['engine']} on {row['gpu'].split('-')[0]}"):
            groups.setdefault(name, []).append(pair)
    for name, pairs in groups.items():
        print(f"{name}, {len(pairs)} rows")
        for who, ratios in zip(
            ("aiconfigurator", "kvplan, row left out of the fit"), zip(*pairs, strict=True), strict=True
        ):
            print("  " + line(who, ratios))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

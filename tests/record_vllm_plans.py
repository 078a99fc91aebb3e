"""Records what releases' own cache planning makes of real models: `python -m tests.record_vllm_plans --python PY VERSION=DIR ...`

PY is an interpreter with torch and what vLLM imports; DIR the unpacked Python files of a release's wheel. The rows go to
tests/cases/vllm/planned.csv, which `tests/planner/engines/test_vllm_releases.py` reads. Hybrids are not asked: their pages
are made equal before the planning, by code that starts a model.
"""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import click

from planner.catalogue.entries import find_model
from planner.engines import vllm
from planner.engines.base import Options, layer_caches
from planner.engines.vllm_setting import settings
from planner.memory.estimate import Estimate, estimate
from planner.memory.request import Capacity, Request
from planner.model.cache import Full
from planner.model.latent_attention import Latent
from planner.model.windows import SlidingWindow
from planner.readers import read_entry
from planner.units import GIB
from tests import vllm_planner

CASES = Path(__file__).parent / "cases" / "vllm" / "planned.csv"
MODELS = (
    "llama-3.1-8b", "qwen3-8b", "phi-4", "gemma-2-9b", "gemma-3-1b", "gemma-3-27b", "gpt-oss-20b", "gemma-4-31b",
    "gemma-4-26b-a4b", "command-r7b", "olmo-3-7b", "deepseek-v2-lite", "deepseek-v3", "mistral-7b-v0.1",
)  # fmt: skip
SIZES = (GIB // 2, 2 * GIB, 11 * GIB + 12345)
LENGTH, BATCHED = 8192, 4096
COLUMNS = ("version", "model", "bytes", "blocks", "groups", "block_tokens", "concurrency", "needed_gib", "longest")


@lru_cache(maxsize=32)
def asked(model: str) -> Estimate:
    return estimate(read_entry(find_model(model)), Request(LENGTH), Capacity("H100-SXM5-80GB", 80 * GIB))


def options(size: int) -> Options:
    return Options(pool_bytes=size, max_model_len=LENGTH, max_num_batched_tokens=BATCHED, max_num_seqs=256)


def agrees(row: dict[str, str]) -> bool:
    """Whether ours is what the release's planning said: blocks, groups, tokens of a block, concurrency, or the refusal."""
    ours = vllm.answer(asked(row["model"]), options(int(row["bytes"])), row["version"]).to_dict()
    if row["needed_gib"]:
        needed = abs(ours["needed_bytes"] / GIB - float(row["needed_gib"])) < 0.0051
        longest = not row["longest"] or int(row["longest"]) == ours["estimated_max_model_len"]
        return needed and longest and ours["refusal"] is not None
    counts = [str(ours[key]) for key in ("pool_blocks", "groups", "block_tokens")]
    same = counts == [row["blocks"], row["groups"], row["block_tokens"]]
    return same and ours["refusal"] is None and abs(ours["max_concurrency"] - float(row["concurrency"])) < 0.0051


def question(model: str, version: str) -> dict[str, Any]:
    """A model's layers in vLLM's words."""
    found = asked(model)
    setting = settings(found, options(GIB), version)
    layers: list[dict[str, Any]] = []
    for _, cache in layer_caches(found):
        if isinstance(cache, Latent):
            layers.append({"form": "mla", "num_kv_heads": 1, "head_size": cache.latent_dim + cache.rope_dim})
        elif isinstance(cache, Full):
            own = {"num_kv_heads": cache.kv_heads, "head_size": cache.k_dim, "head_size_v": cache.v_dim}
            window = (
                {"form": "sliding", "sliding_window": cache.window}
                if isinstance(cache, SlidingWindow)
                else {"form": "full"}
            )
            layers.append({**window, **own})
    return {
        "model": model, "length": LENGTH, "batched": BATCHED, "in_flight": setting.in_flight, "block": setting.block, "layers": layers,
        "sizes": SIZES,
    }  # fmt: skip


def recorded(python: str, version: str, sources: str) -> list[dict[str, Any]]:
    """The rows of one release."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "questions.json")
        file.write_text(json.dumps([question(model, version) for model in MODELS]))
        code = Path(str(vllm_planner.__file__)).read_text()
        path = {**os.environ, "PYTHONPATH": os.pathsep.join([sources, os.environ.get("PYTHONPATH", "")])}
        done = subprocess.run(
            [python, "-c", code, str(file)], capture_output=True, text=True, check=False, env=path, cwd=folder
        )
    said = [line for line in done.stdout.splitlines() if line.startswith("KVPLAN-ANSWER ")]
    if not said:
        raise click.ClickException(f"{version}: {(done.stderr.strip().splitlines() or ['nothing said'])[-1]}")
    return [row_of(version, row) for row in json.loads(said[0].removeprefix("KVPLAN-ANSWER "))]


def row_of(version: str, row: dict[str, Any]) -> dict[str, Any]:
    """A refusal as its two numbers."""
    text = str(row.pop("refusal", ""))
    needed, longest = re.search(r"([\d.]+) GiB KV", text), re.search(r"length is (\d+)", text)
    numbers = {"needed_gib": needed.group(1) if needed else "", "longest": longest.group(1) if longest else ""}
    if "concurrency" in row:
        row["concurrency"] = f"{row['concurrency']:.4f}"
    return {"version": version, **row, **numbers}


@click.command()
@click.option("--python", required=True, help="An interpreter with torch and what vLLM imports.")
@click.argument("releases", metavar="VERSION=DIR...", nargs=-1, required=True)
def main(python: str, releases: tuple[str, ...]) -> None:
    """Writes the cases anew."""
    rows = [row for text in releases for row in recorded(python, *text.split("=", 1))]
    with CASES.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n", restval="")
        writer.writeheader()
        writer.writerows(rows)
    click.echo(f"{len(rows)} rows: {CASES}")


if __name__ == "__main__":
    main()

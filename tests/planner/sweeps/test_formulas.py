"""The version of the formulas is raised when a number changes, so that `--resume` keeps no row of old formulas."""

from __future__ import annotations

import hashlib

from planner.sweeps.axes import parse_grid
from planner.sweeps.questions import FORMULAS, Cell, answer_rows, shared_of

GRIDS = {
    "estimate": "model=gpt2,llama-3.1-70b,deepseek-v3,gemma-3-27b,mamba-2.8b seq=1k,8k batch=1,8 gpu=h100-sxm tp=1,2 kv_dtype=fp8",
    "fit": "model=llama-3.1-8b,deepseek-v2-lite seq=8k gpu=rtx-4090,l40s engine=vllm==0.11.2,sglang==0.5.0,llamacpp==b5331",
    "speed": "model=llama-3.1-8b,mixtral-8x7b gpu=h100-sxm prompt=1k answer=128 batch=1,32 tp=2 load=static,serving",
}
DIGITS = {2: "7a0aee139a94"}


def rounded(cell: Cell) -> str:
    """A figure to six digits, the same on every machine."""
    return f"{cell:.6g}" if isinstance(cell, float) else str(cell)


def test_a_number_that_changed_has_a_version_of_its_own() -> None:
    digest = hashlib.sha256()
    for question, words in GRIDS.items():
        grid = parse_grid(question, [words])
        for row in answer_rows(shared_of(grid), grid.points()):
            digest.update(",".join(map(rounded, row[:-1])).encode())
    assert DIGITS.get(FORMULAS) == digest.hexdigest()[:12], (
        f"a number changed: say old, new and why in CHANGELOG.md, raise FORMULAS in planner/sweeps/questions.py (unless it "
        f"was raised since the last release), and write {digest.hexdigest()[:12]} for it here"
    )

"""The ledger of a run, whichever engine wrote it."""

from __future__ import annotations

from collections.abc import Callable

from planner.dtypes.names import canonical
from planner.errors import one_line
from planner.reconcile.facts import Run
from planner.reconcile.fractions_of_free import lmdeploy, tensorrt
from planner.reconcile.ledger import Draft, Given, Ledger, readings_of
from planner.reconcile.llamacpp import llama, ollama
from planner.reconcile.lmstudio import lmstudio
from planner.reconcile.mlx import mlx, torch
from planner.reconcile.pattern import LLAMA, LMDEPLOY, LMSTUDIO, MLX, OLLAMA, SGLANG, TABBY, TORCH, TRT, VLLM
from planner.reconcile.sglang import sglang
from planner.reconcile.stopped import stopped
from planner.reconcile.tabby import tabby
from planner.reconcile.vllm import vllm

MAKERS: dict[str, Callable[[Run, Given, Draft], None]] = {
    VLLM: vllm, SGLANG: sglang, LLAMA: llama, OLLAMA: ollama, TRT: tensorrt, LMDEPLOY: lmdeploy,
    MLX: mlx, TORCH: torch, LMSTUDIO: lmstudio, TABBY: tabby,
}  # fmt: skip


def ledger_of(run: Run, given: Given) -> Ledger:
    """Makes the ledger of one run."""
    named = run.text("model") or run.text("name") or run.text("file")
    name = one_line(named.strip().strip("'\""), 120) if named else None
    said = canonical(run.text("kv_dtype") or "auto")
    kv_dtype = given.kv_dtype or (None if said == "auto" or said.startswith("torch") else said)
    made = Draft(
        Ledger(
            run.engine, given.version or run.text("version"), name, run=run, workers=tuple(run.workers),
            tp=given.tp or run.ranks("tp") or 1, pp=given.pp or run.ranks("pp") or 1, kv_dtype=kv_dtype,
            readings=readings_of(run), stopped=stopped(run),
        )
    )  # fmt: skip
    MAKERS[run.engine](run, given, made)
    if run.unread:
        made.note(run.unread_words)
    if run.mixed:
        what = "; ".join(f"{name} {one_line(said, 100)}" for name, said in run.mixed.items())
        which = f"which server said what: lines of several lie between one another ({what})"
        made.change(missing=(which, *made.ledger.missing), unexplained=None, figures=())
    return made.ledger

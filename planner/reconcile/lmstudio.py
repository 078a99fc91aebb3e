"""LM Studio's own estimate before it loads a model: the file, the context, and both."""

from __future__ import annotations

from planner.engines.base import Options
from planner.memory.estimate import estimate
from planner.memory.request import Request
from planner.reconcile.facts import Run
from planner.reconcile.ledger import Draft, Entry, Given, exact
from planner.reconcile.model import answer_or_note, spec_of


def lmstudio(run: Run, given: Given, made: Draft) -> None:
    """Fills the ledger of LM Studio's estimate: what it expects, beside what its llama.cpp will allocate."""
    spec, ctx = spec_of(run, given, made), given.max_model_len or run.positive("max_model_len")
    cache = None
    if spec is not None and ctx:
        found = estimate(spec, Request(1, k_dtype=given.kv_dtype, v_dtype=given.kv_dtype))
        answer = answer_or_note(
            made,
            "lmstudio",
            made.ledger.version,
            estimate=found,
            options=given.overlaid(Options(ctx_size=ctx, parallel=1)),
        )
        if answer is not None and answer.ranged is not None:
            cache = exact(answer.ranged.pool.bytes)
    made.add(
        Entry("file", run.bytes("weights_gb")),
        Entry("context", run.bytes("kv_gb"), cache, "LM Studio's own estimate: cache and buffers"),
        Entry("together", run.bytes("whole_gb")),
    )
    made.note("LM Studio wrote an estimate before the load, not what was allocated: the log of its engine says that")

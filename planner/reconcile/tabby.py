"""TabbyAPI's log: the tokens of its cache and of a request; it prints no sizes."""

from __future__ import annotations

from dataclasses import replace

from planner.engines.base import Options
from planner.reconcile.facts import Run
from planner.reconcile.ledger import Draft, Entry, Given, exact
from planner.reconcile.model import answer_or_note, estimate_of, spec_of


def tabby(run: Run, given: Given, made: Draft) -> None:
    """Fills the ledger of ExLlama under TabbyAPI: the bytes of its cache are those of the rule in its source, for no line says them."""
    made.change(engine="exllamav3")
    cache = given.options.ctx_size or run.positive("cache_size")
    longest = given.max_model_len or run.positive("max_model_len") or cache
    spec = spec_of(run, given, made)
    found = estimate_of(run, given, made, spec=spec, seq=longest or 1) if spec else None
    ours = None
    if found is not None and cache:
        options = given.overlaid(replace(Options(), ctx_size=cache, ubatch_size=run.positive("chunk")))
        answer = answer_or_note(made, "exllamav3", made.ledger.version, estimate=found, options=options)
        ours = None if answer is None else exact(answer.extra["kv_bytes"], "by the rule of its source")
    made.add(Entry("KV cache", None, ours, "TabbyAPI prints tokens, not bytes"))
    if made.ledger.kv_dtype is None:
        made.miss("how K and V are stored (cache_mode): FP16 is taken; --kv-dtype exl3_q8 says 8,8")
    if cache is None:
        made.miss('the cache ("Using configured cache_size"): a log from the start')

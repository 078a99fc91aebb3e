"""TensorRT-LLM's and LMDeploy's logs."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from planner.engines.base import Options
from planner.memory.estimate import Estimate
from planner.reconcile.facts import Run
from planner.reconcile.ledger import HALF_GIB, Draft, Entry, Figure, Given, exact, gain, why
from planner.reconcile.model import answer_or_note, estimate_of, known_version, spec_of
from planner.units import GIB, MIB


# long: a log from its first line to its last
def tensorrt(run: Run, given: Given, made: Draft) -> None:
    """Fills the ledger of one TensorRT-LLM engine."""
    version = known_version(made)
    free, pool = run.bytes("free_gib", poorest=True), run.bytes("available_gib", poorest=True) or run.whole("kv_bytes")
    fraction = run.share() or Fraction(9, 10)
    made.add(
        Entry("card", run.bytes("card_gib", poorest=True)),
        Entry("engine (weights)", run.bytes("weights_mib") or run.bytes("weights_gib")),
        Entry("outside PyTorch", run.bytes("outside_gib")),
        Entry("most held while profiling", run.bytes("peak_gib")),
        Entry("execution context", run.bytes("execution_gib") or run.bytes("execution_mib")),
        Entry("runtime buffers", _either(run, "runtime")),
        Entry("decoder buffers", _either(run, "decoder")),
        Entry("free before the cache", free),
    )
    predicted = exact(int(free * fraction), f"{float(fraction):g} of what is free") if free is not None else None
    made.add(Entry("KV cache pool", pool, predicted))
    if free is not None and pool is not None:
        made.change(unexplained=pool - int(free * fraction))
    spec = spec_of(run, given, made)
    found = estimate_of(run, given, made, spec=spec, seq=1) if spec else None
    if found is not None and pool is not None:
        options = given.overlaid(Options(block_size=run.positive("block_tokens")))
        ends = [
            answer_or_note(
                made, "tensorrt-llm", version, estimate=found, options=replace(options, pool_bytes=max(1, pool + step))
            )
            for step in (-HALF_GIB, HALF_GIB)
        ]
        if ends[0] and ends[1]:
            low, high = ends[0].to_dict(), ends[1].to_dict()
            for name, key in (("blocks", "pool_blocks"), ("tokens", "pool_tokens")):
                logged = run.whole(name)
                if logged is not None:
                    figure = Figure(name, logged, low[key], high[key])
                    figure = replace(figure, reason=why(figure, made.ledger))
                    made.add_figures(figure)
    if pool is None:
        made.miss('the pool ("for max tokens in paged KV cache"): a log of INFO level')
    tokens = run.whole("tokens")
    if free and fraction < Fraction(95, 100):
        gain(
            made,
            "--kv_cache_free_gpu_memory_fraction 0.95",
            int(free * (Fraction(95, 100) - fraction)),
            pool=pool,
            tokens=tokens,
        )


def _either(run: Run, name: str) -> int | None:
    """A size that is printed in MiB or GiB, the unit in a group of its own."""
    value = run.largest(f"{name}_gib")
    if value is None:
        return None
    return int(value * (MIB if (run.text(f"{name}_unit") or "G").startswith("M") else GIB))


# long: a log from its first line to its last
def lmdeploy(run: Run, given: Given, made: Draft) -> None:
    """Fills the ledger of one LMDeploy turbomind server."""
    block, blocks = run.bytes("block_mib"), run.whole("blocks")
    pool = block * blocks if block is not None and blocks is not None else None
    if run.text("quant_policy") in ("4", "8"):
        made.change(kv_dtype=f"int{run.text('quant_policy')}")
    spec = spec_of(run, given, made)
    found = (
        estimate_of(run, replace(given, kv_dtype=given.kv_dtype or made.ledger.kv_dtype), made, spec=spec, seq=1)
        if spec
        else None
    )
    if run.text("pytorch_engine") is not None:
        _pytorch(run, made, found)
        return
    made.add(Entry("KV cache pool", pool))
    if found is not None and block is not None:
        answer = answer_or_note(
            made,
            "lmdeploy",
            made.ledger.version,
            estimate=found,
            options=Options(pool_bytes=pool or GIB, block_size=run.positive("block_size")),
        )
        if answer is not None:
            size = answer.to_dict()["block_bytes"]
            figure = Figure("block MiB", block / MIB, size / MIB - 0.00051, size / MIB + 0.00051)
            words = (
                "within the rounding of the log" if figure.agrees else "another model, layout or cache type than found"
            )
            figure = replace(figure, reason=words)
            made.add_figures(figure)
            if pool is not None and blocks is not None:
                *earlier, pool_entry = made.ledger.entries
                made.change(entries=(*earlier, replace(pool_entry, predicted=exact(size * blocks))))
                made.change(unexplained=pool - size * blocks)
    fraction = run.share()
    if pool is None:
        made.miss('the pool ("[BlockManager] max_block_count"): a log with TM_LOG_LEVEL=INFO')
    elif fraction is not None and fraction < Fraction(9, 10):
        tokens = (blocks or 0) * 64
        gain(
            made,
            "--cache-max-entry-count 0.9",
            int(pool / fraction * (Fraction(9, 10) - fraction)),
            pool=pool,
            tokens=tokens,
        )


def _pytorch(run: Run, made: Draft, estimate: Estimate | None) -> None:
    """LMDeploy's PyTorch engine prints its blocks and their tokens, no bytes: those are the model's."""
    made.change(engine="lmdeploy-pytorch")
    blocks, tokens = run.whole("blocks"), run.positive("block_size") or 64
    options = Options(pool_bytes=GIB, block_size=tokens)
    answer = (
        answer_or_note(made, made.ledger.engine, made.ledger.version, estimate=estimate, options=options)
        if estimate is not None
        else None
    )
    pool = None if answer is None or blocks is None else blocks * answer.to_dict()["block_bytes"]
    if blocks is not None:
        made.change(readings={**made.ledger.readings, "tokens in the pool": float(blocks * tokens)})
        size = None if pool is None else exact(pool, "its blocks, in bytes of the model's")
        made.add(Entry("KV cache pool", None, size, "LMDeploy's PyTorch engine prints blocks, not bytes"))
    share = run.share()
    if share is not None and share < Fraction(9, 10) and pool and blocks:
        freed = int(pool / share * (Fraction(9, 10) - share))
        gain(made, "--cache-max-entry-count 0.9", freed, pool=pool, tokens=blocks * tokens)

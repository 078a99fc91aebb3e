"""SGLang's start-up log: free memory before and after the weights, and the pool."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from planner.engines.base import Options
from planner.engines.device_memory import weights_loaded
from planner.reconcile.facts import Run
from planner.reconcile.ledger import HALF_GIB, Draft, Entry, Figure, Given, eight_bit_room, exact, gain, why
from planner.reconcile.model import answer_or_note, estimate_of, known_version, spec_of
from planner.units import GIB


# long: a log from its first line to its last
def sglang(run: Run, given: Given, made: Draft) -> None:
    """Fills the ledger of one SGLang server."""
    version = known_version(made)
    before, after = run.bytes("before_gib", poorest=True), run.bytes("after_gib", poorest=True)
    weights = run.bytes("weights_gib")
    if weights is None and before is not None and after is not None:
        weights = before - after
    fraction = run.share()
    longest = given.max_model_len or run.whole("max_model_len")
    spec = spec_of(run, given, made)
    found = estimate_of(run, given, made, spec=spec, seq=longest or 1) if spec else None
    options = given.overlaid(
        Options(
            fraction=fraction,
            max_model_len=longest if longest and longest > 0 else None,
            block_size=run.positive("page_size"),
            max_running_requests=run.positive("running_requests"),
            swa_ratio=_sliding_ratio(run),
            chunked_prefill_size=run.positive("chunk"),
            cuda_graph_max_bs=run.positive("graph_batch"),
        )
    )
    pool = _pool(run)
    states = sum(run.bytes(name, poorest=True) or 0 for name in ("conv_gib", "ssm_gib")) or None
    budget = None
    if before is not None and after is not None and fraction is not None:
        budget = after - int(before * (1 - fraction))
    table = None
    if options.max_running_requests and longest:
        table = 4 * (options.max_running_requests + 1) * (longest + 4)
    left = run.bytes("left_gib", poorest=True)
    loaded = weights_loaded(found) if found is not None and found.spec.weights_known else None
    derived = (
        exact(max(0, budget), "free after the weights - free before x (1 - fraction)") if budget is not None else None
    )
    made.add(
        Entry("free before the weights", before),
        Entry("weights", weights, loaded),
        *([Entry("free after the weights", after)] if after is not None else []),
        Entry("KV cache pool (K and V)", pool, derived if not states else None),
    )
    if states:
        made.add(Entry("recurrent states", states))
    if table is not None:
        made.add(
            Entry("request table", None, exact(table), "int32 [running requests + 1, context + 4], on top of the pool")
        )
    if left is not None:
        made.add(Entry("free after the pools", left))
    graphs = _graphs(run)
    if graphs is not None:
        made.add(Entry("CUDA graphs", graphs, None, "out of the unclaimed share"))
    if after is not None and pool is not None and left is not None:
        made.change(unexplained=after - left - pool - (states or 0) - (table or 0))
    elif budget is not None and pool is not None:
        made.change(unexplained=budget - pool - (states or 0))
    tokens = run.whole("tokens") or run.whole("pool_tokens")
    if found is not None and (pool is not None or budget is not None):
        middle, spread = (pool + (states or 0), 2 * HALF_GIB) if pool is not None else (budget or 0, 2 * HALF_GIB)
        ends = [
            answer_or_note(
                made, "sglang", version, estimate=found, options=replace(options, pool_bytes=max(1, middle + step))
            )
            for step in (-spread, spread)
        ]
        if ends[0] and ends[1] and tokens is not None:
            low, high = ends[0].to_dict(), ends[1].to_dict()
            figure = Figure("tokens", tokens, low["printed_tokens"], high["printed_tokens"])
            figure = replace(figure, reason=why(figure, made.ledger))
            made.add_figures(figure)
    if pool is None and tokens is None:
        made.miss('the pool ("KV Cache is allocated", "max_total_num_tokens"): a log of INFO level from the start')
    if fraction is None:
        made.miss('mem_fraction_static ("server_args="): it is not an option here, only the budget needs it')
    eight_bit_room(made, pool, tokens)
    if before and fraction is not None and fraction < Fraction(92, 100):
        more = Fraction(3, 100)
        gain(made, f"--mem-fraction-static {float(fraction + more):.2f}", int(before * more), pool=pool, tokens=tokens)


def _pool(run: Run) -> int | None:
    """K and V of the poorest worker; layers with windows have a pool of their own, printed on a second line."""
    by_worker: dict[str, int] = {}
    for name in ("k_gib", "v_gib"):
        for key, value in run.by_key(name).items():
            worker = key.split("/")[0] if "/" in key else ""
            number = Fraction(value.replace(",", ""))
            by_worker[worker] = by_worker.get(worker, 0) + int(number * GIB)
    return min(by_worker.values(), default=None)


def _graphs(run: Run) -> int | None:
    """CUDA graphs of the worker that holds most: decode, prefill and drafts are captured one after another."""
    by_worker: dict[str, Fraction] = {}
    for key, value in run.by_key("graphs_gib").items():
        worker = key.split("/")[0] if "/" in key else ""
        by_worker[worker] = by_worker.get(worker, Fraction(0)) + (Fraction(value.replace(",", "")))
    return int(max(by_worker.values()) * GIB) if by_worker else None


def _sliding_ratio(run: Run) -> Fraction | None:
    full, sliding = run.smallest("tokens"), run.smallest("swa_tokens")
    if full and sliding and 0 < sliding <= full:
        return Fraction(sliding / full).limit_denominator(1000)
    value = run.smallest("swa_ratio")
    return value if value is not None and 0 < value <= 100 else None

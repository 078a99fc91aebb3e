"""vLLM's start-up log: the budget of the poorest worker and what it was cut into."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

from planner.dtypes.names import float_dtype
from planner.engines.base import EngineAnswer, Options
from planner.engines.device_memory import weights_loaded
from planner.memory.activations import Estimated
from planner.memory.estimate import Estimate
from planner.memory.request import Capacity
from planner.reconcile.facts import Run
from planner.reconcile.ledger import HALF_GIB, Draft, Entry, Figure, Given, eight_bit_room, gain, why
from planner.reconcile.model import answer_or_note, estimate_of, known_version, spec_of
from planner.units import GIB, gib


def generation(run: Run) -> str:
    """Tells v0 from v1: only the first engine prints CPU blocks."""
    return "v0" if run.text("cpu_blocks") is not None and run.text("is_v1") is None else "v1"


def set_by_hand(run: Run) -> bool:
    """Whether the pool is as --kv-cache-memory-bytes or VLLM_CPU_KVCACHE_SPACE says; a plan kept from an earlier start is not."""
    return run.text("pool_given") in ("Explicitly set", "reserved")


def vllm(run: Run, given: Given, made: Draft) -> None:
    """Fills the ledger of one vLLM server."""
    engine = f"vllm-{generation(run)}"
    first = engine == "vllm-v0"
    version = known_version(made) or _era(run, made)
    pool = run.bytes("available_gib", poorest=True)
    card = run.bytes("card_gib", poorest=True) or (given.capacity.bytes if given.capacity else None)
    if run.text("on_cpu") is not None:  # a platform with rules of its own
        card = run.bytes("node_gib", poorest=True) or card
        given = replace(given, capacity=Capacity("CPU", card or pool or GIB, "host"))
    elif given.capacity is None and card is not None:
        given = replace(given, capacity=Capacity(f"{gib(card)} card", card))
    longest = given.max_model_len or run.whole("max_model_len")
    spec = spec_of(run, given, made)
    found = estimate_of(run, given, made, spec=spec, seq=longest or 1) if spec else None
    options = given.overlaid(_options(run, longest))
    derived = answer_or_note(made, engine, version, estimate=found, options=options) if found else None
    _entries(run, made, card, pool=pool, estimate=found, derived=derived, options=options)
    if found and pool is not None:
        ends = [
            answer_or_note(made, engine, version, estimate=found, options=replace(options, pool_bytes=pool + step))
            for step in (-HALF_GIB, HALF_GIB)
        ]
        if ends[0] and ends[1]:
            _figures(run, made, ends[0].to_dict(), high=ends[1].to_dict())
    elif found and first and derived is None:
        at = answer_or_note(made, engine, version, estimate=found, options=replace(options, pool_bytes=GIB))
        if at:
            _figures(run, made, at.to_dict(), high=at.to_dict())
    if pool is None and run.text("needed_gib") is None:
        made.miss('the cache budget ("Available KV cache memory"): a log of INFO level from the start')
    if card is None:
        made.miss("the card's memory: --gpu NAME or --memory SIZE")
    tokens = run.whole("tokens") or ((run.whole("blocks") or 0) * 16 or None)
    eight_bit_room(made, pool, tokens)
    used = options.fraction or Fraction(9, 10)
    if card and used < Fraction(95, 100) and run.text("pool_given") is None and run.text("on_cpu") is None:
        gain(made, "--gpu-memory-utilization 0.95", int(card * (Fraction(95, 100) - used)), pool=pool, tokens=tokens)
    if derived and derived.activation and (options.max_num_seqs or derived.extra["max_num_seqs"]) > 64 and found:
        fewer = answer_or_note(made, engine, version, estimate=found, options=replace(options, max_num_seqs=64))
        if fewer and fewer.activation:
            gain(made, "--max-num-seqs 64", derived.activation.bytes - fewer.activation.bytes, pool=pool, tokens=tokens)


def _era(run: Run, made: Draft) -> str | None:
    """A release of the time where only that one printed such lines: V1 of 0.7 counts blocks of the GPU alone."""
    counted = run.text("blocks") is not None and run.text("cpu_blocks") is None and run.text("tokens") is None
    if made.ledger.version is None and counted:
        made.note("taken as 0.7.3: V1 printed blocks in place of tokens in that release")
        return "0.7.3"
    return None


def _options(run: Run, longest: int | None) -> Options:
    """The flags among the arguments that the log lists."""
    mode, prefixes = run.text("mamba_mode"), run.says("prefix_caching")
    if prefixes is None and mode in ("none", "align", "all"):  # a log names the mode that came of it
        prefixes = mode != "none"
    ssm = float_dtype(run.text("ssm_dtype") or "")
    drafts = run.positive("speculative") or 0
    return Options(
        fraction=run.share(),
        max_model_len=longest if longest and longest > 0 else None,
        max_num_batched_tokens=run.positive("batched_tokens"),
        max_num_seqs=run.positive("sequences"),
        block_size=None if (run.whole("block_tokens") or 0) > 256 else run.positive("block_size"),
        swap_space=_gib(run, "swap"),
        cpu_offload_bytes=_gib(run, "offload") or 0,
        prefix_caching=prefixes,
        async_scheduling=run.says("async"),
        disable_hybrid=bool(run.says("hybrid_off")) or run.text("hybrid_turned_off") is not None,
        mamba_cache_mode=mode if mode in ("none", "align", "all") else None,
        mamba_ssm_dtype=ssm,
        num_speculative_tokens=min(drafts, 1024),
        draft_layers=0 if drafts and (run.text("method") or "").startswith(("ngram", "suffix")) else None,
    )


def _gib(run: Run, name: str) -> int | None:
    """An argument that vLLM counts in GiB."""
    value = run.smallest(name)
    return None if value is None or not 0 <= value <= 10**6 else int(value * GIB)


# long: the lines of the ledger, from budget to what is left
def _entries(
    run: Run,
    made: Draft,
    card: int | None,
    *,
    pool: int | None,
    estimate: Estimate | None,
    derived: EngineAnswer | None,
    options: Options,
) -> None:  # parameters: the quantities of its equation, each by name
    """Budget = weights + activation + non-torch + pool, of the poorest worker; graphs come on top.

    A pool that was set by hand (--kv-cache-memory-bytes, VLLM_CPU_KVCACHE_SPACE) is cut from no budget.
    """
    by_hand = pool is not None and set_by_hand(run)
    budget = run.bytes("budget_gib", poorest=True)
    if budget is None and card is not None and not by_hand:
        fraction = options.fraction
        if fraction is None and derived is not None:
            fraction = Fraction(derived.extra["fraction"]).limit_denominator(1000)
            made.note(f"gpu_memory_utilization {float(fraction):g}, the default: the log does not say")
        budget = int(card * fraction) if fraction else None
    weights = run.bytes("weights_gib")
    activation, other = run.bytes("activation_gib"), run.bytes("non_torch_gib")
    if other is None and weights is not None and (consumed := run.bytes("consumed_gib")) is not None:
        other = max(0, consumed - weights)
    if activation is None and (peak := run.bytes("peak_torch_gib")) is not None and weights is not None:
        activation = max(0, peak - weights)
    loaded = weights_loaded(estimate) if estimate is not None and estimate.spec.weights_known else None
    if budget is not None:
        made.add(Entry("budget (card x utilisation)", budget))
    made.add(Entry("weights", weights, loaded))
    predicted_activation = derived.activation if derived else None
    predicted_other = derived.overhead if derived else None
    consumed = run.bytes("consumed_gib") if weights is None else None
    if consumed is not None:
        both_held = Entry("weights and non-torch memory", consumed, _together(loaded, predicted_other))
        made.change(entries=(*made.ledger.entries[:-1], both_held))
        made.add(Entry("activation peak", activation, predicted_activation))
        parts = [consumed, activation, pool]
    elif activation is not None or other is not None:
        made.add(Entry("activation peak", activation, predicted_activation))
        made.add(Entry("non-torch memory", other, predicted_other))
        parts = [weights, activation, other, pool]
    else:
        together = None
        if budget is not None and weights is not None and pool is not None:
            together = budget - weights - pool
        both = _together(predicted_activation, predicted_other)
        words = "not printed" if by_hand else "not printed: what is left of the budget"
        if together is not None and together < 0:
            words = "weights and pool are more than the budget: another utilisation or card"
            made.change(unexplained=together)
        elif both is not None and together is not None and not both.low <= together <= both.high:
            words += "; outside the range expected"
        made.add(Entry("activation peak and non-torch memory", together, both, words))
        parts = [weights, together, pool]
    derived_pool = None
    if derived is not None and derived.ranged is not None and not by_hand:
        low, middle, high = derived.ranged.low.bytes, derived.ranged.pool.bytes, derived.ranged.high.bytes
        derived_pool = Estimated(middle, low, high)
    workers = len(run.by_key("available_gib"))
    reason = f"the poorest of {workers} workers decides" if workers > 1 else "as it was set by hand" if by_hand else ""
    made.add(Entry("KV cache pool", pool, derived_pool, reason))
    frontend = run.bytes("frontend_gib")
    if frontend is not None:
        made.add(Entry("kept for decoding images", frontend, None, "taken off the pool"))
        parts.append(frontend)
    graphs = run.bytes("graphs_gib")
    if graphs is not None:
        made.add(Entry("CUDA graphs", graphs, None, "captured after the pool, outside the budget before 0.21"))
    if budget is not None and made.ledger.unexplained is None and all(part is not None for part in parts):
        left = budget - sum(part or 0 for part in parts)
        made.change(unexplained=_left_over(made, left, run.bytes("graphs_estimated_gib")))


def _together(one: Estimated | None, other: Estimated | None) -> Estimated | None:
    """The sum of two estimates; None where one is not known."""
    if one is None or other is None:
        return None
    return Estimated(one.bytes + other.bytes, one.low + other.low, one.high + other.high)


def _left_over(made: Draft, left: int, graphs: int | None) -> int:
    """From 0.21 the estimate of the graphs is taken off the budget, unless its environment variable says no."""
    if graphs is None or abs(left - graphs) >= abs(left):
        return left
    made.add(Entry("CUDA graphs, estimated in the budget", graphs))
    return left - graphs


def _figures(run: Run, made: Draft, low: dict[str, Any], *, high: dict[str, Any]) -> None:
    """Blocks, tokens, concurrency and the start-up check, each at both ends of the printed budget's rounding."""
    budgeted = (
        ("blocks", "pool_blocks", 0.0),
        ("tokens", "printed_tokens", 0.0),
        ("concurrency", "max_concurrency", 0.0051),
    )
    for name, key, slack in (*budgeted, ("cpu_blocks", "cpu_blocks", 0.0), ("block_tokens", "block_tokens", 0.0)):
        logged = run.smallest(name)
        if (
            logged is None
            or low.get(key) is None
            or (name in ("blocks", "tokens", "concurrency") and not run.text("available_gib"))
        ):
            continue
        made.add_figures(Figure(name, float(logged), low[key] - slack, high[key] + slack))
    for name, key, scale in (("needed_gib", "needed_bytes", GIB), ("estimated_max_len", "estimated_max_model_len", 1)):
        logged = run.smallest(name)
        if logged is not None:
            slack = 0.0051 if scale == GIB else 0
            made.add_figures(Figure(name, float(logged), low[key] / scale - slack, high[key] / scale + slack))
    made.change(figures=tuple(replace(figure, reason=why(figure, made.ledger)) for figure in made.ledger.figures))

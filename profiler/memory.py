"""Bytes that are really there, each beside its prediction with the reason for any difference.

    kv_checks          storage of every strategy after a prefill and some steps: exact or the run fails
    weight_check       what the weights hold
    transient_checks   old and new copies of a concat cache, alive at once
    peak_checks        the most that operators held in a prefill and in a decode step

On the CPU torch counts no allocations, so peaks are added up from torch.profiler's record of them. It is
started before the cache exists: what was allocated before it is freed unseen, and peaks come out too low.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from planner.activations import activation_bytes
from planner.cache_strategies import LayerShape, concat_peak_bytes, layer_shapes, paged_blocks, strategy_bytes
from planner.parameters import parameters
from profiler.caches import Cache, ConcatCache, make_cache, storage_bytes
from profiler.device import Device
from profiler.generate import decode_step, prefill
from profiler.gpt import GPT
from profiler.results import Check

STEPS = 3


def random_tokens(model: GPT, batch: int, tokens: int, seed: int = 0) -> Tensor:
    """Token ids [batch, tokens] on the model's device."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, model.spec.vocab, (batch, tokens), generator=generator).to(model.embedding.device)


def run_cache(model: GPT, cache: Cache, prompt_tokens: int, steps: int) -> None:
    """A prefill and `steps` decode steps of random tokens into `cache`."""
    tokens = random_tokens(model, cache.batch, prompt_tokens + steps)
    prefill(model, tokens[:, :prompt_tokens], cache)
    for at in range(prompt_tokens, prompt_tokens + steps):
        decode_step(model, tokens[:, at : at + 1] if cache.keeps else tokens[:, : at + 1], cache)


def kv_check(
    cache: Cache, shapes: Sequence[LayerShape], device: Device, where: str, allocated_bytes: int | None = None
) -> list[Check]:
    """The storages of a cache in use against the formula, and the allocator's count where it has one."""
    element_bytes = torch.empty(0, dtype=cache.dtype).element_size()
    predicted = strategy_bytes(
        shapes, cache.name, tokens=cache.tokens, max_tokens=cache.max_tokens, batch=cache.batch,
        lengths=_pool_lengths(cache), element_bytes=element_bytes,
    )  # fmt: skip
    checks = [Check("kv_bytes", where, predicted, cache.nbytes)]
    if allocated_bytes is not None:
        rounded = sum(device.round_bytes(t.untyped_storage().nbytes()) for t in cache.tensors() if t.numel())
        checks.append(Check("kv_allocated_bytes", where, rounded, allocated_bytes, reason="rounded as the allocator rounds"))
    return checks


def _pool_lengths(cache: Cache) -> list[int] | None:
    """A paged pool is made for all rows at their longest."""
    return [cache.max_tokens] * cache.batch if cache.name == "paged" else None


def kv_checks(
    model: GPT, device: Device, strategies: Iterable[str], *, batch: int, prompt_tokens: int, max_tokens: int, tp: int = 1,
    rank: int | None = None,
) -> list[Check]:  # fmt: skip
    """Every strategy filled by the model itself, sizes compared to the byte."""
    shapes = layer_shapes(model.spec, tp)
    found: list[Check] = []
    for strategy in strategies:
        before = device.allocated_bytes()
        cache = make_cache(
            strategy, shapes, batch=batch, max_tokens=max_tokens, dtype=model.embedding.dtype, device=device.torch_device
        )
        # Allocated when it is made: what a growing cache takes later is mixed with activations.
        taken = None if before is None or strategy in ("none", "concat") else (device.allocated_bytes() or 0) - before
        run_cache(model, cache, prompt_tokens, STEPS)
        where = f"{strategy}, batch {batch}, {cache.tokens or prompt_tokens + STEPS} of {max_tokens} tokens"
        found += kv_check(cache, shapes, device, where if rank is None else f"rank {rank} of {tp}, {where}", taken)
        del cache
    return found


def weight_check(model: GPT, linear: str) -> Check:
    """What the weights hold against parameters x bytes; packed ones have padding and a second copy of a tied head."""
    towers = sum(weight.parameters for weight in model.spec.towers)
    predicted = (parameters(model.spec) - towers) * model.embedding.element_size() + sum(b.nbytes for b in model.buffers())
    if linear == "plain":
        return Check("weight_bytes", "all layers", predicted, model.weight_bytes)
    head = model.embedding.nbytes if model.head is None else 0
    reason = "packed into padded blocks" + ("; the tied head is a second copy" if head else "")
    return Check("weight_bytes", "packed", predicted + head, model.weight_bytes, "close", reason=reason)


class WatchedConcat(ConcatCache):
    """A concat cache that counts the storages alive at each exchange of tensors; `held` are kept besides."""

    def allocate(self) -> None:
        super().allocate()
        self.held: list[Tensor] = []
        self.seen_bytes = 0

    def _note_peak(self, layer: int, new: tuple[Tensor, ...]) -> None:
        super()._note_peak(layer, new)
        self.seen_bytes = max(self.seen_bytes, storage_bytes([*self.tensors(), *new, *self.held]))


def transient_checks(model: GPT, device: Device, *, batch: int, tokens: int) -> list[Check]:
    """What is alive while one more token is appended, old tensors replaced layer by layer or all kept."""
    shapes = layer_shapes(model.spec)
    cache = WatchedConcat(shapes, batch, tokens + 2, model.embedding.dtype, device.torch_device)
    ids = random_tokens(model, batch, tokens + 2)
    prefill(model, ids[:, :tokens], cache)
    found = []
    for step, old_kept in enumerate((False, True)):
        # K and V of a layer are replaced together: the unit of exchange is the pair.
        before = [sum(t.nbytes for t in pair) for pair in cache.layers]
        cache.seen_bytes, cache.held = 0, cache.tensors() if old_kept else []
        at = tokens + step
        decode_step(model, ids[:, at : at + 1], cache)
        after = [sum(t.nbytes for t in pair) for pair in cache.layers]
        how = "old tuple kept" if old_kept else "layer by layer"
        ratio = concat_peak_bytes(before=before, after=after, old_kept=old_kept) / max(1, sum(before))
        found.append(
            Check(
                "concat_transient_bytes", f"{how}, batch {batch}, {at + 1} tokens",
                concat_peak_bytes(before=before, after=after, old_kept=old_kept), cache.seen_bytes,
                reason=f"{ratio:.2f} times the cache while one token is appended",
            )
        )  # fmt: skip
        cache.held = []
    return found


def peak_checks(model: GPT, device: Device, strategy: str, *, batch: int, tokens: int, max_tokens: int) -> list[Check]:
    """The peak of a prefill and of a decode step beyond weights, against cache + estimated activations."""
    shapes, element_bytes = layer_shapes(model.spec), model.embedding.element_size()
    held: dict[str, Cache] = {}
    ids = random_tokens(model, batch, tokens + 1)

    def run_prefill() -> None:
        held["cache"] = make_cache(
            strategy, shapes, batch=batch, max_tokens=max_tokens, dtype=model.embedding.dtype, device=device.torch_device
        )
        prefill(model, ids[:, :tokens], held["cache"])

    def run_step() -> None:
        decode_step(model, ids[:, -1:] if held["cache"].keeps else ids, held["cache"])

    found = []
    for what, run, new in (("prefill", run_prefill, tokens), ("decode", run_step, 1)):
        kept_bytes = strategy_bytes(
            shapes, strategy, tokens=tokens + (what == "decode"), max_tokens=max_tokens, batch=batch,
            lengths=[max_tokens] * batch if strategy == "paged" else None, element_bytes=element_bytes,
        )  # fmt: skip
        if what == "decode":
            kept_bytes = 0 if held["cache"].keeps and strategy != "concat" else kept_bytes
            new = new if held["cache"].keeps else tokens + 1
        act = activation_bytes(
            model.spec, prefill_tokens=batch * new, sequences=batch, context=tokens, dtype_bytes=element_bytes
        )
        measured, how = peak_of(run, device)
        where = f"{strategy}, batch {batch}, {tokens:,} tokens"
        reason = f"{how}; activations are estimated within half and twice"
        found.append(
            Check(
                f"{what}_peak_bytes", where, kept_bytes + act.bytes, measured, "estimated", kept_bytes + act.low,
                kept_bytes + act.high, reason,
            )
        )  # fmt: skip
    return found


def peak_of(action: Callable[[], object], device: Device) -> tuple[int | None, str]:
    """The most bytes that `action` held at once beyond what was there before, and how that was found."""
    before = device.allocated_bytes()
    if before is not None:
        device.synchronise()
        device.reset_peak()
        action()
        device.synchronise()
        peak = device.peak_bytes()
        return (None if peak is None else peak - before), device.peak_means
    return profiled_peak(action), "operators' allocations, added up from torch.profiler"


def profiled_peak(action: Callable[[], object]) -> int | None:
    """The peak of a running sum over the allocations and frees that torch.profiler saw on the CPU."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        action()
    results = record.profiler.kineto_results if record.profiler is not None else None
    if results is None:
        return None
    changes = sorted((e.start_ns(), e.nbytes()) for e in results.events() if e.name() == "[memory]")
    running = peak = 0
    for _, change in changes:
        running += change
        peak = max(peak, running)
    return peak or None


def resident_check(device: Device, growth_bytes: int | None, kv_bytes: int, where: str) -> Check:
    """How much the resident set grew beside the cache that was made: shown, and worth nothing as proof."""
    reason = "resident set: 1.05 to 2.9 times a cache, with the allocator's moods; proves nothing"
    if growth_bytes is None:
        reason = f"{device.kind} has no resident set to ask for"
    return Check("resident_growth_bytes", where, kv_bytes, growth_bytes, "estimated", kv_bytes, 3 * kv_bytes, reason)


def paged_table(batch: int, tokens: int) -> int:
    """Blocks that `batch` sequences of `tokens` hold."""
    return paged_blocks(lengths=[tokens] * batch)

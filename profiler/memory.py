"""Bytes that are really there, each beside its prediction with the reason for any difference.

    kv_checks          storage of every strategy after a prefill and some steps: exact or the run fails
    weight_checks      what the weights hold: the checkpoint's tensors exactly, what packing makes of them in a range
    transient_checks   old and new copies of a concat cache, alive at once
    peak_checks        the most that operators held in a prefill and in a decode step

On the CPU torch counts no allocations, so peaks are added up from torch.profiler's record of them. It is
started before the cache exists: what was allocated before it is freed unseen, and peaks come out too low.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from planner.memory.activations import activation_bytes
from planner.memory.cache_strategies import LayerShape, concat_peak_bytes, layer_shapes, strategy_bytes
from planner.model.parameters import parameters
from profiler.caches import Cache, ConcatCache, make_cache, storage_bytes
from profiler.device import Device
from profiler.generate import cache_for, decode_step, prefill
from profiler.gpt import GPT
from profiler.linear import most_packed_bytes, packed_bytes, unpacked_bytes
from profiler.results import Check

STEPS = 3


def random_tokens(model: GPT, batch: int, tokens: int, *, seed: int = 0) -> Tensor:
    """Makes token ids [batch, tokens] on the model's device."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, model.spec.vocab, (batch, tokens), generator=generator).to(model.embedding.device)


def run_cache(model: GPT, cache: Cache, prompt_tokens: int, *, steps: int) -> None:
    """Runs a prefill and `steps` decode steps of random tokens into `cache`."""
    tokens = random_tokens(model, cache.batch, prompt_tokens + steps)
    prefill(model, tokens[:, :prompt_tokens], cache)
    for at in range(prompt_tokens, prompt_tokens + steps):
        decode_step(model, tokens[:, at : at + 1] if cache.keeps else tokens[:, : at + 1], cache)


def kv_check(
    cache: Cache, shapes: Sequence[LayerShape], device: Device, *, where: str, allocated_bytes: int | None = None
) -> list[Check]:
    """Compares the storages of a cache in use with the formula, and with the allocator's count where it has one."""
    element_bytes = torch.empty(0, dtype=cache.dtype).element_size()
    predicted = strategy_bytes(
        shapes, cache.name, tokens=cache.tokens, max_tokens=cache.max_tokens, batch=cache.batch,
        lengths=_pool_lengths(cache), element_bytes=element_bytes,
    )  # fmt: skip
    checks = [Check("kv_bytes", where, predicted, cache.nbytes)]
    if allocated_bytes is not None:
        rounded = sum(device.round_bytes(t.untyped_storage().nbytes()) for t in cache.tensors() if t.numel())
        checks.append(
            Check("kv_allocated_bytes", where, rounded, allocated_bytes, reason="rounded as the allocator rounds")
        )
    return checks


def _pool_lengths(cache: Cache) -> list[int] | None:
    """A paged pool is made for all rows at their longest."""
    return [cache.max_tokens] * cache.batch if cache.name == "paged" else None


def kv_checks(  # parameters: what one run is made of
    model: GPT, device: Device, strategies: Iterable[str], *, batch: int, prompt_tokens: int, max_tokens: int, tp: int = 1,
    rank: int | None = None,
) -> list[Check]:  # fmt: skip
    """Compares every strategy's sizes with the formula, to the byte, each filled by the model itself."""
    shapes = layer_shapes(model.spec, tp)
    found: list[Check] = []
    for strategy in strategies:
        before = device.allocated_bytes()
        cache = make_cache(
            strategy,
            shapes,
            batch=batch,
            max_tokens=max_tokens,
            dtype=model.embedding.dtype,
            device=device.torch_device,
        )
        # Allocated when it is made: what a growing cache takes later is mixed with activations.
        taken = None if before is None or strategy in ("none", "concat") else (device.allocated_bytes() or 0) - before
        run_cache(model, cache, prompt_tokens, steps=STEPS)
        where = f"{strategy}, batch {batch}, {cache.tokens or prompt_tokens + STEPS} of {max_tokens} tokens"
        found += kv_check(
            cache,
            shapes,
            device,
            where=where if rank is None else f"rank {rank} of {tp}, {where}",
            allocated_bytes=taken,
        )
        del cache
    return found


def weight_checks(model: GPT) -> list[Check]:
    """Compares what the weights hold with parameters x bytes, to the byte; then what packed matrices take with their
    padding and a second copy of a tied head, at least the matrices themselves and at most both sides padded to 64.
    """
    towers = sum(weight.parameters for weight in model.spec.towers)
    predicted = (parameters(model.spec) - towers) * model.embedding.element_size() + sum(
        b.nbytes for b in model.buffers()
    )
    checks = [Check("weight_bytes", "all layers", predicted, model.stored_bytes)]
    if packed := list(model.packed_matrices()):
        least = sum(unpacked_bytes(matrix) for matrix in packed)
        checks.append(
            Check(
                "packed_bytes", "matrices in blocks" + (", the head again" if model.packed_head is not None else ""),
                least, sum(packed_bytes(matrix) for matrix in packed), "estimated", least,
                sum(most_packed_bytes(matrix) for matrix in packed), reason="oneDNN pads to its blocks, this CPU's own",
            )
        )  # fmt: skip
    return checks


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
    """Compares what is alive while one more token is appended, old tensors replaced layer by layer or all kept."""
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
    """Compares the most that one prefill and one decode step held beyond weights with cache + estimated activations."""
    shapes, element_bytes = layer_shapes(model.spec), model.embedding.element_size()
    ids = random_tokens(model, batch, tokens + 1)
    held: list[Cache] = []

    def run_prefill() -> None:
        held.append(cache_for(model, strategy, batch=batch, max_tokens=max_tokens))
        prefill(model, ids[:, :tokens], held[0])

    def run_step() -> None:
        decode_step(model, ids[:, -1:] if held[0].keeps else ids, held[0])

    peaks, how = peaks_of((run_prefill, run_step), device)
    cache = held[0]
    pairs = [sum(t.nbytes for t in cache.get(layer)) for layer in range(len(shapes))]
    found = []
    for what, measured, new in (("prefill", peaks[0], tokens), ("decode", peaks[1], 1 if cache.keeps else tokens + 1)):
        kept_bytes = cache.nbytes if cache.keeps else 0
        if strategy == "concat":  # old and new copies of one layer at a time; in a prefill the old ones are empty
            old = pairs if what == "decode" else [0] * len(pairs)
            kept_bytes = concat_peak_bytes(before=old, after=pairs)
        act = activation_bytes(
            model.spec, prefill_tokens=batch * new, sequences=batch, context=tokens, dtype_bytes=element_bytes
        )
        found.append(
            Check(
                f"{what}_peak_bytes", f"{strategy}, batch {batch}, {tokens:,} tokens", kept_bytes + act.bytes, measured,
                "estimated", kept_bytes, kept_bytes + act.high,
                f"{how}; cache {kept_bytes:,} B, and activations of up to twice {act.bytes:,} B",
            )
        )  # fmt: skip
    return found


def peaks_of(actions: Sequence[Callable[[], object]], device: Device) -> tuple[list[int | None], str]:
    """Measures the most bytes held during each of several actions in a row, beyond what was there before the first."""
    before = device.allocated_bytes()
    if before is None:
        return profiled_peaks(actions), "operators' allocations, added up from torch.profiler"
    found: list[int | None] = []
    for action in actions:
        device.synchronise()
        device.reset_peak()
        action()
        device.synchronise()
        peak = device.peak_bytes()
        found.append(None if peak is None else peak - before)
    return found, device.peak_means


def profiled_peaks(actions: Sequence[Callable[[], object]]) -> list[int | None]:
    """Sums the allocations and frees that torch.profiler saw on the CPU, and returns the peak in each action."""
    from torch.profiler import ProfilerActivity, profile, record_function

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        for number, action in enumerate(actions):
            with record_function(f"kvplan {number}"):
                action()
    results = record.profiler.kineto_results if record.profiler is not None else None
    if results is None:
        return [None] * len(actions)
    events = sorted((e.start_ns(), e.nbytes() if e.name() == "[memory]" else 0, e.name()) for e in results.events())
    peaks = [0] * len(actions)
    running = current = 0
    for _, change, name in events:
        if name.startswith("kvplan "):
            current = int(name[7:])
            peaks[current] = max(peaks[current], running)
        running += change
        peaks[current] = max(peaks[current], running)
    return [peak or None for peak in peaks]


def resident_check(device: Device, growth_bytes: int | None, kv_bytes: int, *, where: str) -> Check:
    """Shows how much the resident set grew beside the cache that was made: it is worth nothing as proof."""
    reason = "resident set: 1.05 to 2.9 times a cache, with the allocator's moods; proves nothing"
    if growth_bytes is None:
        reason = f"{device.kind} has no resident set to ask for"
    return Check("resident_growth_bytes", where, kv_bytes, growth_bytes, "shown", reason=reason)

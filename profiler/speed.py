"""Seconds of prefill, of decode steps by position, and of whole generations with and without a cache.

Uncached generation runs the whole sequence again for each token: 500 tokens of GPT-2 take minutes. Its time is
integrated from single steps measured at sampled lengths, which is said, and checked against whole runs at short
lengths; `whole` runs measure it in full.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor

from planner.speed.work import decode_read_bytes, prefill_flops
from profiler.caches import Cache
from profiler.device import Device
from profiler.generate import cache_for, decode_step, prefill
from profiler.gpt import GPT
from profiler.measure import Times, laps, measure, quantile
from profiler.memory import random_tokens
from profiler.results import Reading

OUTPUT_TOKENS = (10, 25, 50, 100, 200, 500, 1000)
PROMPT_TOKENS = 16
DECODE_STEPS = 12
STEP_BUDGET_SECONDS = 1.5


@dataclass(frozen=True)
class Plan:
    """How thorough to be: repeats of each measurement, and seconds after which no repeat is begun."""

    repeats: int = 5
    budget_seconds: float = 3.0


def fill(cache: Cache, tokens: int) -> None:
    """Puts `tokens` vectors of each layer into an empty cache, as a prefill would, at no model's cost.

    They are written: memory that never was reads at the speed of one shared page of zeros.
    """
    cache.reset()
    for layer, shape in enumerate(cache.shapes):
        front = (cache.batch, shape.kv_heads, tokens)
        k, v = (
            torch.full((1, 1, 1, dim), 0.01, dtype=cache.dtype, device=cache.device).expand(*front, dim)
            for dim in (shape.k_dim, shape.v_dim)
        )
        cache.update(layer, k, v)


def prefill_times(
    model: GPT, device: Device, *, batch: int, tokens: int, strategy: str = "static", plan: Plan
) -> Times:
    """Measures whole prompts into an emptied cache up to the first token: TTFT."""
    ids = random_tokens(model, batch, tokens)
    cache = cache_for(model, strategy, batch=batch, max_tokens=tokens)
    return measure(
        lambda: prefill(model, ids, cache).argmax(-1), device, repeats=plan.repeats, budget_seconds=plan.budget_seconds
    )


def decode_times(  # parameters: what one run is made of
    model: GPT, device: Device, *, batch: int, context: int, strategy: str = "static", steps: int = DECODE_STEPS,
    step: Callable[..., Tensor] | None = None,
) -> Times:  # fmt: skip
    """Measures decode steps that end at `context` tokens, each fed the likeliest token of the one before.

    `step`: in place of `decode_step`, for a compiled one.
    """
    run = step or decode_step
    warmup = 2
    steps = max(1, min(steps, context - 1 - warmup))
    warmup = min(warmup, max(0, context - 1 - steps))
    with torch.inference_mode():
        cache = cache_for(model, strategy, batch=batch, max_tokens=context)
        fill(cache, context - steps - warmup)
    token = random_tokens(model, batch, 1)

    def one() -> None:
        nonlocal token
        token = run(model, token, cache).argmax(-1, keepdim=True)

    return laps(one, device, steps, warmup=warmup, budget_seconds=STEP_BUDGET_SECONDS)


def uncached_times(model: GPT, device: Device, *, batch: int, tokens: int, plan: Plan) -> Times:
    """Measures one step without a cache: all `tokens` again, logits of the last."""
    ids = random_tokens(model, batch, tokens)
    cache = cache_for(model, "none", batch=batch, max_tokens=tokens)
    return measure(
        lambda: decode_step(model, ids, cache).argmax(-1), device, repeats=plan.repeats, budget_seconds=plan.budget_seconds,
        warmup=1 if tokens <= 128 else 0,
    )  # fmt: skip


def run_times(model: GPT, device: Device, *, batch: int, prompt: int, new_tokens: int, strategy: str) -> list[float]:
    """Measures the seconds from the start to each new token of one whole generation."""
    ids = random_tokens(model, batch, prompt)
    cache = cache_for(model, strategy, batch=batch, max_tokens=prompt + new_tokens)
    device.synchronise()
    marks = [device.mark()]
    token = prefill(model, ids, cache).argmax(-1, keepdim=True)
    marks.append(device.mark())
    for _ in range(new_tokens - 1):
        if not cache.keeps:
            ids = token = torch.cat((ids, token), dim=1)
        token = decode_step(model, token, cache).argmax(-1, keepdim=True)
        marks.append(device.mark())
    device.synchronise()
    return [device.between(marks[0], mark) for mark in marks[1:]]


@dataclass(frozen=True)
class Curve:
    """Seconds to each number of new tokens, one list a repeat; beyond `measured_to` they are integrated (`note`)."""

    runs: tuple[tuple[float, ...], ...]
    measured_to: int
    note: str = ""

    def seconds(self, new_tokens: int) -> Reading:
        found = [run[new_tokens - 1] for run in self.runs]
        if new_tokens > self.measured_to:
            return Reading(median(found), "estimated", min(found), max(found), len(found), self.note)
        return Reading(median(found), "measured", quantile(found, 0.25), quantile(found, 0.75), len(found))


def sampled_lengths(first: int, last: int, marks: Iterable[int] = ()) -> list[int]:
    """Lists where to measure a curve from `first` to `last`: the ends, each half again as long, and `marks`.

    >>> sampled_lengths(16, 100)
    [16, 24, 36, 54, 81, 100]
    """
    found, length = {first, last, *(m for m in marks if first <= m <= last)}, float(first)
    while length < last:
        found.add(int(length))
        length = max(length * 1.5, length + 1)
    return sorted(found)


def integrate(steps: Mapping[int, Times], prompt: int, new_tokens: int, *, after: Sequence[float] = ()) -> Curve:
    """Sums the seconds after each of `new_tokens` steps, from steps measured at some lengths.

    Between measured lengths a step's time is taken as linear. The runs are its quartiles and its median.
    `after`: the seconds of a whole run so far, which are continued.
    """
    lengths = sorted(steps)
    runs = []
    for pick in (lambda t: t.low, lambda t: t.median, lambda t: t.high):
        run = list(after[:new_tokens])
        total, times = run[-1] if run else 0.0, [pick(steps[n]) for n in lengths]
        for length in range(prompt + len(run), prompt + new_tokens):
            total += _between(lengths, times, length)
            run.append(total)
        runs.append(tuple(run))
    return Curve(tuple(runs), len(after), f"integrated from single steps measured at {len(lengths)} lengths")


def _between(xs: Sequence[int], ys: Sequence[float], x: int) -> float:
    if len(xs) == 1:
        return ys[0]
    at = min(max(bisect_left(xs, x), 1), len(xs) - 1)
    x0, x1, y0, y1 = xs[at - 1], xs[at], ys[at - 1], ys[at]
    return y0 + (y1 - y0) * (x - x0) / (x1 - x0)


def crossing_tokens(cached: Curve, uncached: Curve, new_tokens: int) -> int | None:
    """Finds the fewest new tokens from which the cache is faster at every length up to `new_tokens`; None if never.

    The first token is a prefill either way.
    """
    crossing = None
    for tokens in range(new_tokens, 1, -1):
        if cached.seconds(tokens).value >= uncached.seconds(tokens).value:
            break
        crossing = tokens
    return crossing


def element_bytes(model: GPT) -> int:
    """Counts the bytes of one element of the model's weights."""
    return int(model.embedding.element_size())


def decode_readings(
    model: GPT, times: Times, *, batch: int, context: int, reach_bytes_per_s: float | None
) -> dict[str, Reading]:
    """Returns TPOT, tokens a second, and the bytes that had to be read a second, with their share of the reach."""
    moved = decode_read_bytes(model.spec, batch=batch, context_tokens=context, element_bytes=element_bytes(model))
    found = {"step_seconds": times.reading(), "tokens_per_s": times.rate(batch), "read_bytes_per_s": times.rate(moved)}
    if reach_bytes_per_s:
        found["read_share"] = _share(found["read_bytes_per_s"], reach_bytes_per_s)
    return found


def prefill_readings(
    model: GPT, times: Times, *, batch: int, tokens: int, reach_flops_per_s: float | None
) -> dict[str, Reading]:
    """Returns TTFT, prompt tokens a second, FLOP a second, with their share of the reach."""
    flops = prefill_flops(model.spec, batch=batch, tokens=tokens)
    found = {
        "ttft_seconds": times.reading(),
        "tokens_per_s": times.rate(batch * tokens),
        "flops_per_s": times.rate(flops),
    }
    if reach_flops_per_s:
        found["flops_share"] = _share(found["flops_per_s"], reach_flops_per_s)
    return found


def _share(rate: Reading, reach: float) -> Reading:
    low = None if rate.low is None else rate.low / reach
    high = None if rate.high is None else rate.high / reach
    return Reading(
        rate.value / reach, "measured", low, high, rate.repeats, "of what this machine was measured to reach"
    )


def read_rate(device: Device, size_bytes: int = 256 << 20, repeats: int = 7) -> Times:
    """Measures the seconds to read `size_bytes` once: a sum over a large tensor."""
    x = torch.rand(size_bytes // 4, device=device.torch_device)
    return measure(lambda: x.sum(), device, repeats=repeats, warmup=1)


def copy_rate(device: Device, size_bytes: int = 128 << 20, repeats: int = 7) -> Times:
    """Measures the seconds to read and write `size_bytes` once."""
    x = torch.rand(size_bytes // 4, device=device.torch_device)
    y = torch.empty_like(x)
    return measure(lambda: y.copy_(x), device, repeats=repeats, warmup=1)


def gemm_rate(device: Device, dtype: torch.dtype, width: int | None = None, *, repeats: int = 5) -> tuple[Times, float]:
    """Measures (seconds, FLOP) of one large square product."""
    width = width or (1536 if device.kind == "cpu" else 8192)
    a = torch.randn(width, width, device=device.torch_device).to(dtype)
    with torch.inference_mode():
        return measure(lambda: torch.nn.functional.linear(a, a), device, repeats=repeats, warmup=1), 2.0 * width**3

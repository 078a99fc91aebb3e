"""The terms of a speed answer with their numbers, so that a reader can redo it by hand.

No formula of its own: factors come from `planner.speed.work` and `planner.speed.speed`, results from the answer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from planner.catalogue.device import Device
from planner.memory.estimate import Estimate
from planner.speed.constants import Constants
from planner.speed.passes import (
    Pass,
    Rates,
    decode_pass,
    fixed_parts,
    others_seconds,
    prefill_pass,
    prefill_seconds,
    rates_of,
    roof_seconds,
)
from planner.speed.speed import Speed
from planner.speed.work import Work, decode_of, mean_reach, work
from planner.units import ceil_div, human_seconds, significant


@dataclass(frozen=True)
class Term:
    """`name: text = value`; `text` can be evaluated with x for times, once commas and units are out."""

    name: str
    text: str
    value: float
    unit: str = "s"

    def __str__(self) -> str:
        shown = human_seconds(self.value) if self.unit == "s" else f"{self.value:,.0f} {self.unit}"
        return f"{self.name}  {self.text} = {shown}" if self.text else f"{self.name}  {shown}"


def explanation(answer: Estimate, device: Device, found: Speed) -> list[str]:
    """Lines for one batch: bytes and FLOPs of a step, the terms of TPOT, and those of TTFT."""
    first, last = found.prompt_tokens + 1, found.prompt_tokens + found.output_tokens
    rank = "" if found.devices == 1 else ", on one rank"
    lines = [f"One step of batch {found.batch:,}, mean over contexts of {first:,} to {last:,} tokens{rank}"]
    lines += _padded(decode_terms(answer, device, found))
    lines += [f"A prefill of {prompts_of(found):,} x {found.prompt_tokens:,} tokens"]
    return lines + _padded(prefill_terms(answer, device, found))


def calibrated_explanation(found: Speed) -> list[str]:
    """Lines for one batch of an answer that was summed from measured operators: its parts."""
    title = f"One step of batch {found.batch:,}, summed from the operators that kvplan calibrate measured"
    return [title, *_padded([*(Term(name, "", seconds) for name, seconds in found.tpot_parts.items()), _sum(found)])]


def _padded(terms: list[Term]) -> list[str]:
    width = max(len(term.name) for term in terms)
    return [f"  {replace(term, name=term.name.ljust(width))!s}" for term in terms]


def prompts_of(found: Speed) -> int:
    """Prompts that are prefilled together."""
    return found.batch if found.load == "static" else 1


def decode_terms(answer: Estimate, device: Device, found: Speed) -> list[Term]:
    """Bytes, FLOPs and every part of the time between two tokens; their sum is last."""
    sums, rates, constants = work(answer), rates_of(device, answer), found.constants
    first, last = found.prompt_tokens + 1, found.prompt_tokens + found.output_tokens
    step = decode_pass(sums, rates, found.batch, first, last)
    terms = [*_bytes(sums, found.batch, first, last), *_roof(step, rates, constants, prefill=False)]
    terms += _fixed(step, constants, found.tpot_parts, constants.tpot_scale)
    if "prefill of others" in found.tpot_parts:
        other = prefill_pass(sums, rates, 1, found.prompt_tokens)
        adds, seconds = others_seconds(other, constants), found.tpot_parts["prefill of others"]
        others = seconds * found.output_tokens / (adds * constants.tpot_scale)
        text = f"{_seconds(adds)} x {others:,.4g} others / {found.output_tokens:,} tokens{_scale(constants.tpot_scale)}"
        terms.append(Term("prefill of others", text, seconds))
    return [*terms, _sum(found)]


def _sum(found: Speed) -> Term:
    text = " + ".join(_seconds(seconds) for seconds in found.tpot_parts.values())
    return Term("between two tokens", text, found.tpot_seconds.value)


def _bytes(sums: Work, batch: int, first: int, last: int) -> list[Term]:
    """What the step reads and computes."""
    rows = sums.rows_each(batch)
    text = f"{sums.weight_bytes:,.0f} B + {sums.head_bytes:,.0f} B of the head"
    for experts in sums.experts:
        share = experts.share(sums.expert_rows(rows))
        text += f" + {share:.4g} x {experts.read_bytes:,.0f} B of experts"
    terms = [Term("weights", text, sums.weights_read(rows), "B")]
    kept = [f"{read.token_bytes:,.0f} B x {mean_reach(read.reach, first, last):,.1f} tokens" for read in sums.reads]
    if sums.sequence_bytes:
        kept.append(f"{sums.sequence_bytes:,.0f} B of state")
    step = decode_of(sums, batch, first, last)
    if kept:
        terms.append(Term("cache", f"{rows:,g} x ({' + '.join(kept)})", step.cache_bytes, "B"))
    products = sums.row_products(rows) + rows * sums.head_flops
    scores = f"{products:,.0f} FLOP of products + {step.flops - products:,.0f} FLOP of attention"
    return [*terms, Term("computing", scores, step.flops, "FLOP")]


def _roof(step: Pass, rates: Rates, constants: Constants, *, prefill: bool) -> list[Term]:
    """Reading and computing, at what is reached of the rates; the larger counts."""
    reads, computes = replace(step, compute_seconds=0.0), replace(step, weight_seconds=0.0, cache_seconds=0.0)
    memory, compute = (roof_seconds(part, constants, prefill=prefill) for part in (reads, computes))
    scale = constants.ttft_scale if prefill else constants.tpot_scale
    weight = roof_seconds(replace(reads, cache_seconds=0.0), constants, prefill=prefill)
    per_s = f"{rates.bandwidth_bytes_per_s:.4g} B/s".replace("e+", "e")
    text = f"{step.weight_seconds * rates.bandwidth_bytes_per_s:,.0f} B / ({_share(step.weight_seconds, weight)} x {per_s})"
    if step.cache_seconds:
        cached = f"{step.cache_seconds * rates.bandwidth_bytes_per_s:,.0f} B"
        text += f" + {cached} / ({_share(step.cache_seconds, memory - weight)} x {per_s})"
    peak = f"{rates.flops_per_s:.4g} FLOP/s".replace("e+", "e")
    products = (
        f"{step.compute_seconds * rates.flops_per_s:,.0f} FLOP / ({_share(step.compute_seconds, compute)} x {peak})"
    )
    names = ("bandwidth", "(compute)") if memory > compute else ("(bandwidth)", "compute")
    scaled = _scale(scale)
    return [
        Term(names[0], f"({text}){scaled}" if scaled else text, memory * scale),
        Term(names[1], products + scaled, compute * scale),
    ]


def _share(at_peak_seconds: float, seconds: float) -> str:
    return f"{at_peak_seconds / seconds:.4g}" if seconds else "1"


def _fixed(step: Pass, constants: Constants, parts: dict[str, float], scale: float) -> list[Term]:
    """Layers, steps, sequences, all-reduces: counts times what each takes."""
    sent = f"{_seconds(step.message_seconds)} / {constants.link_efficiency:.3g}"
    if step.shared_seconds:
        sent += f" + {_seconds(step.shared_seconds)} over PCIe"
    texts = {
        "layers": f"{step.layers:,g} x {_seconds(constants.layer_seconds)}",
        "steps": f"{step.steps:,g} x {_seconds(constants.step_seconds)}",
        "sequences": f"{step.sequences:,g} x {_seconds(constants.sequence_seconds)}",
        "all-reduce": f"{step.latencies:,.4g} x {_seconds(constants.all_reduce_seconds)} + {sent}",
    }
    if scale != 1.0:
        texts["all-reduce"] = f"({texts['all-reduce']})"
    return [Term(name, texts[name] + _scale(scale), seconds) for name, seconds in parts.items() if name in texts]


def prefill_terms(answer: Estimate, device: Device, found: Speed) -> list[Term]:
    """Every part of the time to the first token; what is left beside the prefill waits for a step or on the way in."""
    sums, rates, constants = work(answer), rates_of(device, answer), found.constants
    prompts = ceil_div(prompts_of(found), sums.sharding.dp)
    step = prefill_pass(sums, rates, prompts, found.prompt_tokens, answer.source_tokens)
    parts = {name: seconds * constants.ttft_scale for name, seconds in fixed_parts(step, constants).items() if seconds}
    terms = [*_roof(step, rates, constants, prefill=True), *_fixed(step, constants, parts, constants.ttft_scale)]
    alone = prefill_seconds(step, constants)
    waiting = found.ttft_seconds.value - alone
    whole = Term("first token", f"{_seconds(alone)} + {_seconds(waiting)}", found.ttft_seconds.value)
    return [*terms, Term("way in and waiting", "", waiting), whole]


def _seconds(seconds: float) -> str:
    """As `human_seconds` with four digits, in ms or us: a reader multiplies with it."""
    if seconds >= 1e-3:
        return f"{seconds * 1e3:,.4g} ms" if seconds < 1 else f"{seconds * 1e3:,.0f} ms"
    return f"{seconds * 1e6:.4g} us"


def _scale(scale: float) -> str:
    return "" if scale == 1.0 else f" x {significant(scale)}"

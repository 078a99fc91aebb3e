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
    fixed_parts,
    memory_seconds,
    others_seconds,
    power_factor,
    prefill_seconds,
    products_seconds,
    rates_of,
    tpot_scale,
    ttft_scale,
)
from planner.speed.speed import Case, Speed
from planner.speed.work import decode_of, mean_reach, work
from planner.units import ceil_div, human_seconds, percent, significant


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


def explanation(estimate: Estimate, device: Device, found: Speed) -> list[str]:
    """Writes the lines that explain one batch: bytes and FLOPs of a step, the terms of TPOT, and those of TTFT."""
    first, last = found.prompt_tokens + 1, found.prompt_tokens + found.output_tokens
    rank = "" if found.devices == 1 else ", on one rank"
    lines = [f"One step of batch {found.batch:,}, mean over contexts of {first:,} to {last:,} tokens{rank}"]
    lines += _padded(decode_terms(estimate, device, found))
    behind = f", each behind {found.cached_tokens:,} cached ones" if found.cached_tokens else ""
    lines += [f"A prefill of {prompts_of(found):,} x {found.prompt_tokens - found.cached_tokens:,} tokens{behind}"]
    return lines + _padded(prefill_terms(estimate, device, found))


def calibrated_explanation(found: Speed) -> list[str]:
    """Writes the lines that explain one batch of an answer that was summed from measured operators: its parts."""
    title = f"One step of batch {found.batch:,}, summed from the operators that kvplan calibrate measured"
    return [title, *_padded([*(Term(name, "", seconds) for name, seconds in found.tpot_parts.items()), _sum(found)])]


def _padded(terms: list[Term]) -> list[str]:
    width = max(len(term.name) for term in terms)
    return [f"  {replace(term, name=term.name.ljust(width))!s}" for term in terms]


def prompts_of(found: Speed) -> int:
    """Counts the prompts that are prefilled together."""
    return found.decoding if found.load == "static" else 1


def decode_terms(estimate: Estimate, device: Device, found: Speed) -> list[Term]:
    """Lists bytes, FLOPs and every part of the time between two tokens; their sum is last."""
    case = case_of(estimate, device, found)
    rates, constants, step = case.rates, case.constants, case.step()
    drafts, scale = found.drafts, tpot_scale(step, constants)
    terms = [*_bytes(case), *_roof(step, rates, constants, scale=scale * constants.roof_scale, prefill=False)]
    parts, each = found.tpot_parts, 1.0
    if drafts is not None:  # parts are of a token; a step's are so many times that
        each = drafts.tokens_a_step
        parts = {name: seconds * each for name, seconds in parts.items()}
    terms += _fixed(step, constants, parts, scale=scale * constants.fixed_scale)
    if found.host is not None:
        lies = f"{percent(found.host.dense_share, 1)} of the weights and {percent(found.host.expert_share, 1)} of the experts"
        rate = f"{found.host.rates.bandwidth_bytes_per_s:.4g} B/s".replace("e+", "e")
        terms.append(Term("host", f"{lies} read by {found.host.name} at {rate}", parts["host"]))
    if drafts is not None and "drafts" in parts:
        text = f"{drafts.tokens} steps of the drafter x {_seconds(parts['drafts'] / drafts.tokens)}"
        terms.append(Term("drafts", text, parts["drafts"]))
    if "prefill of others" in found.tpot_parts:
        other, seconds = case.prefill_pass(1, source=0), found.tpot_parts["prefill of others"]
        scale *= constants.prompts_scale
        adds = others_seconds(other, constants) + case.copied_seconds(other.steps) / scale
        others = seconds * found.output_tokens / (adds * scale)
        text = f"{_seconds(adds)} x {others:,.4g} others / {found.output_tokens:,} tokens{_scale(scale)}"
        terms.append(Term("prefill of others", text, seconds))
    if drafts is not None:
        own = sum(seconds for name, seconds in parts.items() if name != "prefill of others")
        text = f"{_seconds(own)} / {each:.4g} tokens a step"
        terms.append(Term("a token of a step", text, own / each))
    return [*terms, _sum(found)]


def case_of(estimate: Estimate, device: Device, found: Speed) -> Case:
    """Returns the question (batch, lengths, load) that an answer's figures belong to."""
    return Case(
        work(estimate), rates_of(device, estimate), found.constants, found.prompt_tokens - found.cached_tokens,
        found.output_tokens, found.decoding, found.load, estimate.source_tokens, found.drafts, found.cached_tokens, found.host,
    )  # fmt: skip


def _sum(found: Speed) -> Term:
    text = " + ".join(_seconds(seconds) for seconds in found.tpot_parts.values())
    return Term("between two tokens", text, found.tpot_seconds.value)


def _bytes(case: Case) -> list[Term]:
    """What the step reads and computes."""
    whole = case.cached + case.prompt
    sums, first, last = case.sums, whole + 1, whole + case.output
    verified = 1 if case.drafts is None else 1 + case.drafts.tokens
    rows = sums.rows_each(case.batch)
    new = rows * verified
    text = f"{sums.weight_bytes:,.0f} B + {sums.head_bytes:,.0f} B of the head"
    for experts in sums.experts:
        share = experts.share(sums.expert_rows(new))
        text += f" + {share:.4g} x {experts.read_bytes:,.0f} B of experts"
    terms = [Term("weights", text, sums.weights_read(new), "B")]
    kept = [f"{read.token_bytes:,.0f} B x {mean_reach(read.reach, first, last):,.1f} tokens" for read in sums.reads]
    if sums.sequence_bytes:
        kept.append(f"{sums.sequence_bytes:,.0f} B of state")
    step = decode_of(sums, case.batch, first, last_tokens=last, verified=verified)
    if kept:
        terms.append(Term("cache", f"{rows:,g} x ({' + '.join(kept)})", step.cache_bytes, "B"))
    products = sums.row_products(new) + new * sums.head_flops
    scores = f"{products:,.0f} FLOP of products + {step.flops - products:,.0f} FLOP of attention"
    return [*terms, Term("computing", scores, step.flops, "FLOP")]


def _roof(step: Pass, rates: Rates, constants: Constants, *, scale: float, prefill: bool) -> list[Term]:
    """Reading and computing, at what is reached of the rates; the larger counts, of `Constants.serial` 1 both."""
    memory, compute = memory_seconds(step, constants), products_seconds(step, constants, prefill=prefill)
    dense = replace(step, expert_seconds=0.0, expert_compute_seconds=0.0, attention_seconds=0.0, pad_seconds=0.0)
    scores, float_flops = (
        step.attention_seconds / constants.attention_efficiency * power_factor(step, constants),
        rates.plain_flops_per_s or rates.flops_per_s,
    )
    weights = memory_seconds(replace(dense, cache_seconds=0.0, unshared_seconds=0.0), constants)
    bandwidth, flops = rates.bandwidth_bytes_per_s, rates.flops_per_s
    per_s = f"{bandwidth:.4g} B/s".replace("e+", "e")
    plain = products_seconds(dense, constants, prefill=prefill)
    reads = [(step.weight_seconds, weights)]
    reads += [(step.expert_seconds, step.expert_seconds / constants.expert_efficiency)]
    reads += [(step.cache_seconds, memory - weights - reads[1][1])]
    products = [
        (step.compute_seconds, plain, flops),
        (step.expert_compute_seconds, compute - plain - scores, flops),
        (step.attention_seconds, scores, float_flops),
    ]
    text = " + ".join(f"{part * bandwidth:,.0f} B / ({_share(part, took)} x {per_s})" for part, took in reads if part)
    computing = " + ".join(
        f"{part * peak:,.0f} FLOP / ({_share(part, took)} x {peak:.4g} FLOP/s)".replace("e+", "e")
        for part, took, peak in products
        if part
    )
    names = ("bandwidth", "(compute)") if memory > compute else ("(bandwidth)", "compute")
    names = ("bandwidth", "compute") if constants.serial else names
    scaled = _scale(scale)
    return [
        Term(names[0], f"({text}){scaled}" if scaled else text, memory * scale),
        Term(names[1], f"({computing}){scaled}" if scaled else computing, compute * scale),
    ]


def _share(at_peak_seconds: float, seconds: float) -> str:
    return f"{at_peak_seconds / seconds:.4g}" if seconds else "1"


def _fixed(step: Pass, constants: Constants, parts: dict[str, float], *, scale: float) -> list[Term]:
    """Layers, steps, sequences, all-reduces: counts times what each takes."""
    sent = f"{_seconds(step.message_seconds)} / {constants.link_efficiency:.3g}"
    if step.shared_seconds:
        sent += f" + {_seconds(step.shared_seconds)} over PCIe"
    if step.large_reduces:
        sent = f"{step.large_reduces:,.4g} x {_seconds(constants.large_reduce_seconds)} + {sent}"
    texts = {
        "layers": f"{step.layers:,g} x {_seconds(constants.layer_seconds)}",
        "experts": f"{step.routed_layers:,g} x {_seconds(constants.expert_layer_seconds)}",
        "steps": f"{step.steps:,g} x {_seconds(constants.step_seconds)}",
        "sequences": f"{step.sequences:,g} x {_seconds(constants.sequence_seconds)}",
        "all-reduce": f"{step.latencies:,.4g} x {_seconds(constants.all_reduce_seconds)} + {sent}",
    }
    if scale != 1.0:
        texts["all-reduce"] = f"({texts['all-reduce']})"
    return [Term(name, texts[name] + _scale(scale), seconds) for name, seconds in parts.items() if name in texts]


def prefill_terms(estimate: Estimate, device: Device, found: Speed) -> list[Term]:
    """Lists every part of the time to the first token. What is left beside the prefill is waiting for a step, or on the
    way in.
    """
    case = case_of(estimate, device, found)
    constants = case.constants
    step = case.prefill_pass(ceil_div(prompts_of(found), case.sums.sharding.dp))
    scale = float(ttft_scale(step, constants))
    parts = {name: seconds * scale for name, seconds in fixed_parts(step, constants).items() if seconds}
    terms = [
        *_roof(step, case.rates, constants, scale=scale, prefill=True),
        *_fixed(step, constants, parts, scale=scale),
    ]
    copied = case.copied_seconds(step.steps)
    if copied and found.host is not None:
        rate = f"({constants.link_efficiency:.3g} x {case.rates.pcie_bytes_per_s:.4g} B/s)".replace("e+", "e")
        terms.append(Term("host weights", f"{step.steps:,g} x {found.host.weight_bytes:,.0f} B / {rate}", copied))
    alone = prefill_seconds(step, constants) + copied
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

"""Computes the seconds of one decode step and of one prefill from work, rates and fixed times."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from planner.catalogue.device import Device, pcie_bytes_per_s, slot_generation
from planner.errors import BadRequest
from planner.frozen import dataclass
from planner.memory.estimate import Estimate
from planner.memory.sharding import MAX_RANKS
from planner.speed.constants import Constants
from planner.speed.work import Step, Work, decode_of, peak_flops_per_s, plain_flops_per_s, prefill_of
from planner.units import ceil_div

GEFORCE = re.compile(r"RTX-\d{4}(?!-Ada)")


CHUNK_TOKENS = 8192  # a longer prefill runs in several steps


# Where ranks share PCIe, a large all-reduce reaches less of it the more they are: on RTX PRO 6000 (64 GB/s each way) 38.8,
# 30 and 24 GB/s a rank for 2, 4 and 8 of them (vLLM 0.24's tables of aiconfigurator 0.12, commit 095f58a, 512 MiB). On an
# L40S machine without paths past its sockets 19, 3.7 and 2.0 of 32, while TensorRT-LLM's own L40S prompts need about 15.
PCIE_SHARED_GROWTH = 0.25


# GeForce cards have no peer access: what ranks send goes through host memory.
GEFORCE_STAGED = 2.0


# One all-reduce of a small message over PCIe takes so long for each rank: 6.5, 13 and 26 us for 2, 4 and 8 on L40S and
# RTX PRO 6000, with NCCL and with the engines' own kernels (tables of aiconfigurator 0.12, commit 095f58a).
PCIE_RANK_SECONDS = 3.2e-6


FLOPS_PER_JOULE = 1e12  # only a unit: what is fitted beside it is a power of the ratio


@dataclass(frozen=True)
class Rates:
    """What a device offers one rank: bytes and FLOPs a second, and bytes a second to its neighbours.

    most_flops_per_s   what bounds it: GeForce cards multiply half floats twice as fast where sums are half floats, too
                       (kernels of llama.cpp and TinyChat), than the rate that is published
    """

    bandwidth_bytes_per_s: float
    flops_per_s: float
    link_bytes_per_s: float
    rank_seconds: float = 0.0  # what each rank adds to an all-reduce's latency, where they share PCIe
    half_sums: float = 1.0  # how much faster products are with half float sums
    narrow: bool = False  # products run in fewer bits than the float type
    plain_flops_per_s: float = 0.0  # in the float type, where attention runs
    watts: float = 0.0  # board power, 0 where it is not known, and of processors, whose cores decide
    pcie_bytes_per_s: float = float(pcie_bytes_per_s(4))  # from host memory over PCIe

    @property
    def most_flops_per_s(self) -> float:
        return self.flops_per_s * self.half_sums

    @property
    def power_ratio(self) -> float:
        """Peak FLOP/s over FLOPS_PER_JOULE times the board's watts; 1 where they are not known."""
        return self.flops_per_s / (FLOPS_PER_JOULE * self.watts) if self.watts else 1.0


def rates_of(device: Device, estimate: Estimate) -> Rates:
    """Returns a device's bandwidth and peak FLOP/s for the formats of an estimate; BadRequest, in one line, where the
    catalogue does not know them.
    """
    peak = peak_flops_per_s(device, estimate)
    if not device.bandwidth_bytes_per_s or peak is None:
        unknown = "memory bandwidth" if peak is not None else "FLOP/s"
        raise BadRequest(
            f"{device.name}: its {unknown} is not known, so no speed can be said; choose a device of `kvplan gpus`"
            " that has it, add it to your own entries, or run kvplan calibrate there"
        )
    ranks = estimate.request.sharding.tp
    link = device.interconnect if ranks <= bridged_ranks(device) else None
    pcie = float(pcie_bytes_per_s(slot_generation(device)))
    per_s = (link.bytes_per_s_per_direction if link else None) or pcie / shared_pcie(device, ranks)
    plain = plain_flops_per_s(device, estimate) or peak
    halves = 2.0 if GEFORCE.match(device.name) and peak <= device.dense_flops_per_s.get("fp16", 0) else 1.0
    return Rates(
        float(device.bandwidth_bytes_per_s),
        peak,
        float(per_s),
        0.0 if link else PCIE_RANK_SECONDS,
        halves,
        peak > plain,
        plain,
        0.0 if device.vendor == "CPU" else float(device.tdp_watts or 0),
        pcie,
    )


def shared_pcie(device: Device, ranks: int) -> float:
    """Returns by how much less of PCIe's rate a rank's large messages get beside others: 1 + log2(ranks) / 4, twice that
    on GeForce cards, whose messages go through host memory.

    >>> from planner.catalogue.entries import find_device
    >>> [shared_pcie(find_device(name), 4) for name in ("l40s", "rtx-4090")], shared_pcie(find_device("l40s"), 1)
    ([1.5, 3.0], 1.0)
    """
    if ranks < 2:
        return 1.0
    return (1 + PCIE_SHARED_GROWTH * math.log2(ranks)) * (GEFORCE_STAGED if GEFORCE.match(device.name) else 1.0)


def bridged_ranks(device: Device) -> int:
    """Counts the devices that the catalogued link joins: two for an NVLink bridge of plug-in cards, all for a switch or
    a board.

    >>> from planner.catalogue.entries import find_device
    >>> [bridged_ranks(find_device(name)) for name in ("rtx-3090", "a100-pcie-80gb", "h100-nvl", "l40s")]
    [2, 2, 2, 1]
    """
    link = device.interconnect
    if link is None:
        return 1
    card = any(word in device.name for word in ("PCIe", "NVL-")) or (link.bytes_per_s_per_direction or 0) < 100e9
    return 2 if link.type.startswith("NVLink") and card else MAX_RANKS


@dataclass(frozen=True)
class Pass:
    """Forward passes of one replica in seconds at 100 % of the device, and counts of what takes fixed time.

    weight, cache, compute, message   bytes / bandwidth, bytes / bandwidth, FLOPs / peak, bytes / link; without
    expert, expert_compute            what routed experts read and compute
    attention                         of a prefill, FLOPs / peak of the float type, which attention runs in
    unshared                          what is read besides where KV heads are read once a query head, / bandwidth
    layers, steps, sequences          launches of a layer, steps, sequences scheduled
    routed_layers                     layers with experts
    latencies                         all-reduces, each weighed by how its latency grows with the ranks
    large_reduces                     all-reduces, each weighed by (tp - 1) and how near its message is to being large
    shared_seconds                    what PCIe adds to them
    pad_seconds                       of a prefill, FLOPs / peak of one more row for each expert in each of its steps
    power_ratio                       of a prefill, peak FLOP/s over FLOPS_PER_JOULE times the board's watts
    """

    weight_seconds: float
    cache_seconds: float
    compute_seconds: float
    message_seconds: float
    layers: float
    steps: float
    sequences: float
    latencies: float
    shared_seconds: float = 0.0
    packed: bool = False
    narrow: bool = False
    expert_seconds: float = 0.0
    expert_compute_seconds: float = 0.0
    unshared_seconds: float = 0.0
    routed_layers: float = 0.0
    large_reduces: float = 0.0
    attention_seconds: float = 0.0
    power_ratio: float = 1.0
    pad_seconds: float = 0.0


def decode_pass(
    sums: Work, rates: Rates, batch: int, *, first_tokens: int, last_tokens: int, verified: int = 1
) -> Pass:
    """Computes the mean step that gives each of `batch` sequences a token, at contexts first..last; `verified` as
    `decode_of`.
    """
    step = decode_of(sums, batch, first_tokens, last_tokens=last_tokens, verified=verified)
    sent = sent_between(sums, rates, sums.rows_each(batch) * verified)
    return Pass(
        **_roofs(step, rates),
        message_seconds=sent.message_seconds,
        layers=sums.launches,
        steps=1,
        sequences=ceil_div(batch, sums.sharding.dp),
        latencies=sent.latencies,
        shared_seconds=sent.shared_seconds,
        packed=sums.packed,
        narrow=rates.narrow,
        routed_layers=sums.routed_layers,
        large_reduces=sent.large_reduces,
    )


def _roofs(step: Step, rates: Rates) -> dict[str, float]:
    """Seconds of reading and computing at the device's rates, by what is read and computed."""
    bandwidth, flops = rates.bandwidth_bytes_per_s, rates.flops_per_s
    return {
        "weight_seconds": (step.read_bytes - step.cache_bytes - step.expert_bytes) / bandwidth,
        "cache_seconds": step.cache_bytes / bandwidth,
        "expert_seconds": step.expert_bytes / bandwidth,
        "unshared_seconds": step.unshared_bytes / bandwidth,
        "compute_seconds": (step.flops - step.expert_flops - step.attention_flops) / flops,
        "attention_seconds": step.attention_flops / (rates.plain_flops_per_s or flops),
        "expert_compute_seconds": step.expert_flops / flops,
        "pad_seconds": step.pad_flops / flops,
    }


@dataclass(frozen=True)
class Prompt:
    """One prompt: its tokens, those of its sequence that are kept before it, and those of an encoder's source."""

    tokens: int
    cached: int = 0
    source: int = 0


def prefill_pass(sums: Work, rates: Rates, prompts: int, *, prompt: Prompt, ubatch: int | None = None) -> Pass:
    """Computes the prefill of `prompts` alike prompts on one replica, in steps of at most CHUNK_TOKENS.

    `ubatch` (llama.cpp) cuts prompts into steps of so many tokens, each of which reads all weights again.
    Through `pp` stages the prompts go as m micro-batches: a stage of the first has to end before a second is busy, so
    all take (m + pp - 1) / (m · pp) of the path's sum. m = min(prompts, pp), or with `ubatch` the number of pieces.
    """
    step = prefill_of(sums, prompts, prompt.tokens, source_tokens=prompt.source, cached_tokens=prompt.cached)
    steps = max(1, ceil_div(prompts * prompt.tokens, ubatch or CHUNK_TOKENS))
    sent = sent_between(sums, rates, prompts * prompt.tokens, steps=steps)
    pp = sums.sharding.pp
    parts = steps if ubatch else min(prompts, pp)
    bubble = (parts + pp - 1) / (parts * pp)
    roofs = {name: seconds * bubble for name, seconds in _roofs(step, rates).items()}
    roofs |= {name: roofs[name] * parts for name in ("weight_seconds", "expert_seconds")}  # each part reads them
    roofs["pad_seconds"] *= steps
    return Pass(
        **roofs,
        message_seconds=sent.message_seconds * bubble,
        layers=(sums.launches + sums.encoder_layers) * steps,
        steps=steps,
        sequences=0,
        latencies=sent.latencies * steps,
        shared_seconds=sent.shared_seconds * steps,
        packed=sums.packed,
        narrow=rates.narrow,
        routed_layers=sums.routed_layers * steps,
        large_reduces=sent.large_reduces * steps,
        power_ratio=rates.power_ratio,
    )


class Sent(NamedTuple):
    """What ranks say to each other in a step: seconds at the link's full rate, and counts as `Pass` has them."""

    message_seconds: float
    latencies: float
    large_reduces: float
    shared_seconds: float


LARGE_MESSAGE_BYTES = 1 << 20


def sent_between(sums: Work, rates: Rates, rows: float, *, steps: int = 1) -> Sent:
    """Counts what ranks send one another in a step of `rows` tokens (all `steps` together): two all-reduces a layer, a
    hop a stage, two exchanges of experts.

    An all-reduce sends 2·(tp - 1)/tp of each row's vector. Its latency grows as 1 + log2(tp) / 4, and with the message
    s as (tp - 1) · s / (s + 1 MiB): beyond a few hundred KiB every rank has to hear from every other. Where attention
    is data parallel, experts are reached by two exchanges: each row's vector to its experts' ranks, and back.
    """
    tp, pp, dp = sums.sharding.tp, sums.sharding.pp, sums.sharding.dp
    row_seconds = rows * sums.row_message_bytes / rates.link_bytes_per_s
    sent, latencies, large, shared = (pp - 1) * row_seconds, float(pp - 1), 0.0, 0.0
    if tp > 1:
        reduces, size = 2 * sums.layers, rows / steps * sums.row_message_bytes
        sent += reduces * 2 * (tp - 1) / tp * row_seconds
        latencies += reduces * (1 + 0.25 * math.log2(tp))
        large = large_reduces(sums) * size / (size + LARGE_MESSAGE_BYTES)
        shared = reduces * tp * rates.rank_seconds
    ranks = min(sums.sharding.ep, tp * dp)
    if dp > 1 and ranks > tp and sums.experts:
        copies = min(max(e.active for e in sums.experts), ranks)
        sent += 2 * sums.routed_layers * copies * (ranks - 1) / ranks * row_seconds
        latencies += 2 * sums.routed_layers * (1 + 0.25 * math.log2(ranks))
    return Sent(sent, latencies, large, shared)


def large_reduces(sums: Work) -> int:
    """Counts the ranks that every rank has to hear from in the all-reduces of a step whose messages are large."""
    return 2 * sums.layers * (sums.sharding.tp - 1)


def roof_seconds(work: Pass, constants: Constants, *, prefill: bool, maximum: Callable[..., Any] = max) -> Any:
    """Computes the roofline of a pass: max(m, c) + serial · min(m, c) of m = bytes / (e_m · bandwidth) and
    c = FLOPs / (e_c · peak). `maximum` is given where the numbers are arrays; the sum is the larger of two lines,
    m + serial · c and c + serial · m.
    """
    reading, computing = memory_seconds(work, constants), products_seconds(work, constants, prefill=prefill)
    return maximum(reading + constants.serial * computing, computing + constants.serial * reading)


def memory_seconds(work: Pass, constants: Constants) -> Any:
    """Computes the seconds of reading weights, experts and cache, each at the share of the bandwidth that is reached."""
    c = constants
    memory = work.weight_seconds / _either(work.packed, c.packed_efficiency, c.memory_efficiency)
    cache = work.cache_seconds + c.unshared_reads * work.unshared_seconds
    return memory + work.expert_seconds / c.expert_efficiency + cache / c.cache_efficiency


def products_seconds(work: Pass, constants: Constants, *, prefill: bool) -> Any:
    """Computes the seconds of the products of dense weights, attention and experts, each at the share of the peak that
    is reached.
    """
    c = constants
    plain = prefill_efficiency(work.packed, work.narrow, c) if prefill else c.compute_efficiency
    routed = c.expert_prefill_efficiency if prefill else c.expert_compute_efficiency
    return _products(work, c, plain=plain, routed=routed)


def _products(work: Pass, c: Constants, *, plain: float, routed: float) -> Any:
    """The seconds of the products at the shares `plain` of dense weights and `routed` of experts."""
    grouped = work.expert_compute_seconds + work.pad_seconds * c.expert_pad_rows
    dense = work.compute_seconds / plain + work.attention_seconds / c.attention_efficiency
    return dense * power_factor(work, c) + grouped / routed * expert_power_factor(work, c)


def power_factor(work: Pass | Rates, constants: Constants) -> Any:
    """Returns how much longer a prefill's products take on a device whose power does not feed its peak:
    (peak / (FLOPS_PER_JOULE · watts)) ^ power_share; 1 in decode steps, and where the watts are not known.
    """
    return work.power_ratio**constants.power_share


def expert_power_factor(work: Pass | Rates, constants: Constants) -> Any:
    """Returns the same as `power_factor` for the grouped products of experts."""
    return work.power_ratio**constants.expert_power_share


def prefill_efficiency(packed: bool, narrow: bool, constants: Constants) -> float:
    """Returns the share of the peak that a prefill's products reach: of weights unpacked first, in few bits, or in the
    float type.
    """
    plain = _either(narrow, constants.narrow_prefill_efficiency, constants.prefill_efficiency)
    return _either(packed, constants.packed_prefill_efficiency, plain)


def _either(packed: bool, then: float, otherwise: float) -> float:
    """`then if packed else otherwise`, for an array of marks, too."""
    return packed * then + (1 - packed) * otherwise


def fixed_parts(work: Pass, constants: Constants) -> dict[str, Any]:
    """Returns the seconds that a pass takes besides its roofline, by name."""
    c = constants
    return {
        "layers": work.layers * c.layer_seconds,
        "experts": work.routed_layers * c.expert_layer_seconds,
        "steps": work.steps * c.step_seconds,
        "sequences": work.sequences * c.sequence_seconds,
        "all-reduce": between_ranks_seconds(work, c),
    }


def between_ranks_seconds(work: Pass | Sent, constants: Constants) -> Any:
    """Sums the seconds of all-reduces and exchanges: their latencies, what size and PCIe add, and their bytes."""
    c = constants
    grown = work.latencies * c.all_reduce_seconds + work.large_reduces * c.large_reduce_seconds
    return grown + work.shared_seconds + work.message_seconds / c.link_efficiency


def prefill_seconds(work: Pass, constants: Constants, maximum: Callable[..., Any] = max) -> Any:
    """Computes the seconds of a prefill with nothing else on the device."""
    roof = roof_seconds(work, constants, prefill=True, maximum=maximum)
    return (roof + sum(fixed_parts(work, constants).values())) * ttft_scale(work, constants)


def ttft_scale(work: Pass, constants: Constants) -> Any:
    """Returns the factor on everything that a prefill takes: what prompts on the device showed, and besides those of
    weights that are unpacked (kernels of their own) and of models with experts.
    """
    packed = _either(work.packed, constants.packed_prompt_scale, 1.0)
    return constants.ttft_scale * packed * (1 + (constants.experts_prompt_scale - 1) * (work.routed_layers > 0))


def others_seconds(work: Pass, constants: Constants) -> Any:
    """Computes what the prefill of one prompt adds to steps that run anyhow: products, bytes between ranks, kernels of
    its own.
    """
    c = constants
    plain = _either(work.packed, c.packed_prefill_efficiency, c.mixed_efficiency)
    products = _products(work, c, plain=plain, routed=c.expert_prefill_efficiency)
    return products + work.message_seconds / c.link_efficiency + work.layers * c.prompt_layer_seconds


def decode_parts(
    work: Pass, other: Pass | None, output_tokens: int, *, constants: Constants, maximum: Callable[..., Any] = max
) -> dict[str, Any]:
    """Splits the seconds between two tokens by cause; `other` is the prefill of one prompt that others bring under
    load.
    """
    scale, c = tpot_scale(work, constants), constants
    roof = roof_seconds(work, c, prefill=False, maximum=maximum)
    parts = {"roofline": roof * (scale * c.roof_scale)}
    parts |= {name: seconds * (scale * c.fixed_scale) for name, seconds in fixed_parts(work, c).items()}
    if other is not None:
        each = others_seconds(other, c) * (scale * c.prompts_scale)
        parts["prefill of others"] = each * (work.sequences - 1) / output_tokens
    return parts


def tpot_scale(work: Pass, constants: Constants) -> Any:
    """Returns the factor on everything that a step takes: what rows of the device showed, and what they showed of
    models with experts.
    """
    return constants.tpot_scale * (1 + (constants.experts_scale - 1) * (work.routed_layers > 0))

"""Computes the seconds of one decode step and of one prefill from work, rates and fixed times."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from planner.catalogue.device import Device, pcie_bytes_per_s
from planner.errors import BadRequest
from planner.memory.estimate import Estimate
from planner.memory.sharding import MAX_RANKS
from planner.speed.constants import Constants
from planner.speed.work import Work, decode_of, peak_flops_per_s, plain_flops_per_s, prefill_of
from planner.units import ceil_div

GEFORCE = re.compile(r"RTX-\d{4}(?!-Ada)")


CHUNK_TOKENS = 8192  # a longer prefill runs in several steps


# One all-reduce of a small message over PCIe takes so long for each rank: 6.5, 13 and 26 us for 2, 4 and 8 on L40S and
# RTX PRO 6000, with NCCL and with the engines' own kernels (tables of aiconfigurator 0.12, commit 095f58a).
PCIE_RANK_SECONDS = 3.2e-6


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

    @property
    def most_flops_per_s(self) -> float:
        return self.flops_per_s * self.half_sums


def rates_of(device: Device, answer: Estimate) -> Rates:
    """A device's rates for `answer`'s formats; BadRequest, in one line, where the catalogue does not know them."""
    peak = peak_flops_per_s(device, answer)
    if not device.bandwidth_bytes_per_s or peak is None:
        unknown = "memory bandwidth" if peak is not None else "FLOP/s"
        raise BadRequest(
            f"{device.name}: its {unknown} is not known, so no speed can be said; choose a device of `kvplan gpus`"
            " that has it, add it to your own entries, or run kvplan calibrate there"
        )
    ranks = answer.request.sharding.tp
    link = device.interconnect if ranks <= bridged_ranks(device) else None
    pcie = float(pcie_bytes_per_s(min(max(device.pcie_gen or 4, 3), 6)))
    per_s = (link.bytes_per_s_per_direction if link else None) or pcie
    narrow = peak > (plain_flops_per_s(device, answer) or peak)
    halves = 2.0 if GEFORCE.match(device.name) and peak <= device.dense_flops_per_s.get("fp16", 0) else 1.0
    return Rates(
        float(device.bandwidth_bytes_per_s), peak, float(per_s), 0.0 if link else PCIE_RANK_SECONDS, halves, narrow
    )


def bridged_ranks(device: Device) -> int:
    """How many devices the catalogued link joins: an NVLink bridge of plug-in cards two, a switch or a board all.

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

    weight, cache, compute, message   bytes / bandwidth, bytes / bandwidth, FLOPs / peak, bytes / link
    layers, steps, sequences          launches of a layer, steps, sequences scheduled
    latencies                         all-reduces, each weighed by how its latency grows with the ranks
    shared_seconds                    what PCIe adds to them
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


def decode_pass(sums: Work, rates: Rates, batch: int, first_tokens: int, last_tokens: int) -> Pass:
    """The mean step that gives each of `batch` sequences a token, at contexts first..last."""
    step = decode_of(sums, batch, first_tokens, last_tokens)
    sent, latencies = _sent(sums, rates, sums.rows_each(batch))
    return Pass(
        weight_seconds=(step.read_bytes - step.cache_bytes) / rates.bandwidth_bytes_per_s,
        cache_seconds=step.cache_bytes / rates.bandwidth_bytes_per_s,
        compute_seconds=step.flops / rates.flops_per_s,
        message_seconds=sent,
        layers=sums.launches,
        steps=1,
        sequences=ceil_div(batch, sums.sharding.dp),
        latencies=latencies,
        shared_seconds=_shared_seconds(sums, rates),
        packed=sums.packed,
        narrow=rates.narrow,
    )


def prefill_pass(sums: Work, rates: Rates, prompts: int, prompt_tokens: int, source_tokens: int = 0) -> Pass:
    """`prompts` prompts on one replica, in steps of at most CHUNK_TOKENS.

    Through `pp` stages the prompts go as m = min(prompts, pp) micro-batches: a stage of the first has to end before a
    second is busy, so all take (m + pp - 1) / (m · pp) of the path's sum.
    """
    step = prefill_of(sums, prompts, prompt_tokens, source_tokens)
    steps = max(1, math.ceil(prompts * prompt_tokens / CHUNK_TOKENS))
    sent, latencies = _sent(sums, rates, prompts * prompt_tokens)
    parts = min(prompts, sums.sharding.pp)
    bubble = (parts + sums.sharding.pp - 1) / (parts * sums.sharding.pp)
    return Pass(
        weight_seconds=(step.read_bytes - step.cache_bytes) / rates.bandwidth_bytes_per_s * bubble * parts,
        cache_seconds=step.cache_bytes / rates.bandwidth_bytes_per_s * bubble,
        compute_seconds=step.flops / rates.flops_per_s * bubble,
        message_seconds=sent * bubble,
        layers=(sums.launches + sums.encoder_layers) * steps,
        steps=steps,
        sequences=0,
        latencies=latencies * steps,
        shared_seconds=_shared_seconds(sums, rates) * steps,
        packed=sums.packed,
        narrow=rates.narrow,
    )


def _sent(sums: Work, rates: Rates, rows: float) -> tuple[float, float]:
    """(seconds at the link's full rate, all-reduces) of a step of `rows` tokens: two a layer, and a hop a stage.

    An all-reduce sends 2·(tp - 1)/tp of each row's vector; its latency grows as 1 + log2(tp) / 4.
    """
    tp, pp = sums.sharding.tp, sums.sharding.pp
    row_seconds = rows * sums.row_message_bytes / rates.link_bytes_per_s
    if tp == 1:
        return (pp - 1) * row_seconds, pp - 1
    reduces = 2 * sums.layers
    return (pp - 1 + reduces * 2 * (tp - 1) / tp) * row_seconds, pp - 1 + reduces * (1 + 0.25 * math.log2(tp))


def _shared_seconds(sums: Work, rates: Rates) -> float:
    tp = sums.sharding.tp
    return 2 * sums.layers * tp * rates.rank_seconds if tp > 1 else 0.0


def roof_seconds(work: Pass, constants: Constants, *, prefill: bool, maximum: Callable[..., Any] = max) -> Any:
    """max(bytes / (e_m · bandwidth), FLOPs / (e_c · peak)); `maximum` is given where the numbers are arrays."""
    c, packed = constants, work.packed
    memory = work.weight_seconds / _either(packed, c.packed_efficiency, c.memory_efficiency)
    memory = memory + work.cache_seconds / c.cache_efficiency
    products = prefill_efficiency(packed, work.narrow, c) if prefill else c.compute_efficiency
    return maximum(memory, work.compute_seconds / products)


def prefill_efficiency(packed: bool, narrow: bool, constants: Constants) -> float:
    """Of a prefill's products: unpacked first, in few bits, or in the float type."""
    plain = _either(narrow, constants.narrow_prefill_efficiency, constants.prefill_efficiency)
    return _either(packed, constants.packed_prefill_efficiency, plain)


def _either(packed: bool, then: float, otherwise: float) -> float:
    """`then if packed else otherwise`, for an array of marks, too."""
    return packed * then + (1 - packed) * otherwise


def fixed_parts(work: Pass, constants: Constants) -> dict[str, Any]:
    """What passes take besides their roofline, by name."""
    between = between_ranks_seconds(work.latencies, work.shared_seconds, work.message_seconds, constants)
    return fixed_of(work.layers, work.steps, work.sequences, between, constants)


def fixed_of(layers: Any, steps: Any, sequences: Any, between_ranks: Any, constants: Constants) -> dict[str, Any]:
    """Counts of what takes the same time whatever its size, each times that time."""
    return {
        "layers": layers * constants.layer_seconds,
        "steps": steps * constants.step_seconds,
        "sequences": sequences * constants.sequence_seconds,
        "all-reduce": between_ranks,
    }


def between_ranks_seconds(latencies: Any, shared_seconds: Any, message_seconds: Any, constants: Constants) -> Any:
    """All-reduces: their latencies, what PCIe adds, and their bytes."""
    return latencies * constants.all_reduce_seconds + shared_seconds + message_seconds / constants.link_efficiency


def prefill_seconds(work: Pass, constants: Constants, maximum: Callable[..., Any] = max) -> Any:
    """A prefill with nothing else on the device."""
    roof = roof_seconds(work, constants, prefill=True, maximum=maximum)
    return (roof + sum(fixed_parts(work, constants).values())) * constants.ttft_scale


def others_seconds(work: Pass, constants: Constants) -> Any:
    """What the prefill of one prompt adds to steps that run anyhow: its products and its bytes between ranks."""
    products = _either(work.packed, constants.packed_prefill_efficiency, constants.mixed_efficiency)
    return work.compute_seconds / products + work.message_seconds / constants.link_efficiency


def decode_parts(
    work: Pass, other: Pass | None, output_tokens: int, constants: Constants, maximum: Callable[..., Any] = max
) -> dict[str, Any]:
    """Seconds between two tokens, by name; `other` is the prefill of one prompt that others bring under load."""
    parts = {"roofline": roof_seconds(work, constants, prefill=False, maximum=maximum), **fixed_parts(work, constants)}
    if other is not None:
        parts["prefill of others"] = others_seconds(other, constants) * (work.sequences - 1) / output_tokens
    return {name: seconds * constants.tpot_scale for name, seconds in parts.items()}

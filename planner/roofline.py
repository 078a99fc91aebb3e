"""How fast: the expected seconds of prefill and decode with a range, the bound below them, and what binds.

TPOT = max(bytes / (e_m · bandwidth), FLOPs / (e_c · peak))            the step's roofline, at what is reached of it
     + layers · t_layer + t_step + batch · t_sequence                  what a step takes whatever its size
     + 2 · layers · all-reduce(tp)                                     latency and bytes between ranks
     + under load: prefill seconds of a prompt · (batch - 1) / output  what the others' prompts take from everyone

`speed(answer, device, prompt_tokens=, output_tokens=, batch=, load=, engine=)`  -> Speed, all figures with range
`constants_for(engine, device)`, `with_measured_point(...)`                      -> Constants
`decode_step`, `prefill_step`, `compute_bound_batch`                             -> bytes and FLOPs, no constants
`step_model(answer, device, constants)`                                          -> what the simulator sums
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from planner.device import Device
from planner.errors import BadRequest
from planner.memory import Estimate
from planner.roofline_step import (
    Step,
    Work,
    compute_bound_batch,
    decode_of,
    decode_step,
    pairs,
    peak_flops_per_s,
    plain_flops_per_s,
    prefill_of,
    prefill_step,
    work,
)
from planner.sharding import MAX_RANKS
from planner.speed_constants import Constants, constants_for
from planner.step import PS_PER_SECOND, StepTerms
from planner.units import ceil_div, parse_tokens

__all__ = [
    "LOADS",
    "Constants",
    "Figure",
    "Rates",
    "Speed",
    "Step",
    "Work",
    "compute_bound_batch",
    "constants_for",
    "decode_step",
    "peak_flops_per_s",
    "prefill_step",
    "rates_of",
    "speed",
    "step_model",
    "with_measured_point",
    "work",
]

LOADS = ("static", "serving")
ENDS = ("value", "low", "high", "bound")
GEFORCE = re.compile(r"RTX-\d{4}(?!-Ada)")
CHUNK_TOKENS = 8192  # a longer prefill runs in several steps
# One all-reduce of a small message over PCIe takes so long for each rank: 6.5, 13 and 26 us for 2, 4 and 8 on L40S and
# RTX PRO 6000, with NCCL and with the engines' own kernels (tables of aiconfigurator 0.12, commit 095f58a).
PCIE_RANK_SECONDS = 3.2e-6
# Of those in flight, the share whose prompts come just before one's own: best in the mean of 400 servers under closed
# loop, where requests start and end in waves (docs/accuracy.md has how far off it is there).
QUEUED_SHARE = 0.12
PCIE_BYTES_PER_S = {3: 16e9, 4: 32e9, 5: 64e9, 6: 128e9}  # x16, one direction


@dataclass(frozen=True)
class Figure:
    """An expectation with its range, and the bound that nothing on this device can beat."""

    value: float
    low: float
    high: float
    bound: float

    def inverse(self, amount: float = 1.0) -> Figure:
        """amount / figure: seconds into a rate, the ends of the range swapped."""
        return Figure(amount / self.value, amount / self.high, amount / self.low, amount / self.bound)

    def followed_by(self, each: Figure, count: int) -> Figure:
        """This once, then `each` so many times."""
        value, low, high, bound = (getattr(self, end) + count * getattr(each, end) for end in ENDS)
        return Figure(value, low, high, bound)


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


@dataclass(frozen=True)
class Speed:
    """How fast one deployment serves `batch` sequences at once.

    ttft_seconds           static: all prompts prefilled together; serving: one prompt among the others' steps
    tpot_seconds           between two tokens of one sequence
    decode_tokens_per_s    of all sequences together, after their first token
    prefill_tokens_per_s   prompt tokens, prefill alone
    request_seconds        prompt to last token
    tpot_parts             what the time between tokens is made of, seconds by name; their sum is its value
    """

    batch: int
    prompt_tokens: int
    output_tokens: int
    load: str
    ttft_seconds: Figure
    tpot_seconds: Figure
    prefill_tokens_per_s: Figure
    tpot_parts: dict[str, float]
    binds: str
    devices: int
    constants: Constants

    @property
    def decode_tokens_per_s(self) -> Figure:
        return self.tpot_seconds.inverse(self.batch)

    @property
    def request_seconds(self) -> Figure:
        return self.ttft_seconds.followed_by(self.tpot_seconds, self.output_tokens - 1)

    @property
    def share_achieved(self) -> float:
        """The bound of a decode step over its expectation."""
        return self.tpot_seconds.bound / self.tpot_seconds.value

    @property
    def constants_from(self) -> str:
        return self.constants.origin

    def to_dict(self) -> dict[str, Any]:
        """The JSON contract: base units; each figure with `_low`, `_high` and `_bound`."""
        figures: dict[str, Any] = {}
        for name in (
            "ttft_seconds",
            "tpot_seconds",
            "decode_tokens_per_s",
            "prefill_tokens_per_s",
            "request_seconds",
        ):
            figure: Figure = getattr(self, name)
            figures[name] = figure.value
            figures |= {f"{name}_{end}": getattr(figure, end) for end in ("low", "high", "bound")}
        return {
            "batch": self.batch,
            "prompt_tokens": self.prompt_tokens,
            "output_tokens": self.output_tokens,
            "load": self.load,
            "devices": self.devices,
            **figures,
            "tokens_per_s_user": 1 / self.tpot_seconds.value,
            "decode_tokens_per_s_device": self.decode_tokens_per_s.value / self.devices,
            "tpot_parts_seconds": dict(self.tpot_parts),
            "share_achieved": self.share_achieved,
            "binds": self.binds,
            "constants_from": self.constants_from,
        }


def speed(
    answer: Estimate,
    device: Device,
    *,
    prompt_tokens: int,
    output_tokens: int,
    batch: int,
    load: str = "serving",
    engine: str | None = None,
    constants: Constants | None = None,
) -> Speed:
    """How fast `answer`'s model, formats and layout run on that many of `device`, with a range.

    load      "static": one batch, its prompts prefilled together and no other request; "serving": `batch` requests
              in flight, a new one in place of each that ends
    engine    as `parse_engine` reads it; None takes constants of all engines together
    constants in place of those that `constants_for` finds

    >>> from planner.catalogue import find_device, find_model
    >>> from planner.memory import Request, estimate
    >>> from planner.readers import read_entry
    >>> llama = estimate(read_entry(find_model("llama-3.1-8b")), Request(1024))
    >>> found = speed(llama, find_device("h100-sxm"), prompt_tokens=1000, output_tokens=1, batch=1, load="static")
    >>> round(found.tpot_seconds.bound * 1e3, 2)      # (15.01 GB of weights + 0.13 GB of cache) / 3.35 TB/s
    4.52

    Leaves out: images, queues that grow (see the simulator), other tenants, clocks that throttle.
    Raises BadRequest for lengths that mean nothing, and for a device whose bandwidth or FLOP/s are not known.
    """
    _check(prompt_tokens, output_tokens, batch, load)
    rates = rates_of(device, answer)
    found = constants or constants_for(engine, device, load)
    sums = work(answer)
    ttft, ttft_bound = _ttft(sums, rates, found, prompt_tokens, output_tokens, batch, load, answer.source_tokens)
    parts, tpot_bound, binds = _tpot(sums, rates, found, prompt_tokens, output_tokens, batch, load)
    queued = load == "serving" and batch > 1
    ends = (found.queued_low, found.queued_high) if queued else (found.ttft_low, found.ttft_high)
    ttft_seconds = _figure(ttft, *ends, ttft_bound)
    tpot_seconds = _figure(sum(parts.values()), *tpot_range(found, bool(sums.experts)), tpot_bound)
    return Speed(
        batch=batch,
        prompt_tokens=prompt_tokens,
        output_tokens=output_tokens,
        load=load,
        ttft_seconds=ttft_seconds,
        tpot_seconds=tpot_seconds,
        prefill_tokens_per_s=_prefill_rate(sums, rates, found, prompt_tokens, batch, answer.source_tokens),
        tpot_parts=parts,
        binds=binds,
        devices=sums.sharding.devices,
        constants=found,
    )


def tpot_range(constants: Constants, experts: bool) -> tuple[float, float]:
    """The range of TPOT as factors of the expectation, wider for a model with experts."""
    if not experts:
        return constants.tpot_low, constants.tpot_high
    return min(constants.tpot_low, constants.experts_low), max(constants.tpot_high, constants.experts_high)


def _figure(seconds: float, low: float, high: float, bound: float) -> Figure:
    """An expectation and its range, none of them below the bound."""
    value = max(bound, seconds)
    return Figure(value, max(bound, value * low), value * high, bound)


def _check(prompt_tokens: int, output_tokens: int, batch: int, load: str) -> None:
    for name, value in (("--prompt", prompt_tokens), ("--output", output_tokens), ("--batch", batch)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise BadRequest(f"{name} {value!r} is not a whole number of at least 1")
    if load not in LOADS:
        raise BadRequest(f"--load {load!r} is not known; choose one of: {', '.join(LOADS)}")


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
    pcie = PCIE_BYTES_PER_S.get(device.pcie_gen or 4, 32e9)
    per_s = (link.bytes_per_s_per_direction if link else None) or pcie
    narrow = peak > (plain_flops_per_s(device, answer) or peak)
    halves = 2.0 if GEFORCE.match(device.name) and peak <= device.dense_flops_per_s.get("fp16", 0) else 1.0
    return Rates(
        float(device.bandwidth_bytes_per_s), peak, float(per_s), 0.0 if link else PCIE_RANK_SECONDS, halves, narrow
    )


def bridged_ranks(device: Device) -> int:
    """How many devices the catalogued link joins: an NVLink bridge of plug-in cards two, a switch or a board all.

    >>> from planner.catalogue import find_device
    >>> [bridged_ranks(find_device(name)) for name in ("rtx-3090", "a100-pcie-80gb", "h100-nvl", "l40s")]
    [2, 2, 2, 1]
    """
    link = device.interconnect
    if link is None:
        return 1
    card = any(word in device.name for word in ("PCIe", "NVL-")) or (link.bytes_per_s_per_direction or 0) < 100e9
    return 2 if link.type.startswith("NVLink") and card else MAX_RANKS


# -- passes ------------------------------------------------------------------------------------------------


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


# -- times -------------------------------------------------------------------------------------------------


def _tpot(
    sums: Work, rates: Rates, constants: Constants, prompt: int, output: int, batch: int, load: str
) -> tuple[dict[str, float], float, str]:
    """(seconds by part, bound, what binds) of the mean step between the first and the last token."""
    first, last = prompt + 1, prompt + output
    step = decode_pass(sums, rates, batch, first, last)
    other = prefill_pass(sums, rates, 1, prompt) if load == "serving" else None
    parts = decode_parts(step, other, output, constants)
    roof = parts.pop("roofline")
    computes = step.compute_seconds / constants.compute_efficiency * constants.tpot_scale >= roof
    parts = {"compute" if computes else "bandwidth": roof, **{name: value for name, value in parts.items() if value}}
    bound = decode_of(sums, batch, first, last).seconds(rates.bandwidth_bytes_per_s, rates.most_flops_per_s)
    return parts, bound, max(parts, key=lambda name: parts[name])


def _prefill(
    sums: Work, rates: Rates, constants: Constants, prompts: int, prompt: int, source: int
) -> tuple[float, float]:
    """(expected, bound) of prefilling `prompts` on one replica."""
    seconds = prefill_seconds(prefill_pass(sums, rates, prompts, prompt, source), constants)
    whole = prefill_of(sums, prompts, prompt, source).seconds(rates.bandwidth_bytes_per_s, rates.most_flops_per_s)
    return seconds, whole / sums.sharding.pp  # stages that are never idle


def _ttft(
    sums: Work, rates: Rates, constants: Constants, prompt: int, output: int, batch: int, load: str, source: int
) -> tuple[float, float]:
    """(expected, bound) from the request to its first token.

    Static: all prompts at once. Serving: half a step until it is looked at, the prompts that came just before, its own
    prefill, and the tokens of the sequences that decode in the same steps.
    """
    held = ceil_div(batch, sums.sharding.dp)
    seconds, bound = _prefill(sums, rates, constants, held if load == "static" else 1, prompt, source)
    if load == "serving" and held > 1:
        parts, _, _ = _tpot(sums, rates, constants, prompt, 1, batch, "static")
        mixed, _, _ = _tpot(sums, rates, constants, prompt, output, batch, load)
        chunks = math.ceil(prompt / CHUNK_TOKENS)
        seconds += QUEUED_SHARE * (held - 1) * seconds + chunks * sum(parts.values()) + 0.5 * sum(mixed.values())
    return seconds + constants.request_seconds, bound


def _prefill_rate(sums: Work, rates: Rates, constants: Constants, prompt: int, batch: int, source: int) -> Figure:
    """Prompt tokens a second of all replicas when nothing else runs."""
    prompts = ceil_div(batch, sums.sharding.dp)
    seconds, bound = _prefill(sums, rates, constants, prompts, prompt, source)
    figure = _figure(seconds, constants.ttft_low, constants.ttft_high, bound)
    return figure.inverse(float(prompts * prompt * sums.sharding.dp))


# -- a measured point --------------------------------------------------------------------------------------

MEASURED_KEYS = ("tpot_ms", "ttft_ms", "tok_s", "batch", "seq", "prompt", "output")
# What holds nine of ten values at other batches and lengths of the deployment (benchmarks/measured_point.py).
MEASURED_SPREAD = {"tpot": 1.25, "tpot of experts": 1.4, "ttft": 1.5}


def with_measured_point(
    text: str, answer: Estimate, device: Device, *, load: str = "serving", engine: str | None = None,
    prompt_tokens: int | None = None, output_tokens: int | None = None,
) -> Constants:  # fmt: skip
    """Constants that give what was measured at one point, for the same model, device and engine elsewhere.

    `text`: "tpot_ms=14.2 batch=8 seq=2048", also ttft_ms, or tok_s (of all sequences) in place of tpot_ms; `seq` is
    the mean context of the steps, or prompt and output say it apart; where the text names neither, `prompt_tokens` and
    `output_tokens`. All that a step takes is scaled alike, and all that a prefill takes, beside a request's way in.
    Raises BadRequest for anything else, and for a time below the bound of the device.
    """
    given = _measured(text)
    batch = int(given.get("batch", 1))
    prompt = int(given.get("prompt", given.get("seq", prompt_tokens or answer.request.seq_tokens)))
    output = int(given.get("output", 1 if "seq" in given else output_tokens or 128))
    base = constants_for(engine, device, load)
    found = speed(
        answer, device, prompt_tokens=prompt, output_tokens=output, batch=batch, load=load if output > 1 else "static",
        constants=base,
    )  # fmt: skip
    if "tok_s" in given:
        given["tpot_ms"] = 1e3 * batch / given["tok_s"]
    scales, way_in = dict[str, float](), base.request_seconds
    for key, figure in (("tpot_ms", found.tpot_seconds), ("ttft_ms", found.ttft_seconds)):
        if key in given:
            seconds = given[key] / 1e3
            if seconds < figure.bound:
                raise BadRequest(
                    f"--measured {key}={given[key]:g}: {device.name} cannot be faster than {figure.bound * 1e3:.3g} ms "
                    "at this point by its bandwidth and FLOP/s; check model, dtype, layout and units"
                )
            if key == "ttft_ms":
                way_in = min(base.request_seconds, seconds / 2)
                scales["ttft"] = (seconds - way_in) / (figure.value - base.request_seconds)
            else:
                scales["tpot"] = seconds / figure.value
    measured = base.scaled(**scales, origin=f"measured point given ({' '.join(text.split())}), beside: {base.origin}")
    spread: dict[str, Any] = {"request_seconds": way_in}
    for name in scales:
        factor = MEASURED_SPREAD["tpot of experts" if name == "tpot" and work(answer).experts else name]
        for end in (name, "queued" if name == "ttft" else "experts"):
            spread |= {f"{end}_low": 1 / factor, f"{end}_high": factor}
    return replace(measured, **spread)


def _measured(text: str) -> dict[str, float]:
    wanted = 'write for example "tpot_ms=14.2 batch=8 seq=2048"'
    given: dict[str, float] = {}
    for word in text.replace(",", " ").split():
        key, equals, value = word.partition("=")
        whole = key in ("batch", "seq", "prompt", "output")
        try:
            number = float(parse_tokens(value, f"--measured {key}") if whole else value)
        except ValueError:
            number = math.nan
        if not equals or key not in MEASURED_KEYS or not 0 < number < 1e12:
            raise BadRequest(
                f"--measured {word[:40]!r} is not one of {', '.join(MEASURED_KEYS)} with a number; {wanted}"
            )
        given[key] = number
    if not given.keys() & {"tpot_ms", "ttft_ms", "tok_s"}:
        raise BadRequest(f"--measured names no tpot_ms, ttft_ms or tok_s; {wanted}")
    return given


# -- the simulator's step ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class LinearSteps:
    """A replica's steps as `planner.step.StepModel`; `terms` is computed from the sums each time."""

    sums: Work
    rates: Rates
    constants: Constants
    reaches: tuple[int | None, ...]
    kv_ps: tuple[int, ...]
    score_ps: tuple[int, ...]

    def terms(self, sequences: int, chunks: Sequence[tuple[int, int]]) -> StepTerms:
        """Weights are read once for decoding sequences and chunks together; chunks compute at the prefill's rate."""
        sums, rates, c = self.sums, self.rates, self.constants
        rows = max(1.0, sequences / sums.sharding.pp) if sequences else 0.0
        new = float(sum(tokens for tokens, _ in chunks))
        weights, cached = sums.weights_read(rows + new), rows * sums.sequence_bytes
        decode = sums.row_products(rows) + rows * (sums.head_flops + sums.sequence_flops)
        prefill = sums.row_products(new) + len(chunks) * sums.head_flops
        for tokens, before in chunks:
            prefill += sum(read.pair_flops * pairs(read.reach, tokens, before) for read in sums.reads)
            cached += sum(read.token_bytes * min(before + tokens, read.reach or before + tokens) for read in sums.reads)
        products = prefill_efficiency(sums.packed, rates.narrow, c)
        compute = decode / c.compute_efficiency + prefill / products
        reading = c.packed_efficiency if sums.packed else c.memory_efficiency
        sent, latencies = _sent(sums, rates, rows + new)
        between = between_ranks_seconds(latencies, _shared_seconds(sums, rates), sent, c)
        fixed = sum(fixed_of(sums.launches, 1, sequences, between, c).values())
        memory = weights / reading + cached / c.cache_efficiency
        return StepTerms(
            _ps(fixed * c.tpot_scale),
            _ps(memory / rates.bandwidth_bytes_per_s * c.tpot_scale),
            _ps(compute / rates.flops_per_s * c.tpot_scale),
        )


def step_model(answer: Estimate, device: Device, constants: Constants) -> LinearSteps:
    """One replica's steps for the simulator, in whole picoseconds, from the same sums and constants as `speed`.

    A replica is one of the `dp` of the layout. Under pipeline parallelism a step is the way through all stages of one
    of `pp` micro-batches, so that all sequences get a token a step.
    """
    sums, rates = work(answer), rates_of(device, answer)
    pp = sums.sharding.pp
    kv = tuple(
        _ps(r.token_bytes / pp / (rates.bandwidth_bytes_per_s * constants.cache_efficiency) * constants.tpot_scale)
        for r in sums.reads
    )
    scores = tuple(
        _ps(r.token_flops / pp / (rates.flops_per_s * constants.compute_efficiency) * constants.tpot_scale)
        for r in sums.reads
    )
    return LinearSteps(sums, rates, constants, tuple(read.reach for read in sums.reads), kv, scores)


def _ps(seconds: float) -> int:
    return round(seconds * PS_PER_SECOND)

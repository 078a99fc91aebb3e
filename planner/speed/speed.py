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
from dataclasses import dataclass
from typing import Any

from planner.catalogue.device import Device
from planner.errors import BadRequest
from planner.memory.estimate import Estimate
from planner.speed.constants import Constants, constants_for
from planner.speed.passes import CHUNK_TOKENS, Rates, decode_parts, decode_pass, prefill_pass, prefill_seconds, rates_of
from planner.speed.work import Work, decode_of, prefill_of, work
from planner.units import ceil_div

LOADS = ("static", "serving")


ENDS = ("value", "low", "high", "bound")


# Of those in flight, the share whose prompts come just before one's own: best in the mean of 400 servers under closed
# loop, where requests start and end in waves (docs/accuracy.md has how far off it is there).
QUEUED_SHARE = 0.12


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

    >>> from planner.catalogue.entries import find_device, find_model
    >>> from planner.memory.request import Request
    >>> from planner.memory.estimate import estimate
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

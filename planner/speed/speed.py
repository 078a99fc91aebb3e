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
from dataclasses import replace
from typing import Any

from planner.catalogue.device import Device
from planner.errors import BadRequest
from planner.frozen import dataclass
from planner.memory.estimate import Estimate
from planner.memory.limits import smallest
from planner.speed.constants import Constants, constants_for
from planner.speed.drafting import Drafts
from planner.speed.host import Host
from planner.speed.passes import (
    CHUNK_TOKENS,
    Pass,
    Prompt,
    Rates,
    decode_parts,
    decode_pass,
    prefill_pass,
    prefill_seconds,
    products_seconds,
    rates_of,
    tpot_scale,
)
from planner.speed.work import Work, decode_of, prefill_of, work
from planner.units import ceil_div

LOADS = ("static", "serving")


ENDS = ("value", "low", "high", "bound")


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
    running                sequences that memory admits, where `batch` is more: the others queue
    drafts                 speculative decoding
    host                   what lies in host memory; None where all is on the cards
    cached_tokens          of each prompt, from its first on, that need no prefill
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
    running: int = 0
    drafts: Drafts | None = None
    host: Host | None = None
    cached_tokens: int = 0

    @property
    def decoding(self) -> int:
        """Sequences that decode at once: all of `batch`, or as many as memory admits."""
        return self.running or self.batch

    @property
    def decode_tokens_per_s(self) -> Figure:
        return self.tpot_seconds.inverse(self.decoding)

    @property
    def request_seconds(self) -> Figure:
        """Prompt to last token; of a static batch with the range that whole requests showed, where rows of some are."""
        found, c = self.ttft_seconds.followed_by(self.tpot_seconds, self.output_tokens - 1), self.constants
        if self.load != "static" or not c.request_low or self.drafts is not None or self.host is not None:
            return found
        return _figure(found.value, c.request_low, c.request_high, bound=found.bound)

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
            "prefix_cached_tokens": self.cached_tokens,
            "decoding": self.decoding,
            "queued": self.batch - self.decoding,
            "load": self.load,
            "tokens_a_step": 1.0 if self.drafts is None else self.drafts.tokens_a_step,
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
    estimate: Estimate,
    device: Device,
    *,
    prompt_tokens: int,
    output_tokens: int,
    batch: int,
    load: str = "serving",
    engine: str | None = None,
    constants: Constants | None = None,
    most: int | None = None,
    drafts: Drafts | None = None,
    cached_tokens: int = 0,
    host: Host | None = None,
) -> Speed:  # parameters: the quantities of its equation, each by name
    """Estimates TTFT, TPOT and tokens a second of a model in the formats and layout of `estimate`, on that many of
    `device`, with a range.

    load      "static": one batch, its prompts prefilled together and no other request; "serving": `batch` requests
              in flight, a new one in place of each that ends
    engine    as `parse_engine` reads it; None takes constants of all engines together
    constants in place of those that `constants_for` finds
    most      sequences that memory admits: so many run, the rest of `batch` queues
    drafts    speculative decoding (`planner.speed.drafting`)
    cached_tokens   of each prompt, from its first on, whose cache is there: they need no prefill, and the rest attends to them
    host      what lies in host memory (`planner.speed.host`)

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
    _check(prompt_tokens, output_tokens, batch, load=load, cached=cached_tokens)
    found = model_constants(constants or constants_for(engine, device, load), work(estimate))
    running = batch if most is None else max(1, min(batch, most))
    case = Case(
        work(estimate), rates_of(device, estimate), found, prompt_tokens - cached_tokens, output_tokens, running, load,
        estimate.source_tokens, drafts, cached_tokens, host,
    )  # fmt: skip
    parts = case.tpot_parts()
    low, high = tpot_range(found, bool(case.sums.experts))
    if drafts is not None:
        low, high = drafts.widened(low, high)
    if host is not None:
        share = parts["host"] / sum(parts.values())
        there = tpot_range(host.constants, bool(case.sums.experts))  # the processor's own, of rows on processors
        low = low * (1 - share) + there[0] * share * host.fast
        high = high * (1 - share) + there[1] * share * host.slow
    tpot_seconds = _figure(sum(parts.values()), low, high, bound=case.tpot_bound())
    queued = load == "serving" and batch > 1
    ends = (found.queue.low, found.queue.high) if queued else (found.ttft_low, found.ttft_high)
    ttft, bound = case.ttft()
    if batch > running:  # a request in line waits until those before it have ended: the pool turns over once a request
        ttft += (batch / running - 1) * (ttft + (output_tokens - 1) * tpot_seconds.value)
    return Speed(
        batch=batch,
        prompt_tokens=prompt_tokens,
        output_tokens=output_tokens,
        load=load,
        ttft_seconds=_figure(ttft, low=ends[0], high=ends[1], bound=bound),
        tpot_seconds=tpot_seconds,
        prefill_tokens_per_s=case.prefill_rate(),
        tpot_parts=parts,
        binds=max(parts, key=lambda name: parts[name]),
        devices=case.sums.sharding.devices,
        constants=found,
        running=running if running < batch else 0,
        drafts=drafts,
        host=host,
        cached_tokens=cached_tokens,
    )


def model_constants(constants: Constants, sums: Work) -> Constants:
    """Returns the constants for the model that `sums` are of, in their layout; once more changes nothing."""
    found = constants.of_model(sums.shape, experts=bool(sums.experts))
    if sums.sharding.pp == 1:
        return found
    low, high = prompt_range(found, sums.sharding.pp)
    return replace(found, ttft_low=low, ttft_high=high, stages_low=1.0, stages_high=1.0)


def prompt_range(constants: Constants, stages: int) -> tuple[float, float]:
    """Returns the range of a prefill as two factors of the expectation, wider where it goes through several stages."""
    low, high = constants.ttft_low, constants.ttft_high
    return (min(low, constants.stages_low), max(high, constants.stages_high)) if stages > 1 else (low, high)


def tpot_range(constants: Constants, experts: bool) -> tuple[float, float]:
    """Returns the range of TPOT as two factors of the expectation, with experts that of such models."""
    if not experts:
        return constants.tpot_low, constants.tpot_high
    return min(constants.tpot_low, constants.experts_low), max(constants.tpot_high, constants.experts_high)


def _figure(seconds: float, low: float, high: float, *, bound: float) -> Figure:
    """An expectation and its range, none of them below the bound."""
    value = max(bound, seconds)
    return Figure(value, max(bound, value * low), value * high, bound)


def _check(prompt_tokens: int, output_tokens: int, batch: int, *, load: str, cached: int) -> None:
    for name, value in (("--prompt", prompt_tokens), ("--answer", output_tokens), ("--batch", batch)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise BadRequest(f"{name} {value!r} is not a whole number of at least 1")
    if load not in LOADS:
        raise BadRequest(f"--load {load!r} is not known; choose one of: {', '.join(LOADS)}")
    if not 0 <= cached < prompt_tokens:
        raise BadRequest(
            f"--prefix-cached {cached:,}: the last token of a prompt is always computed; of {prompt_tokens:,} tokens up to "
            f"{prompt_tokens - 1:,} can be cached"
        )


@dataclass(frozen=True)
class Case:
    """One question to the formulas: what runs, on what, under which load."""

    sums: Work
    rates: Rates
    constants: Constants
    prompt: int
    output: int
    batch: int
    load: str
    source_tokens: int = 0
    drafts: Drafts | None = None
    cached: int = 0
    host: Host | None = None

    @property
    def held(self) -> int:
        """Sequences of one replica."""
        return ceil_div(self.batch, self.sums.sharding.dp)

    def step(self, output: int | None = None) -> Pass:
        """The mean step between the first and the last token."""
        step = self._whole_step(self.rates, self.output if output is None else output)
        return step if self.host is None else self.host.on_card(step)

    def _whole_step(self, rates: Rates, output: int) -> Pass:
        first = self.cached + self.prompt
        verified = 1 if self.drafts is None else 1 + self.drafts.tokens
        return decode_pass(
            self.sums, rates, self.batch, first_tokens=first + 1, last_tokens=first + output, verified=verified
        )

    def tpot_parts(self, load: str | None = None, output: int | None = None) -> dict[str, float]:
        """Seconds between two tokens, by part."""
        tokens, c = self.output if output is None else output, self.constants
        step, serving = self.step(tokens), (load or self.load) == "serving"
        other = self.prefill_pass(1, source=0) if serving else None
        parts = decode_parts(step, other, tokens, constants=c)
        roof = parts.pop("roofline")
        computes = products_seconds(step, c, prefill=False) * tpot_scale(step, c) * c.roof_scale >= roof
        parts = {"compute" if computes else "bandwidth": roof, **parts}
        if self.host is not None:
            parts["host"] = self.host.step_seconds(self._whole_step(self.host.rates, tokens))
            if other is not None:
                others = self.copied_seconds(other.steps) * max(0, self.held - 1) / tokens
                parts["prefill of others"] = parts.get("prefill of others", 0.0) + others
        if self.drafts is not None:
            parts = self._with_drafts(parts, self.drafts, tokens)
        return {name: value for name, value in parts.items() if value}

    def _with_drafts(self, parts: dict[str, float], drafts: Drafts, output: int) -> dict[str, float]:
        """A step's parts for each token that it gives; prompts of others come by tokens, not by steps."""
        others = parts.pop("prefill of others", 0.0)
        if drafts.sums is not None:
            first = self.cached + self.prompt
            step = decode_pass(drafts.sums, self.rates, self.batch, first_tokens=first + 1, last_tokens=first + output)
            one = sum(decode_parts(replace(step, steps=0, sequences=0), None, 1, constants=self.constants).values())
            parts["drafts"] = drafts.tokens * one
        each = {name: seconds / drafts.tokens_a_step for name, seconds in parts.items()}
        return {**each, "prefill of others": others}

    def tpot_bound(self) -> float:
        """What no software can go below: the step's roofline, for all tokens that a step may give."""
        verified = 1 if self.drafts is None else 1 + self.drafts.tokens
        if self.host is not None:  # one after the other
            card, there = self.step(), self._whole_step(self.host.rates, self.output)
            reading = card.weight_seconds + card.expert_seconds + card.cache_seconds
            return (reading + self.host.step_bound(there)) / verified
        first = self.cached + self.prompt
        step = decode_of(self.sums, self.batch, first + 1, last_tokens=first + self.output, verified=verified)
        return step.seconds(self.rates.bandwidth_bytes_per_s, self.rates.most_flops_per_s) / verified

    def copied_seconds(self, pieces: float) -> float:
        """Computes the seconds of copying the host's weights to the card for so many pieces of a prompt."""
        if self.host is None:
            return 0.0
        return self.host.copy_seconds(int(pieces), self.rates.pcie_bytes_per_s, self.constants.link_efficiency)

    def prefill_pass(self, prompts: int, source: int | None = None) -> Pass:
        """`prompts` prompts on one replica."""
        tokens = self.source_tokens if source is None else source
        return prefill_pass(
            self.sums,
            self.rates,
            prompts,
            prompt=Prompt(self.prompt, self.cached, tokens),
            ubatch=self.constants.ubatch_tokens,
        )

    def prefill(self, prompts: int) -> tuple[float, float]:
        """(expected, bound) of prefilling `prompts` on one replica."""
        whole_pass = self.prefill_pass(prompts)
        seconds = prefill_seconds(whole_pass, self.constants) + self.copied_seconds(whole_pass.steps)
        step = prefill_of(self.sums, prompts, self.prompt, source_tokens=self.source_tokens, cached_tokens=self.cached)
        whole = step.seconds(self.rates.bandwidth_bytes_per_s, self.rates.most_flops_per_s)
        return seconds, whole / self.sums.sharding.pp  # stages that are never idle

    def ttft(self) -> tuple[float, float]:
        """(expected, bound) from the request to its first token.

        Static: all prompts at once. Serving: half a step until it is looked at, the prompts that came just before, its
        own prefill, and the tokens of the sequences that decode in the same steps.
        """
        serving, c = self.load == "serving", self.constants
        seconds, bound = self.prefill(1 if serving else self.held)
        if serving and self.held > 1:
            alone, mixed = self.tpot_parts("static", 1), self.tpot_parts()
            chunks = math.ceil(self.prompt / CHUNK_TOKENS)
            before = c.queue.share * (self.held - 1) ** c.queue.power
            prompt = seconds + self.prefill_pass(1).layers * c.prompt_layer_seconds
            steps = (chunks * sum(alone.values()) + 0.5 * sum(mixed.values())) * c.queue.steps
            return c.queue.seconds + (c.queue.own + before) * prompt + steps, bound
        return seconds + c.request_seconds, bound

    def prefill_rate(self) -> Figure:
        """Prompt tokens a second of all replicas when nothing else runs."""
        seconds, bound = self.prefill(self.held)
        figure = _figure(seconds, self.constants.ttft_low, self.constants.ttft_high, bound=bound)
        return figure.inverse(float(self.held * self.prompt * self.sums.sharding.dp))


def drafting_pays_below(case: Case, most: int = 4096) -> int | None:
    """Finds the first batch at which a token takes longer with drafts than without; None where none up to `most` does."""
    plain = replace(case, drafts=None)

    def costs(batch: int) -> bool:
        with_drafts = sum(replace(case, batch=batch).tpot_parts().values())
        return with_drafts >= sum(replace(plain, batch=batch).tpot_parts().values())

    return smallest(costs, most)

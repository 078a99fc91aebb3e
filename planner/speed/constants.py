"""The constants of the speed model: what of a device's peak an engine reaches, and what its steps take besides.

They are fits on measured rows by engine, its generation and class of device (`model_configs/speed.json`, written by
`benchmarks/fit_speed.py`), with a factor for each device that rows were measured on. An engine, generation or class
that no row is of falls to the nearest that has some, and its range is that of rows whose device was left out.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import fields, replace
from functools import lru_cache

from planner.errors import BadRequest, one_line
from planner.frozen import dataclass
from planner.speed.populations import Population, population

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from planner.catalogue.device import Device, OwnSpeed

FILE = "speed.json"
NEW_SHAPE = ", none of a model of this shape"


@dataclass(frozen=True)
class Queue:
    """What a first token waits for under load, where others decode and join at the same time.

    TTFT = seconds + own · prefill + share · (sequences - 1)^power · a prompt + steps · the steps it shares

    seconds       way in, tokenizing and scheduling while others run
    steps         how much longer than a mean step those are that it shares
    own           how much longer the own prefill takes beside decoding sequences
    share, power  prompts that are read before it
    low, high     the range that holds 9 of 10 measured values, as factors; new_ that of a model whose shape no row has
    """

    seconds: float = 5e-3
    own: float = 1.0
    share: float = 0.12
    power: float = 1.0
    low: float = 0.5
    high: float = 5.0
    steps: float = 1.0
    new_low: float = 0.5
    new_high: float = 5.0


@dataclass(frozen=True)
class Shape:
    """What rows of models of one shape and weight format showed beside the formula, as factors of its parts.

    roof      reading and computing: how well the kernels suit its matrices
    fixed     layers, steps, sequences, all-reduces: how many kernels it launches
    prompts   prompts of others, which join decoding sequences
    waiting   of TTFT under load: the way in and the steps that a first token shares
    prompt    of TTFT under load: its own prompt and those before it
    """

    roof: float = 1.0
    fixed: float = 1.0
    prompts: float = 1.0
    waiting: float = 1.0
    prompt: float = 1.0


@dataclass(frozen=True)
class Constants:
    """How far a real step is from its bound.

    memory_efficiency    of the device's bandwidth, reading weights
    packed_efficiency    the same for weights in codes that have to be unpacked (4 bits, GGUF blocks)
    cache_efficiency     the same for the cache
    compute_efficiency   of its FLOP/s, in the products of a decode step
    prefill_efficiency   of its FLOP/s, in a prefill; packed_ for weights that are unpacked, narrow_ for products that
                         run in 8 or 4 bits, of that higher rate
    attention_efficiency of its FLOP/s in the float type, in a prefill's attention
    mixed_efficiency     of its FLOP/s that prompts take from the steps they share with decoding sequences; more than
                         in a prefill alone, for such steps wait for memory meanwhile
    layer_seconds        a layer's kernels, whatever their size
    step_seconds         a step's scheduling and sampling, whatever its batch
    sequence_seconds     scheduling and sampling of one sequence in a step
    all_reduce_seconds   latency of one all-reduce of two ranks
    large_reduce_seconds what one all-reduce of a large message takes besides, for each further rank
    prompt_layer_seconds what a prompt that joins decoding sequences adds to a layer, whatever its length
    unshared_reads       share of the cache reads that are not shared among the query heads of a KV head (kernels to 2024)
    expert_efficiency    of the device's bandwidth, reading routed experts
    expert_compute_efficiency, expert_prefill_efficiency   of its FLOP/s, in grouped products of a step, of a prefill
    early_experts        how much longer experts' prompts took in llama.cpp to mid-2025 on AMD, before their products were grouped
    expert_pad_rows      rows that a prefill's product of one expert takes besides its own: tiles that are not full
    expert_layer_seconds a router, a choice, tokens sorted by expert and back, whatever their number
    link_efficiency      of the bandwidth between devices
    power_share          how far a prefill's rate goes with the device's watts, not its peak: 0 not at all, 1 wholly;
                         expert_power_share that of experts' grouped products
    request_seconds      a request's way in before its prefill starts
    tpot_scale, ttft_scale  what a measured point, or the device itself, showed beside the model
    experts_scale        what the device showed besides, of TPOT of models with experts
    packed_prompt_scale, experts_prompt_scale  the same of prompts: where weights are unpacked, and with experts
    roof_scale, fixed_scale, prompts_scale  what rows of the model's shape showed of the parts of TPOT (see `Shape`)
    tpot_low .. ttft_high   the range that holds 9 of 10 measured values, as factors of the expectation
    queue, experts_queue    TTFT under load, of dense models and of those with experts
    shapes               what rows of models of one shape and weight format showed on this device, or on all
    new_low, new_high    the range of TPOT of a model whose shape no row has; new_experts_ of one with experts
    ubatch_tokens        pieces of a prompt that pipeline stages work on in turn (llama.cpp); None: whole prompts
    experts_low, _high      the same of TPOT for a model with experts
    widths               how much wider, in the logarithm, a range is for weights of one format: of TPOT by the format's name,
                         "experts fp8" with experts, "prompts fp8" of a prefill, "requests fp8" of a whole request
    request_low, _high      the range of a whole request of a static batch; 0: what TTFT and TPOT say. experts_request_ with experts
    stages_low, _high       the same of prompts that go through several cards in turn
    serial               share of the shorter of reading and computing that the longer does not hide: 0 in the shipped fits,
                         1 where one waits for the other (processors)
    queue_scale          how much longer than by its formula a request waits, as points under load showed
    measured_shape       the one model shape that a user's own points are of; "" where there are none
    elsewhere            the range's ends that hold for any other shape, by name
    origin               where all this comes from, in words
    """

    memory_efficiency: float
    packed_efficiency: float
    cache_efficiency: float
    compute_efficiency: float
    prefill_efficiency: float
    packed_prefill_efficiency: float
    narrow_prefill_efficiency: float
    mixed_efficiency: float
    layer_seconds: float
    step_seconds: float
    sequence_seconds: float
    all_reduce_seconds: float
    link_efficiency: float
    request_seconds: float
    tpot_low: float
    tpot_high: float
    ttft_low: float
    ttft_high: float
    origin: str
    tpot_scale: float = 1.0
    experts_scale: float = 1.0
    ttft_scale: float = 1.0
    packed_prompt_scale: float = 1.0
    experts_prompt_scale: float = 1.0
    large_reduce_seconds: float = 4.6e-6
    prompt_layer_seconds: float = 60e-6
    unshared_reads: float = 1e-6
    expert_efficiency: float = 0.7
    expert_compute_efficiency: float = 0.4
    expert_prefill_efficiency: float = 0.4
    expert_layer_seconds: float = 25e-6
    attention_efficiency: float = 0.45
    power_share: float = 1e-6
    expert_pad_rows: float = 1e-6
    expert_power_share: float = 1e-6
    early_experts: float = 1.0
    queue: Queue = Queue()
    experts_queue: Queue = Queue()
    shapes: tuple[tuple[str, Shape], ...] = ()
    roof_scale: float = 1.0
    fixed_scale: float = 1.0
    prompts_scale: float = 1.0
    new_low: float = 1.0
    new_high: float = 1.0
    new_experts_low: float = 1.0
    new_experts_high: float = 1.0
    ubatch_tokens: int | None = None
    experts_low: float = 0.7
    experts_high: float = 2.5
    stages_low: float = 1.0
    stages_high: float = 1.0
    serial: float = 0.0
    queue_scale: float = 1.0
    widths: tuple[tuple[str, float], ...] = ()
    request_low: float = 0.0
    request_high: float = 0.0
    experts_request_low: float = 0.0
    experts_request_high: float = 0.0
    measured_shape: str = ""
    elsewhere: tuple[tuple[str, float], ...] = ()

    @property
    def before_seconds(self) -> float:
        """Returns the part of a request's way in that is spent outside the steps: none where reading and computing take turns.

        Such a server is a processor, whose cores do the host's work as well: a step that begins a prompt is that much longer.
        """
        return (1 - self.serial) * self.request_seconds

    def of_model(self, shape: str, *, experts: bool) -> Constants:
        """Returns the constants for one model: with the factors of its shape, and those of experts where it has some.

        A model whose shape no row has gets the wider range of such models.
        """
        if self.measured_shape and shape != self.measured_shape:
            return self._elsewhere().of_model(shape, experts=experts)
        found = dict(self.shapes).get(shape)
        seen, queue = found or Shape(), self.experts_queue if experts else self.queue
        new = found is None and bool(self.shapes) and not self.measured_shape
        queue = replace(queue, low=queue.new_low, high=queue.new_high) if new else queue
        queue = replace(
            queue, seconds=queue.seconds * seen.waiting, steps=queue.steps * seen.waiting, own=queue.own * seen.prompt,
            share=queue.share * seen.prompt,
        )  # fmt: skip
        return replace(
            self,
            measured_shape="",
            elsewhere=(),
            tpot_scale=self.tpot_scale * (self.experts_scale if experts else 1.0),
            roof_scale=self.roof_scale * seen.roof,
            fixed_scale=self.fixed_scale * seen.fixed,
            prompts_scale=self.prompts_scale * seen.prompts,
            experts_scale=1.0,
            shapes=(),
            origin=self.origin + (NEW_SHAPE if new else ""),
            queue=queue,
            experts_queue=queue,
            **self._ends(shape, experts=experts, new=new),
        )

    def _ends(self, shape: str, *, experts: bool, new: bool) -> dict[str, Any]:
        """The ends of the ranges for one model: as wide as rows of its format are, and no narrower than those of `new` shapes."""
        low, high = (self.experts_low, self.experts_high) if experts else (self.tpot_low, self.tpot_high)
        request = (self.request_low, self.request_high)
        if experts:
            request = (self.experts_request_low, self.experts_request_high)
        if new:
            wide = (self.new_experts_low, self.new_experts_high) if experts else (self.new_low, self.new_high)
            low, high = min(low, wide[0]), max(high, wide[1])
            request = (min(request[0], wide[0]), max(request[1], wide[1])) if request[0] else request
        stored = shape.split()[1] if " " in shape else ""
        of = {kind: dict(self.widths).get(kind + stored, 1.0) for kind in ("", "experts ", "prompts ", "requests ")}
        width, of_prompts = of["experts " if experts else ""], of["prompts "]
        of_requests = 1.0 if experts else of["requests "]
        low, high = low**width, high**width
        return {
            "tpot_low": low, "tpot_high": high,
            "experts_low": low if experts else self.experts_low, "experts_high": high if experts else self.experts_high,
            "request_low": request[0] ** of_requests if request[0] else 0.0,
            "request_high": request[1] ** of_requests if request[0] else 0.0,
            "experts_request_low": request[0], "experts_request_high": request[1],
            "ttft_low": self.ttft_low**of_prompts, "ttft_high": self.ttft_high**of_prompts,
            "stages_low": self.stages_low**of_prompts, "stages_high": self.stages_high**of_prompts,
            "widths": (),
        }  # fmt: skip

    def _elsewhere(self) -> Constants:
        """For another model than the one that was measured: a range no narrower than that of published rows."""
        ends = dict(self.elsewhere)

        def wider(name: str, own: float) -> float:
            known = ends.get(name, own)
            return min(own, known) if name.endswith("low") else max(own, known)

        changed: dict[str, Any] = {name: wider(name, getattr(self, name)) for name in RANGE_ENDS}
        for name in QUEUES:
            queue: Queue = getattr(self, name)
            low, high = wider(f"{name}.low", queue.low), wider(f"{name}.high", queue.high)
            changed[name] = replace(queue, low=low, high=high)
        origin = f"{self.origin}; the points are of another model or format"
        return replace(self, measured_shape="", elsewhere=(), origin=origin, **changed)

    def scaled(self, *, tpot: float = 1.0, ttft: float = 1.0, origin: str | None = None) -> Constants:
        """The same with decode steps `tpot` and prefills `ttft` times as long."""
        return replace(
            self,
            tpot_scale=self.tpot_scale * tpot,
            ttft_scale=self.ttft_scale * ttft,
            origin=self.origin if origin is None else origin,
            **OF_THE_FIT,
        )


# What a fit's rows said of its ranges, which nothing that was measured besides keeps.
OF_THE_FIT: dict[str, Any] = {
    "widths": (), "request_low": 0.0, "request_high": 0.0, "experts_request_low": 0.0, "experts_request_high": 0.0,
}  # fmt: skip
UBATCH_TOKENS = 512  # llama.cpp's --ubatch-size
QUEUES = ("queue", "experts_queue")
NUMBERS = tuple(item.name for item in fields(Constants) if item.type == "float" and item.name not in OF_THE_FIT)
QUEUE_NUMBERS = tuple(item.name for item in fields(Queue))
RANGE_ENDS = ("tpot_low", "tpot_high", "ttft_low", "ttft_high", "experts_low", "experts_high")
DEFAULT = Constants(
    memory_efficiency=0.85,
    packed_efficiency=0.75,
    cache_efficiency=0.8,
    compute_efficiency=0.5,
    prefill_efficiency=0.6,
    packed_prefill_efficiency=0.35,
    narrow_prefill_efficiency=0.5,
    mixed_efficiency=0.6,
    layer_seconds=65e-6,
    step_seconds=100e-6,
    sequence_seconds=27e-6,
    all_reduce_seconds=2e-6,
    link_efficiency=0.75,
    request_seconds=5e-3,
    tpot_low=0.6,
    tpot_high=1.8,
    ttft_low=0.4,
    ttft_high=3.0,
    origin="stated default",
)


def constants_for(engine: str | None, device: Device, load: str = "serving") -> Constants:
    """Finds the constants for an engine (as `--engine` names it, with a version or without) on a device.

    The first that rows were measured of: this engine, generation and class of device; any engine of this generation on
    this class; any engine on it; any engine anywhere. The stated default is for a package without its data.
    """
    if device.own is not None:
        return own_constants(engine, device, device.own, load=load)
    asked = population(engine, load, device)
    for entry in shipped().get("fits", ()):  # the nearest first
        if serves(entry, asked):
            return constants_of(entry, device, asked)
    return DEFAULT


def own_constants(
    engine: str | None, device: Device, own: OwnSpeed, *, load: str
) -> Constants:  # parameters: those of `constants_for`, and what is stored
    """Returns the constants of a device that the user measured: the stored ones, or the shipped ones for another
    engine.

    What a model's shape showed beside the formula is the shipped fit's, and so is the range of a model, or a format,
    that was not measured.
    """
    plain = replace(device, name=own.device, own=None)
    measured = own.engine or None
    if engine is not None and _family(engine, plain) != _family(measured, plain):
        found = constants_for(engine, plain, load)
        stored = f"what is stored as {own.name} is of {own.engine or 'no engine by name'}"
        return replace(found, origin=f"{found.origin} ({stored})")
    base = constants_for(measured, plain, load)
    elsewhere = [(name, getattr(base, name)) for name in RANGE_ENDS]
    elsewhere += [(f"{name}.{end}", getattr(getattr(base, name), end)) for name in QUEUES for end in ("low", "high")]
    of = f"{own.model} with {own.engine}" if own.engine else own.model
    words = own.words if own.name.startswith("--") else f"stored as {own.name} on {own.date}, of {of}: {own.words}"
    return replace(
        base, **_changed(base, own.constants, own.name), **OF_THE_FIT, measured_shape=own.shape, elsewhere=tuple(elsewhere),
        origin=f"{words}; beside: {base.origin}",
    )  # fmt: skip


def _family(engine: str | None, device: Device) -> str:
    return population(engine, "serving", device).engine


def _changed(base: Constants, stored: Mapping[str, float], name: str) -> dict[str, Any]:
    """The stored figures as fields; BadRequest for one that is none."""
    changed: dict[str, Any] = {}
    queues: dict[str, dict[str, float]] = {queue: {} for queue in QUEUES}
    for key, value in stored.items():
        queue, _, number = key.partition(".")
        if key in NUMBERS:
            changed[key] = value
        elif queue in QUEUES and number in QUEUE_NUMBERS:
            queues[queue][number] = value
        else:
            raise BadRequest(
                f"--gpu {name}: the constant {one_line(key, 40)!r} that is stored is not known here; run kvplan calibrate --from again"
            )
    for queue, figures in queues.items():
        changed[queue] = replace(getattr(base, queue), **figures)
    return changed


def serves(entry: Mapping[str, Any], asked: Population) -> bool:
    """Tells whether an entry of constants is for a population; "" and an empty list of classes stand for all."""
    return (
        entry["engine"] in ("", asked.engine)
        and entry["generation"] in ("", asked.generation)
        and (not entry["classes"] or asked.device_class in entry["classes"])
    )


def constants_of(entry: Mapping[str, Any], device: Device, asked: Population) -> Constants:
    """Reads an entry's constants, with the factor of the device where rows were measured on it."""
    seen = entry["devices"].get(device.name)
    # Fits of several engines keep no factors of devices: which they had rows of is not said.
    words = entry["words"] + (f", none on {device.name}" if entry["devices"] and not seen else "")
    if asked.engine and not entry["engine"]:
        words = f"no rows of {asked.engine} on such devices: {words}"
    ranges = entry["range_seen" if seen else "range_unseen"]
    pieces = UBATCH_TOKENS if asked.engine == "llamacpp" else None
    queues: dict[str, Any] = {name: Queue(**entry[name]) for name in ("queue", "experts_queue") if name in entry}
    shapes, new = shapes_on(entry, device.name), entry.get("range_new", {})
    fitted = dict(entry["constants"])
    if asked.early:
        fitted["expert_prefill_efficiency"] /= fitted.pop("early_experts", 1.0)
    return Constants(
        **fitted,
        **(ranges | new | (seen or {})),
        **queues,
        shapes=shapes,
        widths=tuple(entry.get("widths", {}).items()),
        ubatch_tokens=pieces,
        origin=words,
    )


def shapes_on(entry: Mapping[str, Any], device: str) -> tuple[tuple[str, Shape], ...]:
    """An entry's shapes: as rows on `device` showed them, or else rows on all devices, which are kept under ""."""
    return tuple((shape, Shape(**found.get(device, found[""]))) for shape, found in entry.get("shapes", {}).items())


@lru_cache(maxsize=1)
def shipped() -> dict[str, Any]:
    """The fits with the errors they were checked with; empty where the file is missing."""
    import model_configs

    try:
        with open(os.path.join(os.path.dirname(model_configs.__file__), FILE), "rb") as file:
            made: dict[str, Any] = json.load(file)
    except FileNotFoundError:
        return {}
    return made

"""Answers `speed`: prefill and decode at each batch, what binds, and the largest batch that fits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cache, cached_property
from typing import Any

from planner.answers.engine import as_stored, engine_answer, kv_name
from planner.answers.measured import constants_from
from planner.answers.several import Answers
from planner.answers.verdict import DOES_NOT_FIT, FITS, Verdict, engine_verdict, within
from planner.catalogue.device import Device
from planner.catalogue.entries import find_device
from planner.engines.base import EngineAnswer, Options, mended
from planner.engines.placement import HOST_BYTES_PER_S
from planner.engines.positions import asked_tokens, beyond
from planner.engines.prefixes import check_prefixes, prefix_note
from planner.engines.registry import parse_engine
from planner.errors import BadRequest, UsageError
from planner.machine.speed import linear_of, local_speed, running_dtype, why_not
from planner.memory.estimate import SCHEMA_VERSION, Estimate, estimate
from planner.memory.limits import largest, most_sequences
from planner.memory.request import device_capacity
from planner.options.engine import EngineAsked, started_for
from planner.options.speed import SpeedAsked
from planner.options.tables import LLAMA
from planner.shown import NO, Shown
from planner.speed.backends import OnBackend, backend_on, with_backend
from planner.speed.bring_back import BroughtBack, brought_back
from planner.speed.checked_on import LeftOut, left_out
from planner.speed.constants import Constants, constants_for
from planner.speed.drafting import drafts_of, pays_words
from planner.speed.energy import GRID_GRAMS, energy_of
from planner.speed.host import Host
from planner.speed.measured_fit import Fitted
from planner.speed.passes import CHUNK_TOKENS, decode_pass, memory_seconds, products_seconds, rates_of
from planner.speed.speed import Speed, drafting_pays_below, model_constants, speed
from planner.speed.terms import case_of
from planner.speed.transfer import tier_of
from planner.speed.work import stored_name, work
from planner.units import MAX_COUNT, percent

COLUMNS = ("model", "device", "engine", "batch", "fits", "ttft_seconds", "tpot_seconds", "decode_tokens_per_s", "binds")


@dataclass(frozen=True, eq=False, repr=False)
class SpeedAnswer(Shown):
    """One model on one device or several of it, at one or more batches.

    estimate    the memory estimate of a batch of one, at prompt + output tokens
    constants   what the speeds were made with; None: summed from this machine's operator times
    fitted      how they were fitted to points that were given; None without such points
    back        a cache brought back against computing it; None where nobody asked
    backend     of llama.cpp, and what it takes longer than the device's own; None for other engines and points given
    """

    asked: SpeedAsked
    estimate: Estimate
    device: Device
    speeds: tuple[Speed, ...]
    constants: Constants | None
    notes: tuple[str, ...]
    grid_grams: float = GRID_GRAMS
    fitted: Fitted | None = None
    back: BroughtBack | None = None
    backend: OnBackend | None = None

    @cached_property
    def refused(self) -> Verdict | None:
        """Why no such request is served, whatever memory says: it is longer than the model's positions. Else None."""
        if self.asked.engine is None:
            return within(self.estimate, None)
        asked = started_for(self.asked.engine, self.estimate.request.seq_tokens)
        answer = engine_answer(asked, self.estimate)
        if answer.refusal is None or beyond(answer, self.estimate, asked_tokens(self.estimate, asked.options)) is None:
            return None
        return engine_verdict(answer, self.estimate)

    @property
    def verdict(self) -> str:
        """The one word of text, JSON and exit code."""
        if self.refused is not None:
            return self.refused.word
        return FITS if any(self.fits(found.batch) for found in self.speeds) else DOES_NOT_FIT

    def fits(self, batch: int) -> bool:
        """Whether memory admits so many sequences at once, and the model such long ones."""
        return self.refused is None and self._admits(batch)

    @cached_property
    def _admits(self) -> Callable[[int], bool]:
        return admission(self.estimate, self.asked.engine)

    @property
    def calibrated(self) -> bool:
        """Whether the speeds are summed from this machine's operator times."""
        return self.constants is None

    @cached_property
    def largest_batch(self) -> int | None:
        """The most sequences that memory admits; None where nothing bounds them."""
        return largest_batch(self.estimate, self.asked.engine)

    @cached_property
    def compute_bound_batch(self) -> int | None:
        """The smallest batch whose decode step is bound by compute; None where none is."""
        prompt, output = self.asked.prompt_tokens, self.asked.output_tokens
        return _compute_bound(self.estimate, self.device, self.constants, lengths=(prompt + 1, prompt + output))

    @property
    def exit_code(self) -> int:
        """0, or 3 where memory admits none of the batches."""
        return 0 if any(self.fits(found.batch) for found in self.speeds) else NO

    @property
    def left_out(self) -> LeftOut | None:
        """How the constants did on rows that they were not fitted on; None for a point given and for a calibration."""
        origin = self.speeds[0].constants_from
        return left_out(origin) if origin.startswith(("fitted", "no rows")) else None

    @property
    def kv_dtype(self) -> str:
        """The type of K and V, as the engine keeps them where one is named."""
        return kv_name(self.estimate, None if self.asked.engine is None else self.asked.engine.name)

    @property
    def engine(self) -> str | None:
        """The engine as `--engine` names it."""
        return None if self.asked.engine is None else self.asked.engine.label

    def to_dict(self) -> dict[str, Any]:
        """The JSON contract: base units; of a single batch its keys stand at the top too."""
        shared, batches = self._shared(), self.batches()
        said = {
            "brought_back": None if self.back is None else asdict(self.back) | {"pays": self.back.pays},
            "notes": list(self.notes),
            "assumptions": list(self.estimate.assumptions),
            "warnings": list(self.estimate.warnings),
        }
        return shared | (batches[0] if len(batches) == 1 else {}) | {"batches": batches} | said

    def rows(self) -> list[dict[str, Any]]:
        """A row a batch."""
        return [self._shared() | batch for batch in self.batches()]

    def batches(self) -> list[dict[str, Any]]:
        """The figures of each batch, and whether memory admits it."""
        return [found.to_dict() | {"fits": self.fits(found.batch)} | self._energy(found) for found in self.speeds]

    def _energy(self, found: Speed) -> dict[str, float | None]:
        """Energy of a million output tokens; None where the device's power is not known."""
        energy = energy_of(self.device, found, self.asked.grid_grams)
        names = ("watt_hours", "low", "high", "grams")
        values = [None if energy is None else getattr(energy, name) for name in names]
        keys = ("wh_per_million_tokens", "wh_per_million_tokens_low", "wh_per_million_tokens_high")
        return dict(zip((*keys, "co2_grams_per_million_tokens"), values, strict=True))

    def _shared(self) -> dict[str, Any]:
        one, sharding = self.speeds[0], self.estimate.request.sharding
        return {
            "schema_version": SCHEMA_VERSION,
            "model": self.estimate.spec.name,
            "read_as": self.estimate.spec.read_as.to_dict() if self.estimate.spec.read_as else None,
            "device": self.device.name,
            "devices": sharding.devices,
            "sharding": {name: getattr(sharding, name) for name in ("tp", "pp", "ep", "dp", "dcp")},
            "weight_dtype": self.estimate.plan.fmt.name,
            "kv_dtype": self.kv_dtype,
            "engine": self.engine,
            "backend": None if self.backend is None else self.backend.name,
            "load": one.load,
            "prompt_tokens": one.prompt_tokens,
            "prefix_cached_tokens": one.cached_tokens,
            "output_tokens": one.output_tokens,
            "largest_batch": self.largest_batch,
            "compute_bound_batch": self.compute_bound_batch,
            "verdict": self.verdict,
            "constants_from": one.constants_from,
            "measured": None if self.fitted is None else self.fitted.to_dict(),
            "constants_checked": None if self.left_out is None else asdict(self.left_out),
        }

    def _repr_html_(self) -> str:
        return Answers((self,), COLUMNS)._repr_html_()


def speed_answer(asked: SpeedAsked) -> SpeedAnswer | Answers[SpeedAnswer]:
    """Answers how fast, at each batch, and what memory admits: one answer, or one for each of several devices."""
    answers = tuple(speed_on(device, asked) for device in asked.devices)
    if len(answers) == 1:
        return answers[0]
    return Answers(answers, COLUMNS, all_must=False)


def speed_on(device: Device, asked: SpeedAsked) -> SpeedAnswer:
    """Answers how fast on one device."""
    room = device_capacity(device)
    one = as_stored(asked.engine, estimate(asked.spec, replace(asked.request, batch=1), room))
    engine = None if asked.engine is None else asked.engine.label
    notes: list[str] = []
    if engine is None and asked.spec.model_type.startswith("gguf "):
        engine = "llamacpp"
        notes.append("a GGUF file: llama.cpp's constants; --engine says otherwise")
    if asked.prefix_cached and engine is not None:
        notes += _prefix_notes(one, asked.engine or EngineAsked(engine, None, Options()))
    backend = _backend_of(one, device, asked, engine=engine)
    speeds, constants, fit = None, None, None
    if device.origin == "local":
        speeds, note = _calibrated(one, device, asked, engine=engine)
        notes += [note] if note else []
        backend = backend if speeds is None else None  # a calibration is of torch
    elif asked.linear is not None:
        raise UsageError("--linear goes with --gpu local: it says which of this machine's products are meant")
    if speeds is None:
        speeds, constants, fit = _expected(one, device, asked, engine=engine, backend=backend)
        notes += [backend.words()] if backend else []
    elif asked.prefix_cached:
        raise UsageError("a cached prefix is not part of this machine's calibration: name a device of `kvplan gpus`")
    elif asked.drafting is not None:
        raise UsageError("drafts are not part of this machine's calibration: name a device of `kvplan gpus`")
    if asked.measured is not None:
        notes += asked.measured.notes
    if speeds[0].host is not None:
        notes += host_notes(speeds[0].host, asked.host, speeds[0].constants.ubatch_tokens)
    elif asked.host is not None:
        notes.append(f"--host {asked.host.name} has no effect: nothing lies in host memory")
    if speeds[0].drafts is not None:
        notes += [speeds[0].drafts.words(), _drafting_note(one, device, speeds[0])]
    back = None
    if asked.bring_back is not None:
        back = _brought_back(one, device, asked, constants=constants)
        notes.append(back.line())
    return SpeedAnswer(asked, one, device, speeds, constants, tuple(notes), fitted=fit, back=back, backend=backend)


def _prefix_notes(estimate: Estimate, asked: EngineAsked) -> list[str]:
    """What a hit hangs on in this engine. Raises UsageError where it keeps no prefixes."""
    check_prefixes("--prefix-cached", asked.name, asked.version, estimate, asked.options)
    note = prefix_note(asked.name)
    return [note] if note else []


def _backend_of(estimate: Estimate, device: Device, asked: SpeedAsked, *, engine: str | None) -> OnBackend | None:
    """The backend of llama.cpp; None for other engines, and for points of one's own, whose backend nobody said."""
    if engine is None or parse_engine(engine)[0] not in LLAMA or asked.measured is not None or device.own is not None:
        return None
    return backend_on(asked.backend, device, stored_name(estimate.plan))


def _brought_back(estimate: Estimate, device: Device, asked: SpeedAsked, *, constants: Constants | None) -> BroughtBack:
    """The prompt's cache brought back from where --bring-back says."""
    if constants is None:
        raise UsageError("--bring-back is not part of this machine's calibration: name a device of `kvplan gpus`")
    if asked.host is not None:
        raise UsageError("--bring-back is of a model that lies on the cards: leave --host out")
    tier, sums = tier_of(asked.bring_back or "", device, "--bring-back"), work(estimate)
    return brought_back(
        estimate, tier, asked.prompt_tokens, sums=sums, rates=rates_of(device, estimate),
        constants=model_constants(constants, sums),
    )  # fmt: skip


def _expected(
    estimate: Estimate, device: Device, asked: SpeedAsked, *, engine: str | None, backend: OnBackend | None
) -> tuple[tuple[Speed, ...], Constants, Fitted | None]:
    """Speeds by fitted constants, or by those of the point that was measured."""
    load, prompt, output = asked.load or "serving", asked.prompt_tokens, asked.output_tokens
    constants, fit = constants_from(
        asked.measured, estimate, device, load=load, engine=engine, prompt_tokens=prompt, output_tokens=output
    )
    most = None if admission(estimate, asked.engine)(max(asked.batches)) else largest_batch(estimate, asked.engine)
    if constants.ubatch_tokens and asked.engine is not None and asked.engine.options.ubatch_size:
        constants = replace(constants, ubatch_tokens=asked.engine.options.ubatch_size)
    if backend is not None and not backend.is_own:
        constants = with_backend(model_constants(constants, work(estimate)), backend)
    drafting, host = drafts_of(estimate, asked.drafting), host_part(estimate, device, asked)
    speeds = tuple(
        speed(
            estimate, device, prompt_tokens=prompt, output_tokens=output, batch=batch, load=load, constants=constants,
            most=most or None, drafts=drafting, host=host, cached_tokens=asked.prefix_cached,
        )
        for batch in asked.batches
    )  # fmt: skip
    return speeds, constants, fit


USUAL_HOST = "Ryzen-9-5950X"  # two channels of DDR4-3200: in the middle of what home machines have


def host_part(estimate: Estimate, device: Device, asked: SpeedAsked) -> Host | None:
    """What of the model lies in host memory, as the engine's flags put it; None where all is on the cards.

    Where no --host is named, a usual processor with the range of host memories (`HOST_BYTES_PER_S`).
    """
    if asked.engine is None or not _of_llama(asked.engine):
        return None
    placement = asked.engine.options.placement
    if placement is None or placement.open:
        return None
    where = engine_answer(asked.engine, estimate).placed
    if where is None or not where.split:
        return None
    if device.vendor == "Apple":
        raise BadRequest(f"{device.name} shares its memory with the processor: leave {placement.flags or '-ot'} out")
    processor = asked.host or find_device(USUAL_HOST)
    rate = float(processor.bandwidth_bytes_per_s or HOST_BYTES_PER_S[0])
    slowest, fastest = (rate, rate) if asked.host is not None else HOST_BYTES_PER_S
    sums, (dense, experts) = work(estimate), where.host_shares
    layers = len(estimate.spec.layers)
    cached = where.host_cache_bytes + sum(card.cache_bytes for card in where.cards)
    away = 1 - where.layers_on_cards / layers
    return Host(
        processor.name, dense, experts, where.host_cache_bytes / cached if cached else 0.0,
        weight_bytes=dense * (sums.weight_bytes + sums.head_bytes) + experts * sum(e.read_bytes for e in sums.experts),
        layers=away, crossings=1 + round(max(0.0, experts - away) * sums.routed_layers),
        rates=rates_of(processor, estimate),
        constants=model_constants(constants_for(asked.engine.label, processor, "static"), sums),
        slow=rate / slowest, fast=rate / fastest,
    )  # fmt: skip


def host_notes(host: Host, named: Device | None, piece_tokens: int | None) -> list[str]:
    """Writes what lies on the host and how its part was computed."""
    kinds = (
        (host.dense_share, "the weights besides experts"),
        (host.expert_share, "the experts"),
        (host.cache_share, "the cache"),
    )
    lies = ", ".join(f"{percent(share, 1)} of {kind}" for share, kind in kinds if share > 0.0005)
    rate = f"{host.rates.bandwidth_bytes_per_s / 1e9:,.0f} GB/s"
    whose = (
        f"{host.name}, {rate}"
        if named is not None
        else f"its memory's speed is not known: {rate} is taken, 40 to 80 GB/s in the range; --host NAME names the processor"
    )
    return [
        f"in host memory: {lies} ({whose})",
        f"prompts are computed on the card: each piece of {piece_tokens or CHUNK_TOKENS:,} tokens copies the host's weights over PCIe first",
    ]


def _drafting_note(estimate: Estimate, device: Device, found: Speed) -> str:
    """From which batch on drafting costs more than it saves."""
    return pays_words(drafting_pays_below(replace(case_of(estimate, device, found), batch=1)))


def _compute_bound(
    estimate: Estimate, device: Device, constants: Constants | None, *, lengths: tuple[int, int]
) -> int | None:
    """Returns the smallest batch whose mean decode step computes longer than it reads, at what is reached of the rates.

    Without constants at the rates themselves. None where no batch does: a sequence's cache alone takes longer.
    """
    rates, sums = rates_of(device, estimate), work(estimate)

    def reads(batch: int) -> bool:
        step = decode_pass(sums, rates, batch, first_tokens=lengths[0], last_tokens=lengths[1])
        if constants is None:
            computing = step.compute_seconds + step.expert_compute_seconds
            return computing < step.weight_seconds + step.expert_seconds + step.cache_seconds
        return bool(products_seconds(step, constants, prefill=False) < memory_seconds(step, constants))

    most = largest(reads, MAX_COUNT)
    return None if most >= MAX_COUNT else most + 1


def _calibrated(
    estimate: Estimate, device: Device, asked: SpeedAsked, *, engine: str | None
) -> tuple[tuple[Speed, ...] | None, str | None]:
    """(speeds from this machine's calibration, None where it does not cover the question; a note on that)."""
    from planner.machine.device import calibration_of

    calibration = calibration_of(device)
    if calibration is None:
        if not device.bandwidth_bytes_per_s:
            raise BadRequest("--gpu local: nothing was measured here yet; run kvplan calibrate (extra `profile`), once")
        return None, "this machine was not measured: run kvplan calibrate for its own operator times"
    if asked.measured is not None:
        return None, "the point given is taken in place of this machine's calibration, of which only the rates are used"
    kind = asked.linear or linear_of(calibration, running_dtype(estimate))
    reason: str | None
    if engine is not None and parse_engine(engine)[0] != "transformers":
        reason = f"it is of torch, not of {engine}"
    elif asked.load == "serving":
        reason = "it is of one batch, --load static"
    else:
        reason = why_not(calibration, estimate, kind)
    if reason is not None:
        return None, f"this machine's calibration gives the rates alone: {reason}"
    prompt, output = asked.prompt_tokens, asked.output_tokens
    speeds = tuple(
        local_speed(estimate, device, calibration, prompt_tokens=prompt, output_tokens=output, batch=batch, linear=kind)
        for batch in asked.batches
    )
    return speeds, None


def admission(estimate: Estimate, asked: EngineAsked | None) -> Callable[[int], bool]:
    """Returns the test whether memory holds so many sequences of the length of the estimate, in the engine's own pool
    where one is named; the engine is asked once for all of them.
    """
    if asked is not None:
        asked, first = _started(asked, estimate)
        if not _of_llama(asked) and first.most_requests is not None:
            most = first.most_requests * estimate.request.sharding.dp
            return lambda batch: batch <= most
    return cache(lambda batch: _holds(estimate, asked, batch))


def largest_batch(estimate: Estimate, asked: EngineAsked | None) -> int | None:
    """Counts the most sequences of the length of the estimate at once, in the engine's own pool where one is named;
    None: no bound.

    `estimate` is that of a single sequence on a device.
    """
    assert estimate.capacity is not None
    if asked is None:
        most = most_sequences(estimate.spec, estimate.request, estimate.capacity)
        return None if most >= MAX_COUNT else most
    asked, first = _started(asked, estimate)
    if not _of_llama(asked) and first.most_requests is not None:
        return first.most_requests * estimate.request.sharding.dp
    most = largest(lambda batch: _holds(estimate, asked, batch), MAX_COUNT)
    return None if most >= MAX_COUNT else most


def _holds(one: Estimate, asked: EngineAsked | None, batch: int) -> bool:
    batched = estimate(one.spec, replace(one.request, batch=batch), one.capacity)
    if asked is None:
        return bool(batched.fits)
    answer = engine_answer(asked, batched)
    return bool(answer.fits) and (answer.most_requests is None or answer.most_requests >= batch)


def _started(asked: EngineAsked, estimate: Estimate) -> tuple[EngineAsked, EngineAnswer]:
    """The server that starts for such sequences, and what it makes of one; speed is asked of no other."""
    asked = started_for(asked, estimate.request.seq_tokens)
    first = engine_answer(asked, estimate)
    mend = mended(asked.options, first.refusal)
    if mend is None:
        return asked, first
    asked = asked._replace(options=mend)
    return asked, engine_answer(asked, estimate)


def _of_llama(asked: EngineAsked) -> bool:
    """Whether the pool is allocated for the batch that is asked, so that only a search finds the largest."""
    return asked.name in (*LLAMA, "transformers")

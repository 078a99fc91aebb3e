"""Answers `speed`: prefill and decode at each batch, what binds, and the largest batch that fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from planner.answers.engine import LLAMA, engine_answer, started_for
from planner.catalogue.device import Device
from planner.engines.base import Options
from planner.engines.registry import parse_engine
from planner.errors import BadRequest, UsageError, one_line
from planner.machine.speed import LINEARS, linear_of, local_speed, running_dtype, why_not
from planner.memory.estimate import SCHEMA_VERSION, Estimate, estimate
from planner.memory.limits import largest, most_sequences
from planner.memory.request import Capacity, Request, device_capacity
from planner.model.spec import ModelSpec
from planner.speed.checked_on import LeftOut, left_out
from planner.speed.constants import Constants, constants_for
from planner.speed.measured_point import with_measured_point
from planner.speed.passes import decode_pass, rates_of, roof_seconds
from planner.speed.speed import LOADS, Speed, speed
from planner.speed.work import work
from planner.units import MAX_COUNT

Asked = tuple[str, str | None, Options]


@dataclass(frozen=True, eq=False)
class Answer:
    """One model on one device or several of it, at one or more batches.

    found                the memory estimate of a batch of one, at prompt + output tokens
    largest_batch        what memory admits; None where nothing bounds it
    compute_bound_batch  the smallest batch whose decode step is bound by compute, None where none is
    calibrated           summed from this machine's operator times
    """

    found: Estimate
    device: Device
    speeds: tuple[Speed, ...]
    largest_batch: int | None
    compute_bound_batch: int | None
    asked: Asked | None
    calibrated: bool
    notes: tuple[str, ...]

    def fits(self, batch: int) -> bool:
        return self.largest_batch is None or batch <= self.largest_batch

    @property
    def left_out(self) -> LeftOut | None:
        """How the constants did on rows that they were not fitted on; None for a point given and for a calibration."""
        origin = self.speeds[0].constants_from
        return left_out(origin) if origin.startswith(("fitted", "no rows")) else None

    @property
    def engine(self) -> str | None:
        return None if self.asked is None else "==".join(filter(None, self.asked[:2]))

    def to_dict(self) -> dict[str, Any]:
        """The JSON contract: base units; of a single batch its keys stand at the top too."""
        one, sharding = self.speeds[0], self.found.request.sharding
        batches = [found.to_dict() | {"fits": self.fits(found.batch)} for found in self.speeds]
        shared = {
            "schema_version": SCHEMA_VERSION,
            "model": self.found.spec.name,
            "device": self.device.name,
            "devices": sharding.devices,
            "sharding": {name: getattr(sharding, name) for name in ("tp", "pp", "ep", "dp", "dcp")},
            "weight_dtype": self.found.plan.fmt.name,
            "kv_dtype": self.found.fmt.name,
            "engine": self.engine,
            "load": one.load,
            "prompt_tokens": one.prompt_tokens,
            "output_tokens": one.output_tokens,
            "largest_batch": self.largest_batch,
            "compute_bound_batch": self.compute_bound_batch,
            "constants_from": one.constants_from,
            "constants_checked": None if self.left_out is None else asdict(self.left_out),
        }
        said = {
            "notes": list(self.notes),
            "assumptions": list(self.found.assumptions),
            "warnings": list(self.found.warnings),
        }
        return shared | (batches[0] if len(batches) == 1 else {}) | {"batches": batches} | said  # fmt: skip


def speed_answer(
    spec: ModelSpec,
    request: Request,
    device: Device,
    *,
    prompt_tokens: int,
    output_tokens: int,
    batches: Sequence[int],
    load: str | None = None,
    asked: Asked | None = None,
    measured: str | None = None,
    linear: str | None = None,
) -> Answer:
    """How fast, at each batch, and what memory admits; `request` is of one whole sequence, prompt and output."""
    if load is not None and load not in LOADS:
        raise BadRequest(f"--load {one_line(load, 40)!r} is not known; write {' or '.join(LOADS)}")
    for batch in batches:
        if isinstance(batch, bool) or not isinstance(batch, int) or not 1 <= batch <= MAX_COUNT:
            raise BadRequest(f"--batch {one_line(repr(batch), 40)} is not a whole number; write 1 to {MAX_COUNT:,}")
    if not batches:
        raise BadRequest("--batch names no batch; write one or several, for example 1,8,32")
    room = device_capacity(device)
    found = estimate(spec, replace(request, batch=1), room)
    engine = None if asked is None else "==".join(filter(None, asked[:2]))
    notes: list[str] = []
    if engine is None and spec.model_type.startswith("gguf "):
        engine = "llamacpp"
        notes.append("a GGUF file: llama.cpp's constants; --engine says otherwise")
    speeds = None
    if device.origin == "local":
        speeds, note = _calibrated(
            found, device, (prompt_tokens, output_tokens), batches, load, engine, measured, linear
        )
        notes += [note] if note else []
    elif linear is not None:
        raise UsageError("--linear goes with --gpu local: it says which of this machine's products are meant")
    constants = None
    if speeds is None:
        under = load or "serving"
        constants = (
            constants_for(engine, device, under)
            if measured is None
            else with_measured_point(
                measured,
                found,
                device,
                load=under,
                engine=engine,
                prompt_tokens=prompt_tokens,
                output_tokens=output_tokens,
            )
        )
        speeds = tuple(
            speed(found, device, prompt_tokens=prompt_tokens, output_tokens=output_tokens, batch=batch, load=under,
                  constants=constants)
            for batch in batches
        )  # fmt: skip
    return Answer(
        found=found,
        device=device,
        speeds=speeds,
        largest_batch=largest_batch(spec, request, room, asked),
        compute_bound_batch=_compute_bound(found, device, constants, prompt_tokens + 1, prompt_tokens + output_tokens),
        asked=asked,
        calibrated=constants is None,
        notes=tuple(notes),
    )


def _compute_bound(found: Estimate, device: Device, constants: Constants | None, first: int, last: int) -> int | None:
    """The smallest batch whose mean decode step computes longer than it reads, at what is reached of the rates.

    Without constants at the rates themselves. None where no batch does: a sequence's cache alone takes longer.
    """
    rates, sums = rates_of(device, found), work(found)

    def reads(batch: int) -> bool:
        step = decode_pass(sums, rates, batch, first, last)
        if constants is None:
            return step.compute_seconds < step.weight_seconds + step.cache_seconds
        memory, compute = replace(step, compute_seconds=0.0), replace(step, weight_seconds=0.0, cache_seconds=0.0)
        products, reading = (roof_seconds(part, constants, prefill=False) for part in (compute, memory))
        return bool(products < reading)

    most = largest(reads, MAX_COUNT)
    return None if most >= MAX_COUNT else most + 1


def _calibrated(
    found: Estimate, device: Device, lengths: tuple[int, int], batches: Sequence[int], load: str | None, engine: str | None,
    measured: str | None, linear: str | None,
) -> tuple[tuple[Speed, ...] | None, str | None]:  # fmt: skip
    """(speeds from this machine's calibration, None where it does not cover the question; a note on that)."""
    from planner.machine.device import calibration_of

    if linear not in (None, *LINEARS):
        raise BadRequest(f"--linear {one_line(str(linear), 40)!r} is not known; write {' or '.join(LINEARS)}")
    calibration = calibration_of(device)
    if calibration is None:
        if not device.bandwidth_bytes_per_s:
            raise BadRequest("--gpu local: nothing was measured here yet; run kvplan calibrate (extra `profile`), once")
        return None, "this machine was not measured: run kvplan calibrate for its own operator times"
    if measured is not None:
        return None, "the point given is taken in place of this machine's calibration, of which only the rates are used"
    kind = linear or linear_of(calibration, running_dtype(found))
    reason: str | None
    if engine is not None and parse_engine(engine)[0] != "transformers":
        reason = f"it is of torch, not of {engine}"
    elif load == "serving":
        reason = "it is of one batch, --load static"
    else:
        reason = why_not(calibration, found, kind)
    if reason is not None:
        return None, f"this machine's calibration gives the rates alone: {reason}"
    prompt, output = lengths
    speeds = tuple(
        local_speed(found, device, calibration, prompt_tokens=prompt, output_tokens=output, batch=batch, linear=kind)
        for batch in batches
    )
    return speeds, None


def largest_batch(spec: ModelSpec, request: Request, room: Capacity, asked: Asked | None) -> int | None:
    """Most sequences of the request's length at once, in the engine's own pool where one is named; None: no bound."""
    if asked is None:
        most = most_sequences(spec, request, room)
        return None if most >= MAX_COUNT else most
    asked = started_for(asked, request.seq_tokens)
    first = engine_answer(asked, estimate(spec, replace(request, batch=1), room))
    if asked[0] not in (*LLAMA, "transformers") and first.most_requests is not None:
        return first.most_requests * request.sharding.dp

    def holds(batch: int) -> bool:
        answer = engine_answer(asked, estimate(spec, replace(request, batch=batch), room))
        return bool(answer.fits) and (answer.most_requests is None or answer.most_requests >= batch)

    most = largest(holds, MAX_COUNT)
    return None if most >= MAX_COUNT else most

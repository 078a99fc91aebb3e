"""Reads what `kvplan fit` asks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from planner.catalogue.device import Device
from planner.errors import BadRequest, UsageError
from planner.lookup import device, with_memory
from planner.memory.request import Capacity, Request
from planner.model.spec import ModelSpec
from planner.options import extras
from planner.options import tables as flags
from planner.options.model import capacity_of, each, request_of, spec_of, usual_tokens, with_ranks
from planner.options.readers import count, count_or_zero, length_mix, seconds, text, tokens, ttft
from planner.options.tables import Flag
from planner.workloads.lengths import LengthMix
from planner.workloads.targets import USUAL_TARGETS, Targets

if TYPE_CHECKING:
    from planner.extras.idle_sessions import Tiers
    from planner.options.engine import EngineAsked

MEASURED_HELP = 'What was measured: "tpot_ms=14.2 batch=8 seq=2048", or a benchmark\'s file (docs/measured.md).'
FLAGS: tuple[Flag, ...] = (
    *flags.MODEL,
    Flag("--seq", "N", "Tokens of a sequence, one or a list (default: the model's limit, at most 8k).", tokens, "Load"),
    Flag("--batch", "N", "Sequences at once, for the longest context, one or a list (default: 1).", count, "Load"),
    Flag("--lengths", "MIX", "Real lengths: p50=800,p95=6000, or a CSV / JSONL file of requests.", length_mix, "Load"),
    *flags.DTYPE,
    *flags.DEVICES,
    *flags.LAYOUT,
    *flags.RUNTIME,
    *flags.EXTRAS,
    *flags.ENGINE,
    Flag("--ngl", "N", "As --n-gpu-layers; of a GGUF file without --engine, too (default: the most that fit).", count_or_zero, "Engine"),
    Flag("--measured", "POINT|FILE...", MEASURED_HELP + " Then: how many users until a target fails.", text, "Device"),
    Flag("--ttft", "TIME", "Target of --measured: mean time to the first token (default: 2s).", ttft, "Load"),
    Flag("--tpot", "TIME", "Target of --measured: mean time between two tokens (default: 100ms).", seconds, "Load"),
    *flags.OUTPUT,
)  # fmt: skip


@dataclass(frozen=True)
class FitAsked:
    """A model on a device, and the inverse questions.

    request   length, batch, formats, layout, and what shares the devices
    mix       real lengths, for how many requests of them are held at once
    tiers     where idle sessions lie off the device; `device` is the one named, for its link and speed
    ngl       so many layers of a GGUF file on the card; None: the most that fit
    own       the device with what the user measured of its speed; None where nothing was measured
    targets   until which users are counted there
    """

    spec: ModelSpec
    request: Request
    capacity: Capacity
    mix: LengthMix | None = None
    tiers: Tiers | None = None
    device: Device | None = None
    engine: EngineAsked | None = None
    emit: str | None = None
    ngl: int | None = None
    own: Device | None = None
    targets: Targets = USUAL_TARGETS


def fit_questions(values: Mapping[str, Any]) -> tuple[FitAsked, ...]:
    """Reads the questions of several devices, lengths or batches, one for each combination."""
    found = tuple(fit_asked(one) for one in each(values, "gpu", "seq", "batch"))
    if len(found) > 1 and values.get("emit"):
        raise UsageError("--emit is of one question; name one device, one length and one batch")
    if values.get("measured") and len({one.capacity.name for one in found}) > 1:
        raise UsageError("--measured is of one device: give one --gpu, the one it was measured on")
    return found


def fit_asked(values: Mapping[str, Any]) -> FitAsked:
    """Reads the question of `fit` from its flags."""
    given = with_ranks(flags.read_values(FLAGS, values))
    engine = None
    if flags.engine_flags_given(given):
        from planner.options.engine import engine_of, laid_out, started_for  # only where an engine is named

        engine = engine_of(given)
        if engine is not None and given["seq"] is not None:
            engine = started_for(engine, given["seq"])
    spec, room = spec_of(given), capacity_of(given)
    if given["mmproj"] is not None:
        spec = extras.without_towers(spec)
    if room is None:
        raise UsageError("a device is wanted: --gpu NAME (kvplan gpus lists them) or --memory 24GiB")
    longest = None if engine is None else engine.longest_tokens
    request = request_of(given, given["seq"] or longest or usual_tokens(spec))
    if engine is not None:
        request = laid_out(request, spec, engine)
    named, engine = extras.with_drafter(given, spec, engine)
    given = dict(named)
    asked = FitAsked(spec, request, room, mix=given["lengths"], engine=engine, emit=given["emit"], ngl=given["ngl"])
    if engine is not None and engine.name in flags.LLAMA:
        if engine.options.host_bytes is not None:
            given = {**given, "host_memory": None}  # for what the cards do not hold
    else:
        _check_layers(asked)
    asked = _with_own(asked, given)
    return _with_extras(asked, given) if extras.extras_given(given) else asked


def _with_own(asked: FitAsked, given: Mapping[str, Any]) -> FitAsked:
    """With the device whose speed the user measured: by --measured, or stored under its name."""
    points, gpu = given["measured"], given["gpu"]
    aimed = given["ttft"] is not None or given["tpot"] is not None
    if points and gpu is None:
        raise UsageError("--measured is of a device: --gpu NAME (kvplan gpus lists them)")
    card = None if gpu is None or (gpu.strip().lower() == "local" and not points) else device(gpu)
    if points and card is not None:
        card = card if given["memory"] is None else with_memory(card, given["memory"])
        from planner.options.measured import measured_on, points_of  # the formulas of speed, where they are asked

        found = points_of(points)
        assert found is not None
        engine = None if asked.engine is None else asked.engine.label
        card = measured_on(card, found, spec=asked.spec, request=asked.request, engine=engine)
    if card is None or card.own is None:
        if aimed:
            raise UsageError(
                "--ttft and --tpot are of what you measured: --measured POINT|FILE, or `kvplan plan` for the shipped fits"
            )
        return asked
    first = given["ttft"][0] if given["ttft"] else USUAL_TARGETS.ttft_seconds
    targets = Targets(first, given["tpot"] or USUAL_TARGETS.tpot_seconds, assumed=not aimed)
    return replace(asked, own=card, targets=targets)


def _with_extras(asked: FitAsked, given: Mapping[str, Any]) -> FitAsked:
    name = None if asked.engine is None else asked.engine.name
    beside = extras.extras_of(given, asked.spec, engine=name, online=given["online"])
    card = None if given["gpu"] is None else device(given["gpu"])
    request = replace(asked.request, extras=beside)
    return replace(asked, request=request, tiers=extras.tiers_of(given, card), device=card)


def _check_layers(asked: FitAsked) -> None:
    """Refuses --ngl for what is no GGUF file on one card, and more layers than there are."""
    spec, layers = asked.spec, asked.ngl
    if layers is None:
        return
    if spec.stored is None or not spec.model_type.startswith("gguf ") or asked.request.sharding.devices > 1:
        raise BadRequest("--ngl is for a .gguf file on one card; give the file itself, and no --tp or --pp")
    if layers > len(spec.layers) + 1:
        raise BadRequest(
            f"--ngl {layers}: {spec.name} has {len(spec.layers)} layers and a head; write 0 to {len(spec.layers) + 1}"
        )

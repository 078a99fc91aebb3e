"""Reads what `kvplan speed` asks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from planner.catalogue.device import Device
from planner.errors import UsageError
from planner.extras.shared_device import Extras
from planner.lookup import machine_with
from planner.machine.speed import LINEARS
from planner.memory.request import Request
from planner.model.spec import ModelSpec
from planner.options import tables as flags
from planner.options.backend import BACKEND, backend_of
from planner.options.drafting import DRAFTED, drafting_of
from planner.options.engine import EngineAsked, engine_of
from planner.options.grid import GRID, grid_grams_of
from planner.options.lengths import SEQ_OF_A_LOAD, USUAL_ANSWER, parts_of, usual_parts
from planner.options.measured import MEASURED, MeasuredAsked, measured_of
from planner.options.model import device_of, request_of, spec_of, with_ranks
from planner.options.readers import choice, counts, names, switch, text, tokens
from planner.options.tables import Flag
from planner.speed.drafting import DraftingAsked
from planner.speed.energy import GRID_GRAMS
from planner.speed.speed import LOADS
from planner.speed.unlike_cards import one_after_another

DEFAULT_BATCHES = (1, 8, 32, 128)
PROMPT_TOKENS, OUTPUT_TOKENS = 1024, USUAL_ANSWER
FLAGS: tuple[Flag, ...] = (
    *flags.MODEL,
    Flag("--gpu", "NAME", "A device of `kvplan gpus`, `local` for this machine, or several: h100-sxm,l40s.", names, "Device"),
    Flag("--memory", "SIZE", "Memory of a device in place of its own, with its speed: 30GiB.", text, "Device"),
    SEQ_OF_A_LOAD,
    Flag("--prompt", "N", "Tokens of a prompt: 2k, 2048 (default: 1k, or what the model has room for).", tokens, "Load"),
    Flag("--prefix-cached", "N", "Tokens of each prompt, from its first on, whose cache is there from a request before: 6k.", tokens, "Load"),
    Flag("--answer", "N", f"Tokens of an answer (default: {OUTPUT_TOKENS}).", tokens, "Load"),
    Flag("--batch", "LIST", f"Sequences at once, one or a list (default: {','.join(map(str, DEFAULT_BATCHES))}).", counts, "Load"),
    Flag("--load", "static|serving", "One batch from prompt to end, or a server where a new request takes the place of each that ends (default: serving).", choice(*LOADS), "Load"),
    MEASURED,
    *flags.DTYPE,
    *flags.LAYOUT,
    *flags.RUNTIME,
    Flag("--linear", "plain|packed", "With --gpu local: how torch holds the matrices (default: plain).", choice(*LINEARS), "Device"),
    Flag("--engine", "NAME", "What an engine reaches, and what it admits: vllm, vllm==0.11.2, sglang, llamacpp, tensorrt-llm ...", text, "Engine"),
    *flags.ENGINE_FLAGS,
    *flags.PLACEMENT_FLAGS,
    Flag("--host", "NAME", "llama.cpp: the processor whose memory holds what the cards do not: ryzen-9-7950x (default: 40 to 80 GB/s).", text, "Device"),
    BACKEND,
    *DRAFTED,
    Flag("--bring-back", "FROM", "Bring a prompt's cache back against computing it: host, nvme, sata, 400g, or a rate, 5GB/s.", text, "Load"),
    GRID,
    Flag("--explain", "", "Every term of a step with its numbers.", switch, "Output"),
    *flags.OUTPUT,
)  # fmt: skip


@dataclass(frozen=True)
class SpeedAsked:
    """A model on one device or several, and the batches whose speed is asked.

    request         one whole sequence, prompt and output
    load            "serving" or "static"; None: not said
    measured        what was measured: the constants are made from it
    linear          with this machine's calibration: how torch holds the matrices
    drafting        speculative decoding, None without
    grid_grams      CO2 of a kWh
    bring_back      where caches are kept, against computing them again
    host            the processor beside the cards, None where none was named
    backend         of llama.cpp; None: the device's own
    prefix_cached   tokens of each prompt, from its first on, whose cache is there
    """

    spec: ModelSpec
    request: Request
    devices: tuple[Device, ...]
    prompt_tokens: int = PROMPT_TOKENS
    output_tokens: int = OUTPUT_TOKENS
    batches: tuple[int, ...] = DEFAULT_BATCHES
    load: str | None = None
    engine: EngineAsked | None = None
    measured: MeasuredAsked | None = None
    linear: str | None = None
    drafting: DraftingAsked | None = None
    grid_grams: float = GRID_GRAMS
    host: Device | None = None
    bring_back: str | None = None
    backend: str | None = None
    prefix_cached: int = 0


def speed_asked(values: Mapping[str, Any]) -> SpeedAsked:
    """Reads the question of `speed` from its flags."""
    given = flags.read_values(FLAGS, values)
    if given["gpu"] is None:
        raise UsageError("a device is wanted: --gpu NAME (kvplan gpus lists them), or --gpu local")
    names_given = given["gpu"]
    given, devices = _devices(given)
    if given["measured"] and len(devices) > 1:
        raise UsageError("--measured is of one device: give one --gpu, the one it was measured on")
    engine = engine_of(given)
    spec = spec_of(given)
    given, engine, beside = _drafted(given, spec, engine)
    prompt, output = _lengths(given, spec)
    if given["prefix_cached"] and given["bring_back"] is not None:
        raise UsageError("--bring-back brings the whole prompt's cache back: leave out --prefix-cached")
    return SpeedAsked(
        spec=spec,
        prefix_cached=given["prefix_cached"] or 0,
        request=replace(request_of({**given, "batch": 1}, prompt + output), extras=beside),
        devices=devices,
        prompt_tokens=prompt,
        output_tokens=output,
        batches=given["batch"] or DEFAULT_BATCHES,
        load=given["load"],
        engine=engine,
        measured=measured_of(
            given["measured"], load=given["load"] or "serving", prompt_tokens=prompt, output_tokens=output
        ),
        linear=given["linear"],
        drafting=drafting_of(given, engine),
        grid_grams=grid_grams_of(given),
        host=host_of(given["host"], engine),
        bring_back=given["bring_back"],
        backend=_backend({**given, "gpu": names_given}, devices, engine=engine.name if engine else _own_engine(spec)),
    )


def _own_engine(spec: ModelSpec) -> str | None:
    """The engine of a model's file, where none is named."""
    return "llamacpp" if spec.model_type.startswith("gguf ") else None


def _drafted(
    given: Mapping[str, Any], spec: ModelSpec, engine: EngineAsked | None
) -> tuple[dict[str, Any], EngineAsked | None, Extras | None]:
    """Names what drafts, and its weights and cache on the device, where the engine's rule of them is known."""
    if not given["drafter"] and (engine is None or not engine.options.num_speculative_tokens):
        return dict(given), engine, None
    from planner.options.extras import DRAFTING, drafter_beside

    if engine is not None and engine.name not in DRAFTING:
        return dict(given), engine, None
    named, engine, beside = drafter_beside(given, spec, engine)
    return dict(named), engine, beside


def _lengths(given: Mapping[str, Any], spec: ModelSpec) -> tuple[int, int]:
    """Tokens of a prompt and of an answer."""
    if given["seq"] is not None:
        return parts_of(given["seq"], given["prompt"], given["answer"])
    return usual_parts(PROMPT_TOKENS, given["prompt"], given["answer"], positions=spec.max_positions)


def _devices(given: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[Device, ...]]:
    """The devices asked, and the flags with the ranks that the name of a single one says."""
    placing = {flag.parameter: given[flag.parameter] for flag in flags.PLACEMENT_FLAGS}
    given = {name: value for name, value in given.items() if name not in placing}
    if len(given["gpu"]) > 1:
        several = {**with_ranks({**given, "gpu": None}), "gpu": given["gpu"], **placing}
        return several, tuple(device_of(name, given["memory"]) for name in given["gpu"])
    alone = with_ranks({**given, "gpu": given["gpu"][0], "n_gpu_layers": None})
    unlike = _together(given["gpu"][0], given["memory"]) if "cards" in alone else None
    return {**alone, "gpu": (alone["gpu"],), **placing}, (unlike or device_of(alone["gpu"], given["memory"]),)


def _backend(given: Mapping[str, Any], devices: tuple[Device, ...], *, engine: str | None) -> str | None:
    """The backend of llama.cpp, checked on each device asked, unlike cards that stand for one each by itself."""
    cards: list[Device] = []
    for name, device in zip(given["gpu"], devices, strict=True) if given["backend"] else ():
        cards += machine_with(name, given["memory"]).devices if " + " in device.name else (device,)
    return backend_of(given["backend"], cards, engine=engine, measured=bool(given["measured"]))


def _together(name: str, memory: str | None) -> Device:
    """Unlike cards that llama.cpp fills by their memory, as one device: a step goes from each to the next."""
    found = machine_with(name, memory)
    like = replace(found.smallest, name=found.name)
    return one_after_another(like, found.devices, [card.memory_bytes for card in found.devices])


def host_of(name: str | None, engine: EngineAsked | None) -> Device | None:
    """Finds the processor that --host names; refuses what is none, and engines that keep nothing on the host."""
    if name is None:
        return None
    if engine is None or engine.name not in flags.LLAMA:
        raise UsageError(
            "--host is for what llama.cpp keeps in host memory: --engine llamacpp --n-cpu-moe N, or -ngl N"
        )
    found = device_of(name, None)
    if found.vendor != "CPU":
        raise UsageError(f"--host {found.name} is not a processor; kvplan gpus cpu lists those that are known")
    return found

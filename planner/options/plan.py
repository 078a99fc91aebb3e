"""Reads what `kvplan plan` asks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from planner.catalogue.device import Device
from planner.deployment.cost import parse_prices
from planner.deployment.question import SORTS, Question
from planner.dtypes.names import kv_format
from planner.engines.base import Options
from planner.errors import BadRequest, UsageError
from planner.extras.shared_device import Extras
from planner.memory.estimate import estimate
from planner.memory.request import Request
from planner.model.spec import ModelSpec
from planner.options import tables as flags
from planner.options.backend import BACKEND, backend_of
from planner.options.drafting import ACCEPTANCE, drafting_of
from planner.options.engine import EngineAsked
from planner.options.grid import GRID, grid_grams_of
from planner.options.lengths import SEQ_OF_A_LOAD, with_parts
from planner.options.load import ANSWERS, LINK, devices_of, load_of, targets_or_usual
from planner.options.measured import MEASURED, measured_on, points_of
from planner.options.model import spec_of
from planner.options.readers import (
    choice,
    count,
    kv_dtype,
    mix,
    rate,
    seconds,
    share,
    switch,
    text,
    tokens,
    ttft,
    usd_per_hour,
    weight_dtype,
)
from planner.options.tables import Flag

TOP = 8
EXTRAS = ("--lora", "--drafter", "--draft-tokens", "--also", "--idle-sessions")
FLAGS: tuple[Flag, ...] = (
    *flags.MODEL,
    Flag("--users", "N", "Users who each have one request running: 200.", count, "Load"),
    Flag("--rate", "N/s", "Requests that arrive at random, in place of --users: 5/s, 300/min.", rate, "Load"),
    Flag("--trace", "FILE", "Recorded requests in place of --prompt and --answer, and of --rate: CSV or JSON lines, as `kvplan simulate` reads.", text, "Load"),
    SEQ_OF_A_LOAD,
    Flag("--prompt", "MIX", "Prompt lengths: p50=800,p95=6000, one length, or a file of lengths.", mix, "Load"),
    ANSWERS,
    Flag("--longest", "N", "Longest request served, prompt and output (default: the longest of the mix that the model takes).", tokens, "Load"),
    Flag("--prefix-share", "X", "Share of each prompt that is one prefix of all requests: 0.6.", share, "Load"),
    Flag("--think", "TIME", "A user's pause between an answer and the next request (default: none).", seconds, "Load"),
    Flag("--ttft", "TIME", "Target: time to the first token of 95 requests in 100, 1s; p99=2s says another share.", ttft, "Load"),
    Flag("--tpot", "TIME", "Target: mean time between two tokens, 40ms.", seconds, "Load"),
    Flag("--budget", "USD/h", "Target: at most so much an hour, 20/h.", usd_per_hour, "Load"),
    Flag("--gpu", "NAME...", "Devices of `kvplan gpus` to search, a list: h100-sxm,l40s (default: all GPUs with a price).", text, "Device"),
    Flag("--price", "NAME=USD/h...", "A device's price, in place of the catalogue's: h100-sxm=2.1/h. Repeatable, or a list.", text, "Device"),
    MEASURED,
    Flag("--dtype", "D", "Weights in this format alone (default: as published, and smaller ones that the device runs).", weight_dtype, "Precision"),
    Flag("--kv-dtype", "D", "KV cache in this format alone (default: the float type the model runs in, and 8 bit).", kv_dtype, "Precision"),
    Flag("--as-published", "", "No formats but the model's own: quantised ones change its answers.", switch, "Precision"),
    Flag("--prefill-tokens", "N", "Prompt tokens of one step (default: 2048).", tokens, "Load"),
    Flag("--disaggregate", "", "Search two pools besides, one that reads prompts and one that decodes, and say whether they pay.", switch, "Layout"),
    LINK,
    GRID,
    *(flag for flag in flags.EXTRAS if flag.name in EXTRAS),
    ACCEPTANCE,
    flags.ENGINE[0],
    *flags.ENGINE_FLAGS,
    BACKEND,
    Flag("--sort", "|".join(SORTS), "What the best is (default: cost).", choice(*SORTS), "Output"),
    Flag("--top", "N", f"So many plans are shown (default: {TOP}).", count, "Output"),
    *flags.OUTPUT,
)  # fmt: skip


def plan_asked(values: Mapping[str, Any]) -> tuple[Question, int]:
    """Reads the question of `plan` from its flags, and how many plans are shown."""
    given: Mapping[str, Any] = with_parts(flags.read_values(FLAGS, values))
    engine = _engine(given)
    spec = spec_of(given)
    if not spec.weights_known:
        raise BadRequest(f"{spec.name}: a plan needs its weights; add --heads --hidden --intermediate --vocab")
    given, beside, engine = _drafted(given, spec, engine)
    devices, name = _devices(given, spec, engine), None if engine is None else engine.name
    _check(given, spec, engine, device=devices[0])
    question = Question(
        spec,
        devices,
        load_of(given, spec.max_positions),
        targets_or_usual(given),
        dtype=given["dtype"],
        kv_dtype=given["kv_dtype"],
        as_published=given["as_published"],
        engine=None if engine is None else (engine.name, engine.version),
        options=Options() if engine is None else engine.options,
        chunk_tokens=given["prefill_tokens"],
        prices=parse_prices(given["price"]),
        budget_usd_per_hour=given["budget"],
        sort=given["sort"] or SORTS[0],
        extras=_extras(beside, spec, name),
        drafting=drafting_of(given, engine),
        idle_sessions=given["idle_sessions"] or 0,
        disaggregate=given["disaggregate"],
        link=given["link"],
        grid_grams=grid_grams_of(given),
        backend=backend_of(given["backend"], devices, engine=name, measured=bool(given["measured"])),
    )
    return question, given["top"] or TOP


def _drafted(
    given: Mapping[str, Any], spec: ModelSpec, engine: EngineAsked | None
) -> tuple[Mapping[str, Any], Mapping[str, Any], EngineAsked | None]:
    """Names what drafts: (flags, those of what lies on the devices, the engine)."""
    if not given["drafter"] and (engine is None or not engine.options.num_speculative_tokens):
        return given, given, engine
    from planner.options.extras import with_drafter

    beside, engine = with_drafter(given, spec, engine)
    return given if given["drafter"] else beside, beside, engine


def _check(given: Mapping[str, Any], spec: ModelSpec, engine: EngineAsked | None, *, device: Device) -> None:
    """Refuses flags that exclude each other, and what the engine does not do."""
    if given["as_published"] and (given["dtype"] or given["kv_dtype"]):
        raise UsageError("--as-published and --dtype or --kv-dtype exclude each other")
    if given["link"] is not None and not given["disaggregate"]:
        raise UsageError("--link joins two pools: add --disaggregate")
    if given["disaggregate"]:
        from planner.deployment.two_pools import check_asked

        check_asked(None if engine is None else engine.name, given["link"], device)
    if given["prefix_share"] and engine is not None:
        from planner.engines.prefixes import check_prefixes

        one = estimate(spec, Request(1, dtype=given["dtype"]))
        check_prefixes("--prefix-share", engine.name, engine.version, one, engine.options)


def _devices(given: Mapping[str, Any], spec: ModelSpec, engine: EngineAsked | None) -> tuple[Device, ...]:
    """The devices to search; the one of --measured with constants made of its points."""
    devices = devices_of(given)
    points = points_of(given["measured"])
    if points is None:
        return devices
    if len(devices) > 1:
        raise UsageError("--measured is of one device: give one --gpu, the one it was measured on")
    request = Request(1024, dtype=given["dtype"], k_dtype=given["kv_dtype"], v_dtype=given["kv_dtype"])
    return (
        measured_on(devices[0], points, spec=spec, request=request, engine=None if engine is None else engine.label),
    )


def _extras(given: Mapping[str, Any], spec: ModelSpec, engine: str | None) -> Extras | None:
    """What shares the devices; idle sessions apart, for they are spread over the replicas."""
    if given["drafter"] is None:
        given = {**given, "draft_tokens": None}
    if not any(given[flags.parameter(option)] for option in EXTRAS):
        return None
    from planner.options.extras import extras_of

    return extras_of({**given, "idle_sessions": None}, spec, engine=engine, online=given["online"])


def _engine(given: Mapping[str, Any]) -> EngineAsked | None:
    """--engine and its flags; a KV dtype that the engine has not is refused here."""
    if not flags.engine_flags_given(given):
        return None
    from planner.engines.kv_formats import KV_FORMATS
    from planner.options.engine import engine_of

    engine = engine_of(given)
    known = KV_FORMATS.get(engine.name) if engine is not None else None
    if engine is not None and known and given["kv_dtype"] and kv_format(given["kv_dtype"]).name not in known:
        raise BadRequest(f"{engine.name} has no KV dtype {given['kv_dtype']}; choose one of: {', '.join(known)}")
    return engine

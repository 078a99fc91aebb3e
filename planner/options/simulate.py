"""Reads what `kvplan simulate` asks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from planner.catalogue.device import Device
from planner.errors import BadRequest, UsageError, one_line
from planner.extras.shared_device import Extras
from planner.memory.request import Request
from planner.model.spec import ModelSpec
from planner.options import tables as flags
from planner.options.backend import BACKEND, backend_of
from planner.options.drafting import DRAFTED, drafting_of
from planner.options.engine import EngineAsked, engine_of
from planner.options.lengths import SEQ_OF_A_LOAD, with_parts
from planner.options.load import ANSWERS, LINK, mixes_of, targets_of, trace_of
from planner.options.measured import MEASURED, MeasuredAsked, measured_of
from planner.options.model import device_of, each, request_of, spec_of, with_ranks
from planner.options.readers import (
    choice,
    count,
    count_or_zero,
    count_up_to,
    factor,
    mix,
    rate,
    seconds,
    share,
    text,
    ttft,
)
from planner.options.tables import Flag
from planner.serving.replica import ROUTINGS
from planner.speed.drafting import DraftingAsked
from planner.units import parse_bytes
from planner.workloads.targets import Targets
from planner.workloads.workload import Workload, checked_requests

MAX_REPLICAS = 1024
MAX_USERS = 10**6
XPYD = re.compile(r"\s*(\d{1,4})\s*p\s*(\d{1,4})\s*d\s*", re.IGNORECASE | re.ASCII)


def pools(value: Any, name: str) -> tuple[int, int]:
    """Reads how many replicas read prompts and how many decode, as engines write it.

    >>> pools("2P3D", "--disaggregate")
    (2, 3)
    """
    match = XPYD.fullmatch(value) if isinstance(value, str) else None
    found = (int(match.group(1)), int(match.group(2))) if match else (0, 0)
    if not all(1 <= count <= MAX_REPLICAS for count in found):
        raise BadRequest(
            f"{name} {one_line(str(value), 40)!r} is not xPyD of 1 to {MAX_REPLICAS:,} replicas each; write for example 2P3D: two "
            "read prompts, three decode"
        )
    return found


FLAGS: tuple[Flag, ...] = (
    *flags.MODEL,
    Flag("--gpu", "NAME", "A device of `kvplan gpus`, `local`, or a list: l4,l40s.", text, "Device"),
    Flag("--memory", "SIZE", "Memory of a device in place of its own, with its speed: 30GiB.", text, "Device"),
    Flag("--trace", "FILE", "Recorded requests: Azure, Mooncake, BurstGPT or Vidur columns, or prompt,output[,time (s)]; CSV or JSON lines.", text, "Load"),
    SEQ_OF_A_LOAD,
    Flag("--prompt", "MIX", "Prompt lengths in place of a trace: p50=800,p95=6000, one length, or a file of lengths.", mix, "Load"),
    ANSWERS,
    Flag("--rate", "N/s", "Requests that arrive at random, 5/s or 300/min; a trace is sped up or slowed down to it.", rate, "Load"),
    Flag("--users", "N", "Users who each ask, wait for the answer, and ask again.", count_up_to(MAX_USERS), "Load"),
    Flag("--think", "TIME", "A user's mean pause between an answer and the next request (default: none).", seconds, "Load"),
    Flag("--speed-up", "X", "A trace's own times divided by X.", factor, "Load"),
    Flag("--requests", "N", "Requests to run (default: the whole trace, else 5000, or 20 a user).", count, "Load"),
    Flag("--prefix-share", "X", "Share of each prompt that is found in the cache: 0.6.", share, "Load"),
    Flag("--seed", "N", "Seed of all that is drawn at random (default: 1).", count_or_zero, "Load"),
    Flag("--replicas", "N", "Replicas of the layout (default: 1).", count_up_to(MAX_REPLICAS), "Layout"),
    Flag("--routing", "|".join(ROUTINGS), "Which replica a request goes to (default: round-robin).", choice(*ROUTINGS), "Layout"),
    Flag("--disaggregate", "xPyD", "Two pools: 2P3D has two replicas that read prompts and three that decode.", pools, "Layout"),
    LINK,
    Flag("--kv-offloading-size", "SIZE", "Memory of each replica's host, all ranks together, for blocks of prompts of --trace: 64GiB (a bare number is GiB, as in vLLM).", text, "Engine"),
    Flag("--kv-offloading-from", "FROM", "Where those blocks are: host (default), nvme, sata, 400g, or a rate, 5GB/s.", text, "Engine"),
    Flag("--ttft", "TIME", "Target: time to the first token of 95 requests in 100, 1s; p99=2s says another share, for --tpot too.", ttft, "Load"),
    Flag("--tpot", "TIME", "Target: time between two tokens of 95 requests in 100, 40ms.", seconds, "Load"),
    MEASURED,
    Flag("--steps", "FILE", "Steps measured on your own server, JSON: decode_ms by batch, prefill_ms by prompt tokens (docs/simulate.md).", text, "Device"),
    *flags.DTYPE,
    *flags.LAYOUT,
    *flags.RUNTIME,
    Flag("--engine", "NAME", "Whose pool and speed: vllm (the default), vllm==0.11.2, sglang, tensorrt-llm, lmdeploy.", text, "Engine"),
    *flags.ENGINE_FLAGS,
    BACKEND,
    *DRAFTED,
    *flags.OUTPUT,
)  # fmt: skip


@dataclass(frozen=True)
class SimulateAsked:
    """A server on a device, and the load that it is to carry.

    request    formats and layout; its length is that of the longest request that is served
    measured   what was measured: the constants are made from it
    steps      a file of measured steps, in place of the speed model
    pools      replicas that read prompts and that decode, in place of `replicas`; link: what joins them
    drafting   speculative decoding, None without
    tier_bytes, tier_from   host memory of a replica for blocks that leave the pool, and the way back
    """

    spec: ModelSpec
    request: Request
    device: Device
    workload: Workload
    targets: Targets
    engine: EngineAsked
    replicas: int = 1
    routing: str = ROUTINGS[0]
    measured: MeasuredAsked | None = None
    steps: str | None = None
    pools: tuple[int, int] | None = None
    link: str | None = None
    tier_bytes: int | None = None
    tier_from: str | None = None
    drafting: DraftingAsked | None = None


def simulate_questions(values: Mapping[str, Any]) -> tuple[SimulateAsked, ...]:
    """Reads the questions of several devices, one for each."""
    return tuple(simulate_asked(one) for one in each(values, "gpu"))


def simulate_asked(values: Mapping[str, Any]) -> SimulateAsked:
    """Reads the question of `simulate` from its flags."""
    given = with_ranks(with_parts(flags.read_values(FLAGS, values)))
    if given["gpu"] is None:
        raise UsageError("a device is wanted: --gpu NAME (kvplan gpus lists them)")
    if given["steps"] is not None and given["measured"]:
        raise UsageError("--steps holds what was measured: leave out --measured")
    _check_pools(given)
    workload = workload_of(given)
    engine = engine_of({**given, "engine": given["engine"] or "vllm"})
    assert engine is not None
    tier = _tier_bytes(given, workload)
    spec = spec_of(given)
    named, engine, beside = _drafter_beside(given, spec, engine)
    given = dict(named)
    drafting = drafting_of(given, engine)
    if drafting is not None and given["steps"] is not None:
        raise UsageError(
            "--steps holds what was measured, with or without drafts: leave out --drafter and --draft-tokens"
        )
    limits = (workload.longest_tokens, spec.max_positions, engine.options.max_model_len)
    return SimulateAsked(
        spec=spec,
        request=replace(
            request_of(given, min(limit for limit in limits if limit is not None)),
            extras=beside,
        ),
        device=_device(given, engine),
        workload=workload,
        targets=targets_of(given),
        engine=engine,
        replicas=given["replicas"] or 1,
        routing=given["routing"] or ROUTINGS[0],
        measured=measured_of(given["measured"], load="serving", prompt_tokens=1024, output_tokens=256),
        steps=given["steps"],
        pools=given["disaggregate"],
        link=given["link"],
        tier_bytes=tier,
        tier_from=given["kv_offloading_from"],
        drafting=drafting,
    )


def _device(given: Mapping[str, Any], engine: EngineAsked) -> Device:
    """The device; a backend of llama.cpp is refused where it would be, and so is llama.cpp itself."""
    found = device_of(given["gpu"], given["memory"])
    backend_of(given["backend"], (found,), engine=engine.name, measured=bool(given["measured"] or given["steps"]))
    return found


def _drafter_beside(
    given: Mapping[str, Any], spec: ModelSpec, engine: EngineAsked
) -> tuple[Mapping[str, Any], EngineAsked, Extras | None]:
    """Names what drafts, and its weights and cache on the device; nothing is loaded where nothing drafts."""
    if not (given["drafter"] or engine.options.num_speculative_tokens):
        return given, engine, None
    from planner.options.extras import drafter_beside

    asked, counted, beside = drafter_beside(given, spec, engine)
    assert counted is not None
    return asked, counted, beside


def _tier_bytes(given: Mapping[str, Any], workload: Workload) -> int | None:
    """Reads --kv-offloading-size: with a unit, or in GiB as vLLM has it."""
    asked = given["kv_offloading_size"]
    if asked is None:
        if given["kv_offloading_from"] is not None:
            raise UsageError("--kv-offloading-from says where blocks are kept: add --kv-offloading-size 64GiB")
        return None
    if given["trace"] is None or given["disaggregate"] is not None:
        raise UsageError(
            "--kv-offloading-size is of prompts that share their beginnings: give a --trace with prefix hashes, without --disaggregate"
        )
    if workload.trace is None or not workload.trace.ids:
        raise BadRequest(
            "--kv-offloading-size: the trace says of no prompt what it shares; hash_ids as Mooncake's has them do"
        )
    bare = re.fullmatch(r"\s*\d{1,6}(?:\.\d{1,3})?\s*", asked, re.ASCII)
    return parse_bytes(f"{asked.strip()}GiB" if bare else asked, "--kv-offloading-size")


def _check_pools(given: Mapping[str, Any]) -> None:
    """Raises UsageError for what two pools are not played with."""
    if given["link"] is not None and given["disaggregate"] is None:
        raise UsageError("--link joins two pools: add --disaggregate 2P3D")
    for name in ("replicas", "routing", "users") if given["disaggregate"] else ():
        if given[name] is not None:
            instead = {"replicas": "2P3D says how many", "users": "give --rate 5/s"}.get(
                name, "requests are dealt out in turn"
            )
            raise UsageError(f"--disaggregate is not played with --{name}: {instead}")


def workload_of(given: Mapping[str, Any]) -> Workload:
    """Reads the requests that the flags describe."""
    wanted = checked_requests(given["requests"])
    trace = trace_of(given, wanted)
    prompts, outputs = (None, None) if trace is not None else mixes_of(given)
    return Workload(
        trace=trace,
        prompts=prompts,
        outputs=outputs,
        rate_per_s=given["rate"],
        speed_up=given["speed_up"] or Fraction(1),
        users=given["users"] or 0,
        think_seconds=given["think"] or 0.0,
        wanted=wanted,
        prefix_share=given["prefix_share"] or 0.0,
        seed=1 if given["seed"] is None else given["seed"],
    )

"""--lora, --drafter, --also and the tiers of idle sessions, as texts -> Extras and Tiers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from planner.catalogue.device import Device, pcie_bytes_per_s
from planner.engines.registry import family
from planner.errors import BadRequest, UsageError, one_line
from planner.extras.idle_sessions import Tiers
from planner.extras.lora import MAX_RANK, Lora, adapter_parameters, canonical_targets, slot_rank
from planner.extras.projector import Projector
from planner.extras.shared_device import Drafter, Extras, Other, draft_model, eagle_head, mtp_head
from planner.lookup import model_spec
from planner.memory.request import device_capacity
from planner.model.spec import ModelSpec
from planner.options.readers import count
from planner.options.tables import EXTRAS
from planner.readers.mmproj import read_mmproj
from planner.units import parse_tokens

if TYPE_CHECKING:
    from planner.options.engine import EngineAsked

DRAFTING = ("vllm", "vllm-v0", "vllm-v1", "sglang", "llamacpp", "ik_llamacpp", "lmstudio", "koboldcpp")
"""Engines whose rules of a drafter are known."""


def extras_given(given: Mapping[str, Any]) -> bool:
    """Tells whether anything on the command line shares the devices, or lies in a tier."""
    return any(given.get(flag.parameter) for flag in EXTRAS)


def with_drafter(
    given: Mapping[str, Any], spec: ModelSpec, engine: EngineAsked | None
) -> tuple[Mapping[str, Any], EngineAsked | None]:
    """Names what drafts where an engine's flag says how many tokens: the model's own MTP layers, if it has some.

    n-gram lookup has neither weights nor cache. Raises UsageError where the tokens would be drafted by nothing that can
    be counted: their memory would be left out.
    """
    tokens = 0 if engine is None else engine.options.num_speculative_tokens
    name = (given.get("drafter") or "").strip().lower()
    if name == "ngram":
        given = {**given, "drafter": None, "draft_tokens": None}
        return given, None if engine is None else engine._replace(options=replace(engine.options, draft_layers=0))
    if engine is None or not tokens or (engine.options.draft_layers is not None and not name):
        return given, engine
    if name:
        if given.get("draft_tokens") not in (None, tokens):
            raise UsageError("--draft-tokens and --num-speculative-tokens say the same: give one of them")
        return {**given, "draft_tokens": tokens}, engine
    if family(engine.name) == "vllm" and spec.mtp:
        return {**given, "drafter": "mtp", "draft_tokens": tokens}, engine
    if family(engine.name) != "vllm" and spec.has_states:
        return given, engine  # snapshots of the states
    raise UsageError(
        f"--num-speculative-tokens {tokens}: what drafts for {spec.name}? --drafter eagle3, mtp or MODEL (kvplan fit, speed, plan, "
        "simulate) has weights and cache; ngram has none"
    )


def drafter_beside(
    given: Mapping[str, Any], spec: ModelSpec, engine: EngineAsked | None
) -> tuple[Mapping[str, Any], EngineAsked | None, Extras | None]:
    """Names what drafts, as `with_drafter`, for questions of speed: (flags, engine, the drafter on the devices or None).

    The flags keep n-gram lookup, which takes time and no memory.
    """
    named, counted = with_drafter(given, spec, engine)
    alone = {"drafter": named.get("drafter"), "draft_tokens": named.get("draft_tokens")}
    asked = given if given.get("drafter") else named
    if alone["drafter"] is None:
        return asked, counted, None
    name = None if counted is None else counted.name
    return asked, counted, extras_of(alone, spec, engine=name, online=bool(given.get("online")))


def extras_of(
    given: Mapping[str, Any], spec: ModelSpec, *, engine: str | None = None, online: bool = False
) -> Extras | None:
    """Reads what the options put beside `spec`; None where they put nothing.

    Idle sessions are on the device where no tier is named. vLLM preallocates a padded slot for each adapter.
    """
    drafter = drafter_of(given, spec, online=online)
    others = tuple(parse_other(text, online=online) for text in given.get("also") or ())
    if engine is not None and others:
        raise UsageError(
            "--also is not modelled in an engine's terms; leave --engine out, or give each server a fraction of its own"
        )
    if engine is not None and drafter is not None and engine not in DRAFTING:
        raise UsageError(
            f"--drafter is not modelled for {engine}; leave --engine out, or name one of: {', '.join(DRAFTING)}"
        )
    slots = engine is not None and family(engine) == "vllm"
    adapters = tuple(parse_lora(text, spec, slots=slots) for text in given.get("lora") or ())
    projector = projector_of(given, engine)
    tiered = given.get("host_memory") is not None or given.get("ssd") is not None
    idle = 0 if tiered else given.get("idle_sessions") or 0
    if not (adapters or drafter or others or idle or projector):
        return None
    if not spec.weights_known:
        raise BadRequest(f"{spec.name}: what shares its device cannot be said without its widths; add --heads --hidden "
                         "--intermediate --vocab")  # fmt: skip
    return Extras(adapters, drafter, others, idle, projector)


def without_towers(spec: ModelSpec) -> ModelSpec:
    """The text model alone: its tower lies in the file of `--mmproj`."""
    return replace(spec, towers=()) if spec.towers else spec


def projector_of(given: Mapping[str, Any], engine: str | None = None) -> Projector | None:
    """The tower of `--mmproj FILE`; of llama.cpp's kind alone, as the file is."""
    path = given.get("mmproj")
    if path is None:
        return None
    if engine is not None and not engine.startswith(("llamacpp", "ik_llamacpp", "lmstudio", "koboldcpp", "ollama")):
        raise UsageError(f"--mmproj is a file of llama.cpp's; {engine} loads the tower with its checkpoint")
    return Projector(read_mmproj(path), flash=given.get("flash_attn") is not False)


def parse_lora(text: str, spec: ModelSpec, *, slots: bool = False) -> Lora:
    """Reads adapters, `8xr16` or `r64:q,v`: so many of a rank, on some modules or on every linear layer.

    >>> from planner.memory.request import device_capacity
    >>> from planner.lookup import model_spec
    >>> parse_lora("8xr16:q_proj,v_proj", model_spec("llama-7b"))
    Lora(count=8, rank=16, targets=('q', 'v'), slots=False)
    """
    match = re.fullmatch(r"(?:(\d{1,6})\s*x\s*)?r(\d{1,5})(?::(.{1,400}))?", text.strip(), re.ASCII)
    count, rank = (int(match.group(1) or 1), int(match.group(2))) if match else (0, 0)
    if match is None or not count or not 1 <= rank <= MAX_RANK:
        raise BadRequest(
            f"--lora {one_line(text, 40)!r} is not adapters of a rank up to {MAX_RANK}; write for example 8xr16 or r64:q,v"
        )
    targets = canonical_targets(spec, match.group(3).split(",")) if match.group(3) else ()
    found = Lora(count, slot_rank(rank) if slots else rank, targets, slots)
    adapter_parameters(spec, found)  # refuses what is not modelled
    return found


def drafter_of(given: Mapping[str, Any], spec: ModelSpec, *, online: bool = False) -> Drafter | None:
    """Reads the drafter that --drafter names, with the tokens that it proposes; None without one."""
    name, drafts = given.get("drafter"), given.get("draft_tokens")
    if name is None:
        if drafts is not None:
            raise UsageError("--draft-tokens is of a drafter: name one with --drafter MODEL, mtp, eagle or eagle3")
        return None
    kind = name.strip().lower()
    if kind == "mtp":
        return mtp_head(spec, drafts)
    if kind in ("eagle", "eagle3"):
        return eagle_head(spec, kind, drafts)
    return draft_model(spec, model_spec(name, online=online), drafts)


def parse_other(text: str, *, online: bool = False) -> Other:
    """Reads another model, `MODEL`, `MODEL:4kx8` or `MODEL:4kx8@30%`; without a floor one sequence of the model's
    limit, at most 8k.

    >>> other = parse_other("gpt2:1kx8@25%")
    >>> other.spec.name, other.seq_tokens, other.sequences, other.share
    ('gpt2', 1024, 8, Fraction(1, 4))
    """
    rest, share = text.strip(), Fraction(0)
    shared = re.fullmatch(r"(.+)@(\d{1,2})\s*%", rest)
    if shared:
        rest, share = shared.group(1), Fraction(int(shared.group(2)), 100)
    floor = re.fullmatch(r"(.+):([\d.]+[kKmM]?)\s*x\s*(\d{1,9})", rest, re.ASCII)
    spec = model_spec(floor.group(1) if floor else rest, online=online)
    if floor is None:
        return Other(spec, min(spec.max_positions or 8192, 8192), 1, share)
    sequences = count(floor.group(3), "--also")
    return Other(spec, parse_tokens(floor.group(2), "--also"), sequences, share)


def tiers_of(given: Mapping[str, Any], device: Device | None = None) -> Tiers | None:
    """Reads the tiers of idle sessions; None where no option is about them. The link is the device's PCIe, if not
    given.
    """
    sizes = {name: given.get(name) for name in ("host_memory", "ssd", "host_bandwidth", "ssd_bandwidth")}
    sessions = given.get("idle_sessions") or 0
    for bandwidth, tier in (("host_bandwidth", "host_memory"), ("ssd_bandwidth", "ssd")):
        if sizes[bandwidth] is not None and sizes["host_memory"] is None and sizes[tier] is None:
            raise UsageError(f"--{bandwidth.replace('_', '-')} is of a tier: add --{tier.replace('_', '-')} SIZE")
    if not sessions and all(size is None for size in sizes.values()):
        return None
    if device is not None and sizes["host_memory"] is not None and device_capacity(device).kind == "host":
        raise BadRequest(
            f"--host-memory: {device.name} and its host share one memory; leave it out, idle sessions stay in it"
        )
    link = sizes["host_bandwidth"]
    if link is None and device is not None and device.pcie_gen is not None:
        link = pcie_bytes_per_s(device.pcie_gen)
    return Tiers(sessions, sizes["host_memory"], sizes["ssd"], link, sizes["ssd_bandwidth"])

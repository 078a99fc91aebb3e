"""Reads --engine and its flags: whose flag is whose, and the engine's Options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from planner.engines.base import Options
from planner.engines.placement import Placement
from planner.engines.registry import ENGINES, parse_engine
from planner.errors import UsageError
from planner.model.latent_attention import Latent
from planner.options.tables import ENGINE_FLAGS, LLAMA, PLACEMENT_FLAGS, VLLM

if TYPE_CHECKING:
    from planner.memory.request import Request
    from planner.model.spec import ModelSpec

# Where a field of `Options` is not called as its flag is.
_FIELDS = {
    "kv_pool": "pool_bytes",
    "gpu_memory_utilization": "fraction",
    "mem_fraction_static": "fraction",
    "kv_cache_free_gpu_memory_fraction": "fraction",
    "cache_max_entry_count": "fraction",
    "cpu_offload_gb": "cpu_offload_bytes",
    "disable_hybrid_kv_cache_manager": "disable_hybrid",
    "mamba_ssm_cache_dtype": "mamba_ssm_dtype",
    "swa_full_tokens_ratio": "swa_ratio",
    "mamba_full_memory_ratio": "mamba_ratio",
    "enable_prefix_caching": "prefix_caching",
    "no_enable_prefix_caching": "prefix_caching",
    "no_async_scheduling": "async_scheduling",
    "kv_events_config": "kv_events",
    "kv_cache_memory_bytes": "pool_bytes",
}
_OFF = ("no_enable_prefix_caching", "no_async_scheduling")
_GIVEN = ("kv_events_config",)  # what counts is that it is there


class EngineAsked(NamedTuple):
    """An engine, its version (None: the newest that is known) and its own flags."""

    name: str
    version: str | None
    options: Options

    @property
    def label(self) -> str:
        """As `--engine` names it: `vllm==0.11.2`, `sglang`."""
        return "==".join(filter(None, (self.name, self.version)))

    @property
    def longest_tokens(self) -> int | None:
        """The longest request that the engine's own flags name; None where they name none."""
        slots = self.options.parallel or 1
        return self.options.max_model_len or (
            max(1, self.options.ctx_size // slots) if self.options.ctx_size is not None else None
        )


STARTED_FOR = (*VLLM, "sglang", "tensorrt-llm", "lmdeploy", "lmdeploy-pytorch")
"""Engines whose start command names the longest request."""


def started_for(asked: EngineAsked, tokens: int) -> EngineAsked:
    """Names the length a server is started for where no flag does: its default, the model's whole context, may be refused."""
    if asked.options.max_model_len is not None or asked.name not in STARTED_FOR:
        return asked
    return asked._replace(options=replace(asked.options, max_model_len=tokens))


def engine_of(given: Mapping[str, Any]) -> EngineAsked | None:
    """Reads which engine is asked, None without --engine; refuses engine flags without an engine, and those of another."""
    engine = given.get("engine")
    if engine is None:
        check_owners(given, None)
        if given.get("emit"):
            raise UsageError("--emit prints an engine's start command: say which with --engine")
        return None
    name, version = parse_engine(engine)
    check_owners(given, name)
    return EngineAsked(name, version, options_of(given, name))


def laid_out(request: Request, spec: ModelSpec, engine: EngineAsked | None) -> Request:
    """Returns the request with its ranks as the engine counts them.

    SGLang's data-parallel attention: --dp of the --tp devices hold the attention whole, the experts lie over all of
    them. It is taken as meant with the flag, and for MLA models where --dp divides --tp (both above 1).
    llama.cpp splits layers over cards, not matrices: --gpus N are stages there.
    """
    ranks = request.sharding
    if engine is None or engine.name != "sglang" or ranks.dp == 1 or ranks.tp == 1:
        return request
    latent = any(isinstance(cache, Latent) for layer, _ in spec.groups for cache in layer.caches)
    if ranks.tp % ranks.dp or not (engine.options.enable_dp_attention or latent):
        return request
    experts = any(weight.part == "experts" for layer, _ in spec.groups for weight in layer.weights)
    return replace(request, sharding=replace(ranks, tp=ranks.tp // ranks.dp, ep=ranks.tp if experts else ranks.ep))


def options_of(given: Mapping[str, Any], engine: str | None) -> Options:
    """Collects the flags that `engine` reads, and leaves out those of other engines. None: of every engine, where a log
    decides.
    """
    own: dict[str, Any] = {}
    for flag in ENGINE_FLAGS:
        value = given.get(flag.parameter)
        switched_off = value is False and not flag.metavar  # a switch that is not there; `--flash-attn off` is
        if value is None or switched_off or (flag.owners and engine is not None and engine not in flag.owners):
            continue
        meant = False if flag.parameter in _OFF else True if flag.parameter in _GIVEN else value
        own[_FIELDS.get(flag.parameter, flag.parameter)] = meant
    placement = _placement(given)
    if placement != Placement():
        own["placement"] = placement
    return Options(**own, cards=given.get("cards") or (), host_bytes=_host_bytes(given, engine))


def _placement(given: Mapping[str, Any]) -> Placement:
    """What lies where, of the flags; everything on the cards where none says otherwise."""
    layers = given.get("n_gpu_layers")
    return Placement(
        layers=given.get("ngl") if layers is None else layers,
        expert_layers=-1 if given.get("cpu_moe") else given.get("n_cpu_moe") or 0,
        overrides=tuple(given.get("override_tensor") or ()),
        cache_on_host=bool(given.get("no_kv_offload")),
        split=given.get("split_mode") or "layer",
        shares=given.get("tensor_split") or (),
    )


def _host_bytes(given: Mapping[str, Any], engine: str | None) -> int | None:
    """--host-memory where it is for what llama.cpp's cards do not hold; with idle sessions it is for those."""
    if engine not in LLAMA or given.get("idle_sessions"):
        return None
    return given.get("host_memory")


def check_owners(given: Mapping[str, Any], engine: str | None) -> None:
    """Refuses flags of an engine where none is named, and those of another than the one that is."""
    for flag in (*ENGINE_FLAGS, *PLACEMENT_FLAGS):
        value = given.get(flag.parameter)
        if value is None or value is False or value == ():
            continue
        if engine is None:
            raise UsageError(f"{flag.name} is an engine's flag: say whose with --engine, for example --engine vllm")
        if flag.owners and engine not in flag.owners:
            raise UsageError(f"{flag.name} is not a flag of {engine}; it belongs to {', '.join(flag.owners)}")
        if engine == "transformers" and flag.name == "--kv-pool":
            raise UsageError("--kv-pool: transformers has no pool; leave it out")


assert {owner for flag in ENGINE_FLAGS for owner in flag.owners} <= set(ENGINES)

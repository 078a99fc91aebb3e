"""Tells which engines find the beginning of a prompt in their cache, as `kvplan speed --prefix-cached` asks."""

from __future__ import annotations

from planner.engines.base import Options
from planner.engines.registry import family
from planner.engines.vllm_setting import cache_mode, settings
from planner.errors import UsageError
from planner.memory.estimate import Estimate

SLOTS = "llama.cpp finds a prefix in the slot that held it last, not in that of another user"
OFF_BY_DEFAULT = "LMDeploy keeps prefixes with --enable-prefix-caching, which is off by default"


def why_no_prefixes(  # parameters: as every engine
    name: str, version: str | None, estimate: Estimate, options: Options
) -> str | None:
    """Says why an engine keeps no prefixes with these flags, and what changes that; None where it keeps them.

    vLLM V1 keeps them unless told not to, its first engine where told to, and models with recurrent states by the rule of
    `cache_mode`; transformers keeps nothing between requests.
    """
    if name == "transformers":
        return "transformers keeps no cache between requests"
    if family(name) != "vllm":
        return None
    if options.prefix_caching is False:
        return "--no-enable-prefix-caching keeps none"
    setting = settings(estimate, options, version, generation=name.partition("-")[2] or None)
    first = not setting.v1 and options.prefix_caching is None
    if first or (estimate.spec.has_states and cache_mode(estimate, options, setting.version) == "none"):
        return f"vLLM {setting.label} keeps none here unless --enable-prefix-caching is given"
    return None


def check_prefixes(  # parameters: as every engine, and the flag that asks
    flag: str, name: str, version: str | None, estimate: Estimate, options: Options
) -> None:
    """Raises UsageError, in one line that begins with the flag, where the engine keeps no prefixes."""
    reason = why_no_prefixes(name, version, estimate, options)
    if reason is not None:
        raise UsageError(f"{flag}: {reason}")


def prefix_note(name: str) -> str | None:
    """Says what a hit hangs on besides, for engines whose rule is another than a pool of shared blocks."""
    return {"llamacpp": SLOTS, "lmdeploy": OFF_BY_DEFAULT}.get(family(name))

"""Reads what `kvplan verify` asks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import click

from planner.engines.base import parse_version
from planner.errors import one_line
from planner.files.write import check_file
from planner.units import parse_bytes


@dataclass(frozen=True)
class VerifyAsked:
    """Models to hold against another implementation, and how.

    every           all models of the catalogue, in place of `names`
    engine          vllm or llamacpp; None: transformers
    version         of a libllama that does not say its own
    library         folder or file of a libllama
    limit_seconds   what a model may take; `memory_bytes` what a process may take
    fresh           nothing is taken over from an earlier `output`
    """

    names: tuple[str, ...]
    every: bool
    engine: str | None
    version: str | None
    library: str | None
    processes: int
    limit_seconds: int
    memory_bytes: int
    fresh: bool
    output: str | None
    as_json: bool


def verify_asked(names: tuple[str, ...], values: Mapping[str, Any]) -> VerifyAsked:
    """Reads the question of `verify` from its flags; refuses an output that cannot be written before anything runs."""
    if bool(names) == values["every"]:
        raise click.UsageError("which MODEL? Names or config files, or --all (not both)")
    check_file(values["output"])
    engine, version = _engine_of(values["engine"])
    if values["library"] is not None and engine != "llamacpp":
        raise click.UsageError("--library is libllama's: add --engine llamacpp")
    return VerifyAsked(
        names=names,
        every=values["every"],
        engine=engine,
        version=version,
        library=values["library"],
        processes=values["processes"],
        limit_seconds=values["time_limit"],
        memory_bytes=parse_bytes(values["memory_limit"]),
        fresh=values["fresh"],
        output=values["output"],
        as_json=values["as_json"],
    )


def _engine_of(text: str | None) -> tuple[str | None, str | None]:
    """Reads (engine, version) of --engine; the installed vLLM says its version itself."""
    if text is None:
        return None, None
    engine, _, version = text.partition("==")
    if engine not in ("vllm", "llamacpp") or (version and engine == "vllm"):
        raise click.BadParameter(f"{one_line(text, 40)!r}: vllm, llamacpp or llamacpp==BUILD", param_hint="--engine")
    if version and parse_version(version) is None:
        raise click.BadParameter(f"{one_line(version, 40)!r} is no build: write it as b9879", param_hint="--engine")
    return engine, version or None

"""Reads what `kvplan profile` asks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from planner.errors import BadRequest, one_line
from planner.lookup import model_spec
from planner.model.spec import ModelSpec
from planner.options.readers import count as read_count

if TYPE_CHECKING:
    from profiler.profile import Settings

MAX_SEED = 2**63 - 1


@dataclass(frozen=True)
class ProfileAsked:
    """A model to build here, and how it is run.

    axes     of a sweep, as they were written: batch=1,4,16
    sweeps   whether a grid is run, or one begun before
    resume   the file of that one
    tp       processes that share the model; None: one
    """

    spec: ModelSpec
    settings: Settings
    axes: tuple[str, ...]
    sweeps: bool
    resume: str | None
    output: str | None
    tp: int | None
    as_json: bool


def profile_asked(values: Mapping[str, Any]) -> ProfileAsked:
    """Reads the question of `profile` from its flags and plain words."""
    name, axes = _split(values)
    return ProfileAsked(
        spec=model_spec(name, config=values["config"]),
        settings=_settings(values),
        axes=axes,
        sweeps=bool(values["sweep"] or values["resume"]),
        resume=values["resume"],
        output=values["output"],
        tp=None if values["tp"] is None else read_count(values["tp"], "--tp"),
        as_json=values["as_json"],
    )


def _split(values: Mapping[str, Any]) -> tuple[str | None, tuple[str, ...]]:
    """MODEL and the axes of --sweep among the plain words."""
    words = [word for text in values["words"] for word in (text.split() if "=" in text else [text])]
    names, axes = [w for w in words if "=" not in w], [w for w in words if "=" in w]
    if len(names) > 1:
        raise click.UsageError(f"one MODEL is wanted, found {len(names)}: {', '.join(names[:3])}")
    if axes and not (values["sweep"] or values["resume"]):
        raise click.UsageError(f"{axes[0]}: axes belong to --sweep")
    if not names and values["config"] is None:
        raise click.UsageError("which MODEL? A name of `kvplan models` or a config.json")
    if (values["sweep"] or values["resume"]) and values["tp"]:
        raise click.UsageError("--sweep and --tp do not go together")
    return (names[0] if names else None), tuple(axes)


def _settings(values: Mapping[str, Any]) -> Settings:
    from profiler.generate import Sampling
    from profiler.profile import Settings

    def count(name: str) -> int:
        return read_count(
            values[name], f"--{name.removesuffix('_tokens') if name == 'prompt_tokens' else name.replace('_', '-')}"
        )

    seed = _seed(values["seed"])
    outputs = values["answer"]
    more: dict[str, Any] = {} if outputs is None else {"outputs": _counts(outputs)}
    return Settings(
        dtype=values["dtype"],
        linear=values["linear"],
        device=values["device"],
        batch=count("batch"),
        caches=tuple(dict.fromkeys(name.strip() for name in values["cache"].split(",") if name.strip())),
        prompt_tokens=count("prompt_tokens"),
        layers=None if values["layers"] is None else read_count(values["layers"], "--layers"),
        extrapolate=values["extrapolate"],
        full=values["full"],
        repeats=count("repeats"),
        seed=seed,
        weights=values["weights"],
        tokenizer=values["tokenizer"],
        prompt=values["text"],
        new_tokens=count("new_tokens"),
        sampling=Sampling(values["temperature"], values["top_k"], values["top_p"], seed),
        compile=values["compiled"],
        trace=values["trace"],
        **more,
    )


def _seed(text: str) -> int:
    """Reads a seed that torch's generator takes: 64 bits with a sign."""
    clean = text.strip()
    if not (clean.isascii() and clean.isdigit() and len(clean) < 20 and int(clean) <= MAX_SEED):
        raise BadRequest(f"--seed {one_line(text, 40)!r} is not a whole number from 0 to {MAX_SEED}")
    return int(clean)


def _counts(text: str) -> tuple[int, ...]:
    return tuple(read_count(item, "--answer") for item in text.split(","))

"""Reads what a report or a figure is asked: the flags that `kvplan report`, `kvplan plot` and `kvplan.report` share."""

from __future__ import annotations

import os
import platform
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from planner.dtypes.names import float_dtype
from planner.engines.registry import parse_engine
from planner.errors import UsageError
from planner.lookup import capacity, model_spec
from planner.memory.request import Capacity, Request
from planner.model.positions import scaled
from planner.options import tables as flags
from planner.options.model import laid_over, request_of, with_count
from planner.options.readers import text, tokens
from planner.options.tables import Flag

if TYPE_CHECKING:
    from planner.model.spec import ModelSpec
    from reports.question import Question
    from reports.runs import Run

RUN_FILE = "run.json"
FLAGS: tuple[Flag, ...] = (
    Flag("--gpu", "NAME...", "A device of `kvplan gpus`, or `local`. Repeatable, or a list: l4,l40s.", text, "Device"),
    Flag("--memory", "SIZE...", "Memory of one device, for example 24GiB. Repeatable.", text, "Device"),
    Flag("--seq", "N", "Tokens of a sequence (default: 8k, or what the longest model can do).", tokens, "Load"),
    *flags.BATCH,
    *flags.ASSUME,
    *flags.ROPE,
    *flags.DTYPE,
    *flags.LAYOUT,
    Flag("--engine", "NAME", "Whose pool and speed the answer is of: vllm (default), vllm==0.11.2, sglang ...; none: memory alone.", text, "Engine"),
    Flag("--run", "FILE...", "A result of `kvplan profile`, laid beside the estimates. Repeatable.", text, "Output"),
    Flag("--plan", "FILE...", "An answer of `kvplan plan --json`: its ranking, and cost against time a token. Repeatable.", text, "Output"),
)  # fmt: skip


def names_in(values: Sequence[str]) -> tuple[str, ...]:
    """Joins repeated options and lists into one, in order, without repeats.

    >>> names_in(("l4,l40s", "t4", "l4"))
    ('l4', 'l40s', 't4')
    """
    return tuple(dict.fromkeys(name.strip() for value in values for name in value.split(",") if name.strip()))


@dataclass(frozen=True)
class ReportAsked:
    """What a report or a figure is asked.

    models     names, as they were given
    memories   plain memories beside the devices `gpus`
    seq_tokens the length; None: the usual one of the models
    request    batch, dtypes and layout; its length and, where a run has one, its float type come later
    rope_scaling   what the models' positions are multiplied by
    engine     as --engine names it
    runs, plans, compare   paths of results that are laid beside
    layers     with `profile`: how many layers are run first
    typed      the flags as they were given, for the line that makes the same report again
    """

    models: tuple[str, ...]
    gpus: tuple[str, ...]
    memories: tuple[Capacity, ...]
    seq_tokens: int | None
    request: Request
    assume: str | None = None
    rope_scaling: float | None = None
    engine: str | None = None
    runs: tuple[str, ...] = ()
    plans: tuple[str, ...] = ()
    compare: tuple[str, ...] = ()
    profile: bool = False
    layers: str | None = None
    typed: tuple[str, ...] = ()


def report_asked(models: Sequence[str], values: Mapping[str, Any]) -> ReportAsked:
    """Reads the question of `report` and `plot` from their flags."""
    given = laid_over(flags.read_values(FLAGS, values))
    gpus = names_in(given["gpu"])
    if given["gpu"] and not gpus:
        raise UsageError("--gpu names no device: write one of `kvplan gpus`, or leave it out")
    if len(gpus) == 1:
        given = with_count({**given, "gpu": gpus[0]})
        gpus = (given["gpu"],)
    return ReportAsked(
        models=tuple(models),
        gpus=gpus,
        memories=tuple(room for size in names_in(given["memory"]) if (room := capacity(None, size)) is not None),
        seq_tokens=given["seq"],
        request=request_of(given, given["seq"] or 1),
        assume=given["assume"],
        rope_scaling=given["rope_scaling"],
        engine=given["engine"],
        runs=tuple(given["run"]),
        plans=tuple(given["plan"]),
        compare=tuple(values.get("compare") or ()),
        profile=bool(values.get("profile")),
        layers=values.get("layers"),
        typed=_typed(values),
    )


def _typed(values: Mapping[str, Any]) -> tuple[str, ...]:
    """The flags of a report as words of a command line, those that may be repeated first."""
    words: list[str] = []
    for name in ("gpu", "memory", "run", "plan"):
        for item in values[name]:
            words += [f"--{name}", item]
    if values.get("profile"):
        words += ["--run", RUN_FILE]
    once = ("seq", "batch", "assume", "rope_scaling", "dtype", "kv_dtype", "k_dtype", "v_dtype", "gpus", "tp", "pp", "ep", "dp", "dcp", "engine")  # fmt: skip
    for name in once:
        if values.get(name) is not None:
            words += [f"--{name.replace('_', '-')}", str(values[name])]
    if values.get("compare"):
        words += ["--compare", *values["compare"]]
    return tuple(words)


def question_of(asked: ReportAsked, runs: Sequence[Run]) -> Question:
    """Returns the question of a report; `runs` add their models and devices."""
    from reports.plans import load_plans
    from reports.question import question, usual_tokens

    specs = [scaled(model_spec(name, assume=asked.assume), asked.rope_scaling) for name in dict.fromkeys(asked.models)]
    known = specs or [model_spec(run.found.model) for run in runs if known_name(run.found.model)]
    dtype = asked.request.dtype or _dtype_of(known, runs)
    found = question(
        tuple(specs),
        gpus=asked.gpus,
        memories=asked.memories,
        request=replace(asked.request, seq_tokens=asked.seq_tokens or usual_tokens(known), dtype=dtype),
        runs=tuple(runs),
        plans=load_plans(asked.plans),
        assume=asked.assume,
    )
    return with_engine(found, asked.engine)


def with_engine(q: Question, named: str | None) -> Question:
    """Returns the question of the engine that --engine names; `none` is kvplan's own terms."""
    if named is None:
        return q
    word = named.strip().lower()
    return replace(q, engine=None if word == "none" else parse_engine(word), engine_assumed=False)


def _dtype_of(specs: Sequence[ModelSpec], runs: Sequence[Run]) -> str | None:
    """The float type that one model was run in, where its config names none: estimate and measurement then agree."""
    dtypes = {run.found.dtype for run in runs}
    silent = all(spec.dtype is None and not spec.quantization for spec in specs)
    alone = {run.found.model for run in runs} >= {spec.name for spec in specs}
    return dtypes.pop() if specs and silent and alone and len(dtypes) == 1 else None


def known_name(name: str) -> bool:
    """Tells whether the catalogue holds a model; a run may be of one that it does not."""
    from planner.errors import KvplanError

    try:
        model_spec(name)
    except (KvplanError, OSError):
        return False
    return True


def folder_name(asked: ReportAsked) -> str:
    """Names the folder of a report, report-MODEL, in letters that any file system takes."""
    from reports.runs import run_name

    named = asked.models or tuple(run_name(path) for path in (*asked.runs, *asked.plans, *asked.compare))
    base = os.path.basename(named[0].rstrip("/\\")).removesuffix(".json")
    clean = "".join(ch if ch.isascii() and (ch.isalnum() or ch in "-._") else "-" for ch in base).strip("-.")[:60]
    more = f"-and-{len(named) - 1}-more" if len(named) > 1 else ""
    return f"report-{clean or 'model'}{more}"


def made_with() -> tuple[tuple[str, str], ...]:
    """Lists what the report was made with; the date is the only line that changes by itself."""
    from importlib.metadata import version

    packages = ", ".join(f"{name} {version(name)}" for name in ("pandas", "matplotlib", "Jinja2"))
    seconds = os.environ.get("SOURCE_DATE_EPOCH", "")
    when = time.gmtime(int(seconds)) if seconds.isascii() and seconds.isdigit() and len(seconds) < 12 else time.gmtime()
    return (
        ("made on", time.strftime("%Y-%m-%d", when)),
        ("kvplan", str(getattr(sys.modules.get("kvplan"), "__version__", "unknown"))),
        ("Python", platform.python_version()),
        ("packages", packages),
    )


def command_lines(asked: ReportAsked, q: Question) -> tuple[str, ...]:
    """Lists what to type to get this report again, and the figures behind it one by one."""
    lines = [shlex.join(["kvplan", "report", *asked.models, *asked.typed])]
    if asked.profile:
        lines.insert(0, shlex.join(["kvplan", "profile", asked.models[0], "-o", RUN_FILE, *profile_options(asked)]))
    scaling = "" if asked.rope_scaling is None else f" --rope-scaling {asked.rope_scaling:g}"
    for model in asked.models[:6]:
        lines.append(f"kvplan estimate {shlex.quote(model)} --seq {q.request.seq_tokens}{scaling} --explain")
    return tuple(lines)


def profile_options(asked: ReportAsked) -> list[str]:
    """Lists what the profile can take over from the report: the float type the model runs in, and --layers."""
    dtype = float_dtype(asked.request.dtype) if asked.request.dtype else None
    return (["--dtype", dtype] if dtype else []) + (["--layers", asked.layers] if asked.layers else [])


def shown_path(path: str) -> str:
    """Returns a path relative to here where that is shorter."""
    try:
        near = os.path.relpath(path)
    except ValueError:  # another drive
        return path
    return near if len(near) < len(path) else path

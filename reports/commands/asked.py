"""The options that `report` and `plot` share, and the question they come to."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from planner.commands.options import tables as flags
from planner.commands.options.model import request_of
from planner.lookup import capacity, model_spec
from planner.memory.request import Capacity
from planner.units import parse_tokens

if TYPE_CHECKING:
    from planner.model.spec import ModelSpec
    from reports.question import Question
    from reports.runs import Run

FLAGS: tuple[flags.Flag, ...] = (
    ("--gpu", "NAME...", "A device of `kvplan gpus`, or `local`. Repeatable, or a list: l4,l40s."),
    ("--memory", "SIZE...", "Plain memory of a device, for example 24GiB. Repeatable."),
    ("--seq", "N", "Tokens of a sequence (default: 8k, or what the longest model can do)."),
    *flags.BATCH,
    *flags.ASSUME,
    *flags.DTYPE,
    *flags.LAYOUT,
    ("--run", "FILE...", "A result of `kvplan profile`, laid beside the estimates. Repeatable."),
    ("--plan", "FILE...", "An answer of `kvplan plan --json`: its ranking, and cost against time a token. Repeatable."),
)


def names_in(values: Sequence[str]) -> tuple[str, ...]:
    """Repeated options and lists in one, in order, without repeats.

    >>> names_in(("l4,l40s", "t4", "l4"))
    ('l4', 'l40s', 't4')
    """
    return tuple(dict.fromkeys(name.strip() for value in values for name in value.split(",") if name.strip()))


def question_of(models: Sequence[str], values: dict[str, Any], runs: Sequence[Run]) -> Question:
    """The question that the options ask; `runs` add their models and devices."""
    from reports.plans import load_plans
    from reports.question import question, usual_tokens

    specs = [model_spec(name, assume=values["assume"]) for name in dict.fromkeys(models)]
    known = specs or [model_spec(run.found.model) for run in runs if known_name(run.found.model)]
    seq = usual_tokens(known) if values["seq"] is None else parse_tokens(values["seq"], "--seq")
    values = {**values, "dtype": values["dtype"] or _dtype_of(known, runs)}
    memories = [room for size in names_in(values["memory"]) if (room := capacity(None, size)) is not None]
    return question(
        tuple(specs),
        gpus=names_in(values["gpu"]),
        memories=tuple(Capacity(room.name, room.bytes, room.kind) for room in memories),
        request=request_of({name: value for name, value in values.items() if name not in ("gpu", "memory")}, seq),
        runs=tuple(runs),
        plans=load_plans(values["plan"]),
        assume=values["assume"],
    )


def _dtype_of(specs: Sequence[ModelSpec], runs: Sequence[Run]) -> str | None:
    """The float type that one model was run in, where its config names none: estimate and measurement then agree."""
    dtypes = {run.found.dtype for run in runs}
    silent = all(spec.dtype is None and not spec.quantization for spec in specs)
    alone = {run.found.model for run in runs} >= {spec.name for spec in specs}
    return dtypes.pop() if specs and silent and alone and len(dtypes) == 1 else None


def known_name(name: str) -> bool:
    """A model that the catalogue holds; a run may be of one that it does not."""
    from planner.errors import KvplanError

    try:
        model_spec(name)
    except (KvplanError, OSError):
        return False
    return True


def warn(lines: Sequence[str]) -> None:
    """One line each on stderr."""
    for line in lines:
        click.echo(f"kvplan: left out: {line}", err=True)


def shown_path(path: str) -> str:
    """Relative to here where that is shorter."""
    try:
        near = os.path.relpath(path)
    except ValueError:  # another drive
        return path
    return near if len(near) < len(path) else path

"""The options that `report` and `plot` share, and the question they come to."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from planner.lookup import capacity, model_spec
from planner.memory.request import Capacity
from planner.options import tables as flags
from planner.options.model import request_of
from planner.options.readers import text, tokens
from planner.options.tables import Flag

if TYPE_CHECKING:
    from planner.model.spec import ModelSpec
    from reports.question import Question
    from reports.runs import Run

FLAGS: tuple[Flag, ...] = (
    Flag("--gpu", "NAME...", "A device of `kvplan gpus`, or `local`. Repeatable, or a list: l4,l40s.", text, "Device"),
    Flag("--memory", "SIZE...", "Plain memory of a device, for example 24GiB. Repeatable.", text, "Device"),
    Flag("--seq", "N", "Tokens of a sequence (default: 8k, or what the longest model can do).", tokens, "Load"),
    *flags.BATCH,
    *flags.ASSUME,
    *flags.DTYPE,
    *flags.LAYOUT,
    Flag("--run", "FILE...", "A result of `kvplan profile`, laid beside the estimates. Repeatable.", text, "Output"),
    Flag("--plan", "FILE...", "An answer of `kvplan plan --json`: its ranking, and cost against time a token. Repeatable.", text, "Output"),
)  # fmt: skip


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

    given = flags.read_values(FLAGS, values)
    specs = [model_spec(name, assume=given["assume"]) for name in dict.fromkeys(models)]
    known = specs or [model_spec(run.found.model) for run in runs if known_name(run.found.model)]
    seq = given["seq"] or usual_tokens(known)
    memories = [room for size in names_in(given["memory"]) if (room := capacity(None, size)) is not None]
    return question(
        tuple(specs),
        gpus=names_in(given["gpu"]),
        memories=tuple(Capacity(room.name, room.bytes, room.kind) for room in memories),
        request=request_of({**given, "dtype": given["dtype"] or _dtype_of(known, runs)}, seq),
        runs=tuple(runs),
        plans=load_plans(given["plan"]),
        assume=given["assume"],
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

"""The figures of a report for notebooks and scripts: names in, a matplotlib Figure out.

>>> import kvplan
>>> figure = kvplan.plots.memory_vs_length("llama-3.1-8b", "gemma-3-27b", gpu="l40s")     # doctest: +SKIP
>>> figure.savefig("memory.svg")                                                        # doctest: +SKIP

Each function is a kind of `kvplan plot` with underscores. Those of models take their names and gpu=, memory=, seq=,
batch=, dtype=, kv_dtype= and the layout (tp=, pp=, ...); those of runs and plans take the paths of result files. Nothing is
shown or saved; a notebook shows the figure that a cell returns. Needs `pip install 'llm-kvplan[report]'`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from planner.lookup import capacity
from planner.memory.request import Request
from planner.model.spec import ModelSpec
from planner.options.model import request_of
from planner.options.tables import ESTIMATE, read_values
from reports.extra import need_report_extra

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from reports.kinds import Kind
    from reports.question import Question

KINDS_OF_MODELS = (
    "memory_vs_length", "memory_vs_batch", "memory_bars", "bytes_per_token", "feasible_region", "most_sequences", "user_speed", "kv_dtype_savings",
    "step_bounds", "roofline",
)  # fmt: skip
KINDS_OF_RUNS = (
    "prediction", "speed_vs_output", "speedup", "ttft_vs_context", "tpot_vs_context", "tpot_vs_batch", "bandwidth_share",
    "measured_roofline", "comparison",
)  # fmt: skip
KINDS_OF_PLANS = ("cost_vs_tpot",)

__all__ = [*KINDS_OF_MODELS, *KINDS_OF_RUNS, *KINDS_OF_PLANS]


def of_models(  # parameters: as in kvplan.api
    kind: str,
    *models: str | ModelSpec,
    gpu: str | Sequence[str] = (),
    memory: str | None = None,
    seq: int | str | None = None,
    batch: int = 1,
    dtype: str | None = None,
    kv_dtype: str | None = None,
    tp: int = 1,
    pp: int = 1,
    ep: int = 1,
    dp: int = 1,
    assume: str | None = None,
) -> Figure:
    """Draws the figure `kind` of these models."""
    need_report_extra()
    from planner.lookup import model_spec
    from reports.kinds import find_kind
    from reports.question import question, usual_tokens

    found = find_kind(kind)
    specs = [model if isinstance(model, ModelSpec) else model_spec(model, assume=assume) for model in models]
    layout = {"batch": batch, "dtype": dtype, "kv_dtype": kv_dtype, "tp": tp, "pp": pp, "ep": ep, "dp": dp}
    given = read_values(ESTIMATE, {**layout, "seq": seq})
    request = request_of(given, usual_tokens(specs) if given["seq"] is None else given["seq"][0])
    gpus = (gpu,) if isinstance(gpu, str) else tuple(gpu)
    room = capacity(None, memory)
    q = question(tuple(specs), gpus=gpus, memories=() if room is None else (room,), request=request)
    return _figure(found, q)


def _figure(kind: Kind, q: Question) -> Figure:
    """Draws a figure with its title and what it is of."""
    from reports.kinds import about, frame_of
    from reports.style import titled

    return titled(kind.draw(frame_of(kind, q)), kind.title, about(kind, q))


def of_runs(kind: str, *paths: str) -> Figure:
    """Draws the figure `kind` of these result files."""
    need_report_extra()
    from reports.kinds import find_kind
    from reports.question import Question
    from reports.runs import load_runs

    found = find_kind(kind)
    runs, _ = load_runs(paths)
    q = Question((), (), Request(1), runs=runs)
    return _figure(found, q)


def of_plan(kind: str, path: str) -> Figure:
    """Draws the figure `kind` of this answer of `kvplan plan --json`."""
    need_report_extra()
    from reports.kinds import find_kind
    from reports.plans import load_plans
    from reports.question import Question

    found = find_kind(kind)
    q = Question((), (), Request(1), plans=load_plans([path]))
    return _figure(found, q)


def __getattr__(name: str) -> Callable[..., Any]:
    """A function for each kind; its text is that of the figure."""
    if name in KINDS_OF_MODELS:
        make: Callable[..., Any] = of_models
    elif name in KINDS_OF_RUNS:
        make = of_runs
    elif name in KINDS_OF_PLANS:
        make = of_plan
    else:
        raise AttributeError(f"module 'kvplan.plots' has no attribute {name!r}")

    def draw(*args: Any, **options: Any) -> Any:
        return make(name, *args, **options)

    draw.__name__ = draw.__qualname__ = name
    draw.__doc__ = make.__doc__
    return draw


def __dir__() -> list[str]:
    return sorted(__all__)

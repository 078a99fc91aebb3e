"""KV-cache memory of language models: predicted to the byte, or refused.

>>> import kvplan
>>> kvplan.estimate("llama-7b", seq=8192).kv_bytes
4294967296

Names resolve on first use, so that `import kvplan` costs nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from kvplan.api import (
        calibrate,
        compare_models,
        engine,
        engines,
        estimate,
        fit,
        gpus,
        models,
        plan,
        profile,
        report,
        show,
        simulate,
        speed,
        sweep,
    )
    from planner.errors import KvplanError
    from planner.memory.estimate import Estimate
    from planner.model.spec import ModelSpec

__version__ = "0.1.0"

_HOMES = {
    "estimate": "kvplan.api",
    "check": "kvplan.api",
    "fit": "kvplan.api",
    "engine": "kvplan.api",
    "engines": "kvplan.api",
    "compare_models": "kvplan.api",
    "models": "kvplan.api",
    "speed": "kvplan.api",
    "plan": "kvplan.api",
    "simulate": "kvplan.api",
    "sweep": "kvplan.api",
    "show": "kvplan.api",
    "gpus": "kvplan.api",
    "profile": "kvplan.api",
    "report": "kvplan.api",
    "calibrate": "kvplan.api",
    "KvplanError": "planner.errors",
    "Estimate": "planner.memory.estimate",
    "ModelSpec": "planner.model.spec",
}

__all__ = [
    "Estimate",
    "KvplanError",
    "ModelSpec",
    "calibrate",
    "check",
    "compare_models",
    "engine",
    "engines",
    "estimate",
    "fit",
    "gpus",
    "models",
    "plan",
    "profile",
    "report",
    "show",
    "simulate",
    "speed",
    "sweep",
]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name == "plots":
        return import_module("kvplan.plots")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'kvplan' has no attribute {name!r}")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

"""What a shell completes: names of models, devices, number types and engines, words of a choice, files."""

from __future__ import annotations

from collections.abc import Iterable

_TYPES = {"dtype": "weights", "kv_dtype": "cache", "k_dtype": "cache", "v_dtype": "cache"}


def completions(name: str, metavar: str, typed: str) -> list[str] | None:
    """Returns what the value of an option may go on to; None where nothing is known, or where files are meant.

    name     of the option's parameter: gpu, kv_dtype, engine ...
    metavar  what stands for its value in --help; `a|b` is a choice

    >>> completions("load", "static|serving", "se"), completions("engine", "NAME", "vllm-v")
    (['serving'], ['vllm-v0', 'vllm-v1'])
    """
    if name == "gpu":
        return device_names(typed)
    if name in ("model", "drafter"):
        return model_names(typed)
    if name == "engine":
        from planner.engines.registry import ENGINES

        return _begin(ENGINES, typed)
    if name in _TYPES:
        return _begin(_formats(_TYPES[name]), typed)
    return _begin(metavar.split("|"), typed) if "|" in metavar else None


def model_names(typed: str) -> list[str]:
    """Returns the catalogue's models that begin with `typed`; those that hold it where none does."""
    from planner.catalogue.entries import models

    return _named((entry.name for entry in models()), typed)


def device_names(typed: str) -> list[str]:
    """Returns the catalogue's devices that begin with `typed`, in any case; of a list, the last name goes on.

    >>> device_names("l4,t")[:1]
    ['l4,T4']
    """
    from planner.catalogue.entries import devices

    before, comma, last = typed.rpartition(",")
    return [f"{before}{comma}{name}" for name in _named([*(card.name for card in devices()), "local"], last)]


def _formats(kind: str) -> Iterable[str]:
    from planner.dtypes import tables
    from planner.dtypes.names import FLOAT_BYTES

    return [*FLOAT_BYTES, *(tables.WEIGHT_FORMATS if kind == "weights" else tables.KV_FORMATS)]


def _begin(names: Iterable[str], typed: str) -> list[str]:
    return [name for name in names if name.lower().startswith(typed.lower())]


def _named(names: Iterable[str], typed: str) -> list[str]:
    every = list(names)
    return _begin(every, typed) or [name for name in every if typed.lower() in name.lower()]

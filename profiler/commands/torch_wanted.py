"""Says what to install where torch is not."""

from __future__ import annotations

import os
from importlib.util import find_spec

from planner.errors import KvplanError


class MissingPackage(KvplanError):
    """An optional package that this command cannot do without."""


def want_torch(command: str) -> None:
    """Raises MissingPackage where torch cannot be imported; else keeps its profiler's log off the screen."""
    if find_spec("torch") is None:
        raise MissingPackage(f"{command} runs a model and needs torch: pip install 'llm-kvplan[profile]'")
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")

"""What runs on a server, as flags, its log or the server itself say it, and the question of its speed at a load."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction

from planner.engines.registry import parse_engine
from planner.options.speed import FLAGS, SpeedAsked, speed_asked
from planner.options.tables import VLLM, empty

SHARES = {
    "sglang": "mem_fraction_static",
    "tensorrt-llm": "kv_cache_free_gpu_memory_fraction",
    "lmdeploy": "cache_max_entry_count",
    "lmdeploy-pytorch": "cache_max_entry_count",
} | dict.fromkeys(VLLM, "gpu_memory_utilization")
"""The flag of each engine that says its share of the device's memory, as `kvplan speed` calls its value."""


@dataclass(frozen=True)
class Running:
    """A server as it runs; None is what nobody says of it.

    engine   its name, or name and version: vllm==0.11.2
    share    of the device's memory that it may take
    slots    requests that it runs at once at most
    shares   what the flags of all engines say of it, flag -> share: the one of the engine that runs counts
    """

    model: str | None = None
    config: str | None = None
    assume: str | None = None
    gpu: str | None = None
    memory: str | None = None
    engine: str | None = None
    tp: int | None = None
    pp: int | None = None
    dtype: str | None = None
    kv_dtype: str | None = None
    max_model_len: int | None = None
    share: Fraction | None = None
    slots: int | None = None
    flash_attn: str | None = None
    drafter: str | None = None
    shares: Mapping[str, Fraction] = field(default_factory=dict)

    @property
    def engine_name(self) -> str:
        """The engine without its version; "" where nobody says it."""
        return "" if self.engine is None else parse_engine(self.engine)[0]

    def with_own_share(self) -> Running:
        """The share that a flag of this very engine says, where one does."""
        own = self.shares.get(SHARES.get(self.engine_name, ""))
        return self if own is None else replace(self, share=own)


@dataclass(frozen=True)
class Load:
    """Requests at once and their lengths, as they run now."""

    batch: int
    prompt_tokens: int
    output_tokens: int


def speed_of(running: Running, load: Load, how: str | None = None) -> SpeedAsked:
    """Asks how fast a server is at a load; `how` it comes: "serving", "static", or None where it is not known.

    Raises KvplanError where `kvplan speed` refuses the same words.
    """
    asked = empty(FLAGS) | {
        "model": running.model,
        "config": running.config,
        "assume": running.assume,
        "gpu": None if running.gpu is None else (running.gpu,),
        "memory": running.memory,
        "engine": running.engine,
        "tp": running.tp,
        "pp": running.pp,
        "dtype": running.dtype,
        "kv_dtype": running.kv_dtype,
        "max_model_len": running.max_model_len,
        "flash_attn": running.flash_attn,
        "drafter": running.drafter,
        "prompt": load.prompt_tokens,
        "answer": load.output_tokens,
        "batch": load.batch,
        "load": how,
    }
    name = SHARES.get(running.engine_name)
    if name is not None and running.share is not None:
        asked[name] = str(float(running.share))
    return speed_asked(asked)

"""Answers `watch`: what a server does, beside what kvplan expects at that load."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from planner.answers.advice import Advice, advice
from planner.answers.speed import speed_on
from planner.catalogue.entries import known_model
from planner.engines.base import parse_version
from planner.errors import KvplanError
from planner.measured.metrics import Served, to_dict
from planner.measured.server_config import ServerConfig
from planner.memory.estimate import SCHEMA_VERSION
from planner.options.running import Load, Running, speed_of
from planner.options.watch import WatchAsked
from planner.shown import NO, Shown
from planner.speed.speed import Speed

ENGINES = {"tgi": None, "dynamo": None}


@dataclass(frozen=True, eq=False, repr=False)
class WatchAnswer(Shown):
    """One look at a server.

    expected       what kvplan says of the same load, without having seen this server; None without model and device
    most_users     requests at once until a target fails or memory is full, by this server's own times where it says them
    by             what ends there: "TTFT", "TPOT", "memory"
    why_not        why nothing is expected
    config         what the server says of itself; None where it was not asked
    advice         what one flag would change
    """

    asked: WatchAsked
    served: Served
    expected: Speed | None = None
    most_users: int | None = None
    by: str | None = None
    why_not: str | None = None
    config: ServerConfig | None = None
    advice: Advice | None = None

    @property
    def missed(self) -> tuple[str, ...]:
        """The targets that the server misses by its own means."""
        targets = self.asked.targets
        pairs = (
            ("TTFT", self.served.ttft_seconds, targets.ttft_seconds),
            ("TPOT", self.served.tpot_seconds, targets.tpot_seconds),
        )
        return tuple(
            name for name, found, wanted in pairs if found is not None and wanted is not None and found > wanted
        )

    @property
    def exit_code(self) -> int:
        """0, or 3 where the server misses a target that was given."""
        return NO if self.missed and not self.asked.targets.assumed else 0

    def to_dict(self) -> dict[str, Any]:
        """The JSON contract: base units, keys that stay."""
        return {
            "schema_version": SCHEMA_VERSION,
            **to_dict(self.served),
            "misses": list(self.missed),
            "expected": None if self.expected is None else self.expected.to_dict(),
            "most_users": self.most_users,
            "bound_by": self.by,
            "why_not": self.why_not,
            "config": None if self.config is None else vars(self.config),
            "advice": None if self.advice is None else self.advice.to_dict(),
        }  # fmt: skip


def watch_answer(asked: WatchAsked, found: Served, config: ServerConfig | None = None) -> WatchAnswer:
    """Says what the server does, with what is expected where model, device and load are known."""
    if found.prompt_tokens is None and asked.prompt is not None:
        found = replace(found, prompt_tokens=float(asked.prompt))
    if found.output_tokens is None and asked.answer is not None:
        found = replace(found, output_tokens=float(asked.answer))
    said = config or ServerConfig()
    name = None if asked.config else asked.model or _named(found.model, said.model)
    answer = WatchAnswer(asked, found, config=config)
    if asked.gpu is None or (name is None and asked.config is None):
        lacks = "the device: --gpu NAME" if asked.gpu is None else "the model: --model NAME"
        return replace(answer, why_not=f"to say what is expected, kvplan wants {lacks}")
    load = Load(round(found.in_flight or 0), round(found.prompt_tokens or 0), round(found.output_tokens or 0))
    if not load.prompt_tokens or load.output_tokens < 2 or not load.batch:
        return replace(answer, why_not=_no_load(found))
    running = _running(asked, found, said, name=name)
    try:
        question = speed_of(running, load)
        expected = speed_on(question.devices[0], question)
    except KvplanError as refused:
        return replace(answer, why_not=str(refused))
    answer, observed = replace(answer, expected=expected.speeds[0]), found.point("/metrics").observed()
    try:
        tried = advice(running, [observed] if observed else [], load=load, targets=asked.targets)
    except KvplanError as refused:
        return replace(answer, why_not=str(refused))
    return replace(answer, most_users=tried.now.most_users, by=tried.now.by, advice=tried)


def _no_load(found: Served) -> str:
    """Why nothing is expected of a server that says no load."""
    if found.engine == "llamacpp" and (found.prompt_tokens is None or found.output_tokens is None):
        return "llama-server does not say its requests' lengths: --prompt N --answer N"
    return "no request ended between the reads: their lengths are not known"


def _running(asked: WatchAsked, found: Served, said: ServerConfig, *, name: str | None) -> Running:
    """What runs: as the flags say, then as the server says of itself."""
    engine = ENGINES.get(found.engine, found.engine)
    versioned = engine is not None and said.version is not None and parse_version(said.version) is not None
    return Running(
        model=name,
        config=asked.config,
        gpu=asked.gpu,
        memory=asked.memory,
        engine=f"{engine}=={said.version}" if versioned else engine,
        tp=asked.tp or said.tp,
        dtype=asked.dtype,
        kv_dtype=asked.kv_dtype or said.kv_dtype,
        max_model_len=said.longest_tokens if engine in ("vllm", "sglang") else None,
        slots=said.slots,
        share=Fraction(str(said.fraction)) if engine == "sglang" and said.fraction is not None else None,
    )


def _named(metrics: str | None, config: str | None) -> str | None:
    """The model: what /metrics calls it may be any name that requests use, so one that is known goes first."""
    for name in (metrics, config):
        if name is not None and known_model(name) is not None:
            return name
    return config or metrics

"""Measured speeds as questions to the public functions: a row's plain description in, its measured value and ours out.

`benchmarks/fit_speed.py` fits the shipped constants on these rows, the tests hold the answers against them.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from planner.catalogue.device import Device
from planner.catalogue.entries import find_device, find_model
from planner.errors import KvplanError
from planner.memory.estimate import Estimate, estimate
from planner.memory.limits import most_sequences
from planner.memory.request import Request, device_capacity
from planner.memory.sharding import Sharding
from planner.model.parameters import parameters
from planner.model.spec import ModelSpec
from planner.readers import read_entry
from planner.speed.constants import DEFAULT, Constants, constants_for
from planner.speed.populations import OLD, population
from planner.speed.speed import Figure, Speed, speed
from planner.speed.work import work

CASES = Path(__file__).parent / "cases"

# Names that the sources use, and the catalogue's model of the same shape.
MODELS = {"gpt-20b": "gpt-neox-20b", "gpt-6.7b": "gpt3-6.7b", "gpt-1.3b": "gpt3-xl", "gpt-175b": "gpt3-175b"}
WEIGHTS = {"INT4": "awq", "W4A8": "awq", "FP4": "nvfp4"}
LOADS = {"closed_loop": "serving", "open_loop": "serving"}  # all others are one static batch, or one sequence

DECODE, REQUEST, PREFILL = "TPOT and decode steps", "whole static requests", "prefill and TTFT of static batches"
QUEUED = "TTFT under load"
TG, PP = "llama.cpp token generation", "llama.cpp prompt processing"
_KINDS = {
    "tpot_ms": DECODE,
    "decode_tok_s": DECODE,
    "request_ms": REQUEST,
    "request_tok_s": REQUEST,
    "request_tok_s_per_gpu": REQUEST,
    "request_total_tok_s": REQUEST,
    "ttft_ms": PREFILL,
    "prefill_tok_s": PREFILL,
}


@dataclass(frozen=True)
class Row:
    """One measured value with all that is known of how it was measured.

    apart   why it is not fitted on, "" where it is
    kind    which population it belongs to
    """

    answer: Estimate
    device: Device
    engine: str
    load: str
    batch: int
    prompt: int
    output: int
    measured: str
    value: float
    apart: str
    kind: str
    model: str
    source: str
    cached: int = 0  # tokens that are kept before a prompt
    ubatch: int | None = None  # tokens of a step of a prompt, where that is not the engine's usual

    @property
    def dense(self) -> bool:
        return not work(self.answer).experts

    @property
    def most(self) -> int | None:
        """Sequences that memory admits of a server with many in flight; None where that is not asked."""
        if self.load != "serving" or self.batch < MANY:
            return None
        held = _most(self.answer, self.prompt + self.output, self.device.name)
        return min(held, _scheduled(self.engine, self.device) * self.answer.request.sharding.dp)

    @property
    def running(self) -> int:
        """Sequences that decode at once."""
        return self.batch if self.most is None else max(1, min(self.batch, self.most))

    @property
    def is_first(self) -> bool:
        """Whether a first token was timed: a prompt rate of others than llama-bench is prompt / first call, way in and all."""
        return self.measured == "ttft_ms" or (
            self.measured == "prefill_tok_s" and population(self.engine, self.load, self.device).engine != "llamacpp"
        )

    @property
    def is_rate(self) -> bool:
        return not self.measured.endswith("_ms")

    @property
    def seconds(self) -> float:
        """The measured value as seconds: of a step, a prefill or a request."""
        if not self.is_rate:
            return self.value / 1e3
        tokens = {
            "decode_tok_s": self.running,
            "prefill_tok_s": self.batch * self.prompt,
            "request_tok_s": self.batch * self.output,
            "request_tok_s_per_gpu": self.batch * self.output / self.answer.request.sharding.devices,
            "request_total_tok_s": self.batch * (self.prompt + self.output),
        }
        return tokens[self.measured] / self.value

    def asked(self, constants: Constants | None = None) -> Speed:
        if self.ubatch:
            constants = replace(
                constants or constants_for(self.engine, self.device, self.load), ubatch_tokens=self.ubatch
            )
        return speed(
            self.answer,
            self.device,
            prompt_tokens=self.prompt + self.cached,
            output_tokens=self.output,
            batch=self.batch,
            load=self.load,
            engine=self.engine,
            constants=constants,
            most=self.most,
            cached_tokens=self.cached,
        )

    def predicted(self, constants: Constants | None = None) -> Figure:
        """Our figure of the same thing, in seconds."""
        found = self.asked(constants)
        if self.kind in (DECODE, TG):
            return found.tpot_seconds
        if self.kind == REQUEST:
            return found.request_seconds
        if self.is_first:
            return found.ttft_seconds
        return found.prefill_tokens_per_s.inverse(self.batch * self.prompt)


@dataclass(frozen=True)
class Rows:
    rows: tuple[Row, ...]
    unknown: dict[str, int]  # what the catalogue does not hold, with how many rows name it


@lru_cache(maxsize=1)
def serving_rows() -> Rows:
    """`tests/cases/serving_speed.csv`: servers and static batches."""
    rows, unknown = [], dict[str, int]()
    for raw in _read("serving_speed.csv"):
        sharding = Sharding(tp=int(raw["tp"]), pp=int(raw["pp"]), ep=int(raw["ep"]), dp=int(raw["dp"] or 1))
        kv = raw["kv_dtype"].lower() or None
        weights = WEIGHTS.get(raw["weight_dtype"], raw["weight_dtype"]).lower()
        try:
            device = find_device(raw["gpu"])
            answer = _estimate(MODELS.get(raw["model"], raw["model"]), weights, kv, sharding)
        except KvplanError as error:
            name = str(error).split(";")[0]
            unknown[name] = unknown.get(name, 0) + 1
            continue
        version = raw["engine_version"]
        rows.append(
            Row(
                answer=answer,
                device=device,
                engine=f"{raw['engine']}=={version}" if version else raw["engine"],
                load=LOADS.get(raw["load"], "static"),
                batch=int(raw["batch"]),
                prompt=max(1, int(raw["prompt"])),
                output=max(1, int(raw["output"])),
                measured=raw["measured"],
                value=float(raw["value"]),
                apart=raw["apart"],
                kind=QUEUED if raw["measured"] == "ttft_ms" and raw["load"] in LOADS else _KINDS[raw["measured"]],
                model=raw["model"],
                source=raw["source"],
            )
        )
    return Rows(tuple(_screened(row) for row in rows), unknown)


def _screened(row: Row) -> Row:
    """Sets apart what the device cannot have done: more sequences are labelled than ran."""
    if row.load != "serving" or row.kind != DECODE or row.apart:
        return row
    bound = row.asked(DEFAULT).tpot_seconds.bound
    return replace(row, apart="faster than the device") if row.seconds < bound else row


OF_2024 = "1600"  # the build of rows that state no more than their year


@lru_cache(maxsize=1)
def llamacpp_rows() -> Rows:
    """`tests/cases/llamacpp_speed.csv`: llama-bench; layers split over several devices are pipeline stages."""
    rows = []
    for raw in _read("llamacpp_speed.csv"):
        tokens, depth = int(raw["tokens"]), int(raw["depth"])
        generates = raw["what"] == "tg"
        rows.append(
            Row(
                answer=_estimate(raw["model"], raw["weight_dtype"], "fp16", Sharding(pp=int(raw["gpus"]))),
                device=find_device(raw["gpu"]),
                engine=f"llamacpp==b{build}"
                if (build := raw["build"] or OF_2024 * (int(raw["year"]) < 2025))
                else "llamacpp",
                load="static",
                batch=1,
                prompt=max(1, depth) if generates else tokens,
                output=tokens if generates else 1,
                measured="decode_tok_s" if generates else "prefill_tok_s",
                value=float(raw["tokens_per_s"]),
                apart=raw["apart"],
                kind=TG if generates else PP,
                model=raw["model"],
                source=raw["source"],
                cached=0 if generates else depth,
                ubatch=int(raw["ubatch"]) if raw["ubatch"] else None,
            )
        )
    return Rows(tuple(rows), {})


def _read(name: str) -> list[dict[str, str]]:
    with (CASES / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _scheduled(engine: str, device: Device) -> int:
    """vLLM's --max-num-seqs where nobody says it (docs/engines.md); others run what memory admits."""
    asked = population(engine, "serving", device)
    if asked.engine != "vllm":
        return 1 << 20
    large = asked.generation != OLD and (device.memory_bytes or 0) >= 70 << 30 and "A100" not in device.name
    return 1024 if large else 256


MANY = 64  # in flight: fewer fit wherever they were measured


@lru_cache(maxsize=4096)  # rows of one description share one estimate
def _most(answer: Estimate, tokens: int, device: str) -> int:
    request = replace(answer.request, seq_tokens=tokens, batch=1)
    return most_sequences(answer.spec, request, device_capacity(find_device(device)))


@lru_cache(maxsize=256)
def _spec(name: str) -> ModelSpec:
    return read_entry(find_model(name))


@lru_cache(maxsize=4096)
def _estimate(model: str, weights: str, kv: str | None, sharding: Sharding) -> Estimate:
    kv = {"int4": "q4_0"}.get(kv or "", kv)
    return estimate(_spec(model), Request(1, dtype=weights, k_dtype=kv, v_dtype=kv, sharding=sharding))


def billions(row: Row) -> float:
    return parameters(row.answer.spec) / 1e9

"""Engine start-up logs beside what the engine modules answer.

A log prints two decimals of GiB, so the budget behind it is an interval: ours is asked at both ends, and agrees
where the logged figure lies between the two answers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from planner.accuracy.cases import Cases, Row
from planner.catalogue.entries import find_device
from planner.engines.base import EngineAnswer, Options
from planner.engines.registry import answer_of, parse_engine
from planner.errors import KvplanError
from planner.extras.lora import Lora
from planner.extras.shared_device import Extras
from planner.memory.estimate import Estimate, estimate
from planner.memory.request import Capacity, Request
from planner.memory.sharding import Sharding
from planner.units import GIB, MIB

LLAMA_PROGRAMS = ("llamacpp", "ik_llamacpp", "ollama", "lmstudio", "koboldcpp")
HALF = GIB // 200  # half of the last printed digit of "x.xx GiB"


def number(text: str) -> int | None:
    """Reads a whole number of a case file; None for an empty field."""
    return int(text) if text else None


def gib_bytes(text: str) -> int:
    """Turns GiB as a log prints them into bytes."""
    return int(Fraction(text) * GIB)


@dataclass(frozen=True)
class Check:
    """One logged figure: between ours at the two ends of what the log's rounding allows?"""

    what: str
    logged: float
    low: float
    high: float

    @property
    def agrees(self) -> bool:
        return self.low <= self.logged <= self.high

    @property
    def off_percent(self) -> float:
        """How far outside, in percent of the logged figure."""
        if self.agrees:
            return 0.0
        if not self.logged:
            return math.inf
        return min(abs(self.low - self.logged), abs(self.high - self.logged)) / self.logged * 100


def options_of(row: Row, pool: int | None) -> Options:
    """Reads the engine's flags of a row, with `pool` bytes for the cache where given."""
    return Options(
        pool_bytes=pool,
        fraction=Fraction(row["fraction"]) if row["fraction"] else None,
        max_model_len=number(row["max_model_len"]),
        max_num_batched_tokens=number(row["batched_tokens"]),
        max_num_seqs=number(row["max_num_seqs"]),
        cpu_offload_bytes=gib_bytes(row["cpu_offload_gib"] or "0"),
        block_size=number(row["block_size"]),
        swap_space=gib_bytes(row["swap_gib"]) if row["swap_gib"] else None,
        num_speculative_tokens=number(row["speculative_tokens"]) or 0,
        draft_layers=number(row["draft_layers"]),
        swa_ratio=Fraction(row["swa_ratio"]) if row["swa_ratio"] else None,
    )


def estimate_of(cases: Cases, row: Row, capacity: Capacity | None = None) -> Estimate:
    """Estimates the memory of a row's model, lengths and layout."""
    sharding = Sharding(tp=int(row["tp"] or 1), pp=int(row["pp"] or 1), dcp=int(row["dcp"] or 1))
    request = Request(
        1,
        dtype=row["weight_dtype"] or None,
        k_dtype=row["kv_dtype"] or None,
        v_dtype=row["kv_dtype"] or None,
        sharding=sharding,
        extras=Extras((Lora(1, int(row["lora_rank"]), slots=True),)) if row["lora_rank"] else None,
    )
    return estimate(cases.spec(row["model"]), request, capacity)


def answer_at(cases: Cases, row: Row, pool: int | None, *, capacity: Capacity | None = None) -> EngineAnswer:
    """Asks the row's engine for its answer with `pool` bytes for the cache."""
    return answer_of(
        row["engine"], row["version"] or None, estimate_of(cases, row, capacity), options=options_of(row, pool)
    )


def budget_interval(row: Row) -> tuple[int, int] | None:
    """Returns (least, most) bytes that the printed budget stands for: the pool's GiB, or K and V of SGLang."""
    if row["k_gib"]:
        sizes = [row["k_gib"]] + ([row["v_gib"]] if row["v_gib"] else [])
        middle, spread = sum(map(gib_bytes, sizes)), len(sizes) * HALF
    elif row["available_gib"]:
        middle, spread = gib_bytes(row["available_gib"]), HALF
    else:
        return None
    if row["request_table"]:
        requests, length = map(int, row["request_table"].split("x"))
        middle -= requests * (length + 4) * 4
        spread = 2 * HALF  # the difference of two printed figures
    if row["gpu"].startswith("tpu"):  # this backend prints the sum over its devices
        middle, spread = middle // int(row["tp"]), spread // int(row["tp"])
    return middle - spread, middle + spread


def checks(cases: Cases, row: Row) -> list[Check]:
    """Compares every figure of a row that the row's own budget, or no budget at all, decides."""
    interval = budget_interval(row)
    where = card(row) if row["gpu"].startswith("tpu") else None
    low, high = (answer_at(cases, row, size, capacity=where).to_dict() for size in interval or (GIB, GIB))
    found = []
    if interval is not None:
        names = {
            "blocks": "pool_blocks",
            "tokens": "printed_tokens",
            "concurrency": "max_concurrency",
            "swa_tokens": "sliding_tokens",
        }
        if row["needed_gib"]:
            names["estimated_max_len"] = "estimated_max_model_len"
        for column, key in names.items():
            if row[column] and low.get(key) is not None:
                slack = 0.0051 if column == "concurrency" else 1 if column == "swa_tokens" else 0
                found.append(Check(column, float(row[column]), low[key] - slack, high[key] + slack))
    for column, key, scale in (("cpu_blocks", "cpu_blocks", 1), ("needed_gib", "needed_bytes", GIB)):
        if row[column] and low.get(key) is not None:
            value = low[key] / scale
            slack = 0.0051 if scale == GIB else 0
            found.append(Check(column, float(row[column]), value - slack, value + slack))
    return found


# -- from first principles -------------------------------------------------------------------------------


def stated(row: Row) -> bool:
    """Tells whether a row states the card, the share of it and how the weights are stored, of the very model that is
    asked.

    A stand-in has the cache of the logged model and other weights (a text model for a multimodal one); in a row
    that is not independent something was worked out from the log itself. The one row of TensorRT-LLM gave the
    constant of its buffers and proves nothing.
    """
    return bool(
        row["stand_in"] != "1"
        and row["independent"] != "0"
        and row["engine"].startswith(("vllm", "sglang"))
        and (row["gpu_memory_gib"] or row["gpu"])
        and row["fraction"]
        and row["weight_dtype"]
        and (row["tokens"] or row["blocks"])
        and not row["model"].replace("x", "").isdigit()
    )


@dataclass(frozen=True)
class FirstPrinciples:
    """Tokens from model, card and flags alone, beside the logged ones."""

    id: str
    tokens: int
    low: int
    high: int
    logged: int

    @property
    def off_percent(self) -> float:
        return (self.tokens - self.logged) / self.logged * 100

    @property
    def in_range(self) -> bool:
        return self.low <= self.logged <= self.high


def card(row: Row) -> Capacity:
    """Returns the card that a row states, with the memory that the log prints, else the catalogue's."""
    known = find_device(row["gpu"]) if row["gpu"] else None
    name = known.name if known else f"{row['gpu_memory_gib']} GiB"
    size = gib_bytes(row["gpu_memory_gib"]) if row["gpu_memory_gib"] else known.memory_bytes if known else 0
    return Capacity(name, size)


def first_principles(cases: Cases, row: Row) -> FirstPrinciples:
    """Compares the pool that a row logs with ours from the card alone, without the budget that its log prints."""
    answer = answer_at(cases, row, None, capacity=card(row))
    assert answer.ranged is not None
    logged = number(row["tokens"]) or int(row["blocks"]) * (answer.block_tokens or 16)
    if logged <= 0:
        raise ValueError(logged)
    ranged = answer.ranged
    values = [pool.printed if row["tokens"] else pool.tokens for pool in (ranged.pool, ranged.low, ranged.high)]
    return FirstPrinciples(row["id"], values[0] or 0, values[1] or 0, values[2] or 0, logged)


# What most users do not say, though most sources print it.
OFTEN_UNSAID = ("max_num_seqs", "lora_rank", "batched_tokens")


def unsaid(row: Row) -> Row:
    """Returns a row without what most users do not say, though most sources print it."""
    return Row(row | dict.fromkeys(OFTEN_UNSAID, ""))


# -- llama.cpp -------------------------------------------------------------------------------------------


def llama_answer(cases: Cases, row: Row) -> dict[str, Any]:
    """Asks llama.cpp's rules for their answer to a row."""
    options = Options(
        ctx_size=int(row["ctx_size"]),
        parallel=int(row["slots"] or 1),
        ubatch_size=number(row["ubatch"]),
        batch_size=number(row["batch"]),
        flash_attn={"on": True, "off": False}.get(row["flash_attn"]),
        kv_unified=row["kv_unified"] == "1",
        swa_full=row["swa_full"] == "1",
        mla_mode=number(row["mla_mode"]),
        num_speculative_tokens=number(row["speculative"]) or 0,
    )
    request = Request(min(512, int(row["ctx_size"])), k_dtype=row["k_dtype"] or None, v_dtype=row["v_dtype"] or None)
    found = estimate(cases.spec(row["model"]), request)
    return answer_of(row["program"], row["build"] or None, found, options=options).to_dict()


def llama_checks(row: Row, answer: dict[str, Any]) -> list[Check]:
    """Compares the cache figures, within the two decimals of MiB that are printed."""
    full = "kv_full_bytes" if row["swa_mib"] else "kv_bytes"
    keys = {"kv_mib": full, "swa_mib": "kv_swa_bytes", "state_mib": "state_bytes", "total_mib": "kv_bytes"}
    found = []
    for column, key in keys.items():
        if row[column]:
            value, slack = answer[key] / MIB, 0.5 if column == "total_mib" else 0.011
            found.append(Check(column, float(row[column]), value - slack, value + slack))
    if row["swa_cells"] and answer["kv_swa_cells"] is not None:
        found.append(Check("swa_cells", int(row["swa_cells"]), answer["kv_swa_cells"], answer["kv_swa_cells"]))
    return found


def compute_in_range(row: Row, answer: dict[str, Any]) -> bool:
    """Tells whether the logged compute buffer lies in the range that is given."""
    logged = float(row["compute_mib"]) * MIB
    return bool(answer["compute_buffer_bytes_low"] <= logged <= answer["compute_buffer_bytes_high"])


# -- all rows of a folder --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Asked:
    """One row with what became of it: its checks, or why it could not be asked."""

    row: Row
    engine: str
    checks: tuple[Check, ...] = ()
    first: FirstPrinciples | None = None
    first_unsaid: FirstPrinciples | None = None
    compute: bool | None = None
    refused: str = ""

    @property
    def id(self) -> str:
        return self.row["id"]

    @property
    def agrees(self) -> bool:
        return all(check.agrees for check in self.checks)

    @property
    def near(self) -> bool:
        """Counts within 1 %; a concurrency is printed too coarsely on small pools."""
        return all(check.off_percent <= 1 for check in self.checks if check.what != "concurrency")


def asked(cases: Cases) -> list[Asked]:
    """Lists every row of engine_logs.csv and llamacpp_memory.csv; rows of llama.cpp are told by their `program`."""
    rows = [*cases.rows("engine_logs.csv"), *cases.rows("llamacpp_memory.csv")]
    return [_asked(cases, row) for row in rows]


def _asked(cases: Cases, row: Row) -> Asked:
    engine = row["program"] or row["engine"]
    try:
        parse_engine(engine)
        if row["program"]:
            if engine not in LLAMA_PROGRAMS:
                return Asked(row, engine, refused=f"{engine} is no program of the llama.cpp family")
            answer = llama_answer(cases, row)
            compute = compute_in_range(row, answer) if row["compute_mib"] else None
            return Asked(row, engine, tuple(llama_checks(row, answer)), compute=compute)
        if not row["model"]:
            return Asked(row, engine, refused="it names no model that kvplan knows; fill in the column `model`")
        first = rest = None
        if stated(row):
            first, rest = first_principles(cases, row), first_principles(cases, unsaid(row))
        found = checks(cases, row)
        return Asked(row, engine, tuple(found), first, rest, refused="" if found else "no figure of it can be checked")
    except KvplanError as error:
        return Asked(row, engine, refused=str(error))
    except (ValueError, ZeroDivisionError, OverflowError):
        return Asked(row, engine, refused="a number of the row is not one")

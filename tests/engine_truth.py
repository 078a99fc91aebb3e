"""Engine start-up logs beside what the engine modules answer; the tests assert it and docs/accuracy.md counts it.

A log prints two decimals of GiB, so the budget behind it is an interval: ours is asked at both ends, and agrees
where the logged figure lies between the two answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Any

from planner.catalogue import find_device, find_model
from planner.engines.base import EngineAnswer, Options
from planner.engines.registry import answer_of
from planner.lora import Lora
from planner.memory import Capacity, Estimate, Request, estimate
from planner.readers import read_entry, read_file
from planner.residents import Residents
from planner.resolve import by_hand
from planner.sharding import Sharding
from planner.spec import ModelSpec
from planner.units import GIB, MIB
from tests.truth import CASES, rows

HALF = GIB // 200  # half of the last printed digit of "x.xx GiB"


@cache
def spec_of(name: str) -> ModelSpec:
    """A catalogue model, a config of the cases, or layers x heads x head_dim."""
    if name.startswith("configs/"):
        return read_file(str(CASES / name))
    if name.replace("x", "").isdigit():
        layers, heads, head_dim = map(int, name.split("x"))
        return by_hand({"layers": layers, "heads": heads, "head_dim": head_dim})
    return read_entry(find_model(name))


def number(text: str) -> int | None:
    return int(text) if text else None


def gib_bytes(text: str) -> int:
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
        return min(abs(self.low - self.logged), abs(self.high - self.logged)) / self.logged * 100


def logged_rows() -> list[dict[str, str]]:
    return rows("engine_logs.csv")


def options_of(row: dict[str, str], pool: int | None) -> Options:
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


def estimate_of(row: dict[str, str], capacity: Capacity | None = None) -> Estimate:
    sharding = Sharding(tp=int(row["tp"] or 1), pp=int(row["pp"] or 1), dcp=int(row["dcp"] or 1))
    request = Request(
        1,
        dtype=row["weight_dtype"] or None,
        k_dtype=row["kv_dtype"] or None,
        v_dtype=row["kv_dtype"] or None,
        sharding=sharding,
        residents=Residents((Lora(1, int(row["lora_rank"]), slots=True),)) if row["lora_rank"] else None,
    )
    return estimate(spec_of(row["model"]), request, capacity)


def answer_at(row: dict[str, str], pool: int | None, capacity: Capacity | None = None) -> EngineAnswer:
    return answer_of(row["engine"], row["version"] or None, estimate_of(row, capacity), options_of(row, pool))


def budget_interval(row: dict[str, str]) -> tuple[int, int] | None:
    """(least, most) bytes that the printed budget stands for: the pool's GiB, or K and V of SGLang."""
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


def checks(row: dict[str, str]) -> list[Check]:
    """Every figure of a row that the row's own budget, or no budget at all, decides."""
    interval = budget_interval(row)
    where = card(row) if row["gpu"].startswith("tpu") else None
    low, high = (answer_at(row, size, where).to_dict() for size in interval or (GIB, GIB))
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
            if row[column]:
                slack = 0.0051 if column == "concurrency" else 1 if column == "swa_tokens" else 0
                found.append(Check(column, float(row[column]), low[key] - slack, high[key] + slack))
    for column, key, scale in (("cpu_blocks", "cpu_blocks", 1), ("needed_gib", "needed_bytes", GIB)):
        if row[column]:
            value = low[key] / scale
            slack = 0.0051 if scale == GIB else 0
            found.append(Check(column, float(row[column]), value - slack, value + slack))
    return found


# -- from first principles -------------------------------------------------------------------------------


def stated(row: dict[str, str]) -> bool:
    """Rows that state the card, the share of it and how the weights are stored, of the very model that is asked.

    A stand-in has the cache of the logged model and other weights (a text model for a multimodal one); in a row
    that is not independent something was worked out from the log itself. The one row of TensorRT-LLM gave the
    constant of its buffers and proves nothing.
    """
    return bool(
        row["stand_in"] == "0"
        and row["independent"] == "1"
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


def card(row: dict[str, str]) -> Capacity:
    """The card that a row states, with the memory that the log prints, else the catalogue's."""
    known = find_device(row["gpu"]) if row["gpu"] else None
    name = known.name if known else f"{row['gpu_memory_gib']} GiB"
    size = gib_bytes(row["gpu_memory_gib"]) if row["gpu_memory_gib"] else known.memory_bytes if known else 0
    return Capacity(name, size)


def first_principles(row: dict[str, str]) -> FirstPrinciples:
    answer = answer_at(row, None, card(row))
    assert answer.ranged is not None
    logged = number(row["tokens"]) or int(row["blocks"]) * (answer.block_tokens or 16)
    ranged = answer.ranged
    values = [pool.printed if row["tokens"] else pool.tokens for pool in (ranged.pool, ranged.low, ranged.high)]
    return FirstPrinciples(row["id"], values[0] or 0, values[1] or 0, values[2] or 0, logged)


# -- llama.cpp -------------------------------------------------------------------------------------------


def llama_rows() -> list[dict[str, str]]:
    return rows("llamacpp_memory.csv")


def llama_answer(row: dict[str, str]) -> dict[str, Any]:
    options = Options(
        ctx_size=int(row["ctx_size"]),
        parallel=int(row["slots"]),
        ubatch_size=number(row["ubatch"]),
        batch_size=number(row["batch"]),
        flash_attn={"on": True, "off": False}.get(row["flash_attn"]),
        kv_unified=row["kv_unified"] == "1",
        swa_full=row["swa_full"] == "1",
        mla_mode=number(row["mla_mode"]),
        num_speculative_tokens=number(row["speculative"]) or 0,
    )
    request = Request(min(512, int(row["ctx_size"])), k_dtype=row["k_dtype"] or None, v_dtype=row["v_dtype"] or None)
    found = estimate(spec_of(row["model"]), request)
    return answer_of(row["program"], row["build"] or None, found, options).to_dict()


def llama_checks(row: dict[str, str], answer: dict[str, Any]) -> list[Check]:
    """Cache figures, within the two decimals of MiB that are printed."""
    full = "kv_full_bytes" if row["swa_mib"] else "kv_bytes"
    keys = {"kv_mib": full, "swa_mib": "kv_swa_bytes", "state_mib": "state_bytes", "total_mib": "kv_bytes"}
    found = []
    for column, key in keys.items():
        if row[column]:
            value, slack = answer[key] / MIB, 0.5 if column == "total_mib" else 0.011
            found.append(Check(column, float(row[column]), value - slack, value + slack))
    if row["swa_cells"]:
        found.append(Check("swa_cells", int(row["swa_cells"]), answer["kv_swa_cells"], answer["kv_swa_cells"]))
    return found


def compute_in_range(row: dict[str, str], answer: dict[str, Any]) -> bool:
    logged = float(row["compute_mib"]) * MIB
    return bool(answer["compute_buffer_bytes_low"] <= logged <= answer["compute_buffer_bytes_high"])


# -- counted, for docs/accuracy.md -----------------------------------------------------------------------


def accuracy_lines() -> list[str]:
    """How many logged figures agree, by engine, and each row that does not with its reason."""
    lines = ["| engine | rows | agree within the rounding of the log | within 1 % |", "|---|---|---|---|"]
    by_engine: dict[str, list[tuple[dict[str, str], list[Check]]]] = {}
    for row in logged_rows():
        by_engine.setdefault(row["engine"], []).append((row, checks(row)))
    for engine, found in sorted(by_engine.items()):
        exact = sum(all(check.agrees for check in each) for _, each in found)
        near = sum(all(check.off_percent <= 1 for check in each if check.what != "concurrency") for _, each in found)
        lines.append(f"| {engine} | {len(found)} | {exact} | {near} |")
    answers = [(row, llama_answer(row)) for row in llama_rows()]
    exact = sum(all(check.agrees for check in llama_checks(row, answer)) for row, answer in answers)
    lines.append(f"| llama.cpp, ik_llama.cpp, LM Studio: cells and buffers | {len(answers)} | {exact} | {exact} |")
    buffers = [compute_in_range(row, answer) for row, answer in answers if row["compute_mib"]]
    first = [first_principles(row) for row in logged_rows() if stated(row)]
    near5, near15 = (sum(abs(one.off_percent) <= limit for one in first) for limit in (5, 15))
    lines += [
        "",
        f"The range of the compute buffer holds {sum(buffers)} of {len(buffers)} logged ones. From model, card and flags alone "
        f"(nothing read from the log but what a user states) {len(first)} rows can be asked: the tokens are within 5 % on "
        f"{near5}, within 15 % on {near15}, and the printed range holds {sum(one.in_range for one in first)}. The rest are small "
        "pools on small cards, where the number of sequences that a notebook sets and does not print decides, and",
        "quantised checkpoints whose publishers leave more layers alone than the format says.",
        "",
        "Rows that differ:",
        "",
    ]
    lines += [f"- {row['id']}: {row['reason']}" for row in logged_rows() if row["reason"]]
    return lines

"""Counts and sizes that do not depend on an engine: worked cases, transformers' own tensors, bytes a token in logs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from planner.accuracy.cases import Cases, Row
from planner.dtypes.kinds import CacheFormat
from planner.dtypes.names import kv_format
from planner.memory.estimate import Estimate, estimate
from planner.memory.request import Request
from planner.memory.sharding import Sharding
from planner.model.cache import Cache
from planner.model.parameters import parameters, parameters_by_part
from planner.model.weights import TOWERS
from planner.readers.huggingface import read_file

BF16 = CacheFormat(kv_format("bf16"), kv_format("bf16"))
EXPLAINED = ("exact", "explained")

# Where the reference itself is not what a sequence needs, or not the published model, and why.
CACHE_REASONS = {
    "falcon-40b": "transformers stores keys broadcast to all 128 heads; engines store the 8 KV heads",
    "falcon-180b": "transformers stores keys broadcast to all 232 heads; engines store the 8 KV heads",
}
BYTES_REASONS = {
    "recurrentgemma-2b": "the reference counts an int64 window counter beside the cache",
    "deepseek-v4-pro": "the reference is of transformers 5.23, whose gate of the last closed block is not yet fp32",
}
PARAMETER_REASONS = {
    "deepseek-moe-16b": "the reference is a dots1 stand-in, with 7,168 q and k norms that the model lacks",
    "grok-1": "the reference is a Mixtral stand-in, without the model's two further norms a layer",
}
# How far a logged figure may stand above ours, in percent, by what was compared.
LOG_REASONS = {
    "SGLang pool delta / tokens": (1.0, "the drop in free memory also holds the request table"),
    "available GiB / blocks": (0.1, "what is left over below one block is counted as used"),
}


@dataclass(frozen=True)
class Count:
    """How many of a reference's figures ours equal."""

    reference: str
    agree: int
    of: int


def counts(cases: Cases) -> list[Count]:
    """Counts every reference of the folder."""
    worked = kv_cases(cases)
    parameter_rows = [row for row in cases.rows("parameters.csv") if row["model"] not in PARAMETER_REASONS]
    cache_rows = [row for row in cases.rows("cache_elements.csv") if row["model"] not in CACHE_REASONS]
    log_rows = cases.rows("engine_plain.csv")
    built = Verified(cases.record("verified.json"))
    found = [
        Count(
            "worked cases, to the byte, per device too (`kv_cases.json`)",
            sum(worked_exactly(cases, case) for case in worked),
            len(worked),
        ),
        Count(
            "parameter counts of transformers 5.23.0 models built at full size",
            sum(bool(ours & theirs) for ours, theirs in (parameter_counts(cases, row) for row in parameter_rows)),
            len(parameter_rows),
        ),
        Count(
            "cache tensors that those models made, elements",
            sum(int(row["elements"]) in cache_sizes(cases, row)[0] for row in cache_rows),
            len(cache_rows),
        ),
        Count(
            "bytes per token in start-up logs of real servers, within their rounding",
            sum(low <= off <= high for off, low, high in (logged_difference(cases, row) for row in log_rows)),
            len(log_rows),
        ),
        Count(
            "catalogue models that `kvplan verify --all` found exact or explained, layer by layer",
            built.agree,
            len(built.models),
        ),
    ]
    return [count for count in found if count.of]


def kv_cases(cases: Cases) -> list[dict[str, Any]]:
    """Reads the cases of the cache's formula."""
    found: list[dict[str, Any]] = cases.record("kv_cases.json").get("cases", [])
    return found


def kv_answer(cases: Cases, case: dict[str, Any]) -> Estimate:
    """Estimates one of these cases."""
    spec = read_file(str(cases.folder / "configs" / f"{case['config']}.json"))
    kv = case["cache_dtype"]
    request = Request(case["seq_tokens"], case["batch"], k_dtype=kv, v_dtype=kv, source_tokens=case["source_tokens"],
                      sharding=Sharding(tp=case["tp"]))  # fmt: skip
    return estimate(spec, request)


def worked_exactly(cases: Cases, case: dict[str, Any]) -> bool:
    """Tells whether a case comes out to the byte."""
    answer = kv_answer(cases, case)
    ours = (answer.kv_bytes, answer.state_bytes, answer.per_device.kv_bytes)
    return ours == (case["cache_bytes"], case["state_bytes"], case["cache_bytes_per_device"])


def parameter_counts(cases: Cases, row: Row) -> tuple[set[int], set[int]]:
    """Returns (ours: whole and text alone, the reference's)."""
    spec = cases.spec(row["model"])
    whole = parameters(spec)
    towers = sum(size for part, size in parameters_by_part(spec).items() if part in TOWERS)
    return {whole, whole - towers}, {int(row[key]) for key in ("text_or_whole", "with_towers") if row[key]}


def kept_by_transformers(cache: Cache, tokens: int, size: int) -> int:
    """Counts the tokens that transformers keeps: it drops a window's oldest token after a forward pass, so window - 1
    (and chunk - 1) stay.
    """
    limit = getattr(cache, "window", getattr(cache, "chunk", None))
    return size // limit * (limit - 1) if limit is not None and tokens >= limit else size


def cache_sizes(cases: Cases, row: Row) -> tuple[list[int], list[int]]:
    """Returns ([elements as needed, as transformers keeps], [bytes likewise]) of a catalogue model in bf16."""
    spec = cases.spec(row["model"])
    tokens, batch, source = int(row["seq_tokens"]), int(row["batch"]), int(row["source_tokens"] or 0)
    elements, size = [0, 0], [0, 0]
    for layer, count in spec.groups:
        for cache in layer.caches:
            numbers = cache.elements(tokens, source)
            kept, state = cache.kv_bytes(tokens, source, BF16), cache.state_bytes(BF16)
            elements[0] += batch * count * numbers
            elements[1] += batch * count * kept_by_transformers(cache, tokens, numbers)
            size[0] += batch * count * (kept + state)
            size[1] += batch * count * (kept_by_transformers(cache, tokens, kept) + state)
    return elements, size


def logged_difference(cases: Cases, row: Row) -> tuple[float, float, float]:
    """Returns (logged - ours in percent, lowest allowed, highest allowed) of bytes per token and device."""
    spec = cases.spec(row["layers_heads_dim"] or row["model"])
    request = Request(1, k_dtype=row["kv_dtype"], v_dtype=row["kv_dtype"], sharding=Sharding(tp=int(row["tp"])))
    ours, logged = estimate(spec, request).per_device.kv_bytes, float(row["bytes_per_token_per_device"])
    # The file gives the rounding of the printed figure to two decimals of a percent.
    allowed = float(row["rounding_tol_pct"]) + 0.01
    return (logged - ours) / logged * 100, -allowed, allowed + LOG_REASONS.get(row["compared"], (0.0, ""))[0]


@dataclass(frozen=True)
class Verified:
    """What `kvplan verify --all -o tests/cases/verified.json` wrote; {} where it did not."""

    raw: dict[str, Any]

    @property
    def models(self) -> list[dict[str, Any]]:
        """Returns the models whose type transformers knows."""
        return [model for model in self.raw.get("models", ()) if model["status"] != "unknown to transformers"]

    @property
    def agree(self) -> int:
        return sum(model["status"] in EXPLAINED for model in self.models)

    @property
    def lines(self) -> list[str]:
        """The section of docs/accuracy.md."""
        if not self.models:
            return []
        checks = [check for model in self.models for check in model.get("caches", ())]
        equal = sum(model["ours_parameters"] == model["theirs_parameters"] for model in self.models)
        layers, exact = sum(check["layers"] for check in checks), sum(check["exact"] for check in checks)
        reasons = sorted({reason for check in checks for reason in check.get("reasons", ())})
        filled = [model for model in self.models if model.get("filled")]
        unknown = [model["model"] for model in self.raw["models"] if model["status"] == "unknown to transformers"]
        built = len(self.models)
        return [
            "## kvplan verify --all",
            "",
            f"transformers {self.raw['transformers']}, torch {self.raw['torch']}, meta device, bf16; the cache after a prefill and after two decode steps, a",
            "second time with the largest window filled:",
            "",
            f"- {built} models of {len({model['model_type'] for model in self.models})} types built at full size; {equal} of {built} equal in parameters.",
            f"- {len(checks)} caches of {layers:,} layers read: {exact:,} layers equal to the byte, {layers - exact:,} with a reason:",
            *[f"  - {reason}" for reason in reasons],
            f"- {len(filled)} entries leave out keys that transformers would fill otherwise; each is said in the report: "
            f"{', '.join(model['model'] for model in filled)}.",
            f"- {len(unknown)} catalogue models are of types that transformers does not have: {', '.join(unknown)}.",
        ]

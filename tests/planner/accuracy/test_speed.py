"""The public function on each measured row's plain description: as near as the fit says, and as the project promised.

Sources of the rows: tests/cases/speed_sources.csv.
"""

from __future__ import annotations

import json
import math
from functools import lru_cache
from importlib.resources import files
from typing import Any

import pytest

from planner.accuracy.speed import speed_accuracy
from planner.speed.populations import CURRENT, OLD, device_class, population
from tests.speed_truth import DECODE, PP, PREFILL, QUEUED, REQUEST, TG, Row, llamacpp_rows, serving_rows


@lru_cache(maxsize=1)
def shipped() -> dict[str, Any]:
    made: dict[str, Any] = json.loads(files("model_configs").joinpath("speed.json").read_text(encoding="utf-8"))
    return made


def line(population: str, split: str) -> dict[str, Any]:
    return next(row for row in shipped()["errors"] if (row["population"], row["split"]) == (population, split))


@lru_cache(maxsize=1)
def rows() -> tuple[Row, ...]:
    return (*serving_rows().rows, *llamacpp_rows().rows)


def quantile(values: list[float], share: float) -> float:
    """As numpy: linear between neighbours."""
    ordered, place = sorted(values), share * (len(values) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


@lru_cache(maxsize=8)
def measured(kind: str) -> tuple[list[float], float]:
    """(percent off of each dense row that is not set apart, share of them in the printed range), by the public function."""
    kept = [(row, row.predicted()) for row in rows() if row.kind == kind and row.dense and not row.apart]
    off = [100 * abs(figure.value / row.seconds - 1) for row, figure in kept]
    return off, sum(figure.low <= row.seconds <= figure.high for row, figure in kept) / len(kept)


@pytest.mark.parametrize("kind", [DECODE, REQUEST, PREFILL, TG])
def test_a_plain_description_gets_what_the_fit_gives(kind: str) -> None:
    off, inside = measured(kind)
    said = line(kind, "fitted")
    assert said["rows"] <= len(off) < 1.1 * said["rows"]  # the catalogue may have learnt devices since the fit
    assert quantile(off, 0.5) == pytest.approx(said["median_percent"], abs=1)
    assert quantile(off, 0.9) == pytest.approx(said["p90_percent"], abs=3)
    assert 100 * inside == pytest.approx(said["in_range_percent"], abs=3)


def test_time_between_tokens_is_as_near_as_promised() -> None:
    seen, unseen = line(DECODE, "rows left out"), line(DECODE, "device left out")
    assert seen["median_percent"] <= 6 and seen["p90_percent"] <= 20
    assert unseen["median_percent"] <= 10 and unseen["p90_percent"] <= 30
    assert 85 <= seen["in_range_percent"] <= 95 and 85 <= unseen["in_range_percent"] <= 95
    off, inside = measured(DECODE)
    assert quantile(off, 0.5) <= 6 and quantile(off, 0.9) <= 20 and 0.85 <= inside <= 0.95


def test_prefill_is_as_near_as_promised() -> None:
    for kind, median, p90 in ((PREFILL, 10, 30), (f"{PP}: several devices", 20, 60)):
        seen = line(kind, "rows left out")
        assert seen["median_percent"] <= median and seen["p90_percent"] <= p90 and 85 <= seen["in_range_percent"] <= 95
    assert quantile(measured(PREFILL)[0], 0.5) <= 10


def test_a_device_with_rows_enough_has_a_range_of_its_own() -> None:
    for fit in shipped()["fits"]:
        for factors in fit["devices"].values():
            assert all(
                factors[f"{what}_low"] < 1 < factors[f"{what}_high"]
                for what in ("tpot", "ttft")
                if f"{what}_low" in factors
            )
    assert any("tpot_low" in factors for fit in shipped()["fits"] for factors in fit["devices"].values())


def test_llamacpp_on_one_device_is_as_near_as_promised() -> None:
    assert line(f"{TG}: one device", "rows left out")["median_percent"] <= 10
    assert line(f"{TG}: one device", "device left out")["median_percent"] <= 20


def test_llamacpp_with_experts_is_checked_on_rows_of_its_own() -> None:
    """gpt-oss, Qwen3, Gemma 4 and others on GB10, Strix Halo and cards: no constant of a server stands in for them."""
    said = line(f"MoE: {TG}", "rows left out")
    assert said["rows"] >= 40 and said["median_percent"] <= 20
    kept = [row for row in llamacpp_rows().rows if not row.dense and not row.apart]
    off = [abs(math.log(row.predicted().value / row.seconds)) for row in kept]
    assert math.exp(quantile(off, 0.5)) <= 1.2


def test_processors_are_as_near_as_cards() -> None:
    """Llama-3.1-8B on two processors of 16 and 32 cores, llama.cpp of September 2024 (ik_llama.cpp PR 54, first column)."""
    kept = [row for row in llamacpp_rows().rows if row.device.vendor == "CPU" and not row.apart]
    assert len({row.device.name for row in kept}) >= 4
    off = [abs(row.predicted().value / row.seconds - 1) for row in kept]
    assert quantile(off, 0.5) <= 0.2


def test_the_fit_beats_a_plain_roofline_on_every_kind() -> None:
    for plain in shipped()["plain"]:
        # of llama.cpp's tokens 11 rows are of an Intel card of 2026, which rows of one of 2024 answer when it is left out
        assert line(plain["population"], "device left out")["median_percent"] < 0.7 * plain["median_percent"]


def test_ttft_under_load_is_mostly_in_its_range() -> None:
    kept = [
        (row, row.predicted())
        for row in rows()
        if row.kind == QUEUED and row.dense and row.batch > 1 and row.apart != "lengths spread"
    ]
    assert len(kept) > 400
    assert sum(figure.low <= row.seconds <= figure.high for row, figure in kept) / len(kept) > 0.85


def test_no_measured_row_beats_the_bound_by_more_than_its_description_explains() -> None:
    faster = [row for row in rows() if not row.apart and row.dense and row.seconds < 0.97 * row.predicted().bound]
    assert len(faster) <= 0.005 * len(rows())


def test_what_is_set_apart_or_unknown_is_said_on_the_page() -> None:
    page = speed_accuracy()
    for word in ("experts", "PCIe", "TTFT under load", "set apart", "model left out", "roofline at"):
        assert word in page
    assert page.count("\n| ") > 40


def test_versions_and_loads_choose_the_generation() -> None:
    h100 = rows()[0].device
    wanted = {
        ("vllm", "serving"): CURRENT,
        ("vllm", "static"): OLD,
        ("vllm==0.11.2", "static"): CURRENT,
        ("vLLM==0.6.3/0.6.4 dev", "serving"): OLD,
        ("vllm-v0", "serving"): OLD,
        ("TensorRT-LLM==0.9.0", "serving"): OLD,
        ("sglang==0.5.6", "static"): CURRENT,
    }
    for (engine, load), generation in wanted.items():
        assert population(engine, load, h100).generation == generation
    assert population("NVIDIA NIM (TensorRT-LLM)", "serving", h100).engine == "tensorrt-llm"
    assert population("vLLM (ROCm)", "static", h100).engine == "vllm"
    assert device_class(h100) in ("nvidia hbm", "nvidia gddr")


def test_the_page_counts_the_groups_and_names_those_outside() -> None:
    """85 to 95 % is aimed at in every group; what lies outside is said, with what the draw alone may do."""
    groups, page = shipped()["groups"], speed_accuracy()
    assert len(groups) > 100 and all(group["rows"] >= 20 for group in groups)
    within = sum(not group["verdict"] for group in groups)
    assert f"{within} of {len(groups)} groups hold 85 to 95 %" in page
    assert page.count("| **outside** |") == sum(group["verdict"] == "outside" for group in groups) <= 0.1 * len(groups)

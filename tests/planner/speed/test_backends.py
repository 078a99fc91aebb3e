"""Backends of llama.cpp: the ratios are those of measured pairs, and what they make of a step, a prompt and a range."""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.catalogue.entries import devices, find_device, find_model
from planner.errors import BadRequest
from planner.memory.estimate import estimate
from planner.memory.request import Request
from planner.readers import read_entry
from planner.speed.backends import (
    BACKENDS,
    FLOATS,
    MEASURED,
    Ratio,
    backend_on,
    check_backend,
    own_backend,
    runs_on,
    wider,
    with_backend,
)
from planner.speed.constants import constants_for
from planner.speed.speed import Figure, Speed, model_constants, speed
from planner.speed.work import stored_name, work
from tests.speed_truth import TG, Row, llamacpp_rows

ROWS = Path("tests/cases/llamacpp_speed.csv")
STRIX = "Ryzen-AI-Max-395-128GB"


def _rows() -> list[dict[str, str]]:
    with ROWS.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# -- where the ratios are from -----------------------------------------------------------------------------


def _pairs() -> dict[tuple[str, str, str, str], list[float]]:
    """Time of Vulkan over that of the device's own backend: same source, model, device, format and lengths. Rows of builds
    that are named (those before experts' prompts were grouped) and of backends marked early are no pairs.
    """
    alike: dict[tuple[str, ...], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in _rows():
        if row["build"] or row["apart"] not in ("", "ik_llama.cpp"):
            continue
        names = ("source", "model", "gpu", "gpus", "weight_dtype", "what", "tokens", "depth")
        alike[tuple(row[name] for name in names)][row["backend"].lower()].append(float(row["tokens_per_s"]))
    found: dict[tuple[str, str, str, str], list[float]] = defaultdict(list)
    for (_, _, gpu, _, weights, what, *_), rates in alike.items():
        device = find_device(gpu)
        own = own_backend(device) or ""
        kind = weights if weights in FLOATS else "quantised"
        for first, second in product(rates.get(own, ()), rates.get("vulkan", ())):
            found[(device.vendor or "").lower(), "vulkan", kind, what].append(first / second)
    return found


def test_the_ratios_are_those_of_all_pairs_of_measured_rows() -> None:
    held = {
        (*key, what): ratio.pairs
        for key, both in MEASURED.items()
        for what, ratio in zip(("tg", "pp"), both, strict=True)
        if ratio is not None
    }
    found = _pairs()
    assert set(held) == set(found)
    for key, pairs in held.items():
        assert sorted(pairs) == pytest.approx(sorted(found[key]), abs=6e-4), key


def test_bf16_on_vulkan_is_nearer_with_its_ratio_and_in_the_range() -> None:
    without, with_it = [], []
    for raw, row in zip(_rows(), llamacpp_rows().rows, strict=True):
        if (raw["gpu"], raw["backend"], raw["weight_dtype"]) != (STRIX, "Vulkan", "bf16"):
            continue
        plain, found = row.predicted(), _predicted(row)
        assert found.low <= row.seconds <= found.high, raw
        without.append(abs(math.log(plain.value / row.seconds)))
        with_it.append(abs(math.log(found.value / row.seconds)))
    assert len(without) == 8 and sum(with_it) < 0.7 * sum(without)


def _predicted(row: Row) -> Figure:
    constants = model_constants(constants_for(row.engine, row.device, row.load), work(row.answer))
    found = row.asked(with_backend(constants, backend_on("vulkan", row.device, stored_name(row.answer.plan))))
    return found.tpot_seconds if row.kind == TG else found.prefill_tokens_per_s.inverse(row.batch * row.prompt)


# -- which device runs which -------------------------------------------------------------------------------


def test_every_device_runs_its_own_and_refuses_the_rest_in_one_line() -> None:
    for device in devices():
        known = runs_on(device)
        assert known[:1] == tuple(filter(None, (own_backend(device),)))
        assert set(known) <= set(BACKENDS)
        for name in set(BACKENDS) - set(known):
            with pytest.raises(BadRequest, match=f"--backend {name}") as caught:
                check_backend(name, device)
            assert "\n" not in str(caught.value)


@pytest.mark.parametrize("weights", ["bf16", "fp16", "q4_k_m", "mxfp4"])
@pytest.mark.parametrize("gpu", ["rtx-4090", "rx-7900xtx", "arc-b580"])
def test_without_pairs_the_figures_are_those_of_the_own_and_the_range_is_no_narrower(gpu: str, weights: str) -> None:
    found = backend_on("vulkan", find_device(gpu), weights)
    assert found is not None and found.tokens is not None and found.prompts is not None
    for ratio in (found.tokens, found.prompts):
        low, high = ratio.ends
        assert low <= 1 <= high and (ratio.factor == 1 or not ratio.no_pair)
        assert not ratio.no_pair or high > 2


# -- what they make of an answer ---------------------------------------------------------------------------


def _speeds(batch: int, load: str = "serving") -> tuple[Speed, Speed]:
    """bf16 on a card of AMD: with its own backend, with Vulkan."""
    device = find_device("rx-7900xtx")
    one = estimate(read_entry(find_model("llama-3.2-3b")), Request(1024))
    own = model_constants(constants_for("llamacpp", device, load), work(one))
    vulkan = with_backend(own, backend_on("vulkan", device, stored_name(one.plan)))
    first, second = (
        speed(one, device, prompt_tokens=512, output_tokens=64, batch=batch, load=load, constants=constants)
        for constants in (own, vulkan)
    )
    return first, second


def test_a_token_and_a_prompt_take_as_much_longer_as_was_measured() -> None:
    own, vulkan = _speeds(1, "static")
    tokens, prompts = (1.271 * 1.325 * 2.080) ** (1 / 3), (1.169 * 3.149) ** (1 / 2)  # by hand
    assert vulkan.tpot_seconds.value / own.tpot_seconds.value == pytest.approx(tokens, rel=1e-6)
    assert own.prefill_tokens_per_s.value / vulkan.prefill_tokens_per_s.value == pytest.approx(prompts, rel=1e-6)


def test_prompts_of_others_are_prompts() -> None:
    own, vulkan = (found.tpot_parts["prefill of others"] for found in _speeds(4))
    assert vulkan / own == pytest.approx((1.169 * 3.149) ** 0.5, rel=1e-6)


@given(batch=st.integers(1, 64), load=st.sampled_from(["static", "serving"]))
def test_a_range_is_wider_than_that_of_the_own_and_holds_the_expectation(batch: int, load: str) -> None:
    own, vulkan = _speeds(batch, load)
    for name in ("ttft_seconds", "tpot_seconds"):
        first, second = getattr(own, name), getattr(vulkan, name)
        assert second.bound <= second.low <= second.value <= second.high
        assert second.high / second.value > first.high / first.value


ENDS = st.tuples(st.floats(0.01, 1.0), st.floats(1.0, 100.0))


@given(ENDS, ENDS)
def test_two_ranges_together_are_wider_than_each_and_no_wider_than_their_product(
    one: tuple[float, float], other: tuple[float, float]
) -> None:
    low, high = wider(one, other)
    assert one[0] * other[0] * (1 - 1e-9) <= low <= min(one[0], other[0]) * (1 + 1e-9)
    assert max(one[1], other[1]) * (1 - 1e-9) <= high <= one[1] * other[1] * (1 + 1e-9)


@given(st.lists(st.floats(0.2, 5.0), min_size=1, max_size=6))
def test_the_mean_lies_among_the_pairs_and_fewer_pairs_stretch_the_range_more(pairs: list[float]) -> None:
    ratio, twice = Ratio(tuple(pairs), ""), Ratio(tuple(pairs) * 2, "")
    assert min(pairs) * (1 - 1e-9) <= ratio.factor <= max(pairs) * (1 + 1e-9)
    assert ratio.ends[0] <= twice.ends[0] * (1 + 1e-9) and ratio.ends[1] >= twice.ends[1] * (1 - 1e-9)

"""Our numbers against what reality printed: worked cases, real implementations, real server logs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from planner.accuracy import references
from planner.accuracy.cases import Cases, Row
from planner.catalogue.entries import models
from planner.memory.estimate import estimate
from planner.memory.request import Request
from planner.model.parameters import parameters, parameters_by_part
from planner.model.weights import TOWERS
from planner.readers import read_entry

CASES = Cases(Path(__file__).parents[2] / "cases")


@pytest.mark.parametrize(
    "case",
    references.kv_cases(CASES),
    ids=lambda c: f"{c['config']}-{c['seq_tokens']}-{c['cache_dtype']}-tp{c['tp']}",
)
def test_worked_case_is_exact_to_the_byte(case: dict[str, Any]) -> None:
    answer = references.kv_answer(CASES, case)
    assert answer.kv_bytes == case["cache_bytes"]
    assert answer.state_bytes == case["state_bytes"]
    assert answer.per_device.kv_bytes == case["cache_bytes_per_device"]


@pytest.mark.parametrize("row", CASES.rows("parameters.csv"), ids=lambda r: r["model"])
def test_parameters_equal_the_implementation_built_at_full_size(row: Row) -> None:
    if row["model"] in references.PARAMETER_REASONS:
        pytest.skip(references.PARAMETER_REASONS[row["model"]])
    ours, theirs = references.parameter_counts(CASES, row)
    assert ours & theirs


@pytest.mark.parametrize(
    "row",
    CASES.rows("cache_elements.csv"),
    ids=lambda r: f"{r['model']}-{r['seq_tokens']}x{r['batch']}-{r['source_tokens']}",
)
def test_cache_equals_the_implementations_own_tensors(row: Row) -> None:
    if row["model"] in references.CACHE_REASONS:
        pytest.skip(references.CACHE_REASONS[row["model"]])
    elements, size = references.cache_sizes(CASES, row)
    assert int(row["elements"]) in elements
    if row["model"] not in references.BYTES_REASONS:
        assert int(row["bytes_bf16"]) in size


@pytest.mark.parametrize("row", CASES.rows("engine_plain.csv"), ids=lambda r: r["id"])
def test_bytes_per_token_equal_a_server_log_within_its_rounding(row: Row) -> None:
    difference, low, high = references.logged_difference(CASES, row)
    assert low <= difference <= high


def confirmed(model: dict[str, Any]) -> tuple[int, list[int]]:
    """The parameters of what was built and the cache bytes of each run, as we have them now."""
    spec = CASES.spec(model["model"])
    towers = sum(size for part, size in parameters_by_part(spec).items() if part in TOWERS)
    runs = []
    prompt = model["caches"][0]["tokens"]  # an encoder reads as many
    source = (prompt if spec.source_tokens is None else spec.source_tokens) if spec.has_cross_attention else 0
    for check in model["caches"]:
        tokens = check["tokens"]
        caches = [(cache, count) for layer, count in spec.groups for cache in layer.caches]
        runs.append(
            check["batch"]
            * sum(
                count * (c.kv_bytes(tokens, source, references.BF16) + c.state_bytes(references.BF16))
                for c, count in caches
            )
        )
    return parameters(spec) - (towers if model.get("text_only") else 0), runs


@pytest.mark.parametrize("model", references.Verified(CASES.record("verified.json")).models, ids=lambda m: m["model"])
def test_numbers_that_the_real_implementation_confirmed_have_not_moved(model: dict[str, Any]) -> None:
    """Where this fails because a number was put right: kvplan verify --all -o tests/cases/verified.json."""
    assert model["status"] in references.EXPLAINED
    assert confirmed(model) == (
        model["ours_parameters"],
        [check["ours_bytes"] for check in model["caches"]],
    )


@pytest.mark.parametrize("entry", models(), ids=lambda e: e.name)
def test_every_catalogue_model_gives_an_answer(entry: Any) -> None:
    answer = estimate(read_entry(entry), Request(4096))
    assert answer.kv_bytes + answer.state_bytes > 0
    assert answer.parameters >= answer.active_parameters > 0

"""The fit finds constants that made its rows, and what is left out has no share in what is said of it."""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

np = pytest.importorskip("numpy")

from planner.speed.constants import DEFAULT
from tests.speed_truth import DECODE, Row, serving_rows


def script() -> ModuleType:
    if "fit_speed" not in sys.modules:
        path = Path(__file__).parents[2] / "benchmarks" / "fit_speed.py"
        spec = importlib.util.spec_from_file_location("fit_speed", path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["fit_speed"] = module
        spec.loader.exec_module(module)
    return sys.modules["fit_speed"]


TRUE = replace(
    DEFAULT, memory_efficiency=0.7, layer_seconds=110e-6, sequence_seconds=60e-6, all_reduce_seconds=8e-6, mixed_efficiency=0.4
)  # fmt: skip


def rows() -> list[Row]:
    """Rows of current servers, with the values that TRUE would have given."""
    kept = [
        row for row in serving_rows().rows
        if row.kind == DECODE and row.dense and not row.apart and row.load == "serving" and row.engine in ("vLLM", "TensorRT-LLM")
    ]  # fmt: skip
    made = [replace(row, value=1e3 * row.predicted(TRUE).value) for row in kept]
    assert len(made) > 100
    return made


def test_a_fit_finds_the_times_that_made_its_rows() -> None:
    fit_speed = script()
    data = fit_speed.data_of(rows())
    found = fit_speed.fit(data, DEFAULT)
    assert np.median(np.abs(data.errors(found))) < 0.02
    assert np.median(np.abs(data.errors(DEFAULT))) > 0.1
    assert found.layer_seconds == pytest.approx(TRUE.layer_seconds, rel=0.15)
    assert found.sequence_seconds == pytest.approx(TRUE.sequence_seconds, rel=0.25)


def test_arrays_and_the_public_function_give_the_same_seconds() -> None:
    fit_speed = script()
    mixed = [row for row in serving_rows().rows if row.measured != "ttft_ms" or row.load == "static"][::40]
    data = fit_speed.data_of(mixed)
    for seconds, row in zip(data.predicted(TRUE), mixed, strict=True):
        assert seconds == pytest.approx(row.predicted(TRUE).value, rel=1e-9), row


def test_a_device_that_is_left_out_has_no_share_in_its_constants() -> None:
    fit_speed = script()
    slow = [replace(row, value=2 * row.value) if row.device.name.startswith("B200") else row for row in rows()]
    data = fit_speed.data_of(slow)
    everything = np.arange(len(data))
    errors = fit_speed.left_out(data, everything, lambda i: slow[i].device.name)
    of_b200 = np.array([row.device.name.startswith("B200") for row in slow])
    assert np.median(errors[of_b200]) == pytest.approx(-np.log(2), abs=0.12)


def test_the_factor_of_a_device_is_drawn_to_one_while_rows_are_few() -> None:
    scale_of = script().scale_of
    assert scale_of(np.array([])) == 1
    one, many = scale_of(np.full(1, -0.3)), scale_of(np.full(200, -0.3))
    assert 1 < one < 1.06 and many == pytest.approx(np.exp(0.3), rel=0.02)
    assert scale_of(np.full(200, -3.0)) == script().LARGEST_SCALE


def test_the_shipped_file_holds_what_constants_are_made_of() -> None:
    fit_speed = script()
    made = json.loads(fit_speed.OUT.read_text(encoding="utf-8"))
    for entry in made["fits"]:
        assert set(entry["constants"]) == set(fit_speed.NAMES)
        for queue in (entry["queue"], entry["experts_queue"]):
            assert queue["low"] < 1 < queue["high"] and queue["own"] > 0 and queue["seconds"] >= 0
        for devices in entry["shapes"].values():
            assert "" in devices  # any other device
            for factors in devices.values():
                assert set(factors) <= {"roof", "fixed", "prompts", "waiting", "prompt"}
                assert all(
                    1 / fit_speed.MOST_STRETCH <= factor <= fit_speed.MOST_STRETCH for factor in factors.values()
                )
        assert all(value > 0 for value in entry["constants"].values())
        assert all(value <= 1 for name, value in entry["constants"].items() if name.endswith("efficiency"))
        for side in ("range_seen", "range_unseen"):
            assert entry[side]["tpot_low"] < 1 < entry[side]["tpot_high"]
            assert entry[side]["ttft_low"] < 1 < entry[side]["ttft_high"]
    assert made["fits"][-1]["engine"] == "" and made["fits"][-1]["classes"] == []  # somebody always answers


def test_the_range_of_a_circle_is_drawn_to_the_wider_one_by_half_at_twenty_rows() -> None:
    """2,000 rows within a tenth, and 20 of a device within three tenths, of which few count to their last: (0.1 + 0.3) / 2."""
    fit_speed = script()
    wide, own = np.linspace(-0.1, 0.1, 2001), np.concatenate([np.full(10, -0.3), np.full(10, 0.3)])
    low, high = fit_speed.drawn([wide])
    assert np.log([low, high]) == pytest.approx([-0.09, 0.09], abs=2e-3)
    low, high = fit_speed.drawn([wide, own])
    assert np.log([low, high]) == pytest.approx([-0.195, 0.195], abs=2e-3)
    assert fit_speed.drawn([wide, np.array([])]) == fit_speed.drawn([wide])
    assert fit_speed.levels(10) == (0.0, 1.0) and fit_speed.levels(1000)[1] == pytest.approx(0.95, abs=1e-3)

"""Result files: JSON both ways, and one line for what is damaged, foreign or newer. No torch here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from profiler.results import BadResult, Check, Environment, Measurement, Point, Reading, load

HERE = Environment(
    "AMD EPYC", "cpu", "Linux 6", "2.13.0", "3.11", "Linux", 2, 1 << 34, "0.1.0", "abc", "2026-01-02T03:04:05+00:00"
)
RUN = Measurement(
    model="gpt2", model_type="gpt2", parameters=124439808, layers=12, layers_run=12, dtype="fp32", linear="plain",
    weights="random", environment=HERE,
    checks=(Check("kv_bytes", "static", 100, 100), Check("prefill_peak_bytes", "static", 100, None, "estimated", 50, 200)),
    points=(Point("decode", 1, 64, cache="static", readings={"step_seconds": Reading(0.02, "measured", 0.019, 0.021, 5), "tokens_per_s": Reading(50)}),),
    figures={"crossing_tokens": Reading(4, "estimated")}, notes=("a note",), warnings=("a warning",),
)  # fmt: skip


def changed(**values: Any) -> str:
    return json.dumps({**RUN.to_dict(), **values})


def test_a_result_comes_back_as_it_went_into_json() -> None:
    assert Measurement.from_json(RUN.to_json()) == RUN


def test_whole_numbers_stay_whole() -> None:
    back = Measurement.from_json(RUN.to_json())
    assert type(back.checks[0].predicted) is int


def test_json_carries_verdicts_for_other_readers() -> None:
    assert [c["verdict"] for c in RUN.to_dict()["checks"]] == ["exact", "not measured"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "damaged or not JSON"),
        ('{"kind": "kvplan measurement"', "damaged or not JSON"),
        ("[1]", "not a result"),
        ('{"kind": "pyperf"}', "not a result"),
        (changed(schema_version=99), "newer than this kvplan"),
        (changed(schema_version=True), "no schema_version"),
        (changed(schema_version=0), "no schema_version"),
        (changed(layers="12"), "wants a whole number"),
        (changed(points={}), "wants a list"),
        (changed(points=[{"what": "decode", "speed": 1}]), "not known"),
        (changed(environment={}), "lacks"),
        (changed(checks=[3]), "wants an object"),
        (changed(figures={"x_bytes": {"value": "1"}}), "wants a number"),
        (changed(figures={"x_bytes": {"value": 1, "kind": "guessed"}}), "exact, estimated, measured"),
        (RUN.to_json().replace("0.02,", "NaN,"), "damaged or not JSON"),
        (RUN.to_json().replace("0.02,", "1e999,"), "1e999 is no figure"),
        (RUN.to_json().replace("0.02,", "1e99,"), r"points\[0\].readings.step_seconds.value: 1e\+99 is out of range"),
        (RUN.to_json().replace("0.02,", "-0.02,"), "out of range"),
        (RUN.to_json().replace("0.02,", "0,"), "is zero"),
        (RUN.to_json().replace("0.02,", "1" * 400 + ","), "400 digits"),
        (RUN.to_json().replace("a note", "\\ud800"), "half of one"),
        (RUN.to_json().replace("tokens_per_s", "tokens"), "lacks readings.tokens_per_s"),
        ("[" * 100_000, "damaged or not JSON"),
    ],
)  # fmt: skip
def test_what_is_not_a_result_is_refused_in_one_line(text: str, words: str) -> None:
    with pytest.raises(BadResult, match=words) as refused:
        Measurement.from_json(text, "run.json")
    message = str(refused.value)
    assert message.isprintable() and len(message) < 300


def test_a_file_that_is_not_there_or_not_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadResult, match="cannot be read"):
        load(str(tmp_path / "none.json"))
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadResult, match="UTF-8"):
        load(str(tmp_path / "binary.json"))
    (tmp_path / "good.json").write_text(RUN.to_json(), encoding="utf-8")
    assert load(str(tmp_path / "good.json")) == RUN


def test_only_an_exact_prediction_that_was_measured_can_fail() -> None:
    assert Check("kv_bytes", "", 100, 101).failed
    assert not Check("kv_bytes", "", 100, 100).failed
    assert not Check("kv_bytes", "", 100, None).failed
    assert not Check("peak_bytes", "", 100, 300, "estimated", 50, 200).failed
    assert Check("peak_bytes", "", 100, 300, "estimated", 50, 200).verdict == "off"
    assert Check("nothing_bytes", "", 0, 0).verdict == "exact"
    assert Check("nothing_bytes", "", 0, 5).verdict == "off" and Check("nothing_bytes", "", 0, 5).error is None


def test_results_are_read_without_torch() -> None:
    code = "import sys, profiler.results; assert not {'torch', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).resolve().parents[2])

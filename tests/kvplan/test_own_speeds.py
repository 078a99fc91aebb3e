"""`calibrate --from` stores constants under a name, every command takes them; --measured in plan and fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from planner.catalogue.device import OwnSpeed
from planner.catalogue.entries import find_device, known_device, measured_names
from planner.speed.constants import constants_for

Run = Callable[..., Any]
CASES = Path(__file__).parents[1] / "cases" / "benchmarks"
BENCH = str(CASES / "llama-bench.json")
OF = ("--gpu", "l4", "--model", "llama-3.1-8b", "--dtype", "q4_k_m")
SPEED = ("speed", "llama-3.1-8b", "--dtype", "q4_k_m", "--prompt", "1", "--answer", "128", "--batch", "1", "--load", "static", "--json")  # fmt: skip


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KVPLAN_CONFIG_DIR", str(tmp_path))
    return tmp_path


def test_what_is_stored_meets_the_points_it_is_made_of(run: Run, home: Path) -> None:
    """llama-bench.json says 20 ms a token at tg128 (figures by hand, tests/cases/benchmarks/README.md)."""
    stored = run("calibrate", "--from", BENCH, *OF, "--json").json
    assert (stored["name"], stored["device"], stored["engine"]) == ("mine", "L4", "llamacpp")
    assert [point["tpot_seconds"] for point in stored["points"]] == [None, 0.02, 0.025]
    found = run(*SPEED, "--gpu", "mine").json
    assert found["device"] == "L4 (mine)"
    assert found["tpot_seconds"] == pytest.approx(0.020, rel=0.05)
    assert "stored as mine on " in found["constants_from"] and "3 measured points given" in found["constants_from"]
    assert found["tpot_seconds"] != run(*SPEED, "--gpu", "l4", "--engine", "llamacpp").json["tpot_seconds"]


def test_the_page_says_what_is_stored_and_how_far_off_points_left_out_were(run: Run, home: Path) -> None:
    page = run("calibrate", "--from", BENCH, *OF, "--name", "My-Box").out
    assert page.splitlines()[1].startswith("STORED: 3 measured points given")
    assert "when left out" in page and "use it: kvplan speed llama-3.1-8b --gpu my-box" in page
    assert measured_names() == ["my-box"]


@pytest.mark.parametrize(
    "command",
    [
        ("estimate", "gpt2"),
        ("fit", "gpt2"),
        ("speed", "gpt2", "--prompt", "100", "--answer", "100"),
        ("plan", "gpt2", "--users", "2", "--prompt", "100", "--answer", "100"),
        ("simulate", "gpt2", "--rate", "1/s", "--prompt", "100", "--answer", "20", "--requests", "20"),
        ("check", "--", "vllm", "serve", "gpt2"),
        ("engines", "gpt2"),
    ],
)
def test_every_command_takes_the_name(run: Run, home: Path, command: tuple[str, ...]) -> None:
    run("calibrate", "--from", BENCH, *OF)
    at = command.index("--") if "--" in command else len(command)
    done = run(*command[:at], "--gpu", "mine", *command[at:])
    assert done.code == 0 and "L4 (mine)" in done.out


def test_the_catalogue_lists_it_beside_its_own(run: Run, home: Path) -> None:
    run("calibrate", "--from", BENCH, *OF)
    assert "L4 (mine)" in run("gpus", "mine").out
    mine, l4 = known_device("mine"), find_device("l4")
    assert mine is not None and (mine.memory_bytes, mine.prices) == (l4.memory_bytes, l4.prices)
    assert find_device("L4 (mine)") == mine
    assert known_device("others") is None


def test_another_engine_keeps_its_shipped_constants_and_says_so(run: Run, home: Path) -> None:
    run("calibrate", "--from", BENCH, *OF)
    mine = known_device("mine")
    assert mine is not None
    found, shipped = constants_for("vllm", mine), constants_for("vllm", find_device("l4"))
    assert found.memory_efficiency == shipped.memory_efficiency and found.tpot_high == shipped.tpot_high
    assert "stored as mine is of llamacpp" in found.origin


def test_another_model_has_no_narrower_range_than_the_shipped_one(home: Path, run: Run) -> None:
    run("calibrate", "--from", BENCH, *OF)
    mine = known_device("mine")
    assert mine is not None and mine.own is not None
    found, shipped = constants_for(None, mine), constants_for("llamacpp", find_device("l4"))
    same, other = found.of_model(mine.own.shape, experts=False), found.of_model("12x768 fp16", experts=False)
    assert same.tpot_high == found.tpot_high
    assert other.tpot_low <= min(found.tpot_low, shipped.tpot_low)
    assert other.tpot_high >= max(found.tpot_high, shipped.tpot_high)
    assert "another model or format" in other.origin and "another model" not in same.origin


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"constants": {"memory_efficiency": -1}}, "is no constant of a speed"),
        ({"constants": {"speed_of_light": 1.0}}, "speed_of_light"),
        ({"constants": [1]}, "wants an object"),
        ({"schema_version": 9}, "update kvplan"),
        ({"kind": "another"}, "is not what kvplan calibrate --from writes"),
        ({"device": "nonesuch-9000"}, "not in the catalogue"),
        ({"words": "two\nlines"}, "more than a line"),
    ],
)
def test_a_damaged_file_is_one_line(run: Run, home: Path, change: dict[str, Any], words: str) -> None:
    run("calibrate", "--from", BENCH, *OF)
    path = home / "measured" / "mine.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert words in run("speed", "gpt2", "--gpu", "mine").refused()


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"kind": "kvplan measured device"}', "\0\0"])
def test_a_file_that_is_none_is_one_line_and_can_be_written_anew(run: Run, home: Path, text: str) -> None:
    path = home / "measured" / "mine.json"
    path.parent.mkdir()
    path.write_text(text)
    assert "mine.json" in run("fit", "gpt2", "--gpu", "mine").refused()
    assert run("calibrate", "--from", BENCH, *OF).code == 0


@pytest.mark.parametrize("name", ["l4", "local", "../mine", "", "a b", "9", "x" * 41, "mine (x)"])
def test_a_name_that_a_device_has_or_that_is_no_file_name_is_refused(run: Run, home: Path, name: str) -> None:
    assert "--name" in run("calibrate", "--from", BENCH, *OF, "--name", name).refused()
    assert not (home / "measured").exists()


def test_files_that_name_no_model_or_no_device_are_asked_for_it(run: Run, home: Path) -> None:
    assert "--gpu NAME" in run("calibrate", "--from", BENCH).refused(2)
    assert "--model NAME" in run("calibrate", "--from", "tpot_ms=20 batch=1", "--gpu", "l4").refused()
    assert "--gpu" in run("calibrate", "--gpu", "l4").refused(2)


def test_plan_makes_its_speeds_of_the_points(run: Run) -> None:
    """60 ms a token of 8 requests where the shipped fit expects about 60: twice as long shows in every plan."""
    asked = ("plan", "llama-3.1-8b", "--users", "8", "--prompt", "1k", "--answer", "200", "--gpu", "l4", "--as-published", "--engine", "vllm", "--json")  # fmt: skip
    plain = run(*asked).json["plans"][0]
    slow = run(*asked, "--tpot", "1s", "--measured", "tpot_ms=130 batch=8 prompt=1k answer=200").json["plans"]
    one = next(plan for plan in slow if plan["layout"] == plain["layout"])
    assert one["tpot_seconds"] == pytest.approx(0.130, rel=0.1) and plain["tpot_seconds"] < 0.09
    assert "taken as of one L4, weights in bf16, KV in bf16" in one["constants_from"]


def test_fit_says_how_many_users_the_targets_allow(run: Run) -> None:
    asked = ("fit", "llama-3.1-8b", "--gpu", "l40s", "--engine", "vllm", "--seq", "2k", "--json")
    point = ("--measured", "tpot_ms=30 batch=8 prompt=1k answer=200")
    assert "users" not in run(*asked).json
    loose, tight = (run(*asked, *point, "--tpot", tpot).json["users"] for tpot in ("100ms", "35ms"))
    assert (loose["prompt_tokens"], loose["output_tokens"]) == (1848, 200)
    assert 1 <= tight["most_users"] < loose["most_users"] and tight["bound_by"] == "TPOT"
    assert tight["speed"]["tpot_seconds"] <= 0.035
    assert run(*asked, *point, "--tpot", "1ms").json["users"]["speed"] is None


def test_targets_of_fit_go_with_a_measurement(run: Run) -> None:
    assert "--measured" in run("fit", "gpt2", "--gpu", "l4", "--tpot", "10ms").refused(2)
    assert "--gpu" in run("fit", "gpt2", "--memory", "24GiB", "--measured", "tpot_ms=9 batch=1").refused(2)
    assert "one device" in run("fit", "gpt2", "--gpu", "l4,t4", "--measured", "tpot_ms=9 batch=1").refused(2)
    plan = (
        "plan",
        "gpt2",
        "--users",
        "2",
        "--prompt",
        "9",
        "--answer",
        "9",
        "--gpu",
        "l4,t4",
        "--measured",
        "tpot_ms=9 batch=1",
    )
    assert "one device" in run(*plan).refused(2)


def test_a_stored_speed_is_plain_data() -> None:
    """The file holds what the dataclass holds and nothing else, so that a person can read it."""
    assert set(OwnSpeed.__dataclass_fields__) == {
        "name", "device", "engine", "model", "shape", "date", "words", "constants", "points", "machine",
    }  # fmt: skip

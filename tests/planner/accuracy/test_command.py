"""`kvplan accuracy`: the page, its JSON, its exit codes, and folders that are not what they should be."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from kvplan.cli import main
from planner.accuracy import page as accuracy_page
from planner.accuracy.cases import Cases
from planner.options import accuracy as options

ROOT = Path(__file__).parents[3]
CASES = ROOT / "tests" / "cases"


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as caught:
        main(["accuracy", *arguments])
    said = capsys.readouterr()
    return int(caught.value.code or 0), said.out, said.err


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Some start-up logs alone, as `kvplan reconcile --record` makes a folder."""
    head, *rows = (CASES / "engine_logs.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [row for at, row in enumerate(rows) if at % 8 == 0 or row.startswith("uns-phi4-bnb-t4,")]
    (tmp_path / "engine_logs.csv").write_text("".join([head, *kept]), encoding="utf-8")
    shutil.copytree(CASES / "configs", tmp_path / "configs")
    return tmp_path


def change(path: Path, id: str, **columns: str) -> None:
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row |= columns if row["id"] == id else {}
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def test_the_checkouts_page_is_what_the_command_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "accuracy.md"
    code, _, err = run(["-o", str(path)], capsys)
    assert (code, err) == (0, "")
    ours, shipped = path.read_text(), (ROOT / "docs" / "accuracy.md").read_text()
    assert ours.split("## Speed")[0] == shipped.split("## Speed")[0]  # its fits are made anew elsewhere


def test_json_counts_what_the_page_counts(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(["--json"], capsys)
    found = json.loads(out)
    assert code == 0
    first = found["first_principles"]
    assert first["rows"] == len(first["each"]) >= 25
    assert first["within_5_percent"] <= first["within_15_percent"] <= first["rows"]
    page = accuracy_page.page(accuracy_page.compare(Cases(CASES)))
    assert f"| with the flags of the source | {first['rows']} | {first['within_5_percent']} |" in page
    assert sum(engine["rows"] for engine in found["engines"]) > 180
    assert found["unexplained"] == []


def test_a_folder_of_logs_alone_is_enough(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(["--cases", str(folder)], capsys)
    assert code == 0
    assert "\nEngines" in out and "worked cases" not in out


def test_a_figure_that_differs_without_a_reason_is_exit_3(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(folder / "engine_logs.csv", "uns-phi4-bnb-t4", blocks="999")
    code, out, err = run(["--cases", str(folder)], capsys)
    assert code == 3
    assert err == "kvplan: differs without a reason: uns-phi4-bnb-t4\n"
    assert "- uns-phi4-bnb-t4: no reason is given" in out
    change(folder / "engine_logs.csv", "uns-phi4-bnb-t4", reason="tried here")
    assert run(["--cases", str(folder)], capsys)[0] == 0


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"model": "no-such-model"}, "no model is called"),
        ({"model": ""}, "names no model"),
        ({"tp": "two"}, "a number of the row is not one"),
        ({"engine": "vlm"}, "did you mean"),
        ({"fraction": "1/0"}, "a number of the row is not one"),
        ({"tokens": "", "blocks": "", "concurrency": "", "cpu_blocks": ""}, "no figure of it can be checked"),
    ],
)
def test_a_row_that_cannot_be_asked_is_named_with_its_reason(
    columns: dict[str, str], words: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(folder / "engine_logs.csv", "uns-phi4-bnb-t4", **columns)
    code, out, _ = run(["--cases", str(folder), "--json"], capsys)
    (refused,) = json.loads(out)["not_asked"]
    assert code == 0
    assert refused["id"] == "uns-phi4-bnb-t4"
    assert words in refused["reason"]


def test_folders_without_case_files_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for given, words in ((tmp_path, "has no case file"), (tmp_path / "none", "not a folder"), ("\0", "not a folder")):
        code, out, err = run(["--cases", str(given)], capsys)
        assert (code, out) == (1, "")
        assert words in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("verified.json", b"{", "is not JSON"),
        ("verified.json", b"[1]", "is not a JSON object"),
        ("engine_logs.csv", b"\xff\xfe\x00", "is not UTF-8 text"),
    ],
)
def test_a_case_file_that_is_none_is_one_line(
    name: str, data: bytes, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_bytes(data)
    code, out, err = run(["--cases", str(tmp_path)], capsys)
    assert (code, out) == (1, "")
    assert words in err and err.count("\n") == 1


def test_an_installation_without_the_tests_says_what_to_give(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(options, "DEFAULT", tmp_path / "tests" / "cases")
    code, _, err = run([], capsys)
    assert code == 1
    assert "give --cases DIR" in err


def test_the_section_of_speeds_comes_from_its_own_module(
    monkeypatch: pytest.MonkeyPatch, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made: Any = ModuleType("made_up_speed")
    made.__spec__ = object()
    made.speed_accuracy = lambda where: f"## Speed\n\nof {where.name}"
    monkeypatch.setitem(sys.modules, "made_up_speed", made)
    monkeypatch.setattr(accuracy_page, "SPEED_MODULE", "made_up_speed")
    assert "\nSpeed\n" not in run(["--cases", str(folder)], capsys)[1]
    (folder / "serving_speed.csv").write_text("id\n")
    _, out, _ = run(["--cases", str(folder)], capsys)
    assert f"\nSpeed\n\nof {folder.name}" in out

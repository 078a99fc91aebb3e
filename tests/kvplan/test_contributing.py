"""CONTRIBUTING.md says what is: its paths are there, its figures and its floors are those of the import test."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.kvplan.test_imports import FLOORS, figures

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
PATHS = sorted({word for word in re.findall(r"`([\w.<>/-]+)`", TEXT) if "/" in word})


@pytest.mark.parametrize("path", PATHS)
def test_every_path_is_there(path: str) -> None:
    assert list(ROOT.glob(re.sub(r"<\w+>", "*", path).rstrip("/"))), path


def test_the_figures_are_those_of_the_import_test() -> None:
    block = TEXT.partition("$ python tests/kvplan/test_imports.py\n")[2].partition("```")[0]
    stated = {name: int(count) for count, name in re.findall(r"(\d+) (.+)", block)}
    # Arrows come and go with every import; what they may not do is held by the import test itself.
    assert stated.pop("arrows between rooms") == pytest.approx(figures()["arrows between rooms"], rel=0.1)
    assert stated == {name: count for name, count in figures().items() if name != "arrows between rooms"}


def test_the_floors_are_those_of_the_import_test() -> None:
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", TEXT, re.MULTILINE)
    stated = [set(re.findall(r"`(\w+)`", names)) for _, names in rows]
    assert stated == [set(floor) for floor in FLOORS]

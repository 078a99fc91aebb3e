"""Running the command line inside this interpreter, away from the user's own catalogue."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kvplan.cli import main


@dataclass(frozen=True)
class Run:
    """How a command line ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    def refused(self, code: int = 1) -> str:
        """The one line of a refusal: nothing on stdout, no traceback, nothing that a terminal would obey."""
        assert (self.code, self.out) == (code, ""), (self.code, self.out[:300], self.err[-2000:])
        assert self.err.startswith("kvplan: ") and self.err.count("\n") == 1 and self.err.endswith("\n"), self.err
        line = self.err[:-1]
        assert line.isprintable() and len(line) <= 520, line
        return line


@pytest.fixture(autouse=True)
def _no_user_catalogue(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KVPLAN_CONFIG_DIR", raising=False)
    monkeypatch.setenv("COLUMNS", "1000")  # what is said is tested here; how it is broken into lines in test_screens.py
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Run]:
    """`run("estimate", "gpt2")`: exit code, stdout and stderr of one command line."""

    def call(*arguments: str | Path) -> Run:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        code = ended.value.code
        captured = capsys.readouterr()
        return Run(code if isinstance(code, int) else 0 if code is None else 1, captured.out, captured.err)

    return call

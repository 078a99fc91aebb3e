"""Counts, sizes, rates and file names that no machine has: one line, whatever the flag and the command.

`python -m tests.kvplan.test_hostile_counts [COMMAND]...` gives every value to every flag and prints a row a command.
"""

from __future__ import annotations

import json
import os
import random
import sys
import tempfile
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import Any

import click
import pytest

from kvplan.cli import main
from kvplan.table import COMMANDS

HOSTILE = ("-1", "0", "1" + "0" * 30, "nan", "inf", "1e999", "9" * 100_000, "", "0x10", "1.5")
CASES = Path(__file__).resolve().parent.parent / "cases"
WORDS: dict[str, list[str]] = {
    "estimate": ["gpt2", "--gpu", "l4"],
    "fit": ["gpt2", "--gpu", "l4"],
    "speed": ["gpt2", "--gpu", "l4"],
    "plan": ["gpt2", "--gpu", "l4", "--users", "5", "--prompt", "100", "--answer", "20"],
    "simulate": ["gpt2", "--gpu", "l4", "--rate", "5/s", "--prompt", "100", "--answer", "20", "--requests", "20"],
    "engines": ["gpt2", "--gpu", "l4"],
    "show": ["gpt2"],
    "check": ["--gpu", "l4", "vllm serve Qwen/Qwen3-8B"],
    "sweep": ["estimate", "model=gpt2", "seq=1k", "-o", "sweep.csv"],
    "reconcile": [str(CASES / "logs" / "vllm-v1-tp2.log")],
    "watch": [str(CASES / "metrics" / "vllm-1.txt"), str(CASES / "metrics" / "vllm-2.txt")],
    "accuracy": ["--cases", "nowhere"],
    "calibrate": ["--model", "gpt2", "--gpu", "l4", "--from", "tpot_ms=14.2 batch=8 seq=512", "-o", "mine.json"],
    "profile": ["--config", "tiny.json", "--prompt", "4", "--answer", "2", "--repeats", "1", "-o", "run.json"],
    "plot": ["memory-bars", "gpt2", "--gpu", "l4", "-o", "bars.svg", "--force"],
    "report": ["gpt2", "--gpu", "l4", "-o", "report", "--force"],
}
TINY = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_layer": 1, "n_head": 2, "n_embd": 16, "vocab_size": 64,
        "n_positions": 64}  # fmt: skip
# Each answer of these takes seconds: the gate gives them few pairs, the count below all.
SLOW = {"profile": 5, "plot": 6, "report": 2, "accuracy": 4}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of its own, for the files that an answer writes."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.json").write_text(json.dumps(TINY), encoding="utf-8")


def flags_of(name: str) -> list[str]:
    command = import_module(COMMANDS[name][0]).command
    options = [one for one in command.params if isinstance(one, click.Option) and not one.is_flag]
    return [max(one.opts, key=len) for one in options]


@pytest.mark.parametrize("name", WORDS)
def test_a_number_that_no_machine_has_is_answered_or_refused_in_one_line(run: Callable[..., Any], name: str) -> None:
    """Thirty pairs of flag and value of each command (fewer of slow ones), the same on every run."""
    draw = random.Random(name)
    for _ in range(SLOW.get(name, 30)):
        flag, value = draw.choice(flags_of(name)), draw.choice(HOSTILE)
        found = run(name, *WORDS[name], flag, value)
        assert found.code in (0, 1, 2, 3), (flag, value[:40])
        if found.code in (1, 2):
            said = [line for line in found.err.splitlines(keepends=True) if not line.startswith("kvplan: note: ")]
            assert replace(found, err="".join(said)).refused(found.code), (flag, value[:40])


def ended(words: list[str]) -> tuple[int, int]:
    """(exit code, lines on stderr but for notes of old names) of one command line; a traceback is not caught."""
    said = StringIO()
    with redirect_stdout(StringIO()), redirect_stderr(said):
        try:
            main(words)
        except SystemExit as end:
            code = end.code
    return int(code or 0), sum(not line.startswith("kvplan: note: ") for line in said.getvalue().splitlines())


def count(names: list[str]) -> None:
    """Prints a row a command: flags, runs, how many were refused, and how many said more than a line."""
    print(f"{'command':<10}{'flags':>7}{'runs':>7}{'refused':>9}{'more lines':>12}{'other codes':>13}")
    for name in names:
        pairs = [(flag, value) for flag in flags_of(name) for value in HOSTILE]
        refused = more = other = 0
        for flag, value in pairs:
            code, lines = ended([name, *WORDS[name], flag, value])
            long, strange = code in (1, 2) and lines != 1, code not in (0, 1, 2, 3)
            refused, more, other = refused + (code in (1, 2)), more + long, other + strange
            if long or strange:
                print(f"{name} {flag} {value[:40]!r}: code {code}, {lines} lines", file=sys.stderr)
        print(f"{name:<10}{len(flags_of(name)):>7}{len(pairs):>7}{refused:>9}{more:>12}{other:>13}", flush=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        os.chdir(made)
        Path("tiny.json").write_text(json.dumps(TINY), encoding="utf-8")
        count(sys.argv[1:] or list(WORDS))

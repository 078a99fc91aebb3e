"""Counts, sizes and rates that no machine has: one line, whatever the flag and the command.

`python -m tests.kvplan.test_hostile_counts` gives every value to every flag and prints a row a command.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from importlib import import_module
from io import StringIO
from typing import Any

import click
import pytest

from kvplan.cli import main
from kvplan.table import COMMANDS

HOSTILE = ("-1", "0", "1" + "0" * 30, "nan", "inf", "1e999", "9" * 100_000, "", "0x10", "1.5")
WORDS: dict[str, list[str]] = {
    "estimate": ["gpt2", "--gpu", "l4"],
    "fit": ["gpt2", "--gpu", "l4"],
    "speed": ["gpt2", "--gpu", "l4"],
    "plan": ["gpt2", "--gpu", "l4", "--users", "5", "--prompt", "100", "--answer", "20"],
    "simulate": ["gpt2", "--gpu", "l4", "--rate", "5/s", "--prompt", "100", "--answer", "20", "--requests", "20"],
    "engines": ["gpt2", "--gpu", "l4"],
    "show": ["gpt2"],
    "check": ["--gpu", "l4", "vllm serve Qwen/Qwen3-8B"],
}
FILES = ("--output", "--csv", "--config", "--trace", "--steps")


def flags_of(name: str) -> list[str]:
    command = import_module(COMMANDS[name][0]).command
    options = [one for one in command.params if isinstance(one, click.Option) and not one.is_flag]
    return [flag for one in options if (flag := max(one.opts, key=len)) not in FILES]


@pytest.mark.parametrize("name", WORDS)
def test_a_number_that_no_machine_has_is_answered_or_refused_in_one_line(run: Callable[..., Any], name: str) -> None:
    """Thirty pairs of flag and value of each command, the same on every run."""
    draw = random.Random(name)
    for _ in range(30):
        flag, value = draw.choice(flags_of(name)), draw.choice(HOSTILE)
        found = run(name, *WORDS[name], flag, value)
        assert found.code in (0, 1, 2, 3), (flag, value[:40])
        if found.code in (1, 2):
            assert found.refused(found.code), (flag, value[:40])


def ended(words: list[str]) -> tuple[int, int]:
    """(exit code, lines on stderr) of one command line; a traceback is not caught."""
    said = StringIO()
    with redirect_stdout(StringIO()), redirect_stderr(said):
        try:
            main(words)
        except SystemExit as end:
            code = end.code
    return int(code or 0), said.getvalue().count("\n")


def count() -> None:
    """Prints a row a command: flags, runs, how many were refused, and how many said more than a line."""
    print(f"{'command':<10}{'flags':>7}{'runs':>7}{'refused':>9}{'more lines':>12}{'other codes':>13}")
    for name in WORDS:
        runs = [ended([name, *WORDS[name], flag, value]) for flag in flags_of(name) for value in HOSTILE]
        refused = sum(code in (1, 2) for code, _ in runs)
        more = sum(code in (1, 2) and lines != 1 for code, lines in runs)
        other = sum(code not in (0, 1, 2, 3) for code, _ in runs)
        cells = (len(flags_of(name)), len(runs), refused, more, other)
        print(f"{name:<10}{cells[0]:>7}{cells[1]:>7}{cells[2]:>9}{cells[3]:>12}{cells[4]:>13}", flush=True)


if __name__ == "__main__":
    count()

"""Counts, sizes and rates that no machine has: one line, whatever the flag and the command."""

from __future__ import annotations

import random
from collections.abc import Callable
from importlib import import_module
from typing import Any

import click
import pytest

from kvplan.table import COMMANDS

HOSTILE = ("-1", "0", "1" + "0" * 30, "nan", "inf", "1e999", "9" * 100_000, "", "0x10", "1.5")
WORDS: dict[str, list[str]] = {
    "estimate": ["gpt2", "--gpu", "l4"],
    "fit": ["gpt2", "--gpu", "l4"],
    "speed": ["gpt2", "--gpu", "l4"],
    "plan": ["gpt2", "--gpu", "l4", "--users", "5", "--prompt", "100", "--answer", "20"],
    "simulate": ["gpt2", "--gpu", "l4", "--rate", "5/s", "--prompt", "100", "--answer", "20", "--requests", "20"],
    "engines": ["gpt2", "--gpu", "l4"],
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

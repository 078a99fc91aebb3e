"""Click options from the tables of `flags`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from planner.commands.options.tables import SHORT, Flag, parameter

F = TypeVar("F", bound=Callable[..., Any])


def with_flags(flags: Sequence[Flag], model: bool = False) -> Callable[[F], F]:
    """Decorate a command with the options of a table, and with the argument MODEL."""

    def apply(function: F) -> F:
        for flag in reversed(flags):
            function = _option(*flag)(function)
        return click.argument("model", required=False)(function) if model else function

    return apply


def _option(option: str, metavar: str, words: str) -> Callable[[F], F]:
    shorts = [short for short, long in SHORT.items() if metavar == "FILE" and option in (long, f"{long}-file")]
    names = [option, parameter(option), *shorts]
    if not metavar:
        return click.option(*names, is_flag=True, help=words)
    return click.option(*names, metavar=metavar.removesuffix("..."), multiple=metavar.endswith("..."), help=words)

"""Makes click options of the table of flags."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from planner.options.tables import SHORT, Flag

F = TypeVar("F", bound=Callable[..., Any])


def with_flags(flags: Sequence[Flag], model: bool = False) -> Callable[[F], F]:
    """Decorate a command with the options of a table, and with the argument MODEL."""

    def apply(function: F) -> F:
        for flag in reversed(flags):
            function = _option(flag)(function)
        return click.argument("model", required=False)(function) if model else function

    return apply


def _option(flag: Flag) -> Callable[[F], F]:
    shorts = [short for short, long in SHORT.items() if flag.metavar == "FILE" and flag.name in (long, f"{long}-file")]
    names = [flag.name, flag.parameter, *shorts]
    if not flag.metavar:
        return click.option(*names, is_flag=True, help=flag.help)
    return click.option(*names, metavar=flag.metavar.removesuffix("..."), multiple=flag.repeated, help=flag.help)

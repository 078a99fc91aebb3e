"""`kvplan engines`: what each serving engine makes of the same model and device, side by side."""

from __future__ import annotations

from typing import Any

import click

from planner.answers.engines import engines_answer
from planner.commands.click_options import Sectioned, with_flags
from planner.commands.pages.engines import page
from planner.commands.say import say
from planner.options.engines import FLAGS, engines_asked
from planner.options.model import output_of


@click.command(
    cls=Sectioned, name="engines", epilog="Example: kvplan engines gemma-3-27b --gpu h100 --max-model-len 32k"
)
@with_flags(FLAGS, model=True)
def command(**values: Any) -> None:
    """Engines side by side: what a request takes, the pool, its tokens, requests at once, what is printed, and why.

    Each engine reads the flags that are its own.
    """
    output = output_of(values)
    answer = engines_answer(engines_asked(values))
    say(answer, output, lambda: page(answer, output.explain))

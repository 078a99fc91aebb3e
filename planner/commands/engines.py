"""`kvplan engines`: what each serving engine makes of the same model and device, side by side."""

from __future__ import annotations

from typing import Any

import click

from planner.answers.engines import engines_answer
from planner.answers.several import Answers
from planner.commands.click_options import Sectioned, with_flags
from planner.commands.pages.engines import page, several_page
from planner.commands.say import say
from planner.options.engines import FLAGS, engines_questions
from planner.options.model import output_of


@click.command(
    cls=Sectioned, name="engines", epilog="Example: kvplan engines gemma-3-27b --gpu h100 --max-model-len 32k"
)
@with_flags(FLAGS, model=True)
def command(**values: Any) -> None:
    """Engines side by side: what a request takes, the pool, its tokens, requests at once, what is printed, and why.

    Each engine reads the flags that are its own. Several devices, lengths or batches are a row each for every engine.
    Exit code 3 when no engine holds a request.
    """
    output = output_of(values)
    answers = [engines_answer(asked) for asked in engines_questions(values)]
    if len(answers) > 1:
        say(Answers(tuple(answers), all_must=False), output, lambda: several_page(answers, output.verbose))
        return
    say(answers[0], output, lambda: page(answers[0], output))

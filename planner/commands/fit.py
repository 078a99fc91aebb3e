"""`kvplan fit`: the inverse questions."""

from __future__ import annotations

from typing import Any

import click

from planner.answers.fit import COLUMNS, fit_answer
from planner.answers.several import Answers
from planner.commands.click_options import Sectioned, with_flags
from planner.commands.pages.fit import page, several_page
from planner.commands.say import say
from planner.options.fit import FLAGS, fit_questions
from planner.options.model import output_of


@click.command(
    cls=Sectioned,
    name="fit",
    epilog="\b\nExample: kvplan fit llama-3.1-8b --gpu rtx-4090 --lengths p50=800,p95=6000",
)
@with_flags(FLAGS, model=True)
def command(**values: Any) -> None:
    """What fits: most sequences at a length, longest context at a batch, fewest devices, which devices.

    Several devices, lengths or batches are a row each. Exit code 3: not even one sequence fits, or with --engine the
    server refuses to start, or may refuse (the interval of its cache spans the verdict); of several rows, all of them.
    """
    output = output_of(values)
    answers = [fit_answer(asked) for asked in fit_questions(values)]
    if len(answers) > 1:
        say(Answers(tuple(answers), COLUMNS, all_must=False), output, lambda: several_page(answers))
        return
    say(answers[0], output, lambda: page(answers[0], output.verbose))

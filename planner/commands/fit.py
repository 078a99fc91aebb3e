"""`kvplan fit`: the inverse questions."""

from __future__ import annotations

from typing import Any

import click

from planner.answers.fit import fit_answer
from planner.commands.click_options import Sectioned, with_flags
from planner.commands.pages.fit import page
from planner.commands.say import say
from planner.options.fit import FLAGS, fit_asked
from planner.options.model import output_of


@click.command(
    cls=Sectioned,
    name="fit",
    epilog="\b\nExample: kvplan fit llama-3.1-8b --gpu rtx-4090 --seq 8k --lengths p50=800,p95=6000",
)
@with_flags(FLAGS, model=True)
def command(**values: Any) -> None:
    """What fits: most sequences at a length, longest context at a batch, fewest devices, which devices.

    Exit code 3 when not even one sequence fits.
    """
    output = output_of(values)
    answer = fit_answer(fit_asked(values))
    say(answer, output, lambda: page(answer))

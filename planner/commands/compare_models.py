"""`kvplan compare-models`: several models side by side at one length."""

from __future__ import annotations

from typing import Any

import click

from planner.answers.compare import compare_answer
from planner.commands.click_options import Sectioned, with_flags
from planner.commands.pages.compare import page
from planner.commands.say import say
from planner.options.compare_models import FLAGS, compare_asked
from planner.options.model import output_of


@click.command(
    cls=Sectioned,
    name="compare-models",
    epilog="\b\nExample: kvplan compare-models llama-2-7b llama-3.1-8b deepseek-v3 --seq 32k",
)
@click.argument("models", nargs=-1, required=True)
@with_flags(FLAGS)
def command(models: tuple[str, ...], **values: Any) -> None:
    """Several models side by side: bytes a token, cache, weights, and whether each fits.

    Exit code 3 when a device is given and none of them fits.
    """
    output = output_of(values)
    answer = compare_answer(compare_asked(models, values))
    say(answer, output, lambda: page(answer))

"""`kvplan speed`: time to first token, time between tokens, tokens a second, on a device or several."""

from __future__ import annotations

from typing import Any

import click

from planner.answers.speed import SpeedAnswer, speed_answer
from planner.commands.click_options import Sectioned, with_flags
from planner.commands.pages.speed import page
from planner.commands.say import say
from planner.options.model import output_of
from planner.options.speed import FLAGS, speed_asked


@click.command(
    cls=Sectioned,
    name="speed",
    epilog="\b\nExample: kvplan speed llama-3.1-8b --gpu h100-sxm --prompt 2k --batch 1,8,32",
)
@with_flags(FLAGS, model=True)
def command(**values: Any) -> None:
    """How fast: time to first token (TTFT), time between tokens (TPOT), tokens a second, each with its range.

    Beside the expectation stands the bound of the hardware, what binds, the batch from which decode is bound by
    compute, the largest batch that memory admits, and where the constants come from: this machine's calibration
    (--gpu local), a point that you measured (--measured), or fits to published measurements.

    JSON: one object a device (a list with several), `batches` with an object for each batch; of a single batch its
    keys stand at the top as well. A batch beyond memory has "fits": false: so many run as
    memory admits ("decoding"), the others wait in line ("queued"), and TTFT holds that wait.
    Exit code 3 when memory admits none of the batches.
    """
    output = output_of(values)
    answer = speed_answer(speed_asked(values))
    answers = [answer] if isinstance(answer, SpeedAnswer) else list(answer)
    say(answer, output, lambda: page(answers, explain=output.explain, verbose=output.verbose))

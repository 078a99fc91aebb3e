"""`kvplan plan`: from a load and targets to a deployment."""

from __future__ import annotations

from typing import Any

import click

from planner.answers.plan import plan_answer
from planner.commands.click_options import Sectioned, with_flags
from planner.commands.pages.plan import page
from planner.commands.say import say
from planner.options.model import output_of
from planner.options.plan import FLAGS, plan_asked
from planner.terminal.progress import Progress


@click.command(
    cls=Sectioned,
    name="plan",
    epilog="\b\nExample: kvplan plan llama-3.1-8b --users 200 --gpu h100-sxm,l40s,rtx-4090\n"
    "             --prompt p50=800,p95=6000 --answer 200 --ttft 1s --tpot 40ms",
)
@with_flags(FLAGS, model=True)
def command(**values: Any) -> None:
    """Which devices, how many, laid out how: every layout and format that carries a load within its targets, ranked.

    Searches devices, tensor, pipeline, expert and data parallelism, formats of weights and KV cache, and replicas.
    Concurrency by Little's law on the speed model, waiting by queueing formulas; speeds are estimates with a range.
    Exit code 3 when nothing meets the targets: the nearest, and by how much it misses.
    """
    output = output_of(values)
    question, top = plan_asked(values)
    with Progress(len(question.devices)) as progress:

        def begun(done: int, devices: int) -> None:
            progress.step(f"{done:,} of {devices:,} devices", done - progress.done)

        answer = plan_answer(question, top, begun)
    say(answer, output, lambda: page(answer.found, top, output.verbose, two_pools=answer.two_pools))

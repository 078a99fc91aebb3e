"""`kvplan simulate`: a server under a load, request by request."""

from __future__ import annotations

from typing import Any

import click

from planner.answers.simulate import simulate_answer
from planner.commands.click_options import Sectioned, with_flags
from planner.commands.pages.simulate import page
from planner.commands.say import say
from planner.options.model import output_of
from planner.options.simulate import FLAGS, simulate_asked
from planner.terminal.progress import Progress


@click.command(
    cls=Sectioned,
    name="simulate",
    epilog="\b\nExample: kvplan simulate llama-3.1-8b --gpu h100-sxm --rate 5/s\n"
    "             --prompt p50=800,p95=6000 --answer 200 --ttft 1s --tpot 40ms",
)
@with_flags(FLAGS, model=True)
def command(**values: Any) -> None:
    """A server under a load, request by request: TTFT, TPOT, latency, queueing, KV occupancy, preemptions.

    Continuous batching by the rule of vLLM's V1 scheduler: a token budget a step, decodes first, prompts in chunks,
    first come first served, paged KV cache, preemption by recompute, prefix hits. Step times are those of
    `kvplan speed`. The same seed gives the same run. --csv has a row a request.
    Exit code 3 when a target is missed, or nothing fits.
    """
    output = output_of(values)
    asked = simulate_asked(values)
    with Progress(asked.workload.requests) as progress:

        def arrived(requests: int) -> None:
            progress.step(f"{requests:,} of {asked.workload.requests:,} requests", requests - progress.done)

        answer = simulate_answer(asked, arrived)
    say(answer, output, lambda: page(answer.found, output.verbose))

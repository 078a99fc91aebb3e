"""`kvplan simulate`: a server under a load, request by request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from planner.answers.several import Answers
from planner.answers.simulate import simulate_answer
from planner.commands.click_options import Sectioned, with_flags
from planner.commands.pages.simulate import page, several_page
from planner.commands.say import say
from planner.errors import one_line
from planner.options.model import output_of
from planner.options.simulate import FLAGS, simulate_questions
from planner.serving.pools import NoRoom
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
    `kvplan speed`. The same seed gives the same run. --csv has a row a request. Several devices are a row each.
    Exit code 3 when a target is missed (of several devices: on all of them), or nothing fits.
    """
    output = output_of(values)
    questions = simulate_questions(values)
    with Progress(sum(asked.workload.requests for asked in questions)) as progress:
        answers, refused = [], []
        for asked in questions:
            try:
                answers.append(simulate_answer(asked, heard(progress, asked.workload.requests)))
            except NoRoom as error:  # of several devices the others are answered
                refused.append(f"{asked.device.name}: {error}" if len(questions) > 1 else str(error))
    if not answers:
        raise NoRoom("; ".join(refused))
    for words in refused:
        click.echo(f"kvplan: note: {one_line(words, 300)}", err=True)
    if len(questions) > 1:
        say(
            Answers(tuple(answers), all_must=False),
            output,
            lambda: several_page([one.found for one in answers], len(questions)),
        )
        return
    say(answers[0], output, lambda: page(answers[0].found, output.verbose))


def heard(progress: Progress, requests: int) -> Callable[[int], None]:
    """Tells the line of progress how many requests of a run have come."""
    before = progress.done

    def arrived(count: int) -> None:
        progress.step(f"{count:,} of {requests:,} requests", before + count - progress.done)

    return arrived

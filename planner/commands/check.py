"""`kvplan check`: the command that starts a server, pasted, and what it comes to."""

from __future__ import annotations

from typing import Any

import click

from planner.answers.check import check_answer
from planner.commands.click_options import Sectioned, with_flags
from planner.commands.pages.check import page
from planner.commands.say import say
from planner.options.check import FLAGS, check_asked
from planner.options.model import output_of


@click.command(
    cls=Sectioned,
    name="check",
    epilog="\b\nExample: kvplan check --gpu 2x3090 -- vllm serve Qwen/Qwen3-32B -tp 2\n"
    "         kvplan check --gpu l40s docker-compose.yaml",
)
@click.argument("pasted", nargs=-1, metavar="-- COMMAND... | FILE | -")
@with_flags(FLAGS)
def command(pasted: tuple[str, ...], **values: Any) -> None:
    """Paste the command that starts your server: does it start, for how many requests, how fast, what to change.

    Understood are vllm serve, sglang, llama-server, llama-cli, llama-bench, koboldcpp, ollama, trtllm-serve and
    lmdeploy, under docker run, sudo, uv and the like; and files: shell scripts, compose files, Kubernetes manifests, Modelfiles,
    llama-swap and vLLM configs. Nothing is run, no file that the text names is opened, and keys are not shown.

    Exit code 3 when the server would refuse to start, or may (the interval of its cache spans the verdict).
    """
    output = output_of(values)
    answer = check_answer(check_asked(pasted, values))
    say(answer, output, lambda: page(answer, output.verbose))

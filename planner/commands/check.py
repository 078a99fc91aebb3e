"""`kvplan check`: the command that starts a server, pasted, and what it comes to."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import replace

import click

from planner.answers.check import CheckAnswer, capacity_of, check
from planner.answers.setup import catalogue_model
from planner.catalogue.device import Device
from planner.engines.registry import parse_engine
from planner.errors import BadRequest, KvplanError, UsageError, one_line
from planner.files.read import read_text
from planner.launch.question import Question
from planner.launch.read import one_question, question_of
from planner.launch.words import MOST_CHARACTERS
from planner.lookup import device, model_spec
from planner.memory.request import Capacity
from planner.terminal.output import emit, to_json
from planner.units import parse_bytes, parse_tokens

MOST_DEVICES = 4096
WANTED = "paste a command after --, or name a file (- reads it from stdin): kvplan check --gpu 2x3090 -- vllm serve ..."


@click.command(
    name="check",
    epilog="\b\nExample: kvplan check --gpu 2x3090 -- vllm serve Qwen/Qwen3-32B -tp 2 --max-model-len 32k\n"
    "         kvplan check --gpu l40s docker-compose.yaml",
)
@click.argument("text", nargs=-1, metavar="-- COMMAND... | FILE | -")
@click.option("--gpu", metavar="NAME", help="The devices: 3090, 2x3090, local (default: this machine's).")
@click.option("--memory", metavar="SIZE", help="Plain memory of a device, for example 24GiB.")
@click.option("--model", metavar="MODEL", help="What the command's model is: a name of `kvplan models`, or a file.")
@click.option("--seq", metavar="N", help="Tokens of a request (default: the longest that the command admits).")
@click.option("--engine", metavar="NAME==VERSION", help="The engine's version, where the text does not name it.")
@click.option("--service", metavar="NAME", default="", help="Which server of a file that starts several.")
@click.option("--json", "as_json", is_flag=True, help="JSON in base units, keys that stay.")
@click.option("--output", metavar="FILE", help="Write to FILE instead of the screen.")
def command(
    text: tuple[str, ...],
    gpu: str | None,
    memory: str | None,
    model: str | None,
    seq: str | None,
    engine: str | None,
    service: str,
    as_json: bool,
    output: str | None,
) -> None:
    """Paste the command that starts your server: does it start, for how many requests, how fast, what to change.

    Understood are vllm serve, sglang, llama-server, llama-cli, llama-bench, ollama, trtllm-serve and lmdeploy, under
    docker run, sudo, uv and the like; and files: shell scripts, compose files, Kubernetes manifests, Modelfiles,
    llama-swap and vLLM configs. Nothing is run, no file that the text names is opened, and keys are not shown.

    Exit code 3 when the server would refuse to start.
    """
    if not text:
        raise UsageError(WANTED)
    if gpu is not None and memory is not None:
        raise UsageError("--gpu and --memory both say how much there is; give one of them")
    asked = _with_engine(_question(text, service), engine)
    spec = model_spec(model) if model is not None else catalogue_model(_model_of(asked))
    card, capacity, devices = _devices(gpu, memory)
    answer = check(
        asked, spec, capacity, device=card, devices=devices, seq=None if seq is None else parse_tokens(seq, "--seq")
    )
    emit(_render(answer, as_json), output)
    if answer.exit_code:
        raise SystemExit(answer.exit_code)


def _question(text: tuple[str, ...], service: str) -> Question:
    """The words of a command, or the text of a file."""
    if len(text) > 1:
        return question_of(text)
    only = text[0]
    if only == "-":
        return one_question(_bounded(sys.stdin.buffer.read(MOST_CHARACTERS + 1), "stdin"), service)
    if "\n" in only or (" " in only.strip() and not os.path.exists(only)):
        return one_question(only, service)
    if not os.path.lexists(only) and not re.search(r"[./\\]", only):
        return question_of(text)
    return one_question(_file(only), service)


def _file(path: str) -> str:
    return read_text(path, most_bytes=MOST_CHARACTERS, what="a script, a compose file or a manifest", error=BadRequest)


def _bounded(data: bytes, where: str) -> str:
    if len(data) > MOST_CHARACTERS:
        raise BadRequest(f"{where}: is larger than {MOST_CHARACTERS >> 20} MiB; give the part that starts the server")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise BadRequest(f"{where}: is not UTF-8 text; give a script, a compose file or a manifest") from None


def _model_of(asked: Question) -> str:
    if not asked.model:
        raise BadRequest(f"`{asked.said}` names no model; add --model NAME (kvplan models lists them)")
    return asked.model


def _with_engine(asked: Question, text: str | None) -> Question:
    """A version from --engine; the engine itself is the text's."""
    if text is None:
        return asked
    name, version = parse_engine(text)
    if name.partition("-v")[0] != asked.engine.partition("-v")[0] and {name, asked.engine} != {
        "llamacpp",
        "ik_llamacpp",
    }:
        raise UsageError(f"--engine {name}: the text starts {asked.engine}; leave --engine out, or give its version")
    return replace(asked, engine=name, version=version or asked.version)


def _devices(gpu: str | None, memory: str | None) -> tuple[Device | None, Capacity, int | None]:
    """(device, its memory, how many; None for as many as the command takes)."""
    if memory is not None:
        size = parse_bytes(memory, "--memory")
        return None, Capacity(f"{one_line(memory, 40)} of memory", size), None
    count, name = devices_named(gpu or "local")
    try:
        found = device(name)
    except KvplanError:
        if gpu is None:
            raise UsageError(
                "no device is known of this machine; say which with --gpu, for example --gpu 2x3090"
            ) from None
        raise
    if gpu is None and found.name == "cpu":
        raise UsageError("no GPU answered on this machine; say which is meant with --gpu, for example --gpu 2x3090")
    return found, capacity_of(found), count


def devices_named(text: str) -> tuple[int | None, str]:
    """(how many, the name) of `2x3090`; None where no number is given.

    >>> devices_named("2x3090"), devices_named("8 x h100-sxm"), devices_named("rtx-4090")
    ((2, '3090'), (8, 'h100-sxm'), (None, 'rtx-4090'))
    """
    found = re.fullmatch(r"\s*([0-9]{1,6})\s*[x×*]\s*(\S.*)", text)
    if not found:
        return None, text
    count = int(found.group(1))
    if not 1 <= count <= MOST_DEVICES:
        raise BadRequest(f"--gpu {one_line(text, 40)!r}: write 1 to {MOST_DEVICES:,} devices")
    return count, found.group(2)


def _render(answer: CheckAnswer, as_json: bool) -> str:
    if as_json:
        return to_json(answer.to_dict())
    from planner.commands.pages.check import page

    return "\n".join(page(answer))

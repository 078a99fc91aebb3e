"""Reads what `kvplan check` asks: a start command or a file, the devices, and the model where the text names none."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass, replace

from planner.catalogue.device import Device
from planner.engines.registry import family, parse_engine
from planner.errors import BadRequest, KvplanError, UnknownName, UsageError, one_line
from planner.files.read import read_text
from planner.launch.question import Question
from planner.launch.read import one_question, question_of
from planner.launch.secrets import shown
from planner.launch.words import MOST_CHARACTERS
from planner.lookup import machine, machine_with, model_spec, named_model
from planner.lookup.devices import Machine, taken_memory
from planner.lookup.formats import format_of
from planner.lookup.parts import parts_of
from planner.lookup.plain import plain_name
from planner.memory.request import Capacity, device_capacity
from planner.model.spec import ModelSpec
from planner.options.backend import BACKEND, backend_of
from planner.options.readers import size, text, tokens
from planner.options.tables import LLAMA, OUTPUT, Flag, read_values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

WANTED = "paste a command after --, or name a file (- reads it from stdin): kvplan check --gpu 2x3090 -- vllm serve ..."
FLAGS: tuple[Flag, ...] = (
    Flag("--gpu", "NAME", "The devices: 3090, 2x3090, local (default: this machine's).", text, "Device"),
    Flag("--memory", "SIZE", "Memory of one device, for example 24GiB.", size, "Device"),
    Flag("--model", "MODEL", "What the command's model is: a name of `kvplan models`, or a file.", text, "Model"),
    Flag("--seq", "N", "Tokens of a request (default: the longest that the command admits).", tokens, "Load"),
    Flag("--engine", "NAME==VERSION", "The engine's version, where the text does not name it.", text, "Engine"),
    replace(BACKEND, help=f"{BACKEND.help[:-1]}, or what the text says)."),
    Flag("--service", "NAME", "Which server of a file that starts several.", text, "Model"),
    *(flag for flag in OUTPUT if flag.name != "--csv"),
)


@dataclass(frozen=True)
class CheckAsked:
    """A start command on devices.

    capacity, device   memory of one device, and the device where it is known by name
    devices            how many there are; None: as many as the command takes
    seq                tokens of a request, in place of the longest that the command admits
    cards              each device where they are unlike; `capacity` is then that of the smallest
    """

    question: Question
    spec: ModelSpec
    capacity: Capacity
    device: Device | None = None
    devices: int | None = None
    seq: int | None = None
    cards: tuple[Device, ...] = ()


def check_asked(pasted: Sequence[str], values: Mapping[str, Any]) -> CheckAsked:
    """Reads the question of a command's words, of a command in one text, of a file, or of stdin (`-`).

    Raises UsageError where nothing is pasted, and where two options exclude each other.
    """
    given = read_values(FLAGS, values)
    if not pasted:
        raise UsageError(WANTED)
    question = _with_engine(_question(pasted, given["service"] or ""), given["engine"])
    model = given["model"]
    question = _with_usual_weights(question, model or question.model)
    spec = model if isinstance(model, ModelSpec) else _spec(question, model)
    question, gpu = _of_the_nodes(question, given["gpu"])
    there = _machine(gpu, given["memory"], str(values.get("memory")))
    named = given.get("backend")  # the web page and agents, who paste a text, have no such parameter
    if there is None:
        backend_of(named, (), engine=question.engine, measured=False)
        return CheckAsked(
            question,
            spec,
            Capacity(f"{one_line(str(values.get('memory')), 40)} of memory", given["memory"]),
            seq=given["seq"],
        )
    # One card by its name is as many of them as the command takes.
    backend = backend_of(named, there.devices, engine=question.engine, measured=False)
    question = replace(question, backend=backend or question.backend)
    counted = there.count if there.count > 1 or re.match(r"\s*1\s*[x×*]", gpu or "") else None
    cards = there.devices if there.mixed else ()
    if given["memory"] is None and (said := taken_memory(gpu or there.smallest.name, there.smallest)):
        question = replace(question, notes=(*question.notes, said))
    capacity = device_capacity(there.smallest)
    if there.mixed:
        capacity = replace(capacity, name=there.name)
        if question.engine not in LLAMA:
            note = f"unlike cards: every rank gets the same share, so that of the {there.smallest.name} counts"
            question = replace(question, notes=(*question.notes, note))
    return CheckAsked(question, spec, capacity, there.smallest, counted, given["seq"], cards)


def _spec(question: Question, model: str | None) -> ModelSpec:
    """The model of --model, else of the text; a GGUF file's own quantization goes with its name."""
    weights = question.weights if question.engine in LLAMA else None
    if model is not None:
        if weights and not re.search(r"[./\\]", model):
            try:
                return named_model(f"{model}:{weights}")
            except KvplanError:
                pass  # not a model of the catalogue: a file, or a name that says its format itself
        return model_spec(model)
    name = _model_of(question)
    if question.engine == "ollama" and re.fullmatch(r"[\w.-]+", name) and not name.endswith(".gguf"):
        name += ":latest"  # ollama's own default tag: `ollama run deepseek-r1` is the 8b
    if weights and weights.lower() not in name.lower():
        name = f"{plain_name(name)}:{weights}"
    return catalogue_model(name)


def _with_usual_weights(question: Question, model: str | ModelSpec | None) -> Question:
    """The type that the program takes where the model's name says none, and a note of it."""
    if question.usual_weights is None or not isinstance(model, str) or re.search(r"\.(?:json|gguf)$", model):
        return question
    if format_of(parts_of(plain_name(model))) is not None:
        return question
    note = f"the name says no type: {question.usual_weights}, LM Studio's first choice of a GGUF"
    return replace(question, weights=question.usual_weights, notes=(*question.notes, note))


def catalogue_model(name: str) -> ModelSpec:
    """Finds the catalogue's model of this name; no file is opened, whatever the name looks like.

    Raises UnknownName with what to do.
    """
    if "$" in name:
        raise BadRequest(f"the model is {shown(name, 60)!r}, a variable that the text does not set; add --model NAME")
    try:
        return named_model(plain_name(name))
    except UnknownName as error:
        raise UnknownName(f"{error}; --model NAME or FILE says which model the command means") from None


def _question(pasted: Sequence[str], service: str) -> Question:
    """The words of a command, or the text of a file."""
    if len(pasted) > 1:
        return question_of(pasted)
    only = pasted[0]
    if only == "-":
        return one_question(_bounded(sys.stdin.buffer.read(MOST_CHARACTERS + 1), "stdin"), service)
    if only.lstrip().startswith("{") or "\n" in only or (" " in only.strip() and not os.path.exists(only)):
        return one_question(only, service)
    if not os.path.lexists(only) and not re.search(r"[./\\]", only):
        return question_of(pasted)
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
        for flag in asked.flags:
            if flag.name in ("--config", "--models-preset") and flag.value:
                raise BadRequest(
                    f"the model is in {flag.value}, which is not opened: kvplan check {flag.value}, or add --model NAME"
                )
        raise BadRequest(f"`{asked.said}` names no model; add --model NAME (kvplan models lists them)")
    return asked.model


def _with_engine(asked: Question, text: str | None) -> Question:
    """A version from --engine; the engine itself is the text's, with the generation that its environment names (VLLM_USE_V1=0)."""
    if text is None:
        return asked
    name, version = parse_engine(text)
    alike = family(name) == family(asked.engine) and name not in LLAMA
    if name != asked.engine and not alike and {name, asked.engine} != {"llamacpp", "ik_llamacpp"}:
        raise UsageError(f"--engine {name}: the text starts {asked.engine}; leave --engine out, or give its version")
    if asked.engine.startswith(f"{name}-v"):
        name = asked.engine
    return replace(asked, engine=name, version=version or asked.version)


def _of_the_nodes(question: Question, gpu: str | None) -> tuple[Question, str | None]:
    """The device of the manifest's own node labels, where --gpu names none; (the question with a note, the device)."""
    if gpu is not None or not question.device:
        return question, gpu
    said = shown(question.device, 60)
    try:
        machine(question.device)
    except KvplanError:
        note = f"the manifest's nodes have {said}, which names no device here: --gpu says which"
        return replace(question, notes=(*question.notes, note)), None
    note = f"the device is that of the manifest's node labels, {said} (--gpu names another)"
    return replace(question, notes=(*question.notes, note)), question.device


def _machine(gpu: str | None, memory: int | None, written: str) -> Machine | None:
    """The devices that are named, with the memory given in place of their own; None for plain memory."""
    if gpu is None and memory is not None:
        return None
    if gpu is not None and memory is not None:
        return machine_with(gpu, written)
    try:
        found = machine(gpu or "local")
    except KvplanError:
        if gpu is None:
            raise UsageError("no device is known of this machine; say which with --gpu, as in --gpu 2x3090") from None
        raise
    if gpu is None and found.devices[0].name == "cpu":
        raise UsageError("no GPU answered on this machine; say which is meant with --gpu, as in --gpu 2x3090")
    if found.smallest.memory_bytes < 1:
        raise BadRequest(
            f"--gpu {found.smallest.name} has the memory that was put in: say how much, for example --memory 64GiB"
        )
    return found

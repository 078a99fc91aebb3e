"""Reads what `kvplan check` asks: a start command or a file, the devices, and the model where the text names none."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass, replace

from planner.catalogue.device import Device
from planner.engines.registry import parse_engine
from planner.errors import BadRequest, KvplanError, UnknownName, UsageError, one_line
from planner.files.read import read_text
from planner.launch.question import Question
from planner.launch.read import one_question, question_of
from planner.launch.secrets import shown
from planner.launch.words import MOST_CHARACTERS
from planner.lookup import device, model_spec, named_model
from planner.memory.request import Capacity, device_capacity
from planner.model.spec import ModelSpec
from planner.options.readers import size, text, tokens
from planner.options.tables import OUTPUT, Flag, read_values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

MOST_DEVICES = 4096
WANTED = "paste a command after --, or name a file (- reads it from stdin): kvplan check --gpu 2x3090 -- vllm serve ..."
FLAGS: tuple[Flag, ...] = (
    Flag("--gpu", "NAME", "The devices: 3090, 2x3090, local (default: this machine's).", text, "Device"),
    Flag("--memory", "SIZE", "Plain memory of a device, for example 24GiB.", size, "Device"),
    Flag("--model", "MODEL", "What the command's model is: a name of `kvplan models`, or a file.", text, "Model"),
    Flag("--seq", "N", "Tokens of a request (default: the longest that the command admits).", tokens, "Load"),
    Flag("--engine", "NAME==VERSION", "The engine's version, where the text does not name it.", text, "Engine"),
    Flag("--service", "NAME", "Which server of a file that starts several.", text, "Model"),
    OUTPUT[0],
    OUTPUT[2],
)


@dataclass(frozen=True)
class CheckAsked:
    """A start command on devices.

    capacity, device   memory of one device, and the device where it is known by name
    devices            how many there are; None: as many as the command takes
    seq                tokens of a request, in place of the longest that the command admits
    """

    question: Question
    spec: ModelSpec
    capacity: Capacity
    device: Device | None = None
    devices: int | None = None
    seq: int | None = None


def check_asked(pasted: Sequence[str], values: Mapping[str, Any]) -> CheckAsked:
    """The question of a command's words, of a command in one text, of a file, or of stdin (`-`).

    Raises UsageError where nothing is pasted, and where two options exclude each other.
    """
    given = read_values(FLAGS, values)
    if not pasted:
        raise UsageError(WANTED)
    if given["gpu"] is not None and given["memory"] is not None:
        raise UsageError("--gpu and --memory both say how much there is; give one of them")
    question = _with_engine(_question(pasted, given["service"] or ""), given["engine"])
    model = given["model"]
    if isinstance(model, ModelSpec):
        spec = model
    else:
        spec = model_spec(model) if model is not None else catalogue_model(_model_of(question))
    card, capacity, devices = _devices(given["gpu"], given["memory"], str(values.get("memory")))
    return CheckAsked(question, spec, capacity, card, devices, given["seq"])


def catalogue_model(name: str) -> ModelSpec:
    """The catalogue's model of this name; no file is opened, whatever the name looks like.

    Raises UnknownName with what to do.
    """
    if "$" in name:
        raise BadRequest(f"the model is {shown(name, 60)!r}, a variable that the text does not set; add --model NAME")
    try:
        return named_model(plain_name(name))
    except UnknownName as error:
        raise UnknownName(f"{error}; --model NAME or FILE says which model the command means") from None


def plain_name(text: str) -> str:
    """What a model is called, of an id, a path, a URL or a folder of the Hub's cache.

    >>> plain_name("/models/Qwen3-8B-Q4_K_M.gguf"), plain_name("hf://Qwen/Qwen3-8B"), plain_name("/mnt/m/Qwen3-8B/")
    ('Qwen3-8B-Q4_K_M.gguf', 'Qwen/Qwen3-8B', 'Qwen3-8B')
    >>> plain_name("/root/.cache/huggingface/hub/models--Qwen--Qwen3-8B/snapshots/abc")
    'Qwen/Qwen3-8B'
    """
    clean = text.strip().strip("\"'").removeprefix("hf://").removeprefix("hf.co/").removeprefix("huggingface.co/")
    cached = re.search(r"models--([\w.-]+?)--([\w.-]+)", clean)
    if cached:
        return f"{cached.group(1)}/{cached.group(2)}"
    hub = re.match(r"https?://(?:www\.)?(?:huggingface\.co|hf\.co|modelscope\.cn/models)/([\w.-]+/[\w.-]+)", clean)
    if hub:
        return hub.group(1)
    pieces = [piece for piece in re.split(r"[/\\]", clean) if piece not in ("", ".", "..")]
    local = clean.startswith(("/", "./", "../", "~")) or "\\" in clean or len(pieces) > 2
    return (pieces[-1] if pieces else clean) if local or clean.endswith(".gguf") else clean


def _question(pasted: Sequence[str], service: str) -> Question:
    """The words of a command, or the text of a file."""
    if len(pasted) > 1:
        return question_of(pasted)
    only = pasted[0]
    if only == "-":
        return one_question(_bounded(sys.stdin.buffer.read(MOST_CHARACTERS + 1), "stdin"), service)
    if "\n" in only or (" " in only.strip() and not os.path.exists(only)):
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


def _devices(gpu: str | None, memory: int | None, written: str) -> tuple[Device | None, Capacity, int | None]:
    """(device, its memory, how many; None for as many as the command takes)."""
    if memory is not None:
        return None, Capacity(f"{one_line(written, 40)} of memory", memory), None
    count, name = devices_named(gpu or "local")
    try:
        found = device(name)
    except KvplanError:
        if gpu is None:
            raise UsageError("no device is known of this machine; say which with --gpu, as in --gpu 2x3090") from None
        raise
    if gpu is None and found.name == "cpu":
        raise UsageError("no GPU answered on this machine; say which is meant with --gpu, as in --gpu 2x3090")
    if found.memory_bytes < 1:
        raise BadRequest(f"--gpu {found.name} has no memory of its own")
    return found, device_capacity(found), count


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

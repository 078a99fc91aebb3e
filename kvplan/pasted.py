"""Answers what is pasted: the log of a server, the command that starts one, the header of a GGUF file. Nothing is opened."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from kvplan.outside import model, not_local
from planner.answers.check import CheckAnswer, check_answer
from planner.catalogue.entries import find_model
from planner.errors import BadRequest, UsageError, one_line
from planner.lookup.plain import plain_name
from planner.memory.estimate import SCHEMA_VERSION
from planner.model.spec import ModelSpec
from planner.options.check import check_asked
from planner.options.readers import count, kv_dtype, text, tokens, weight_dtype
from planner.options.reconcile import given_of
from planner.readers.gguf import read_gguf_file
from planner.readers.gguf_models import spec_of
from planner.reconcile.facts import Log, engines_of
from planner.reconcile.ledger import Given, Ledger
from planner.reconcile.reader import Source
from planner.reconcile.runs import ledger_of
from planner.shown import Shown

MOST_COMMAND = 64 << 10
"""Characters of a start command or a compose file."""
LOG_PARAMETERS = {
    "model": text, "gpu": text, "memory": text, "engine": text, "tp": count, "pp": count, "dtype": weight_dtype,
    "kv_dtype": kv_dtype, "max_model_len": tokens,
}  # fmt: skip
CHECK_PARAMETERS = ("gpu", "memory", "model", "seq", "engine", "service")


class _Pasted(Source):
    """A log that came as bytes; never unpacked, so that a small body stays small."""

    def __init__(self, data: bytes) -> None:
        super().__init__("the log given")
        self.data = data

    def _open(self) -> BinaryIO:
        return io.BytesIO(self.data)


@dataclass(frozen=True, eq=False, repr=False)
class ReconcileAnswer(Shown):
    """The ledgers of the servers in one log, as `kvplan reconcile --json` has them."""

    file: str
    ledgers: tuple[Ledger, ...]

    def to_dict(self) -> dict[str, Any]:
        """The JSON contract: a ledger a server."""
        return {
            "schema_version": SCHEMA_VERSION,
            "file": self.file,
            "ledgers": [made.to_dict() for made in self.ledgers],
        }


def reconcile(log: bytes, parameters: Mapping[str, Any]) -> ReconcileAnswer:
    """Returns the ledger of a start-up log, beside what kvplan says of the same model and flags.

    Raises KvplanError where the log says nothing of a server's start.
    """
    given = _given(parameters)
    if log[:2] == b"\x1f\x8b":
        raise BadRequest("the log is packed; unpack it first (gunzip server.log.gz)")
    source = _Pasted(log)
    found = Log().read(source.lines())
    runs = engines_of(found)
    if not runs:
        raise BadRequest(
            "the log has no line that says how much cache a server got; a log from the start of vLLM, SGLang, "
            "llama.cpp, ollama, TensorRT-LLM or LMDeploy is wanted"
        )
    return ReconcileAnswer("the log given", tuple(ledger_of(run, given) for run in runs))


def _given(parameters: Mapping[str, Any]) -> Given:
    read: dict[str, Any] = dict.fromkeys(LOG_PARAMETERS)
    for key, value in parameters.items():
        parameter = key.replace("-", "_")
        if parameter not in LOG_PARAMETERS:
            raise BadRequest(
                f"{one_line(key, 40)!r} is not a parameter of reconcile; it has {', '.join(LOG_PARAMETERS)}"
            )
        if value is not None and value != "":
            read[parameter] = LOG_PARAMETERS[parameter](_one(value, key), f"--{parameter.replace('_', '-')}")
    if read["gpu"] is not None:
        not_local(read["gpu"])
    return given_of(read, model(read["model"]) if read["model"] is not None else None)


def check_command(command: str, parameters: Mapping[str, Any]) -> CheckAnswer:
    """Tells what a pasted start command, compose file or manifest comes to, as `kvplan check` answers it.

    gpu, memory   the devices: 2x3090, or 24GiB; one of them is wanted
    model, seq    in place of what the command names

    Raises KvplanError where no known server is started, or its model is not of the catalogue.
    """
    given: dict[str, Any] = dict.fromkeys(CHECK_PARAMETERS)
    for name, value in parameters.items():
        if name not in given:
            raise BadRequest(
                f"{one_line(name, 40)!r} is not a parameter of check; it has {', '.join(CHECK_PARAMETERS)}"
            )
        given[name] = None if value in (None, "") else text(_one(value, name), f"--{name}")
    if not isinstance(command, str) or not command.strip():
        raise UsageError("paste the command that starts a server: vllm serve Qwen/Qwen3-8B --max-model-len 32k")
    if len(command) > MOST_COMMAND:
        raise BadRequest(f"the command has {len(command):,} characters; {MOST_COMMAND:,} at most here")
    if (given["gpu"] is None) == (given["memory"] is None):
        raise UsageError("one of --gpu and --memory is wanted: 2x3090, or 24GiB")
    if given["gpu"] is not None:
        not_local(given["gpu"])
    if given["model"] is not None:  # a name that is known, so that nothing is looked for on disk
        given["model"] = find_model(plain_name(given["model"])).name
    return check_answer(
        check_asked((command + "\n",), given)
    )  # with a line's end it is a text, never the name of a file


@dataclass(frozen=True)
class _Header:
    """The first bytes of a file of `size` bytes."""

    name: str
    size: int
    data: bytes

    def read(self, offset: int, length: int) -> bytes:
        """Returns `length` bytes from `offset` of what came; what did not come is refused."""
        piece = self.data[offset : offset + length]
        if not piece:
            raise BadRequest(f"{self.name}: its header is longer than the {len(self.data):,} bytes that were sent")
        return piece


def gguf_header(data: bytes, *, name: str, size: int) -> ModelSpec:
    """Reads the model of a GGUF file from its first bytes and its size; the weights themselves are never sent."""
    shown = one_line(name, 80) or "the file"
    if size < len(data):
        raise BadRequest(f"{shown}: {len(data):,} bytes came of a file of {size:,}")
    found = read_gguf_file(_Header(shown, size, data))
    return spec_of(found, name=shown.removesuffix(".gguf"), shown=shown)


def _one(value: Any, name: str) -> str:
    if isinstance(value, (list, tuple)):
        if len(value) != 1:
            raise BadRequest(f"{one_line(name, 40)} is given {len(value):,} times; give it once")
        value = value[0]
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise BadRequest(f"{one_line(name, 40)} {one_line(repr(value), 40)} is not a text")
    try:
        found = str(value)
    except ValueError:
        raise BadRequest(f"{one_line(name, 40)} is a number of too many digits") from None
    if len(found) > 2_000 and name != "model":
        raise BadRequest(f"{one_line(name, 40)} is {len(found):,} characters long; 2,000 at most")
    return found

"""libllama beside `planner.engines.llamacpp`: what the library itself allocates for a GGUF file's contexts, and what we say.

No GPU and no weights: the file's header is enough (a sparse file of the full length will do), since nothing is allocated.
The library is that of --library or of KVPLAN_LLAMA_LIBRARY, a folder or a file, for example of the npm package
@node-llama-cpp/linux-x64 or of a build of llama.cpp.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from planner.engines import llamacpp
from planner.engines.base import Options
from planner.errors import BadRequest, KvplanError, one_line
from planner.memory.estimate import estimate
from planner.memory.request import Request
from planner.model.spec import ModelSpec
from planner.units import MIB
from profiler import llama_child

SECONDS = 300
MOST_ABORTS = 20
LIBRARY = "KVPLAN_LLAMA_LIBRARY"
MISSING = (
    "kvplan verify --engine llamacpp needs a libllama: name its folder or file with --library or in KVPLAN_LLAMA_LIBRARY "
    "(the npm package @node-llama-cpp/linux-x64 holds one that runs without a GPU)"
)
QUESTIONS: tuple[Mapping[str, Any], ...] = (
    {"n_ctx": 4096}, {"n_ctx": 5000}, {"n_ctx": 32768}, {"n_ctx": 131072}, {"n_ctx": 32768, "n_ubatch": 2048},
    {"n_ctx": 32768, "n_ubatch": 32}, {"n_ctx": 2048, "n_batch": 256}, {"n_ctx": 16384, "n_seq_max": 4},
    {"n_ctx": 16384, "n_seq_max": 4, "kv_unified": True}, {"n_ctx": 1024, "n_seq_max": 3}, {"n_ctx": 700, "n_seq_max": 4, "kv_unified": True},
    {"n_ctx": 8192, "type_k": "q8_0", "type_v": "q8_0"}, {"n_ctx": 8192, "type_k": "f16", "type_v": "q4_0", "flash_attn": 1},
    {"n_ctx": 32768, "flash_attn": 0}, {"n_ctx": 5000, "flash_attn": 0, "n_ubatch": 1024}, {"n_ctx": 32768, "swa_full": True},
    {"n_ctx": 8192, "n_rs_seq": 2, "n_seq_max": 2},
)  # fmt: skip
"""Contexts that every file is asked for, in libllama's own words; flash_attn 1 on, 0 off, unsaid automatic."""

_KV = re.compile(r"size = *([\d.]+) MiB \( *(\d+) cells, *(\d+) layers, *\d+/\d+ seqs\)", re.ASCII)
_STATE = re.compile(r"llama_memory_recurrent: size = *([\d.]+) MiB", re.ASCII)
_NAMES = {"f16": "fp16", "f32": "fp32"}


@dataclass(frozen=True)
class Context:
    """One context: MiB of K and V, of states and the cells of each cache, theirs beside ours. `error`: why one has none."""

    question: Mapping[str, Any]
    kv_mib: float
    state_mib: float
    cells: tuple[int, ...]
    our_kv_mib: float
    our_state_mib: float
    our_cells: tuple[int, ...]
    error: str = ""

    @property
    def agrees(self) -> bool | None:
        """The same cells, and sizes within the last digit of each line that is printed; None where one has no answer."""
        if self.error:
            return None
        slack = 0.0051 * max(1, len(self.cells)) + 0.0001
        sizes = abs(self.kv_mib - self.our_kv_mib) <= slack and abs(self.state_mib - self.our_state_mib) <= slack
        return sizes and set(self.cells) == set(self.our_cells)

    @property
    def refused(self) -> bool:
        """Both sides refuse it: K and V of two types in an MLA cache."""
        return not self.error and not self.cells and not self.state_mib

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self), "question": dict(self.question), "cells": list(self.cells), "our_cells": list(self.our_cells), "agrees": self.agrees}  # fmt: skip


@dataclass(frozen=True)
class LlamaVerdict:
    """All contexts of one file, or why libllama did not load it."""

    model: str
    version: str
    contexts: tuple[Context, ...]
    error: str = ""

    @property
    def agrees(self) -> bool:
        """No context differs, and one at least was compared."""
        found = [one.agrees for one in self.contexts if not one.refused]
        return not self.error and False not in found and True in found

    def to_dict(self) -> dict[str, Any]:
        return {
            "model": self.model, "engine": "llamacpp", "version": self.version, "agrees": self.agrees,
            "error": self.error or None, "contexts": [one.to_dict() for one in self.contexts],
        }  # fmt: skip


def verify_llama(
    name: str, spec: ModelSpec, file: str, *, library: str | None, version: str | None = None
) -> LlamaVerdict:
    """Asks libllama for every context of `QUESTIONS` and holds its answer against ours, by the rules of the build that
    is given or that the library names.

    Raises KvplanError without a library.
    """
    library = library or os.environ.get(LIBRARY)
    if not library:
        raise KvplanError(MISSING)
    if not os.path.exists(library):
        raise BadRequest(f"--library {one_line(library, 80)} does not exist; name the folder or file of a libllama")
    error, found, named = "", [], version or ""
    for answer in _answers(library, file):
        if "error" in answer:
            error = _plain(answer["error"], library)
        elif "loaded" in answer:
            named = version or answer["version"]
            error = "" if answer["loaded"] else "libllama did not load it: " + one_line(_last(answer["log"]), 200)
        elif "index" in answer:
            found.append(_compared(spec, named, QUESTIONS[answer["index"]], answer))
    return LlamaVerdict(name, named, tuple(found), error)


def ours(spec: ModelSpec, version: str | None, question: Mapping[str, Any]) -> dict[str, Any]:
    """Answers a question in libllama's words, by our own rules."""
    k, v = (_NAMES.get(question.get(key, "f16"), question.get(key, "f16")) for key in ("type_k", "type_v"))
    flash = {0: False, 1: True}.get(question.get("flash_attn", -1))
    options = Options(
        ctx_size=question["n_ctx"], parallel=question.get("n_seq_max", 1), batch_size=question.get("n_batch"),
        ubatch_size=question.get("n_ubatch"), flash_attn=flash, swa_full=bool(question.get("swa_full")),
        kv_unified=bool(question.get("kv_unified")), num_speculative_tokens=question.get("n_rs_seq", 0),
    )  # fmt: skip
    return llamacpp.answer(estimate(spec, Request(1, k_dtype=k, v_dtype=v), None), options, version or None).to_dict()


def _compared(
    spec: ModelSpec, version: str, question: Mapping[str, Any], answer: Mapping[str, Any]
) -> Context:  # parameters: both sides of a question
    """Both answers to one question; where both refuse, nothing differs."""
    lines = _KV.findall(answer["log"])
    theirs = (sum(float(size) for size, _, _ in lines), sum(map(float, _STATE.findall(answer["log"]))))
    cells = tuple(int(count) for size, count, _ in lines if float(size))
    try:
        found = ours(spec, version, question)
    except KvplanError as error:
        said = "" if not answer["made"] else f"kvplan refuses: {one_line(str(error), 160)}"
        return Context(
            question,
            *((0.0, 0.0) if not answer["made"] else theirs),
            cells if answer["made"] else (),
            0.0,
            0.0,
            (),
            said,
        )
    kept = (("kv_full_bytes", "kv_full_cells"), ("kv_swa_bytes", "kv_swa_cells"))
    our_cells = tuple(found[count] for size, count in kept if found[size])
    sizes = found["kv_bytes"] / MIB, found["state_bytes"] / MIB
    said = "" if answer["made"] else "libllama makes no context: " + one_line(_last(answer["log"]), 160)
    return Context(question, *theirs, cells, *sizes, our_cells, said)


def _answers(library: str, file: str) -> Iterator[dict[str, Any]]:
    """What the child prints; where the library aborts, the next process goes on behind the question that it met."""
    start, aborts = 0, 0
    while start < len(QUESTIONS):
        asked = {"library": library, "file": file, "questions": [dict(one) for one in QUESTIONS], "start": start}
        begun = None
        for answer in _child(json.dumps(asked)):
            begun = answer.get("begin", begun)
            if "begin" not in answer:
                yield answer
            if "index" in answer:
                start, begun = answer["index"] + 1, None
        if begun is None and start < len(QUESTIONS):
            return  # it did not load
        if begun is not None:
            yield {"index": begun, "made": False, "log": "it aborted"}
            start, aborts = begun + 1, aborts + 1
        if aborts > MOST_ABORTS:
            return


def _child(asked: str) -> list[dict[str, Any]]:
    code = Path(str(llama_child.__file__)).read_text(encoding="utf-8")
    try:
        done = subprocess.run(
            [sys.executable, "-c", code, asked], capture_output=True, text=True, timeout=SECONDS, check=False,
            env={**os.environ, "GGML_NO_BACKTRACE": "1"}, errors="replace",
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return [{"error": f"libllama did not answer within {SECONDS} s"}]
    lines = [
        line.removeprefix(llama_child.MARK) for line in done.stdout.splitlines() if line.startswith(llama_child.MARK)
    ]
    if not lines:
        return [{"error": one_line((done.stderr.strip().splitlines() or ["libllama said nothing"])[-1], 200)}]
    return [json.loads(line) for line in lines]


def _plain(error: str, library: str) -> str:
    """An error of the child without its Python class; what is wrong with a file that is no library, in words."""
    if (
        "invalid ELF header" in error
        or "file too short" in error
        or "no libllama in" in error
        or "not a mach-o" in error
    ):
        return (
            f"{one_line(library, 80)} holds no libllama that loads here; name the folder or file of one with --library"
        )
    return error.removeprefix("OSError: ")


def _last(log: str) -> str:
    return (log.strip().splitlines() or ["nothing said"])[-1]

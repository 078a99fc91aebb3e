"""Answers questions that come from outside, over HTTP or from an agent: bounded, and no file that they name is opened.

A question is a name (`estimate`, `fit`, `speed`, `plan`, `engines`) and parameters, each called as the command line's flag
without its dashes, and read by the same readers. A model is a name of the catalogue or the contents of a config.json.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from time import monotonic
from typing import Any

from planner.answers.engines import engines_answer
from planner.answers.estimate import estimate_answer
from planner.answers.fit import fit_answer
from planner.answers.speed import speed_answer
from planner.catalogue.entries import known_model, model_state
from planner.deployment.question import Question
from planner.errors import BadConfig, BadRequest, UnknownName, UsageError, one_line
from planner.lookup import ASSUME_FULL, spec_of
from planner.lookup.models import understand
from planner.lookup.plain import plain_name
from planner.model.spec import ModelSpec
from planner.options import engines, fit, plan, speed
from planner.options.estimate import estimate_asked
from planner.options.tables import ESTIMATE, Flag, empty
from planner.readers import read_entry
from planner.readers.huggingface import read_config

MOST_TEXT = 2_000
"""Characters of one parameter."""
MOST_CONFIG_BYTES = 256 << 10
"""Of a config.json that is posted; published ones are below 64 KiB."""
MOST_CONFIG_DEPTH = 20
MOST_LENGTHS = 64
"""Lengths or batches of one question."""
MOST_DEVICES = 8
"""Devices that one plan searches: some seconds of work."""
MOST_PLANS = 50
PLAN_SECONDS = 20.0
FILES = (".json", ".safetensors", ".csv", ".jsonl", ".yaml", ".yml", "/", "\\")
NOT_HERE = ("config", "online", "trace", "emit")
"""Flags that open a file or the network, or that are of a shell; so are all whose value is a FILE."""
_POINT = re.compile(
    r"\s*[a-z_]{1,20}\s?=\s?[\w.]{1,20}(?:[\s,;]{1,3}[a-z_]{1,20}\s?=\s?[\w.]{1,20}){0,20}\s*", re.ASCII
)
_LENGTHS = re.compile(r"\s*(?:[\d_.]+[kKmM]?|p\d[\d.]*\s*=[\w.\s]+(?:,\s*p\d[\d.]*\s*=[\w.\s]+)?)\s*", re.ASCII)


@dataclass(frozen=True)
class Kind:
    """One question: its flags, how they are read, and how it is answered."""

    words: str
    table: tuple[Flag, ...]
    asked: Callable[[dict[str, Any]], Any]
    answer: Callable[[Any], Any]

    @property
    def flags(self) -> tuple[Flag, ...]:
        """The flags that may be asked from outside."""
        return tuple(flag for flag in self.table if _allowed(flag))


def _planned(asked: tuple[Question, int]) -> Any:
    """The plan, unless it takes longer than `PLAN_SECONDS`."""
    from planner.answers.plan import plan_answer  # slow to load, and most questions are others

    begun = monotonic()

    def on(done: int, devices: int) -> None:
        if monotonic() - begun > PLAN_SECONDS:
            raise BadRequest(f"the plan took over {PLAN_SECONDS:.0f} s after {done} of {devices} devices; name fewer")

    question, top = asked
    return plan_answer(question, min(top, MOST_PLANS), on)


KINDS = {
    "estimate": Kind("Memory of a model: KV cache to the byte, weights, and whether it fits.", ESTIMATE, estimate_asked, estimate_answer),
    "fit": Kind("Most sequences, longest context, fewest devices, which devices.", fit.FLAGS, fit.fit_asked, fit_answer),
    "speed": Kind("How fast: TTFT, TPOT, tokens a second, with range, bound, and what binds.", speed.FLAGS, speed.speed_asked, speed_answer),
    "plan": Kind(f"From a load and targets to devices, layout, formats, cost; gpu names up to {MOST_DEVICES}.", plan.FLAGS, plan.plan_asked, _planned),
    "engines": Kind("What vLLM, SGLang, llama.cpp and others make of it, side by side.", engines.FLAGS, engines.engines_asked, engines_answer),
}  # fmt: skip


def answer(kind: str, parameters: Mapping[str, Any]) -> Any:
    """Returns the answer to a question from outside: an object with `to_dict`, `rows` and `exit_code`, as the commands have.

    >>> answer("estimate", {"model": "llama-7b", "seq": "8k"}).kv_bytes
    4294967296

    Raises KvplanError in one line: a parameter that is not known, a file, a question that is too large.
    """
    found = KINDS[kind]
    flags = {flag.parameter: flag for flag in found.flags}
    values: dict[str, Any] = {}
    for name, value in parameters.items():
        parameter = name.replace("-", "_")
        if parameter == "model" or value is None:
            continue
        if parameter == "output" and "answer" in flags:
            parameter = "answer"  # as it was called in 0.1
        if parameter not in flags:
            raise BadRequest(f"{one_line(name, 40)!r} is not a parameter of {kind}; see /docs, or kvplan {kind} --help")
        if parameter in values:
            raise BadRequest(f"{one_line(name, 40)} is given twice; give it once")
        values[parameter] = _value(flags[parameter], value)
    _check(kind, values)
    if "model" in parameters:
        values["model"] = model(parameters["model"], assume=values.get("assume"))
    return found.answer(found.asked({**empty(found.table), **values}))


def model(value: Any, *, assume: str | None = None) -> ModelSpec:
    """Returns the ModelSpec of a catalogue name, or of the contents of a config.json (an object, or its text)."""
    if isinstance(value, ModelSpec):
        return value
    if isinstance(value, (list, tuple)) and len(value) == 1:
        value = value[0]
    if assume not in (None, ASSUME_FULL):
        raise BadRequest(f"--assume {one_line(assume, 40)!r} is not known; the one assumption is {ASSUME_FULL}")
    if isinstance(value, str) and value.lstrip()[:1] != "{":
        return _named(_name(value), assume == ASSUME_FULL, model_state())
    if isinstance(value, str):
        value = config_of(value)
    if not isinstance(value, dict):
        raise BadRequest(f"model {one_line(repr(value), 40)} is neither a name nor the contents of a config.json")
    if _deep(value, MOST_CONFIG_DEPTH):
        raise BadConfig(f"the config given is nested more than {MOST_CONFIG_DEPTH} deep; a config.json is not")
    said = value.get("_name_or_path")
    shown = one_line(said, 80) if isinstance(said, str) and said.strip() else "the config given"
    return read_config(value, name=shown, where="the config given", assume_full=assume == ASSUME_FULL)


@lru_cache(maxsize=64)
def _named(name: str, assume_full: bool, state: tuple[object, ...]) -> ModelSpec:
    """The model of a name, kept: a page asks for the same one at each change, and what is known of a spec stays with it.

    state   of the user's own models, so that a changed file is read again
    """
    if (entry := known_model(name)) is not None:
        return read_entry(entry, assume_full)
    return spec_of(understand(name), assume_full)


def _name(value: str) -> str:
    """A model's name, also out of its address on the Hub; a path is refused, and not looked for."""
    name = value.strip()
    if len(name) > MOST_TEXT:
        raise BadRequest(f"model is {len(name):,} characters long; a name has {MOST_TEXT:,} at most")
    if not name or "\0" in name:
        raise UsageError("which model? A name of `kvplan models`, a Hugging Face id of one, or a config.json")
    if name.startswith((".", "/", "~", "\\")) or name.endswith(FILES):
        raise UnknownName(
            f"{one_line(name, 60)!r} reads as a file, and none is opened here; give a name, or the contents of a config.json"
        )
    return plain_name(name)


def config_of(text: str) -> Any:
    """Returns the object that a pasted config.json holds."""
    if len(text) > MOST_CONFIG_BYTES:
        raise BadConfig(f"the config given has {len(text):,} characters; {MOST_CONFIG_BYTES:,} at most")
    try:
        return json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise BadConfig(f"the config given is not JSON: {one_line(str(error), 100)}") from None


def _no_number(word: str) -> Any:
    raise BadConfig(f"the config given holds {word}, which is not a number")


def _deep(value: Any, left: int) -> bool:
    if not isinstance(value, (dict, list)):
        return False
    return left < 0 or any(_deep(one, left - 1) for one in (value.values() if isinstance(value, dict) else value))


def _allowed(flag: Flag) -> bool:
    wanted = flag.section != "Output" or flag.parameter in ("sort", "top")
    return wanted and flag.parameter not in NOT_HERE and flag.metavar != "FILE"


def _value(flag: Flag, value: Any) -> Any:
    """A value as the command line has it: a text, several texts, or a switch."""
    if flag.repeated:
        items = value if isinstance(value, (list, tuple)) else (value,)
        if len(items) > MOST_LENGTHS:
            raise BadRequest(f"{flag.name} is given {len(items):,} times; {MOST_LENGTHS} at most")
        return tuple(_text(flag, one) for one in items)
    if isinstance(value, (list, tuple)):
        if flag.name not in ("--seq", "--batch", "--gpu") and len(value) != 1:
            raise BadRequest(f"{flag.name} is given {len(value):,} times; give it once")
        if len(value) > MOST_LENGTHS:
            raise BadRequest(f"{flag.name} names {len(value):,}; {MOST_LENGTHS} at most")
        value = ",".join(_text(flag, one) for one in value)
    if not flag.metavar:
        return _switch(flag, value)
    return _text(flag, value)


def _text(flag: Flag, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise BadRequest(f"{flag.name} {one_line(repr(value), 40)} is neither a text nor a number")
    try:
        text = str(value)
    except ValueError:  # an integer of thousands of digits
        raise BadRequest(f"{flag.name} is a number of too many digits") from None
    if len(text) > MOST_TEXT:
        raise BadRequest(f"{flag.name} is {len(text):,} characters long; {MOST_TEXT:,} at most")
    return text


def _switch(flag: Flag, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower()[:10] if isinstance(value, (str, int)) else ""
    if word in ("1", "true", "on", "yes", ""):
        return True
    if word in ("0", "false", "off", "no"):
        return False
    raise BadRequest(f"{flag.name} {one_line(repr(value), 40)} is a switch; write true or false")


def _check(kind: str, values: dict[str, Any]) -> None:
    """Refuses what would open a file, ask the machine, or take long."""
    names = values.get("gpu") or ()
    devices = [one for text in ([names] if isinstance(names, str) else names) for one in text.split(",")]
    for name in devices:
        not_local(name)
    if kind == "plan" and not 1 <= len(devices) <= MOST_DEVICES:
        raise BadRequest(
            f"--gpu: name 1 to {MOST_DEVICES} devices here, for example h100-sxm,l40s; the command line searches all"
        )
    if kind == "speed" and len(devices) > MOST_DEVICES:
        raise BadRequest(f"--gpu names {len(devices):,} devices; {MOST_DEVICES} at most here")
    for name in ("lengths", "prompt", "answer"):
        if values.get(name) is not None and not _LENGTHS.fullmatch(values[name]):
            raise BadRequest(
                f"--{name} {one_line(values[name], 40)!r} is not a length here; write 2k or p50=800,p95=6000"
            )
    for point in values.get("measured") or ():
        if not _POINT.fullmatch(point):
            raise BadRequest(
                f"--measured {one_line(point, 40)!r} is not a point, and no file is opened here; write tpot_ms=14.2 batch=8 seq=2k"
            )
    if kind in ("estimate", "speed"):
        _check_lists(values)
    _check_names(values)


def not_local(gpu: str) -> None:
    """Refuses `local`, alone or among others: the driver of this machine is not asked from outside."""
    if re.search(r"\blocal\b", gpu.lower()):
        raise BadRequest("--gpu local is the machine of the command line; name a device of `kvplan gpus` here")


def _check_lists(values: Mapping[str, Any]) -> None:
    for name in ("seq", "batch"):
        count = str(values.get(name) or "").count(",") + 1
        if count > MOST_LENGTHS:
            raise BadRequest(f"--{name} names {count:,}; {MOST_LENGTHS} at most here")


def _check_names(values: Mapping[str, Any]) -> None:
    """--drafter and --also name models of the catalogue; a name that is not there is not looked for on disk."""
    drafter = values.get("drafter")
    if drafter is not None and drafter.strip().lower() not in ("mtp", "eagle", "eagle3"):
        _in_catalogue(drafter)
    for text in values.get("also") or ():
        name = re.sub(r"@\s*\d{1,2}\s*%\s*$", "", text.strip())
        floor = re.fullmatch(r"(.+):([\d.]+[kKmM]?)\s*x\s*(\d{1,9})", name, re.ASCII)
        _in_catalogue(floor.group(1) if floor else name)


def _in_catalogue(name: str) -> None:
    if name.startswith((".", "/", "~", "\\")) or name.endswith(FILES):
        raise UnknownName(
            f"{one_line(name, 60)!r} reads as a file, and none is opened here; name a model of the catalogue"
        )
    if known_model(name) is None:
        raise UnknownName(f"{one_line(name, 60)!r} is not in the catalogue; name a model of /api/models")

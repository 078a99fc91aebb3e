"""Reads what every question asks: the model, the request, the device, and where the answer goes.

No click here, and nothing that a plain estimate does not need: the quick way shares it.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

from planner.catalogue.entries import known_device
from planner.errors import BadConfig, BadRequest, UsageError, one_line
from planner.frozen import dataclass
from planner.lookup import ASSUME_FULL, capacity, device, machine, machine_with, model_spec, with_memory
from planner.memory.request import Capacity, Request
from planner.memory.sharding import Sharding
from planner.model.spec import ModelSpec
from planner.options.tables import HAND, LLAMA

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from planner.catalogue.device import Device
    from planner.lookup.devices import Machine

RANKS = ("tp", "pp", "ep", "dp", "dcp")
USUAL_TOKENS = 8192
# Programs that lay whole layers on each card.
LAYERS_SPLIT = ("llama", "ik_llama", "ik-llama", "ollama", "lmstudio", "lm-studio", "koboldcpp")
MOST_QUESTIONS = 1000
MOST_CONFIG_BYTES = 16 << 20


@dataclass(frozen=True, eq=False, repr=False)
class Output:
    """How an answer is wanted: as JSON, as CSV or for people, on the screen or in the file `path`."""

    as_json: bool = False
    as_csv: bool = False
    path: str | None = None
    explain: bool = False
    verbose: bool = False

    @property
    def for_people(self) -> bool:
        """Whether a page is wanted, with words and colours."""
        return not (self.as_json or self.as_csv)


def output_of(values: Mapping[str, Any]) -> Output:
    """Reads where the answer goes; refuses two formats at once, and --explain in one that is not for people."""
    found = Output(
        as_json=values.get("as_json", False),
        as_csv=values.get("as_csv", False),
        path=values.get("output"),
        explain=values.get("explain", False),
        verbose=values.get("verbose", False),
    )
    if found.as_json and found.as_csv:
        raise UsageError("--json and --csv exclude each other; give one of them")
    if found.explain and not found.for_people:
        raise UsageError("--explain is for people; leave it out with --json and --csv")
    return found


def each(values: Mapping[str, Any], *names: str) -> list[dict[str, Any]]:
    """Splits a line whose flags name several models, devices, batches or lengths into its questions, one for each
    combination.

    >>> [(one["gpu"], one["batch"]) for one in each({"gpu": "l4,t4", "batch": "1,8"}, "gpu", "batch")]
    [('l4', 1), ('l4', 8), ('t4', 1), ('t4', 8)]
    """
    found = [dict(values)]
    for name in names:
        items = _items(name, values.get(name))
        if len(found) * len(items) > MOST_QUESTIONS:
            raise BadRequest(
                f"these are {len(found) * len(items):,} questions; {MOST_QUESTIONS:,} at most, `kvplan sweep` takes more"
            )
        found = [{**one, name: item} for one in found for item in items]
    return found


def _items(name: str, value: Any) -> list[Any]:
    """The values of one flag, in order and without repeats; a single one as it came."""
    listed = isinstance(value, (list, tuple, range))
    if name == "model":
        return (list(value) or [None]) if listed else [value]
    if not listed and not (isinstance(value, str) and ("," in value or ".." in value)):
        return [value]
    if name == "gpu":
        if isinstance(value, str) and known_device(value) is not None:
            return [value]
        from planner.options.readers import names

        return list(names(value, "--gpu"))
    from planner.options.readers import counts, lengths

    return list(counts(value, "--batch") if name == "batch" else lengths(value, "--seq"))


def spec_of(given: Mapping[str, Any]) -> ModelSpec:
    """Reads the model that is named, held in a config, or given by hand with its dimensions."""
    found, note, factor = _spec_of(given), given.get("gpu_note"), given.get("rope_scaling")
    if factor is not None:
        from planner.model.positions import scaled  # few ask for it

        found = scaled(found, factor)
    return replace(found, notes=(*found.notes, note)) if note else found


def _spec_of(given: Mapping[str, Any]) -> ModelSpec:
    dimensions = {flag.parameter: given.get(flag.parameter) for flag in HAND}
    model, config = given.get("model"), given.get("config")
    if isinstance(model, ModelSpec):
        return model
    if any(size is not None for size in dimensions.values()):
        if model is not None or config is not None:
            raise UsageError("a MODEL and dimensions by hand (--layers ...) exclude each other")
        from planner.readers.by_hand import by_hand

        return by_hand(dimensions)
    if model is None and config is None:
        raise UsageError("which MODEL? A name of `kvplan models`, a config.json, or --layers --kv-heads --head-dim")
    if model is not None and config is not None:
        raise UsageError("MODEL and --config both name a model; give one of them")
    if model == "-":
        return _spec_of_stdin(given)
    if isinstance(model, dict):
        from planner.readers.huggingface import read_config

        return read_config(model, name=_name_in(model), where="the config given")
    if model is not None and not isinstance(model, str):
        raise BadRequest(
            f"{one_line(repr(model), 60)} is not a model; give a name, a path, a config as a dict, or a ModelSpec"
        )
    return model_spec(model, config=config, assume=given.get("assume"), online=given.get("online") or False)


def _spec_of_stdin(given: Mapping[str, Any]) -> ModelSpec:
    """The model of a config.json on standard input, of which never more than its bound is read."""
    import sys

    from planner.files.read import parse_json
    from planner.readers.huggingface import read_config

    if sys.stdin is None:
        raise BadConfig("stdin is closed; give a config.json on it, or name the file")
    data = sys.stdin.buffer.read(MOST_CONFIG_BYTES + 1)
    if len(data) > MOST_CONFIG_BYTES:
        raise BadConfig(f"stdin: is larger than {MOST_CONFIG_BYTES >> 20} MiB, which a config.json is not")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise BadConfig("stdin: is not UTF-8 text; give a config.json on it") from None
    if not text.strip():
        raise BadConfig("stdin: is empty; give a config.json on it, as in: kvplan estimate - < config.json")
    config = parse_json(text, "stdin", error=BadConfig, again="; give a config.json on it")
    if not isinstance(config, dict):
        raise BadConfig("stdin: is no JSON object; give a config.json on it")
    assume = given.get("assume")
    if assume not in (None, ASSUME_FULL):
        raise BadRequest(f"--assume {one_line(assume, 40)!r} is not known; the one assumption is {ASSUME_FULL}")
    return read_config(config, name=_name_in(config), where="stdin", assume_full=assume == ASSUME_FULL)


def _name_in(config: Mapping[str, Any]) -> str:
    """What a config calls its model: `_name_or_path` where it is there."""
    name = config.get("_name_or_path")
    return one_line(name, 80) if isinstance(name, str) and name.strip() else "the config given"


def capacity_of(given: Mapping[str, Any]) -> Capacity | None:
    """Reads what --gpu or --memory offers each rank; None where neither is given."""
    found = capacity(given.get("gpu"), given.get("memory"))
    names = given.get("gpu_names")
    return replace(found, name=names) if found is not None and names else found


def _with_named_format(given: dict[str, Any]) -> dict[str, Any]:
    """--dtype 4bit, UD-Q4_K_XL, 4.0bpw: a format that only names have becomes the end of the model's name."""
    dtype, model = given.get("dtype"), given.get("model")
    if not isinstance(dtype, str):
        return given
    from planner.options.readers import is_named_format

    if not is_named_format(dtype):
        return given
    if not isinstance(model, str) or model.startswith((".", "/", "~")):
        raise BadRequest(
            f"--dtype {one_line(dtype, 40)} is how published models are named; give it with a model's name"
        )
    return {**given, "model": f"{model}-{dtype}", "dtype": None}


def with_ranks(given: dict[str, Any]) -> dict[str, Any]:
    """Sets the ranks where the question sets none: from a count in the device's name ("2x3090"), or from --gpus N.

    Of unlike cards ("3090+3060") the smallest is taken for every rank, for each gets the same share.
    """
    return laid_over(with_count(_with_named_format(given)))


def laid_over(given: dict[str, Any]) -> dict[str, Any]:
    """Turns --gpus N into --tp and --pp, unless those are given."""
    count = given.get("gpus")
    if count is None:
        return given
    if any(given.get(name) for name in ("tp", "pp", "dp")):
        raise UsageError("--gpus N lays the model out by itself; leave out --tp, --pp and --dp")
    if count > 8 and count % 8:
        raise BadRequest(f"--gpus {count} is not a multiple of 8; lay it out with --tp and --pp")
    if str(given.get("engine") or "").startswith(LAYERS_SPLIT):
        return {**given, "pp": count}
    return {**given, "tp": min(count, 8), "pp": max(1, count // 8)}


def with_count(given: Mapping[str, Any]) -> dict[str, Any]:
    """Sets the layout that a device's name gives, where the question sets none; refuses what the two do not agree on.

    llama.cpp and its kin fill unlike cards by their memory: `estimate`, `fit`, `speed` and `check` answer that, no other command.
    """
    given = dict(given)
    name = given.get("gpu")
    if not isinstance(name, str) or name.strip().lower() == "local":
        return given
    if (known := known_device(name)) is not None:
        apple = known.vendor == "Apple" and given.get("memory") is None
        return {**given, "gpu_note": _taken_memory(name, known)} if apple else given
    if "," in name:
        raise BadRequest(
            f"--gpu {one_line(name, 60)} names several devices: joined by + they are one machine "
            f"({one_line(name.replace(',', '+').replace(' ', ''), 60)}); estimate, fit, speed, plan, engines and simulate take a list"
        )
    plain = machine(name)
    if plain.count == 1:
        return given
    found = machine_with(name, given.get("memory"))
    smallest = plain.devices[
        found.devices.index(found.smallest)
    ].name  # --memory is put onto that name where it is read
    given = {**given, "gpu": smallest}
    if found.mixed and _by_memory(given, found):
        given |= {"cards": tuple(card.memory_bytes for card in found.devices), "gpu_names": found.name}
    elif found.mixed:
        given["gpu_note"] = f"unlike cards: every rank gets the same share, so that of the {smallest} counts"
    layout = [given.get(rank) for rank in ("tp", "pp", "dp")]
    asked = given.get("gpus") or (prod(count or 1 for count in layout) if any(layout) else None)
    if asked is not None and asked != found.count:
        raise BadRequest(f"--gpu {one_line(name, 40)} names {found.count} devices and the layout takes {asked}")
    if asked is not None:
        return given
    if found.count > 8 and found.count % 8:
        raise BadRequest(
            f"--gpu {one_line(name, 40)}: {found.count} devices are not a multiple of 8; add --tp and --pp"
        )
    if str(given.get("engine") or "").startswith(LAYERS_SPLIT):
        return {**given, "pp": found.count}
    return {**given, "tp": min(found.count, 8), "pp": max(1, found.count // 8)}


def _taken_memory(name: str, found: Device) -> str:
    from planner.lookup.devices import taken_memory  # only where there is a choice of memory

    return taken_memory(name, found)


def device_of(name: str, memory: str | None) -> Device:
    """Finds one device by its name, with the memory that --memory gives in place of its own."""
    found = device(name)
    return found if memory is None else with_memory(found, memory)


def _by_memory(given: Mapping[str, Any], found: Machine) -> bool:
    """Whether the engine fills unlike cards by their memory; refuses commands that do not answer that."""
    engine = str(given.get("engine") or "")
    if not engine:
        return False
    from planner.engines.registry import parse_engine

    if parse_engine(engine)[0] not in LLAMA:
        return False
    if "n_gpu_layers" not in given:
        raise BadRequest(
            f"--gpu {one_line(found.asked, 40)}: llama.cpp fills unlike cards by their memory, which estimate, fit, speed and check answer: "
            f"kvplan check --gpu {one_line(found.asked.replace(' ', ''), 40)} -- llama-server -m MODEL -c N -ngl 99"
        )
    return True


def usual_tokens(spec: ModelSpec) -> int:
    """Returns the length where none is asked: the model's own limit, at most 8k."""
    return min(spec.max_positions or USUAL_TOKENS, USUAL_TOKENS)


def request_of(given: Mapping[str, Any], seq_tokens: int) -> Request:
    """Builds the Request of flags that were read, at one length."""
    kv, k, v = given.get("kv_dtype"), given.get("k_dtype"), given.get("v_dtype")
    if kv is not None and (k is not None or v is not None):
        raise UsageError("--kv-dtype sets both; give --k-dtype and --v-dtype without it")
    return Request(
        seq_tokens=seq_tokens,
        batch=given.get("batch") or 1,
        dtype=given.get("dtype"),
        k_dtype=kv or k,
        v_dtype=kv or v,
        source_tokens=given.get("source_tokens"),
        sharding=Sharding(**{name: given.get(name) or 1 for name in RANKS}),
        prefill_tokens=given.get("prefill_tokens"),
        fused_attention=given.get("attention") != "eager",
        activation_override=given.get("activation"),
        overhead_override=_overheads(given.get("overhead") or ()),
    )


def _overheads(items: tuple[tuple[str, int], ...]) -> dict[str, int]:
    lines: dict[str, int] = {}
    for name, size in items:
        if name in lines:
            raise BadRequest(f"--overhead {one_line(name, 40)} is set twice; set it once")
        lines[name] = size
    return lines

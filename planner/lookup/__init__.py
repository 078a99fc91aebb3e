"""What the user names -> ModelSpec and Capacity: catalogue names, files, folders, or dimensions by hand."""

from __future__ import annotations

import os
from dataclasses import replace

from planner.catalogue.entries import known_device, known_model
from planner.errors import BadRequest, UnknownName, one_line
from planner.memory.request import Capacity, device_capacity
from planner.model.spec import ModelSpec
from planner.readers import read_entry
from planner.readers.huggingface import read_file
from planner.units import parse_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from planner.catalogue.device import Device
    from planner.lookup.devices import Machine
    from planner.lookup.models import Understood

ASSUME_FULL = "full-attention"


ASK_THE_HUB = "--online reads config and headers from the Hub (extra `hub`)"


def model_spec(
    name: str | None = None, *, config: str | None = None, assume: str | None = None, online: bool = False
) -> ModelSpec:
    """Finds the model called `name`: a catalogue name, alias or Hugging Face id, a config.json, a folder with one (and
    weights), a .safetensors or a .gguf file.

    A name that reads as a path (./x, /x, ~/x, x.json) is a file; any other name is looked up in the
    catalogue first, and on disk when it is not there. With `online` (or KVPLAN_ONLINE=1) a name with a slash
    that is not on disk is asked of the Hugging Face Hub: config and headers, never weights.
    """
    if (name is None) == (config is None):
        raise BadRequest("one model is wanted: a name, a config.json, or --layers --kv-heads --head-dim by hand")
    if assume not in (None, ASSUME_FULL):
        raise BadRequest(f"--assume {one_line(str(assume), 40)!r} is not known; the one assumption is {ASSUME_FULL}")
    full = assume == ASSUME_FULL
    if config is not None:
        return read_file(os.path.expanduser(config), full)
    assert name is not None
    if not name.strip() or "\0" in name:
        raise BadRequest("an empty model name; write a name of `kvplan models` or the path of a config.json")
    online = online or os.environ.get("KVPLAN_ONLINE", "") not in ("", "0")
    if name.startswith(("hf://", "https://", "http://")) or (online and _is_hub_id(name)):
        return _from_hub(name, full, online)
    if _is_path(name) and not _is_file_name_only(name):
        return _from_path(os.path.expanduser(name), full)
    if (entry := known_model(name)) is not None:
        return read_entry(entry, full)
    if os.path.exists(name):
        return _from_path(name, full)
    return _by_reading(name, full)


_WEIGHTS = (".safetensors", ".gguf")


def _is_path(name: str) -> bool:
    return name.startswith((".", "/", "~")) or name.endswith((".json", *_WEIGHTS)) or name.endswith(os.sep)


def _is_hub_id(name: str) -> bool:
    """owner/name, with what may follow; nothing that lies on disk."""
    return (
        "/" in name[1:]
        and not name.startswith((".", "/", "~"))
        and not name.endswith(os.sep)
        and not os.path.exists(name)
    )


def _safe(name: str) -> str:
    """The name without the password that an address may hold."""
    if "://" not in name:
        return name
    from planner.readers.hub import without_secrets

    return without_secrets(name)


def _offline(name: str) -> UnknownName:
    return UnknownName(
        f"{one_line(_safe(name), 80)!r} is on the Hub, and kvplan does not use the network unasked: {ASK_THE_HUB}"
    )


def _from_hub(name: str, full: bool, online: bool) -> ModelSpec:
    if not online:
        try:
            return _by_reading(name, full)
        except UnknownName:
            raise _offline(name) from None
    from planner.readers.hub import read_hub  # the network, and another package

    return read_hub(name, assume_full=full)


def named_model(name: str) -> ModelSpec:
    """Finds the model that a name means, by the catalogue and the rules of names alone: no file is opened, nothing
    asked.
    """
    if (entry := known_model(name)) is not None:
        return read_entry(entry)
    from planner.lookup.models import understand

    return spec_of(understand(name))


def _is_file_name_only(name: str) -> bool:
    """`Qwen3-8B-Q4_K_M.gguf` that lies nowhere here: its name says which model it is, and how it is stored."""
    return name.lower().endswith(".gguf") and os.path.basename(name) == name and not os.path.exists(name)


def _by_reading(name: str, full: bool) -> ModelSpec:
    """The model that a name means by the rules of `planner.lookup.models`; the spec says what was understood."""
    from planner.lookup.models import understand  # only where the catalogue has no such name

    try:
        found = understand(name)
    except UnknownName as error:
        if _is_file_name_only(name):
            raise UnknownName(f"{one_line(name, 60)} is no file here; {error}") from None
        if _is_hub_id(name) and not name.startswith(("hf://", "http")):
            raise UnknownName(f"{error}; {ASK_THE_HUB}") from None
        raise
    return spec_of(found, full)


def spec_of(found: Understood, full: bool = False) -> ModelSpec:
    """Builds the spec of what a name was understood as, its weights in the format that the name gives."""
    spec = read_entry(found.entry, full)
    if found.exact:
        return spec
    from planner.lookup.models import in_gguf
    from planner.lookup.parts import parts_of
    from planner.model.read_as import ReadAs  # only where a name is not one of the catalogue's own

    weights = found.weights
    read_as = ReadAs(
        found.asked, found.name, weights.words if weights else "", found.notes, bool(weights and weights.note),
        gguf=weights is not None and in_gguf(parts_of(found.asked)), spread=weights.spread if weights else (0.0, 0.0),
    )  # fmt: skip
    spec = replace(spec, name=found.name, read_as=read_as, notes=(*spec.notes, *found.notes))
    if weights is None:
        return spec
    if read_as.gguf:
        from planner.readers.in_a_gguf import held_in_a_gguf  # what its file holds beside

        spec = held_in_a_gguf(spec, head=weights.head)
    return replace(
        spec,
        dtype=weights.dtype or spec.dtype,
        quantization=weights.config or None,
    )


def _from_path(path: str, full: bool) -> ModelSpec:
    """A config.json, a weights file, or a folder: its headers decide the weights, where it has any."""
    if not os.path.isdir(path) and not path.endswith(_WEIGHTS):
        return read_file(path, full)
    from planner.readers.checkpoint import read_checkpoint  # only where there may be weights

    return read_checkpoint(path, full)


def machine(name: str) -> Machine:
    """Finds the devices that a name gives: a card, a count of it, unlike cards together, a cloud instance, or `local`.

    >>> machine("8xH200").count, machine("3090+3060").mixed
    (8, True)
    """
    from planner.lookup.devices import Machine, machine_named

    if name.strip().lower() == "local":
        from planner.machine.device import local_device  # asks the driver; not needed otherwise

        return Machine(name, (local_device(),))
    if (known := known_device(name)) is not None:
        return Machine(name, (known,))
    return machine_named(name)


def machine_with(name: str, memory: str | None) -> Machine:
    """Finds the devices that a name gives, each with the memory that --memory gives in place of its own.

    >>> machine_with("3090+3060", "8GiB").memory_bytes >> 30, machine_with("3090+3060", None).memory_bytes >> 30
    (16, 35)
    """
    found = machine(name)
    if memory is None:
        return found
    return replace(found, devices=tuple(with_memory(card, memory) for card in found.devices))


def device(name: str) -> Device:
    """Finds one device by its name, or `local`: the one of this machine. A name that gives several is refused."""
    if (known := known_device(name)) is not None:
        return known
    found = machine(name)
    if found.count > 1:
        first = found.devices[0].name
        advice = (
            "; estimate, fit, speed, engines, simulate and check take unlike cards"
            if found.mixed
            else f": write --gpu {first} and how many devices apart from it"
        )
        raise BadRequest(f"{one_line(name, 60)!r} names {found.name}, and one device is wanted here{advice}")
    return found.devices[0]


def capacity(gpu: str | None, memory: str | None) -> Capacity | None:
    """Returns what each device offers: one by name, plain bytes, or a device's name with other memory than its own."""
    if gpu is None:
        if memory is None:
            return None
        return Capacity(f"{one_line(memory, 40)} of memory", parse_bytes(memory, "--memory"))
    found = device(gpu)
    return device_capacity(found if memory is None else with_memory(found, memory))


def with_memory(found: Device, memory: str) -> Device:
    """Returns a device with the memory that --memory gives in place of its own; its speed stays."""
    size = parse_bytes(memory, "--memory")
    return replace(
        found,
        name=f"{found.name} with {one_line(memory, 20)}",
        memory_bytes=size,
        memory_source="--memory",
        advertised_gb=None,
    )

"""What the user names -> ModelSpec and Capacity: catalogue names, files, folders, or dimensions by hand."""

from __future__ import annotations

import os

from planner.catalogue.entries import find_device, find_model
from planner.errors import BadRequest, UnknownName, one_line
from planner.memory.request import Capacity, device_capacity
from planner.model.spec import ModelSpec
from planner.readers import read_entry
from planner.readers.huggingface import read_file
from planner.units import parse_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from planner.catalogue.device import Device

ASSUME_FULL = "full-attention"


ASK_THE_HUB = "--online reads config and headers from the Hub (extra `hub`)"


def model_spec(
    name: str | None = None, *, config: str | None = None, assume: str | None = None, online: bool = False
) -> ModelSpec:
    """The model called `name`: a catalogue name, alias or Hugging Face id, a config.json, a folder with one
    (and weights), a .safetensors or a .gguf file.

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
    if _is_path(name):
        return _from_path(os.path.expanduser(name), full)
    try:
        return read_entry(find_model(name), full)
    except UnknownName as error:
        if os.path.exists(name):
            return _from_path(name, full)
        if _is_hub_id(name):
            raise UnknownName(f"{error}; {ASK_THE_HUB}") from None
        raise


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


def _offline(name: str) -> UnknownName:
    return UnknownName(
        f"{one_line(name, 80)!r} is on the Hub, and kvplan does not use the network unasked: {ASK_THE_HUB}"
    )


def _from_hub(name: str, full: bool, online: bool) -> ModelSpec:
    if not online:
        raise _offline(name)
    from planner.readers.hub import read_hub  # the network, and another package

    return read_hub(name, assume_full=full)


def _from_path(path: str, full: bool) -> ModelSpec:
    """A config.json, a weights file, or a folder: its headers decide the weights, where it has any."""
    if not os.path.isdir(path) and not path.endswith(_WEIGHTS):
        return read_file(path, full)
    from planner.readers.checkpoint import read_checkpoint  # only where there may be weights

    return read_checkpoint(path, full)


def device(name: str) -> Device:
    """A catalogue device, or `local`: the one of this machine."""
    if name.strip().lower() == "local":
        from planner.machine.device import local_device  # asks the driver; not needed otherwise

        return local_device()
    return find_device(name)


def capacity(gpu: str | None, memory: str | None) -> Capacity | None:
    """What is to hold the model: a device by name, or plain bytes."""
    if gpu is not None and memory is not None:
        raise BadRequest("--gpu and --memory both say how much there is; give one of them")
    if memory is not None:
        size = parse_bytes(memory, "--memory")
        return Capacity(f"{one_line(memory, 40)} of memory", size)
    if gpu is None:
        return None
    found = device(gpu)
    return device_capacity(found)

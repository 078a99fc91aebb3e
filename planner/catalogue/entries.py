"""Models and devices by name: the shipped catalogue, and the user's own entries beside it.

The shipped entries are YAML for people (`model_configs/`) and one compiled JSON line an entry for speed. A
look-up searches the compiled text for the quoted name and parses only the lines that hold it, so it costs
about a millisecond however long the catalogue grows.

The user's own entries lie in `$KVPLAN_CONFIG_DIR` (`~/.config/kvplan` unless set), as `models/*.yaml` and
`gpus/*.yaml` of the same schema. The rule: an entry with the name of a shipped one takes its place, under all
of its names; any other entry is added, and where one of its aliases is also a shipped name, the user's wins.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import field, replace
from functools import cache, cached_property, lru_cache

from planner.errors import BadConfig, KvplanError, UnknownName, one_line
from planner.frozen import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from planner.catalogue.device import Device

SHIPPED = "shipped"


@dataclass(frozen=True, eq=False, repr=False)
class ModelEntry:
    """A model's published config keys, and where they came from."""

    name: str
    config: Mapping[str, Any]
    source: str
    checked: str
    aliases: tuple[str, ...] = ()
    hf_id: str | None = None
    year: int | None = None
    parameters: int | None = None  # exact, or None
    parameters_source: str | None = None
    confidence: str | None = None
    notes: str | None = None
    positions: Mapping[str, int] = field(default_factory=dict)  # of a name whose file says another number
    origin: str = SHIPPED  # or the user's file


def cached_repository(path: str) -> str | None:
    """Names the repository of a folder of the Hub's cache; None for any other text.

    >>> cached_repository("/root/.cache/huggingface/hub/models--Qwen--Qwen3-8B/snapshots/abc"), cached_repository("Qwen/Qwen3-8B")
    ('Qwen/Qwen3-8B', None)
    """
    found = re.search(r"models--([\w.-]+?)--([\w.-]+)", path)
    return None if found is None else f"{found.group(1)}/{found.group(2)}"


def at_positions(entry: ModelEntry, name: str) -> ModelEntry:
    """Returns the entry with the positions that the file of `name` gives, where they are not the entry's own.

    >>> at_positions(find_model("qwen2.5-7b"), "qwen2.5-7b-instruct").config["max_position_embeddings"]
    32768
    """
    asked, whole = model_key(name), "/" in name
    longest = next(
        (
            n
            for written, n in entry.positions.items()
            if asked == model_key(written if whole else written.split("/")[-1])
        ),
        None,
    )
    if longest is None:
        return entry
    key, text = "max_position_embeddings", entry.config.get("text_config")
    if isinstance(text, Mapping) and key in text:
        return replace(entry, config={**entry.config, "text_config": {**text, key: longest}})
    return replace(entry, config={**entry.config, key: longest})


def find_model(name: str) -> ModelEntry:
    """Finds the model called `name`, by name, alias or Hugging Face id; upper and lower case are the same.

    >>> find_model("Meta-Llama/Llama-2-7B-HF").name
    'llama-2-7b'
    """
    found: ModelEntry = _MODELS.find(name)
    return at_positions(found, name) if found.positions else found


def known_model(name: str) -> ModelEntry | None:
    """Returns the model that has `name` among its own names, or None; cheaper than a refusal, which looks for the nearest."""
    found: ModelEntry | None = _MODELS.get(name)
    return at_positions(found, name) if found is not None and found.positions else found


def model_state() -> tuple[object, ...]:
    """Returns something that changes whenever the user's own models do."""
    return _user_files("models")


def models(query: str | None = None) -> list[ModelEntry]:
    """Lists all models, or those that have every word of `query` in a name or in their model type.

    >>> [model.name for model in models("gpt-oss")]
    ['gpt-oss-20b', 'gpt-oss-120b']
    """
    return _MODELS.all(query)


def find_device(name: str) -> Device:
    """Finds the device called `name`; case, spaces, dashes, underscores and the vendor's name do not matter.

    >>> find_device("NVIDIA GeForce RTX 4090").name == find_device("rtx4090").name == find_device("4090").name
    True
    """
    found: Device = known_device(name) or _DEVICES.find(name)
    return found


def known_device(name: str) -> Device | None:
    """Returns the device that has `name` among its own names, or the one that was measured under it, or None."""
    found: Device | None = _DEVICES.get(name)
    return measured_device(name) if found is None else found


def measured_device(name: str) -> Device | None:
    """Returns the device whose speed was stored under `name`, called "L4 (mine)"; None where nothing is stored so.

    Raises BadOwnSpeed, in one line, for a damaged file.
    """
    from planner.catalogue import own_speeds  # few have such files

    key = own_speeds.own_key(name)
    path = None if key is None else own_path(key)
    if key is None or path is None or not os.path.lexists(path):
        return None
    own = replace(own_speeds.read(path), name=key)
    return own_speeds.with_own(own, _DEVICES.get(own.device), one_line(path, 120))


def own_path(name: str) -> str:
    """Tells where measurements called `name` are stored."""
    from planner.catalogue.own_speeds import path_in

    return path_in(user_folder(), name)


def measured_names() -> list[str]:
    """Lists the names under which measurements are stored."""
    from planner.catalogue.own_speeds import names_in

    return names_in(user_folder())


def device_state() -> tuple[object, ...]:
    """Returns something that changes whenever the user's own devices do."""
    return _user_files("gpus")


def devices(query: str | None = None) -> list[Device]:
    """Lists all devices, or those that have every word of `query` in a name or in their vendor.

    >>> [device.name for device in devices("a100 80gb")][:2]
    ['A100-PCIe-80GB', 'A100-SXM4-80GB']
    """
    return _DEVICES.all(query)


_VENDOR_WORDS = frozenset(
    ("nvidia", "geforce", "tesla", "quadro", "amd", "radeon", "instinct", "intel", "apple", "google", "aws")
)


def model_key(name: str) -> str:
    """Spells `name` as models are looked up: lower case, one dash for every run of spaces, dashes and underscores.

    The dash itself stays: without it "qwen-27b" would be found as "qwen2-7b".

    >>> model_key(" Microsoft/phi-1_5 ")
    'microsoft/phi-1-5'
    """
    return "-".join(name.lower().replace("_", " ").replace("-", " ").split())


def device_key(name: str) -> str:
    """Spells `name` as devices are looked up: lower case, without vendor, spaces, dashes and underscores.

    >>> device_key("NVIDIA A100-SXM4-80GB")
    'a100sxm480gb'
    """
    words = model_key(name).split("-")
    return "".join(word for word in words if word not in _VENDOR_WORDS) or "".join(words)


def model_keys(raw: Mapping[str, Any]) -> list[str]:
    """Returns every key under which a model's entry is found; a Hugging Face id counts without its owner, too."""
    names = [raw["name"], *raw.get("aliases", ())]
    if raw.get("hf_id"):
        names.append(raw["hf_id"])
    names += [name.rsplit("/", 1)[1] for name in names if "/" in name]
    return list(dict.fromkeys(model_key(name) for name in names))


def device_keys(raw: Mapping[str, Any]) -> list[str]:
    """Returns every key under which a device's entry is found."""
    return list(dict.fromkeys(device_key(name) for name in (raw["name"], *raw.get("aliases", ()))))


def model_from_raw(raw: Mapping[str, Any], origin: str = SHIPPED) -> ModelEntry:
    """Makes a ModelEntry of a checked entry."""
    return ModelEntry(**{**raw, "aliases": tuple(raw.get("aliases", ())), "origin": origin})


def device_from_raw(raw: Mapping[str, Any], origin: str = SHIPPED) -> Device:
    """Makes a Device of a checked entry."""
    from planner.catalogue.device import from_raw  # most answers name no device

    return from_raw(raw, origin)


class _Catalogue:
    """One kind of thing that can be looked up: what differs between models and devices."""

    def __init__(
        self,
        noun: str,
        compiled: str,
        folder: str,
        *,
        key: Callable[[str], str],
        keys: Callable[[Mapping[str, Any]], list[str]],
        build: Callable[[Mapping[str, Any], str], Any],
        about: Callable[[Any], tuple[str, ...]],
        advice: str,
    ) -> None:  # parameters: what it makes is made of, each by name
        self.noun = noun
        self.compiled = compiled  # the file's name in model_configs/
        self.folder = folder  # the folder's name in the user's own
        self.key = key
        self.keys = keys
        self.build = build
        self.about = about  # further words by which a query finds an entry
        self.advice = advice
        self._shipped_called = lru_cache(maxsize=512)(
            self._read_shipped
        )  # a plan asks for the same ones a thousand times

    def find(self, name: str) -> Any:
        found = self.get(name)
        if found is None:
            raise UnknownName(self._unknown(name, self.key(name)))
        return found

    def get(self, name: str) -> Any:
        wanted = self.key(name)
        own = self._own()
        if wanted in own:
            return own[wanted]
        shipped = self._shipped_called(wanted)
        # A user's entry of the same name takes the place of the shipped one under all its names.
        return None if shipped is None else own.get(self.key(shipped.name)) or shipped

    def _read_shipped(self, key: str) -> Any:
        """The shipped entry of a key; None where there is none."""
        raw = next(_lines_with(self.compiled, key), None) if key else None
        return None if raw is None else self.build(raw, SHIPPED)

    def all(self, query: str | None = None) -> list[Any]:
        words = [self.key(word) for word in (query or "").split()]
        if not words:
            return [entry for _, entry in self._every()]
        return [entry for keys, entry in self._every() if _matches(words, [*keys, *map(self.key, self.about(entry))])]

    def _every(self) -> Iterator[tuple[list[str], Any]]:
        own = self._own()
        replaced = {self.key(entry.name): entry for entry in own.values()}
        for keys, shipped in self._shipped:
            yield keys, replaced.pop(self.key(shipped.name), None) or shipped
        for entry in replaced.values():
            yield [key for key, value in own.items() if value is entry], entry

    @cached_property
    def _shipped(self) -> tuple[tuple[list[str], Any], ...]:
        """Every shipped entry with its keys, built once: lists of them are asked many times in a run."""
        rows = [json.loads(line) for line in _compiled(self.compiled).splitlines()]
        return tuple((raw.pop("keys"), self.build(raw, SHIPPED)) for raw in rows)

    def _own(self) -> dict[str, Any]:
        files = _user_files(self.folder)
        if not files:
            return {}
        return {key: self.build(raw, path) for key, path, raw in _user_entries(self.folder, files)}

    def _unknown(self, name: str, wanted: str) -> str:
        every = [(key, entry.name) for keys, entry in self._every() for key in keys]
        shown = repr(one_line(name, 60))
        begins = list(
            dict.fromkeys(
                owner
                for key, owner in every
                if wanted and key.startswith(wanted) and key.count("/") == wanted.count("/")
            )
        )
        if len(begins) > 1:
            more = f" and {len(begins) - 6} more" if len(begins) > 6 else ""
            return f"{shown} could be {', '.join(begins[:6])}{more}: say which; {self.advice}"
        close = begins or _closest(wanted, every)
        hint = f"; close: {', '.join(close)}" if close else ""
        return f"no {self.noun} is called {shown}{hint}; {self.advice}"


def _matches(words: list[str], keys: list[str]) -> bool:
    """Every word in one of the names; or in what the entry is besides ("nvidia h100": vendor and name)."""
    return all(any(word in key for key in keys) for word in words)


def _closest(wanted: str, every: list[tuple[str, str]], count: int = 3) -> list[str]:
    """The names of the `count` entries whose keys are most like `wanted`."""
    from difflib import get_close_matches  # slow to import, and only wanted when a name is wrong

    owner = dict(every)
    near = get_close_matches(wanted[:80], list(owner), n=count * 8, cutoff=0.5)
    return list(dict.fromkeys(owner[key] for key in near))[:count]


@cache
def _compiled(file_name: str) -> bytes:
    import model_configs

    path = os.path.join(os.path.dirname(model_configs.__file__), file_name)
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        raise KvplanError(f"{path} is missing; `python -m planner.catalogue.build` makes it") from None


def _lines_with(file_name: str, key: str) -> Iterator[dict[str, Any]]:
    """The entries that have `key` among their keys; the compiled text is searched, not parsed."""
    text = _compiled(file_name)
    quoted = json.dumps(key).encode()
    at = text.find(quoted)
    while at >= 0:
        start, end = text.rfind(b"\n", 0, at) + 1, text.find(b"\n", at)
        raw: dict[str, Any] = json.loads(text[start : end if end >= 0 else len(text)])
        if key in raw.pop("keys"):
            yield raw
        at = text.find(quoted, end) if end >= 0 else -1


def user_folder() -> str:
    """Tells where the user's own entries lie, whether or not it exists."""
    return os.environ.get("KVPLAN_CONFIG_DIR") or os.path.join(os.path.expanduser("~"), ".config", "kvplan")


def _user_files(folder: str) -> tuple[tuple[str, int, int], ...]:
    """(path, time of change, size) of each YAML file in the user's `folder`."""
    home = user_folder()
    if os.environ.get("KVPLAN_CONFIG_DIR") and os.path.lexists(home) and not os.path.isdir(home):
        raise BadConfig(f"KVPLAN_CONFIG_DIR names {one_line(home)}, which is not a folder; name a folder or unset it")
    try:
        with os.scandir(os.path.join(home, folder)) as found:
            paths = sorted(item.path for item in found if item.name.endswith((".yaml", ".yml")) and item.is_file())
            return tuple((path, (stat := os.stat(path)).st_mtime_ns, stat.st_size) for path in paths)
    except (FileNotFoundError, NotADirectoryError):
        return ()
    except OSError as error:
        raise BadConfig(f"{one_line(str(error.filename))}: cannot be read ({error.strerror})") from None


@lru_cache(maxsize=8)
def _user_entries(folder: str, files: tuple[tuple[str, int, int], ...]) -> tuple[tuple[str, str, dict[str, Any]], ...]:
    """(key, path, entry) for each name in the user's files; read again only when a file changes."""
    from planner.catalogue.schema import device_problems, model_problems, shared_name
    from planner.catalogue.yaml_files import read_entries

    check, keys_of = (model_problems, model_keys) if folder == "models" else (device_problems, device_keys)
    entries: list[tuple[str, dict[str, Any]]] = []
    for path, _, _ in files:
        for position, raw in enumerate(read_entries(path), start=1):
            if found := check(raw):
                name = raw.get("name") if isinstance(raw, dict) else None
                where = f"entry {position}" + (f" ({one_line(name, 40)})" if isinstance(name, str) else "")
                raise BadConfig(one_line(f"{path}: {where} {found[0]}", 400))
            entries.append((path, raw))
    if clash := shared_name((raw["name"], keys_of(raw)) for _, raw in entries):
        raise BadConfig(one_line(f"{entries[-1][0]}: {clash}; give each its own", 400))
    return tuple((key, path, raw) for path, raw in entries for key in keys_of(raw))


_MODELS = _Catalogue(
    "model",
    "models.jsonl",
    "models",
    key=model_key,
    keys=model_keys,
    build=model_from_raw,
    about=lambda entry: (str(entry.config.get("model_type") or ""),),
    advice="`kvplan models QUERY` lists them, or give a config.json",
)


_DEVICES = _Catalogue(
    "device",
    "gpus.jsonl",
    "gpus",
    key=device_key,
    keys=device_keys,
    build=device_from_raw,
    about=lambda entry: (entry.vendor or "",),
    advice="`kvplan gpus QUERY` lists them",
)

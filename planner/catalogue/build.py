"""Compiles the YAML of models/ and gpus/ into models.jsonl and gpus.jsonl: `python -m planner.catalogue.build`.

Importing PyYAML and parsing the files costs more than a whole answer, so kvplan reads one JSON line an entry
instead. `--check` writes nothing and fails when a compiled file is not what the YAML says.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import model_configs
from planner.catalogue.entries import device_keys, model_keys
from planner.catalogue.schema import device_problems, model_problems, shared_name
from planner.catalogue.yaml_files import read_entries
from planner.errors import BadConfig, KvplanError

HERE = Path(str(model_configs.__file__)).parent


class Kind(NamedTuple):
    """One of the two catalogues."""

    folder: str
    compiled: str
    problems: Callable[[Any], list[str]]
    keys: Callable[[Mapping[str, Any]], list[str]]


KINDS = (
    Kind("models", "models.jsonl", model_problems, model_keys),
    Kind("gpus", "gpus.jsonl", device_problems, device_keys),
)


def natural(name: str) -> list[str | float]:
    """Returns a sort key that puts 9b before 70b.

    >>> sorted(["llama-2-70b", "llama-2-7b", "llama-13b"], key=natural)
    ['llama-2-7b', 'llama-2-70b', 'llama-13b']
    """
    parts = re.split(r"(\d+(?:\.\d+)?)", name.lower())
    return [float(part) if index % 2 else part for index, part in enumerate(parts)]


def load(kind: Kind, root: Path = HERE) -> list[dict[str, Any]]:
    """Reads every entry of one catalogue, checked, in natural order of the names."""
    entries: list[dict[str, Any]] = []
    for path in sorted((root / kind.folder).glob("*.yaml")):
        found = read_entries(str(path))
        for position, entry in enumerate(found, start=1):
            if wrong := kind.problems(entry):
                name = entry.get("name") if isinstance(entry, dict) else None
                raise BadConfig(f"{path.name}: entry {position} ({name}) {'; '.join(wrong)}")
        names = [entry["name"] for entry in found]
        if names != sorted(names, key=natural):
            raise BadConfig(f"{path.name}: the entries are not sorted by name")
        entries += found
    if clash := shared_name((entry["name"], kind.keys(entry)) for entry in entries):
        raise BadConfig(f"{kind.folder}: {clash}")
    return sorted(entries, key=lambda entry: natural(entry["name"]))


def compile_text(kind: Kind, root: Path = HERE) -> str:
    """Returns what the compiled file must say: one compact line an entry, its look-up keys first."""
    lines = (
        json.dumps({"keys": kind.keys(entry), **entry}, separators=(",", ":"), allow_nan=False)
        for entry in load(kind, root)
    )
    return "".join(line + "\n" for line in lines)


def main(arguments: list[str]) -> int:
    """Writes the compiled files, or with --check tells whether they are current."""
    if arguments not in ([], ["--check"]):
        print("usage: python -m planner.catalogue.build [--check]", file=sys.stderr)
        return 2
    stale = 0
    try:
        for kind in KINDS:
            path, text = HERE / kind.compiled, compile_text(kind)
            current = path.exists() and path.read_text(encoding="utf-8") == text
            if not current and arguments:
                print(f"{path.name} is not current: run python -m planner.catalogue.build", file=sys.stderr)
                stale = 1
            elif not current:
                path.write_text(text, encoding="utf-8", newline="\n")
            print(f"{path.name}: {text.count(chr(10))} entries, {len(text):,} bytes")
    except KvplanError as error:
        print(error, file=sys.stderr)
        return 1
    return stale


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

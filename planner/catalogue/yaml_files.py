"""Reads a YAML file that somebody else wrote, without trusting it.

Imported only when there is a file to read: PyYAML costs more to import than a whole answer of kvplan.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from planner.errors import BadConfig, one_line
from planner.files.read import read_text

MAX_BYTES = 1 << 20


MAX_DEPTH = 16


def read_entries(path: str) -> list[Any]:
    """Reads the list of entries in the YAML file at `path`; BadConfig, in one line, when it is none."""
    text = read_text(path, most_bytes=MAX_BYTES, what="a catalogue file", error=BadConfig)
    return parse_entries(text, path)


def parse_entries(text: str, where: str) -> list[Any]:
    """Reads the list of entries in `text`; `where` names it in messages."""
    try:
        _refuse_tricks(text, where)
        entries = yaml.load(text, Loader=_LOADER)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error)
        raise BadConfig(f"{where}{line}: is not YAML: {one_line(problem)}") from None
    except (ValueError, RecursionError, OverflowError) as error:  # "!!int x": a tag that asks for what is not there
        raise BadConfig(f"{where}: has a value that cannot be read: {one_line(str(error))}") from None
    if entries is None:
        return []
    if not isinstance(entries, list):
        raise BadConfig(f"{where}: wants a list of entries, each starting with '- name: ...'")
    return entries


def _make_loader() -> Any:
    """The safe loader (in C where PyYAML has it), minus dates and plus floats as JSON writes them.

    YAML 1.1 reads 1e-5 as a text and 2026-11-21 as a date; the catalogue wants a number and a text.
    """
    base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    loader: Any = type("CatalogueLoader", (base,), {})
    loader.yaml_implicit_resolvers = {
        first: [(tag, regexp) for tag, regexp in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in base.yaml_implicit_resolvers.items()
    }
    json_float = re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$")
    loader.add_implicit_resolver("tag:yaml.org,2002:float", json_float, list("-+0123456789"))
    return loader


_LOADER = _make_loader()


def _refuse_tricks(text: str, where: str) -> None:
    """Refuses aliases (a few lines can unfold to gigabytes), tags, deep nesting and a key given twice.

    Works on the stream of events, which needs neither recursion nor memory.
    """
    parser: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    open_keys: list[set[str] | None] = []  # one for each open mapping (its keys) or list (None)
    wants_key: list[bool] = []
    for event in yaml.parse(text, Loader=parser):
        line = event.start_mark.line + 1 if event.start_mark else 0
        if isinstance(event, yaml.AliasEvent):
            raise BadConfig(f"{where} line {line}: YAML aliases (*{event.anchor}) are not taken; write it out")
        if (named := getattr(event, "tag", None)) is not None:
            tag = one_line(str(named).replace("tag:yaml.org,2002:", "!!"), 40)
            raise BadConfig(f"{where} line {line}: YAML tags ({tag}) are not taken; write the value alone")
        starts = isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent))
        if starts or isinstance(event, yaml.ScalarEvent):
            if open_keys and (keys := open_keys[-1]) is not None:
                if wants_key[-1] and isinstance(event, yaml.ScalarEvent):
                    if event.value in keys:
                        raise BadConfig(f"{where} line {line}: the key {one_line(event.value)!r} is given twice")
                    keys.add(event.value)
                wants_key[-1] = not wants_key[-1]
            if starts:
                open_keys.append(set() if isinstance(event, yaml.MappingStartEvent) else None)
                wants_key.append(True)
                if len(open_keys) > MAX_DEPTH:
                    raise BadConfig(f"{where} line {line}: is nested deeper than {MAX_DEPTH} levels")
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            open_keys.pop()
            wants_key.pop()

"""Values of a YAML file as a shell has them: words, environment, flags."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from planner.errors import BadRequest
from planner.launch.words import Command

MOST_NODES = 50_000


def words_of(value: Any) -> list[str]:
    """Splits a command as YAML writes it: a list, or a text that a shell splits."""
    if isinstance(value, list):
        return [plain(word) for word in value if not isinstance(word, (list, Mapping))]
    if isinstance(value, str):
        try:
            return shlex.split(value.replace("\\\n", " "), comments=False)
        except ValueError:
            raise BadRequest("a quote in the file's command is never closed") from None
    return []


def plain(value: Any) -> str:
    """Writes a YAML value as the text that a program gets; nothing is ""."""
    return str(value).lower() if isinstance(value, bool) else "" if value is None else str(value)


def environment(value: Any) -> dict[str, str]:
    """Reads variables from a map, a list of NAME=value, or a list of {name, value}."""
    if isinstance(value, Mapping):
        return {str(name): plain(text) for name, text in value.items()}
    found: dict[str, str] = {}
    for item in value if isinstance(value, list) else ():
        if isinstance(item, Mapping):
            if "value" in item and not isinstance(item["value"], (Mapping, list)):
                found[str(item.get("name"))] = plain(item["value"])
        elif isinstance(item, str):
            name, equals, text = item.partition("=")
            if equals:
                found[name] = text
    return found


def walk(value: Any, depth: int, seen: list[int]) -> Iterator[tuple[str, Any]]:
    """Lists every (key, value) of a document, outermost first, to a bounded depth and number."""
    seen[0] += 1
    if depth > 40 or seen[0] > MOST_NODES:
        return
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield str(key), inner
            yield from walk(inner, depth + 1, seen)
    elif isinstance(value, list):
        for inner in value:
            yield from walk(inner, depth + 1, seen)


def settings_command(document: Mapping[str, Any]) -> Command:
    """Turns vLLM's --config file (SGLang's is the same) into a command: keys are flags, true is a switch."""
    import json

    model = (
        document.get("model_tag") or document.get("model") or document.get("model-path") or document.get("model_path")
    )
    sglang = any(
        str(key).replace("_", "-") in ("model-path", "mem-fraction-static", "context-length") for key in document
    )
    words = ["sglang", "serve", "--model-path", plain(model)] if sglang else ["vllm", "serve", plain(model)]
    for key, value in document.items():
        name = "--" + str(key).replace("_", "-")
        if name in ("--model", "--model-tag", "--model-path"):
            continue
        if isinstance(value, bool):
            words += [name] if value else ([f"--no-{name[2:]}"] if not sglang else [])
        elif isinstance(value, Mapping):
            words += [name, json.dumps(value)]
        elif isinstance(value, list):
            words += [name, *map(plain, value)]
        elif value is not None:
            words += [name, plain(value)]
    return Command(tuple(words), where="config")

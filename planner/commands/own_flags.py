"""Reads an engine's own flag names on kvplan's command line: `kvplan estimate M --engine vllm -tp 2 --kv-cache-dtype fp8`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from planner.engines.registry import ENGINES, parse_engine
from planner.errors import KvplanError, one_line

COMMANDS = ("estimate", "fit", "speed", "plan", "simulate")


def named_engine(arguments: Sequence[str]) -> str | None:
    """Finds the engine that --engine names, None where it names none that is known: the command then says so itself.

    >>> named_engine(["m", "--engine", "vllm==0.11.2"]), named_engine(["m", "--engine=llama.cpp"]), named_engine(["m"])
    ('vllm', 'llamacpp', None)
    """
    for place, word in enumerate(arguments):
        text = word.partition("=")[2] if word.startswith("--engine=") else None
        if word == "--engine" and place + 1 < len(arguments):
            text = arguments[place + 1]
        if text is not None:
            try:
                return parse_engine(text)[0]
            except KvplanError:
                return None
    return None


def with_own_names(arguments: list[str]) -> list[str]:
    """Replaces the engine's names in a command line; what is not counted is said on stderr, a line a flag.

    A line that holds kvplan's own names alone stays as it is, and so does that of a command without --engine.
    """
    if not arguments or arguments[0] not in COMMANDS:
        return arguments
    arguments = _whole_emit(arguments)
    known = _known(arguments[0])
    strange = any(
        (word.startswith("-") and word.partition("=")[0] not in known)
        or word in ("auto", "--flash-attn")
        or word.startswith("--mmproj")
        for word in arguments[1:]
    )
    engine = named_engine(arguments) if strange else None
    if engine is None:
        return arguments
    from planner.launch.own_names import own_names  # the tables of flags

    found, notes = own_names(arguments[1:], engine, known)
    for note in notes:
        print(f"kvplan: note: {one_line(note, 300)}", file=sys.stderr)
    return [arguments[0], *found]


def _whole_emit(arguments: list[str]) -> list[str]:
    """--emit alone is --emit command: its value may be left out, and the word after it may be the model."""
    if "--emit" not in arguments:
        return arguments
    place = arguments.index("--emit") + 1
    if arguments[place : place + 1] and arguments[place] in ("command", "compose", "k8s"):
        return arguments
    return [*arguments[:place], "command", *arguments[place:]]


def _known(command: str) -> frozenset[str]:
    """The names of a command's own options."""
    from planner.options.tables import ESTIMATE, SHORT

    flags = ESTIMATE
    if command == "fit":
        from planner.options.fit import FLAGS as flags
    elif command == "speed":
        from planner.options.speed import FLAGS as flags
    elif command == "plan":
        from planner.options.plan import FLAGS as flags
    elif command == "simulate":
        from planner.options.simulate import FLAGS as flags
    return frozenset(("-h", "--help", *SHORT, *(flag.name for flag in flags)))


def whose(arguments: Sequence[str]) -> str | None:
    """Says of a command line without --engine whose first strange option is a flag of some engine which engine that is.

    >>> whose(["estimate", "gpt2", "-c", "4096"])
    '-c is a flag of llamacpp, lmstudio: say so with --engine llamacpp'
    >>> whose(["estimate", "gpt2", "--sek", "1k"]) is None
    True
    """
    if not arguments or arguments[0] not in COMMANDS or named_engine(arguments) is not None:
        return None
    known = _known(arguments[0])
    from planner.launch.read import TABLES

    for word in arguments[1:]:
        name = word.partition("=")[0]
        if not name.startswith("-") or name in known:
            continue
        owners = [engine for engine in TABLES if engine in ENGINES and name in TABLES[engine].by_name]
        if not owners:
            return None
        return f"{name} is a flag of {', '.join(owners)}: say so with --engine {owners[0]}"
    return None

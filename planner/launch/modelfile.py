"""An ollama Modelfile: FROM, PARAMETER, and what else it may hold."""

from __future__ import annotations

import re

from planner.errors import BadRequest
from planner.launch.ollama import INSTRUCTIONS_QUIET, PARAMETERS_MATTER, PARAMETERS_QUIET, PARAMETERS_USED
from planner.launch.question import Said
from planner.launch.secrets import shown
from planner.launch.table import MATTERS, QUIET, UNKNOWN, USED

_BLOCK = re.compile(r'"""(?:.|\n)*?"""')


def read_modelfile(text: str) -> tuple[str, dict[str, str], tuple[Said, ...], list[str]]:
    """Reads a Modelfile: (model, fields that parameters set, every line named, notes).

    >>> model, given, said, notes = read_modelfile("FROM qwen3:8b\\nPARAMETER num_ctx 32768\\nPARAMETER temperature 0.6")
    >>> model, given, [one.kind for one in said]
    ('qwen3:8b', {'ctx_size': '32768'}, ['used', 'no effect'])
    """
    model = ""
    given: dict[str, str] = {}
    said: list[Said] = []
    notes: list[str] = []
    for line in _BLOCK.sub('""', text).splitlines():
        keyword, _, rest = line.strip().partition(" ")
        keyword, rest = keyword.upper(), rest.strip()
        if not rest or keyword.startswith("#"):
            continue
        if keyword == "FROM":
            if model:
                notes.append(f"a second FROM {shown(rest, 40)} is a projector or an adapter: not counted")
            model = model or rest.strip("\"'")
        elif keyword == "PARAMETER":
            name, _, value = rest.partition(" ")
            said.append(_parameter(name.lower(), value.strip(), given))
        elif keyword in ("ADAPTER", "DRAFT"):
            effect = (
                "an adapter: its own file's size, on the device"
                if keyword == "ADAPTER"
                else "a drafter: its own memory"
            )
            said.append(Said(keyword, shown(rest, 60), MATTERS, effect))
        elif keyword not in INSTRUCTIONS_QUIET and re.fullmatch(r"[A-Z]+", keyword):
            said.append(Said(keyword, "", UNKNOWN))
    if not model:
        raise BadRequest("the Modelfile has no FROM line; it names the model")
    return model, given, tuple(said), notes


def _parameter(name: str, value: str, given: dict[str, str]) -> Said:
    value = value.strip("\"'")
    if name in PARAMETERS_USED:
        given[PARAMETERS_USED[name]] = value
        return Said(name, shown(value, 40), USED)
    if name in PARAMETERS_MATTER:
        return Said(name, shown(value, 40), MATTERS, PARAMETERS_MATTER[name])
    return Said(name, shown(value, 40), QUIET if name in PARAMETERS_QUIET else UNKNOWN)

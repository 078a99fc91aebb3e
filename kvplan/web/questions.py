"""Reads a question out of an address and writes its answer, the same with a server and without one."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from planner.errors import BadConfig, BadRequest, KvplanError, UnknownName, UnsupportedModel, one_line
from planner.shown import Shown
from planner.terminal.output import to_csv, to_json

PROBLEM = "application/problem+json"


def several(pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Returns the parameters of an address; one that comes several times is a list.

    >>> several([("model", "gpt2"), ("seq", "1k"), ("seq", "2k")])
    {'model': 'gpt2', 'seq': ['1k', '2k']}
    """
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    return {name: values[0] if len(values) == 1 else values for name, values in found.items()}


def written(answer: Shown, form: Any = "json") -> tuple[str, str]:
    """Returns (media type, text) of an answer, as the command line prints it; BadRequest for another form."""
    if form == "csv":
        return "text/csv", to_csv(answer.rows())
    if form != "json":
        raise BadRequest(f"format {one_line(repr(form), 40)} is not known; write json or csv")
    return "application/json", to_json(answer.to_dict())


def status_of(error: KvplanError) -> int:
    """Returns 404 for a name that is not known, 422 for a config that is not understood, else 400."""
    if isinstance(error, UnknownName):
        return 404
    return 422 if isinstance(error, (BadConfig, UnsupportedModel)) else 400


def problem_of(status: int, detail: str) -> dict[str, Any]:
    """Returns the object of RFC 9457; `detail` is made one line."""
    return {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": one_line(detail, 500),
    }

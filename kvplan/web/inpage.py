"""Answers the page's own requests inside a browser, where no server is: what `kvplan web --static` calls."""

from __future__ import annotations

from urllib.parse import urlsplit

from kvplan import outside
from kvplan.web.questions import PROBLEM, problem_of, several, status_of, written
from kvplan.web.screens import SCREENS, Asked
from planner.errors import KvplanError, UnknownName, one_line
from planner.terminal.output import to_json

WARM = {
    "/check": "?command=vllm+serve+gpt2&gpu=l4",
    "/plan": "?model=gpt2&gpu=l4&users=1",
    "/compare": "?c=model%3Dgpt2&c=model%3Dno-such-model",
    "/answer": "?model=gpt2&gpu=l4&engine=vllm",
    "/gguf": "?name=x.gguf&size=1",
}
"""Questions that load what the pages want only at times."""


def respond(
    method: str, address: str, body: bytes = b"", kind: str = "", base: str = "/"
) -> tuple[int, str, str]:  # parameters: JavaScript passes them by position
    """Returns (status, media type, text) of a request to a page or to /api/.

    method    GET or POST
    address   below `base`, with its query: `answer?model=gpt2`
    body      what is posted; `kind` is its content type
    base      the path under which the pages lie, which ends in a slash

    >>> respond("GET", "api/estimate?model=llama-7b&seq=8k")[:2]
    (200, 'application/json')

    Raises nothing for a question that is wrong: its status is 400, 404 or 422 and its text says why.
    """
    parts = urlsplit(address)
    path = "/" + parts.path.strip("/")
    asked = Asked(parts.query, bytes(body), kind, base, served=False)
    try:
        if path.startswith("/api/"):
            return (200, *_question(path.removeprefix("/api/"), asked))
        make = SCREENS.get((method, path))
        if make is None:
            raise UnknownName(f"there is nothing at {one_line(path, 80)}")
        return 200, "text/html", make(asked)
    except KvplanError as error:
        status = status_of(error)
        return status, PROBLEM, to_json(problem_of(status, str(error)))


def _question(name: str, asked: Asked) -> tuple[str, str]:
    parameters = several(asked.pairs)
    form = parameters.pop("format", "json")
    if name == "check":
        from kvplan import pasted  # slow to load, as in screens

        return written(pasted.check_command(parameters.pop("command", ""), parameters), form)
    if name not in outside.KINDS:
        raise UnknownName(f"there is nothing at /api/{one_line(name, 60)}; {', '.join(outside.KINDS)} are there")
    return written(outside.answer(name, parameters), form)


def warm() -> None:
    """Asks every screen once, so that the memory that a browser keeps of this process holds all that they load."""
    for method, path in SCREENS:
        respond(method, f"{path[1:]}{WARM.get(path, '')}", b"x", "text/plain")

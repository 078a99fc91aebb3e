"""The questions over HTTP: the names and the JSON of the command line."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from kvplan import outside, pasted
from kvplan.web.questions import several, written
from kvplan.web.work import Work
from planner.catalogue.entries import devices, models
from planner.errors import BadRequest, UnknownName, one_line
from planner.shown import Shown
from planner.terminal.output import to_json

MOST_JSON = 1 << 20
"""Bytes of a question in JSON, with a config.json in it."""
PROBLEM = {"description": "what is wrong, in one line", "content": {"application/problem+json": {}}}
CHECK_WORDS = "A pasted start command, compose file or manifest: does it start, how many requests, how fast."
LOG_WORDS = "A server's start-up log as the body: where every GiB went, and why it differs."


def add_api(app: FastAPI, work: Work) -> None:
    """Adds /api/NAME for every question, by GET with parameters and by POST with a JSON object."""
    for name in outside.KINDS:
        _add(app, name, _question(name, work), _extra(name))
    _add(
        app,
        "check",
        _check(work),
        {"summary": CHECK_WORDS, "parameters": _texts(("command", *pasted.CHECK_PARAMETERS))},
    )
    extra = {"summary": LOG_WORDS, "parameters": _texts(tuple(pasted.LOG_PARAMETERS)),
             "requestBody": {"content": {"text/plain": {"schema": {"type": "string"}}}}}  # fmt: skip
    app.add_api_route("/api/reconcile", _reconcile(work), methods=["POST"], name="reconcile", openapi_extra=extra)
    for name, find in (("models", models), ("gpus", devices)):
        extra = {"summary": f"The catalogue of {name}, or those that q finds.", "parameters": _texts(("q",))}
        app.add_api_route(f"/api/{name}", _listed(name, find, work), methods=["GET"], name=name, openapi_extra=extra)


def _add(
    app: FastAPI, name: str, endpoint: Callable[[Request], Awaitable[Response]], extra: dict[str, Any]
) -> None:  # parameters: what a page needs, named
    app.add_api_route(
        f"/api/{name}", endpoint, methods=["GET"], name=name, openapi_extra=extra, responses={400: PROBLEM}
    )
    body = {"requestBody": {"content": {"application/json": {"schema": {"type": "object"}}}}}
    posted = {"summary": extra["summary"], **body}
    app.add_api_route(f"/api/{name}", endpoint, methods=["POST"], name=f"{name} posted", openapi_extra=posted)


def _question(name: str, work: Work) -> Callable[[Request], Awaitable[Response]]:
    async def ask(request: Request) -> Response:
        parameters = await parameters_of(request)
        form = parameters.pop("format", "json")
        return await work.run(lambda: shown(outside.answer(name, parameters), form), long=name == "plan")

    return ask


def _check(work: Work) -> Callable[[Request], Awaitable[Response]]:
    async def ask(request: Request) -> Response:
        parameters = await parameters_of(request)
        command = parameters.pop("command", "")
        return await work.run(lambda: shown(pasted.check_command(command, parameters)))

    return ask


def _reconcile(work: Work) -> Callable[[Request], Awaitable[Response]]:
    async def ask(request: Request) -> Response:
        parameters, log = several(request.query_params.multi_items()), await request.body()
        return await work.run(lambda: shown(pasted.reconcile(log, parameters)))

    return ask


def _listed(name: str, find: Callable[[str | None], list[Any]], work: Work) -> Callable[[Request], Awaitable[Response]]:
    def listed(query: str | None) -> Response:
        found = find(query)
        if not found:
            raise UnknownName(f"nothing matches {one_line(query or '', 60)!r}; /api/{name} lists all of them")
        rows = [asdict(one) for one in found]
        if name == "gpus":
            rows = [{**row, "memory_bytes": row["memory_bytes"] or None} for row in rows]
        return Response(to_json(rows), media_type="application/json")

    async def ask(request: Request) -> Response:
        query = request.query_params.get("q")
        if query is not None and len(query) > 200:
            raise BadRequest(f"q is {len(query):,} characters long; 200 at most")
        return await work.run(lambda: listed(query))

    return ask


def shown(answer: Shown, form: Any = "json") -> Response:
    """Returns the answer as the command line prints it, with the exit code that it would have."""
    media, text = written(answer, form)
    return Response(text, media_type=media, headers={"Kvplan-Exit-Code": str(answer.exit_code)})


async def parameters_of(request: Request) -> dict[str, Any]:
    """Returns the parameters of an address, and of a posted JSON object."""
    found = several(request.query_params.multi_items())
    if request.method != "POST":
        return found
    body = await request.body()
    if len(body) > MOST_JSON:
        raise BadRequest(f"the question has {len(body):,} bytes; {MOST_JSON:,} at most")
    try:
        posted = json.loads(body or b"{}")
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"the body is not JSON: {one_line(str(error), 100)}") from None
    if not isinstance(posted, dict):
        raise BadRequest('the body is not an object of parameters; write for example {"model": "gpt2", "seq": "1k"}')
    twice = found.keys() & posted.keys()
    if twice:
        raise BadRequest(f"{one_line(sorted(twice)[0], 40)} is in the address and in the body; give it once")
    return found | posted


def _texts(names: tuple[str, ...]) -> list[dict[str, Any]]:
    return [{"name": name, "in": "query", "schema": {"type": "string"}} for name in names]


def _extra(name: str) -> dict[str, Any]:
    kind = outside.KINDS[name]
    first = {"name": "model", "in": "query", "schema": {"type": "string"},
             "description": "A name of the catalogue, a Hugging Face id, or the contents of a config.json."}  # fmt: skip
    rows = [
        {"name": flag.parameter, "in": "query", "description": flag.help,
         "schema": {"type": "string" if flag.metavar else "boolean"}}
        for flag in kind.flags
    ]  # fmt: skip
    form = {"name": "format", "in": "query", "schema": {"type": "string", "enum": ["json", "csv"]}}
    return {"summary": kind.words, "parameters": [first, *rows, form]}

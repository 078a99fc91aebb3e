"""The pages: complete without JavaScript; with it the answer alone is asked for again."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from fastapi import FastAPI
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from kvplan import outside, pasted
from kvplan.web.state import CONTROLS, MOST_COMPARED, State
from kvplan.web.view import columns, unknown, view
from kvplan.web.work import Work
from planner.catalogue.entries import devices, models
from planner.engines.registry import TABLE
from planner.errors import BadRequest, KvplanError
from planner.model.spec import ModelSpec
from planner.units import gib, human_bytes, human_seconds, human_tokens

FIRST = State({"model": "llama-3.1-8b", "gpu": "rtx-4090", "seq": "8k", "batch": "4"})
"""What the page shows where its address asks nothing."""
_PLAN = ("gpu", "users", "prompt", "answer", "ttft", "tpot", "engine", "max_model_len")


@cache
def _templates() -> Environment:
    found = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"svg": Markup, "gib": gib, "bytes": human_bytes, "seconds": human_seconds, "tokens": human_tokens}
    found.tests["number"] = lambda value: isinstance(value, (int, float))
    return found


@cache
def _names() -> dict[str, list[str]]:
    """What the controls offer; any spelling is understood beside these."""
    return {
        "model": sorted({name for entry in models() for name in (entry.name, entry.hf_id or entry.name)}),
        "gpu": [device.name for device in devices()],
        "engine": list(dict.fromkeys(name for name, _, _ in TABLE)),
    }


def render(template: str, request: Request, **values: Any) -> str:
    """A template; `base` is the path under which the page is served."""
    base = str(request.scope.get("root_path", "")).rstrip("/") + "/"
    return _templates().get_template(template).render(base=base, **values)


def add_pages(app: FastAPI, work: Work) -> None:
    """Adds the pages; none of them is in the description of the HTTP interface."""
    routes: list[tuple[str, str, Callable[[Request, bytes], str]]] = [
        ("/", "GET", _page),
        ("/answer", "GET", _answer),
        ("/compare", "GET", _compare),
        ("/check", "GET", _check),
        ("/reconcile", "GET", _log_page),
        ("/reconcile", "POST", _log),
        ("/gguf", "POST", _gguf),
    ]
    for path, method, make in routes:
        app.add_api_route(path, _endpoint(make, work), methods=[method], include_in_schema=False)

    async def plan(request: Request) -> Response:
        return HTMLResponse(await work.run(lambda: _plan(request), long=True))

    async def docs(request: Request) -> Response:
        return HTMLResponse(render("docs.html", request, paths=app.openapi()["paths"]))

    app.add_api_route("/plan", plan, methods=["GET"], include_in_schema=False)
    app.add_api_route("/docs", docs, methods=["GET"], include_in_schema=False)


def _endpoint(make: Callable[[Request, bytes], str], work: Work) -> Callable[[Request], Any]:
    async def show(request: Request) -> Response:
        body = await request.body()
        return HTMLResponse(await work.run(lambda: make(request, body)))

    return show


def _state(request: Request) -> State:
    return State.of(pair for pair in request.query_params.multi_items() if pair[0] not in ("name", "size"))


def _shown(request: Request, state: State, spec: ModelSpec | None = None) -> str:
    """The answer, or what is wrong with what to do, as a piece of the page."""
    try:
        return render("answer.html", request, view=view(state, spec), state=state, most=MOST_COMPARED)
    except KvplanError as error:
        return render("wrong.html", request, words=str(error), near=unknown(error, state))


def _page(request: Request, _: bytes) -> str:
    try:
        state = _state(request)
    except KvplanError as error:
        shown = render("wrong.html", request, words=str(error), near=[])
        return render("page.html", request, state=FIRST, names=_names(), answer=Markup(shown))
    state = state if state.values else State(FIRST.values, state.compared)
    answer = Markup(_shown(request, state))
    return render("page.html", request, state=state, names=_names(), answer=answer)


def _answer(request: Request, _: bytes) -> str:
    return _shown(request, _state(request))


def _gguf(request: Request, body: bytes) -> str:
    """The answer for the header of a GGUF file that was dropped; the rest of the state is in the address."""
    size = request.query_params.get("size", "")
    name = request.query_params.get("name", "the file")
    if not size.isdigit() or len(size) > 15:
        raise BadRequest("size is wanted: the bytes of the whole file")
    state = _state(request)
    try:
        spec = pasted.gguf_header(body, name=name, size=int(size))
    except KvplanError as error:
        return render("wrong.html", request, words=str(error), near=[])
    return _shown(request, state, spec)


def _compare(request: Request, _: bytes) -> str:
    asked = request.query_params.getlist("c")[:MOST_COMPARED]
    seen = columns([State.read(one) for one in asked])
    shown = []
    for index, (state, found, wrong) in enumerate(seen):
        rest = tuple(asked[:index] + asked[index + 1 :])
        edit, without = State(state.values, rest).address, State({}, rest).address
        shown.append({"view": found, "wrong": wrong, "edit": edit, "without": without})
    names = list(dict.fromkeys(name for _, found, _ in seen if found for name, _ in found.facts))
    return render(
        "compare.html",
        request,
        shown=shown,
        names=names,
        more=State(seen[-1][0].values if seen else {}, tuple(asked)).address,
        most=MOST_COMPARED,
    )


def _plan(request: Request) -> str:
    state = _state(request)
    try:
        found = outside.answer("plan", {"prompt": "1k", "answer": "256", **state.asked(_PLAN), "top": "6"})
    except KvplanError as error:
        return render("plan.html", request, state=state, found=None, words=str(error))
    return render("plan.html", request, state=state, found=found.to_dict(), words="")


def _check(request: Request, _: bytes) -> str:
    asked = dict(parse_qsl(request.url.query))
    answer, words = None, ""
    if asked.get("command"):
        try:
            named = {name: asked[name] for name in pasted.CHECK_PARAMETERS if asked.get(name)}
            answer = pasted.check_command(asked["command"], named).to_dict()
        except KvplanError as error:
            words = str(error)
    return render("check.html", request, asked=asked, answer=answer, words=words)


def _log_page(request: Request, _: bytes) -> str:
    return render("log.html", request, ledgers=[], words="", gpu=request.query_params.get("gpu", ""), model="")


def _log(request: Request, body: bytes) -> str:
    """The ledger of a log that was pasted into the form, or dropped on the page as it is."""
    gpu, model = request.query_params.get("gpu", ""), request.query_params.get("model", "")
    piece = request.headers.get("content-type", "").startswith("text/plain")
    if not piece:
        form = dict(parse_qsl(body.decode("utf-8", "replace"), max_num_fields=20))
        body, gpu, model = form.get("log", "").encode(), form.get("gpu", gpu), form.get("model", model)
    ledgers: list[dict[str, Any]] = []
    words = ""
    try:
        ledgers = pasted.reconcile(body, {"gpu": gpu or None, "model": model or None}).to_dict()["ledgers"]
    except KvplanError as error:
        words = str(error)
    template = "ledgers.html" if piece else "log.html"
    return render(template, request, ledgers=ledgers, words=words, gpu=gpu, model=model)


assert set(FIRST.values) <= set(CONTROLS)

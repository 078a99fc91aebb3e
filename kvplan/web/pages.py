"""Serves the screens: complete without JavaScript; with it the answer alone is asked for again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from kvplan.web.report import zipped_report
from kvplan.web.screens import LONG, SCREENS, Asked, render
from kvplan.web.work import Work


def add_pages(app: FastAPI, work: Work) -> None:
    """Adds the pages; none of them is in the description of the HTTP interface."""
    for (method, path), make in SCREENS.items():
        app.add_api_route(path, _endpoint(path, make, work), methods=[method], include_in_schema=False)

    async def docs(request: Request) -> Response:
        return HTMLResponse(render("docs.html", await _asked(request), paths=app.openapi()["paths"]))

    async def report(request: Request) -> Response:
        asked = await _asked(request)
        name, data = await work.run(lambda: zipped_report(asked.pairs), long=True)
        said = {"Content-Disposition": f'attachment; filename="{name}.zip"'}
        return Response(data, media_type="application/zip", headers=said)

    app.add_api_route("/docs", docs, methods=["GET"], include_in_schema=False)
    app.add_api_route("/report", report, methods=["GET"], include_in_schema=False)


def _endpoint(path: str, make: Callable[[Asked], str], work: Work) -> Callable[[Request], Any]:
    async def show(request: Request) -> Response:
        asked = await _asked(request)
        return HTMLResponse(await work.run(lambda: make(asked), long=path in LONG))

    return show


async def _asked(request: Request) -> Asked:
    base = str(request.scope.get("root_path", "")).rstrip("/") + "/"
    return Asked(request.url.query, await request.body(), request.headers.get("content-type", ""), base)

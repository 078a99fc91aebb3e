"""Puts the application together: the questions, the page, the bounds, and errors as one line."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

from kvplan import __version__
from kvplan.web.api import add_api
from kvplan.web.guard import Guard
from kvplan.web.pages import add_pages
from kvplan.web.problems import FAULT, problem
from kvplan.web.questions import status_of
from kvplan.web.work import TooLong, Work
from planner.errors import KvplanError, one_line

HERE = Path(__file__).parent


def create_app(prefix: str = "") -> Guard:
    """Makes the application; `prefix` is the path under which a proxy serves it, for example `/kvplan`."""
    work = Work()

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        yield
        work.close()

    app = FastAPI(title="kvplan", version=__version__, docs_url=None, redoc_url=None, lifespan=life)
    add_api(app, work)
    add_pages(app, work)
    app.mount("/static", StaticFiles(directory=HERE / "static"), name="static")

    @app.exception_handler(KvplanError)
    async def refused(_: Request, error: KvplanError) -> Response:
        return problem(503 if isinstance(error, TooLong) else status_of(error), str(error))

    @app.exception_handler(HTTPException)
    async def not_found(request: Request, error: HTTPException) -> Response:
        words = {404: f"there is nothing at {one_line(request.url.path, 80)}; /docs lists what there is"}
        return problem(error.status_code, words.get(error.status_code, str(error.detail)))

    @app.exception_handler(Exception)
    async def fault(_: Request, error: Exception) -> Response:
        return problem(500, FAULT)

    return Guard(app, prefix)

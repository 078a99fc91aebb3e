"""An error as problem+json (RFC 9457), with the one line that the command line prints."""

from __future__ import annotations

from http import HTTPStatus

from starlette.responses import Response

from planner.errors import BadConfig, KvplanError, UnknownName, UnsupportedModel, one_line
from planner.terminal.output import to_json

FAULT = "a fault of kvplan, not of the question; its log says more"


def status_of(error: KvplanError) -> int:
    """404 for a name that is not known, 422 for a config that is not understood, else 400."""
    if isinstance(error, UnknownName):
        return 404
    return 422 if isinstance(error, (BadConfig, UnsupportedModel)) else 400


def problem(status: int, detail: str) -> Response:
    """The response; `detail` is one line."""
    found = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": one_line(detail, 500),
    }
    headers = {"Retry-After": "1"} if status == 503 else None
    return Response(to_json(found), status_code=status, media_type="application/problem+json", headers=headers)

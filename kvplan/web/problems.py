"""An error as problem+json (RFC 9457), with the one line that the command line prints."""

from __future__ import annotations

from starlette.responses import Response

from kvplan.web.questions import PROBLEM, problem_of
from planner.terminal.output import to_json

FAULT = "a fault of kvplan, not of the question; its log says more"


def problem(status: int, detail: str) -> Response:
    """Makes the response; `detail` is one line."""
    headers = {"Retry-After": "1"} if status == 503 else None
    return Response(to_json(problem_of(status, detail)), status_code=status, media_type=PROBLEM, headers=headers)

"""Bounds every request before it reaches an answer: size, time, how many at once; and says what a browser may do."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from kvplan.web.problems import problem
from planner.errors import one_line

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

MOST_BODY = 16 << 20
"""Bytes of a body: the header of a GGUF file with a large vocabulary, or a log."""
MOST_QUERY = 48 << 10
BODY_SECONDS = 20.0
WAITING = 64
"""Requests that may be under way or wait; more are told to come again."""
HEADERS = (
    (b"content-security-policy", b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
     b"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)  # fmt: skip


class Guard:
    """An ASGI application around another one; `prefix` is where a proxy serves it, whether or not the proxy strips it."""

    def __init__(self, app: App, prefix: str = "") -> None:
        self.app = app
        self.prefix = prefix
        self.under_way = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def said(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *HEADERS]
            await send(message)

        if self.prefix:
            whole = f"{scope['path']}/".startswith(f"{self.prefix}/")
            scope = {**scope, "root_path": self.prefix, "path": scope["path"] if whole else self.prefix + scope["path"]}
        refused = self._refused(scope)
        if refused is not None:
            await problem(*refused)(scope, receive, said)
            return
        self.under_way += 1
        try:
            await self._answer(scope, receive, said)
        except Exception as error:  # the reader has been told already; one line for whoever runs this
            words = one_line(f"{scope['method']} {scope['path']}: {type(error).__name__}: {error}", 300)
            print(f"kvplan web: {words}", file=sys.stderr)
        finally:
            self.under_way -= 1

    def _refused(self, scope: Message) -> tuple[int, str] | None:
        if self.under_way >= WAITING:
            return 503, f"{WAITING} requests are under way; ask again in a second"
        if len(scope.get("query_string", b"")) > MOST_QUERY:
            return 414, f"the address has more than {MOST_QUERY:,} characters; post the question in place of it"
        lengths = [value for name, value in scope["headers"] if name == b"content-length"]
        if any(not value.isdigit() for value in lengths):
            return 400, "Content-Length is not a number"
        if any(len(value) > 12 or int(value) > MOST_BODY for value in lengths):
            return 413, f"the body has more than {MOST_BODY >> 20} MiB"
        return None

    async def _answer(self, scope: Message, receive: Receive, send: Send) -> None:
        try:
            body = await asyncio.wait_for(_body(receive), BODY_SECONDS)
        except asyncio.TimeoutError:
            await problem(408, f"the body did not come in {BODY_SECONDS:.0f} s")(scope, receive, send)
            return
        if body is None:
            await problem(413, f"the body has more than {MOST_BODY >> 20} MiB")(scope, receive, send)
            return
        given = False

        async def again() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self.app(scope, again, send)


async def _body(receive: Receive) -> bytes | None:
    """The whole body; None where it is larger than `MOST_BODY`."""
    pieces: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return b"".join(pieces)
        pieces.append(message.get("body", b""))
        size += len(pieces[-1])
        if size > MOST_BODY:
            return None
        if not message.get("more_body"):
            return b"".join(pieces)

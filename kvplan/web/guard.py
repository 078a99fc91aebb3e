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
ARRIVING, MOST_HELD = 512, 256 << 20
"""Bodies that may be on their way at once, and their bytes together: who sends slowly keeps nobody waiting but the like."""
BUSY = 503, f"{WAITING} requests are under way; ask again in a second"
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
        self.under_way = self.arriving = self.held = 0

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
        try:
            await self._answer(scope, receive, said)
        except Exception as error:  # the reader has been told already; one line for whoever runs this
            words = one_line(f"{scope['method']} {scope['path']}: {type(error).__name__}: {error}", 300)
            print(f"kvplan web: {words}", file=sys.stderr)

    def _refused(self, scope: Message) -> tuple[int, str] | None:
        if self.under_way >= WAITING:
            return BUSY
        if len(scope.get("query_string", b"")) > MOST_QUERY:
            return 414, f"the address has more than {MOST_QUERY:,} characters; post the question in place of it"
        lengths = [value for name, value in scope["headers"] if name == b"content-length"]
        if any(not value.isdigit() for value in lengths):
            return 400, "Content-Length is not a number"
        if any(len(value) > 12 or int(value) > MOST_BODY for value in lengths):
            return 413, f"the body has more than {MOST_BODY >> 20} MiB"
        return None

    async def _answer(self, scope: Message, receive: Receive, send: Send) -> None:
        body = await self._body(scope, receive)
        if not isinstance(body, bytes):
            await problem(*body)(scope, receive, send)
            return
        given = False

        async def again() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        if self.under_way >= WAITING:
            await problem(*BUSY)(scope, receive, send)
            return
        self.under_way += 1
        try:
            await self.app(scope, again, send)
        finally:
            self.under_way -= 1

    async def _body(self, scope: Message, receive: Receive) -> bytes | tuple[int, str]:
        """The whole body, or the status and words of its refusal."""
        sent = any(
            name == b"transfer-encoding" or (name == b"content-length" and int(value))
            for name, value in scope["headers"]
        )
        if not sent:
            return b""
        if self.arriving >= ARRIVING:
            return BUSY
        self.arriving += 1
        pieces: list[bytes] = []
        try:
            return await asyncio.wait_for(self._pieces(receive, pieces), BODY_SECONDS)
        except asyncio.TimeoutError:
            return 408, f"the body did not come in {BODY_SECONDS:.0f} s"
        finally:
            self.arriving -= 1
            self.held -= sum(map(len, pieces))

    async def _pieces(self, receive: Receive, pieces: list[bytes]) -> bytes | tuple[int, str]:
        """Reads a body into `pieces`, which are counted in `held` while it arrives."""
        size = 0
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return b"".join(pieces)
            piece = message.get("body", b"")
            pieces.append(piece)
            size += len(piece)
            self.held += len(piece)
            if size > MOST_BODY:
                return 413, f"the body has more than {MOST_BODY >> 20} MiB"
            if self.held > MOST_HELD:
                return BUSY
            if not message.get("more_body"):
                return b"".join(pieces)

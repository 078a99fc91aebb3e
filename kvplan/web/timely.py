"""Gives a connection a time in which a request must have begun, so that those who send a byte a minute are hung up on."""

from __future__ import annotations

import asyncio

from h11 import LocalProtocolError, RemoteProtocolError
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 20.0
"""From the first byte of a connection, or of its next request, to the end of the request's head."""


class Timely(H11Protocol):  # type: ignore[misc]  # uvicorn is loaded where it is installed
    """uvicorn's protocol; it waits for ever for the end of a head by itself."""

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        try:
            super().data_received(data)
        except (LocalProtocolError, RemoteProtocolError):  # further bytes after a request that ends the connection
            self.transport.close()
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        super().connection_lost(exc)

    def _between(self) -> bool:
        """Whether no request is under way."""
        return self.cycle is None or self.cycle.response_complete

    def _wait(self) -> None:
        if not self._between():
            self._stop()
        elif self._late is None:
            self._late = self.loop.call_later(HEAD_SECONDS, self._hang_up)

    def _stop(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _hang_up(self) -> None:
        self._late = None
        if self._between() and not self.transport.is_closing():
            self.transport.close()

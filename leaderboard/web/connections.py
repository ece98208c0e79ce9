"""Close connections whose request does not arrive in time.

uvicorn has no time-out for a request's header and body: a client that sends a byte a minute holds
its connection for ever.
"""

from __future__ import annotations

import asyncio
import http
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

REQUEST_SECONDS = 20.0
MAX_HEADER_BYTES = 32 << 10
MAX_CONNECTIONS = 1000
_STATUS = http.HTTPStatus.REQUEST_TIMEOUT
_ANSWER = (
    f"HTTP/1.1 {_STATUS.value} {_STATUS.phrase}\r\nConnection: close\r\n"
    "Content-Type: text/plain\r\nContent-Length: 0\r\n\r\n"
).encode()


class TimedConnection(H11Protocol):
    """HTTP connection that is closed unless each request is complete within `REQUEST_SECONDS`.

    The time starts with the connection, later with the first byte of the next request; how long an
    answer takes does not matter.
    """

    request_seconds = REQUEST_SECONDS
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Start the time of the first request."""
        super().connection_made(transport)
        self._start()

    def data_received(self, data: bytes) -> None:
        """Read data; stop the time when a request is complete."""
        if self._deadline is None:
            self._start()
        super().data_received(data)
        if self._is_complete():
            self._stop()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Stop the time: the websocket has time-outs for its messages."""
        self._stop()
        super().handle_websocket_upgrade(event)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the time."""
        self._stop()
        super().connection_lost(exc)

    def _is_complete(self) -> bool:
        # DONE: the request was read; IDLE without data: its answer was sent as well
        state, (rest, _) = self.conn.their_state, self.conn.trailing_data
        return state in (h11.DONE, h11.MUST_CLOSE, h11.CLOSED, h11.ERROR) or (
            state is h11.IDLE and not rest
        )

    def _start(self) -> None:
        self._deadline = self.loop.call_later(self.request_seconds, self._close)

    def _stop(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _close(self) -> None:
        self._deadline = None
        if self.transport.is_closing():
            return
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):  # nothing of an answer was sent
            self.transport.write(_ANSWER)
        self.transport.close()

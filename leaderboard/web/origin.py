"""Reject websocket connections from pages of other sites before Streamlit handles them.

For such a connection Streamlit looks up the public IP address of the server at an external site,
which blocks all visitors.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

_POLICY_VIOLATION = (
    1008  # RFC 6455, section 7.4.1; sent before the handshake, the browser receives 403
)


class OwnOrigin:
    """ASGI middleware: the Origin of a websocket, if present, must be this host."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward everything except websockets from other origins."""
        if scope["type"] == "websocket" and not _is_own(Headers(scope=scope)):
            await receive()
            await send({"type": "websocket.close", "code": _POLICY_VIOLATION})
            return
        await self._app(scope, receive, send)


def _is_own(headers: Headers) -> bool:
    origin = headers.get("origin")
    try:
        return origin is None or urlsplit(origin).netloc == headers.get("host")
    except ValueError:
        return False

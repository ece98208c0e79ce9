"""Security headers of every response.

The policy allows what Streamlit's front end needs, from this host only. Streamlit writes styles
into the page (`'unsafe-inline'`, for styles only), loads the script of a component as a blob, and
compiles a few bytes of WebAssembly. The inline script of its index page is allowed by hash, so no
other inline script runs; text is never evaluated as code, not by charts either.
Source: Content Security Policy Level 3 (w3.org/TR/CSP3).
"""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

import streamlit
from starlette.datastructures import MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_INLINE_SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)
_FEATURES_OFF = (
    *("accelerometer", "autoplay", "browsing-topics", "camera", "display-capture", "geolocation"),
    *("gyroscope", "hid", "magnetometer", "microphone", "midi", "payment", "serial", "usb"),
)


class SecurityHeaders:
    """ASGI middleware that adds the headers to each response, errors included.

    Headers set by a route are kept.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._headers = security_headers()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward the request and add the headers to the response."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except Exception:
            # the server writes its error response outside of all middleware
            if not started:
                answer = PlainTextResponse("Internal Server Error", status_code=500)
                await answer(scope, receive, send_with_headers)
            raise


def security_headers() -> dict[str, str]:
    """Return name and value of each header."""
    return {
        "Content-Security-Policy": _content_policy(),
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Permissions-Policy": ", ".join(f"{name}=()" for name in _FEATURES_OFF),
        "Referrer-Policy": "same-origin",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
    }


def _content_policy() -> str:
    allowed = {
        "default-src": "'none'",
        "base-uri": "'none'",
        "connect-src": "'self'",
        "font-src": "'self' data:",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "img-src": "'self' data:",
        "manifest-src": "'self'",
        "script-src": " ".join(["'self'", "blob:", "'wasm-unsafe-eval'", *_inline_hashes()]),
        "style-src": "'self' 'unsafe-inline'",
    }
    return "; ".join(f"{name} {sources}" for name, sources in allowed.items())


def _inline_hashes() -> list[str]:
    """Return the hash sources of the inline scripts in Streamlit's index page."""
    index = Path(streamlit.__file__).with_name("static") / "index.html"
    scripts = _INLINE_SCRIPT.findall(index.read_text(encoding="utf-8"))
    digests = [hashlib.sha256(script.encode()).digest() for script in scripts]
    return [f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests]

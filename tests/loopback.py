"""A server of plain HTTP on a free port of this machine, for as long as a `with` block lasts."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, ClassVar, Self


class Quiet:
    """What a handler needs: the `Loopback` that it answers for, and no output."""

    server: Any

    @property
    def owner(self) -> Any:
        return self.server.owner

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


class Loopback:
    """Serves with its class's `handler` while it is open."""

    handler: ClassVar[type[BaseHTTPRequestHandler]]

    def __enter__(self) -> Self:
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self.handler)
        self._http.owner = self  # pyright: ignore[reportAttributeAccessIssue]
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._http.shutdown()
        self._http.server_close()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._http.server_address[1]}"

"""Limits of a response: a deadline for its headers, a minimum rate for its body.

A server that sends a byte now and then satisfies every time-out between two bytes. Here a request
has to reach its last response's headers, redirects and informational (1xx) responses included,
within a deadline and a number of bytes. The body has to advance by so many bytes in each window, so
that a download's time is bounded by its size: at most size / rate + one window. Only bytes of the
body count, not the framing (chunk extensions, trailers), and only time spent waiting for them.
"""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpcore

from plugins_manifest.errors import UserError

RATE_VARIABLE = "XBENCH_FETCH_RATE"
_LEAST_RATE = 1024


@dataclass(frozen=True)
class Limits:
    """Limits of one request; `bytes_per_second` 0 accepts every rate.

    `whole_seconds` is for responses that are read into memory, such as the answers of an API.
    """

    idle_seconds: float = 30.0
    connect_seconds: float = 10.0
    head_seconds: float = 60.0
    head_bytes: int = 1 << 20
    window_seconds: float = 60.0
    bytes_per_second: int = _LEAST_RATE
    whole_seconds: float = 600.0


def limits_of_environment() -> Limits:
    """Return the limits with the rate of `XBENCH_FETCH_RATE`; `UserError` if it is not a number."""
    text = os.environ.get(RATE_VARIABLE) or str(_LEAST_RATE)
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise UserError(f"{RATE_VARIABLE} is {text[:40]!r}: give bytes per second, 0 for any")
    return Limits(bytes_per_second=int(text))


class Pace(float):
    """The time-out of a request's reads, and the count of what they brought.

    httpcore passes a request's time-outs to the stream as they are. So the stream learns for which
    request it reads, although connections and threads are shared.
    """

    def __new__(cls, limits: Limits) -> Pace:
        return super().__new__(cls, limits.idle_seconds)

    def __init__(self, limits: Limits) -> None:
        super().__init__()
        self._limits = limits
        self._head_ends = time.monotonic() + limits.head_seconds
        self._n_head_bytes, self._in_body = 0, False
        self._window_waited, self._window_bytes = 0.0, 0

    def begin_body(self) -> None:
        """From now on the rate counts instead of the deadline."""
        self._in_body = True

    def count(self, n_bytes: int) -> None:
        """Count bytes of the body."""
        self._window_bytes += n_bytes

    @contextmanager
    def reading(self) -> Iterator[float]:
        """Yield the seconds that a read may take; raise httpcore's errors for what is too slow."""
        seconds = min(float(self), self._body_seconds() if self._in_body else self._head_seconds())
        started = time.monotonic()
        try:
            yield seconds
        finally:
            self._window_waited += time.monotonic() - started

    def count_raw(self, n_bytes: int) -> None:
        """Count bytes of a connection; raise for too many before the body."""
        self._n_head_bytes += 0 if self._in_body else n_bytes
        if self._n_head_bytes > self._limits.head_bytes:
            raise httpcore.RemoteProtocolError(
                f"more than {self._limits.head_bytes:,} bytes of headers"
            )

    def _head_seconds(self) -> float:
        left = self._head_ends - time.monotonic()
        if left <= 0:
            raise httpcore.ReadTimeout(
                f"no complete headers within {self._limits.head_seconds:g} s, redirects included"
            )
        return left

    def _body_seconds(self) -> float:
        limits = self._limits
        if not limits.bytes_per_second:
            return float(self)
        if self._window_waited >= limits.window_seconds:
            if self._window_bytes < limits.bytes_per_second * self._window_waited:
                raise httpcore.ReadTimeout(
                    f"{self._window_bytes:,} bytes in {self._window_waited:.0f} s are fewer than "
                    f"{limits.bytes_per_second:,} per second, the least that {RATE_VARIABLE} allows"
                )
            self._window_waited, self._window_bytes = 0.0, 0
        return limits.window_seconds - self._window_waited


class _PacedStream(httpcore.NetworkStream):
    """A connection whose reads obey the pace of their request."""

    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if not isinstance(timeout, Pace):
            return self._stream.read(max_bytes, timeout)
        with timeout.reading() as seconds:
            try:
                content = self._stream.read(max_bytes, seconds)
            except httpcore.ReadTimeout:
                if seconds >= float(timeout):
                    raise
                content = None
        if content is None:  # the window or the deadline is over, not the time between two bytes
            return self.read(max_bytes, timeout)
        timeout.count_raw(len(content))
        return content

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, timeout)

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        return _PacedStream(self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class PacedBackend(httpcore.NetworkBackend):
    """Network backend of httpcore whose connections obey the pace of their requests."""

    def __init__(self, backend: httpcore.NetworkBackend) -> None:
        self._backend = backend

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect as the backend does."""
        return _PacedStream(
            self._backend.connect_tcp(host, port, timeout, local_address, socket_options)
        )

    def sleep(self, seconds: float) -> None:
        self._backend.sleep(seconds)

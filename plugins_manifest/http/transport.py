"""Transport of httpx over guarded sockets: TLS, no proxies, no settings of the environment."""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import certifi
import httpcore
import httpx

from plugins_manifest.http.guard import GuardedBackend, Resolver
from plugins_manifest.http.hosts import AllowList

_MAX_CONNECTIONS = 4


class _Body(httpx.SyncByteStream):
    """Body of a response; translates errors of httpcore into those of httpx."""

    def __init__(self, stream: Iterable[bytes]) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        with _as_httpx():
            yield from self._stream

    def close(self) -> None:
        close = getattr(self._stream, "close", None)
        if close is not None:
            close()


class GuardedTransport(httpx.BaseTransport):
    """A connection pool that opens every socket through `GuardedBackend`."""

    def __init__(self, allow: AllowList, resolve: Resolver, *, ca: Path | None = None) -> None:
        self._pool = httpcore.ConnectionPool(
            ssl_context=tls_context(ca),
            max_connections=_MAX_CONNECTIONS,
            network_backend=GuardedBackend(allow, resolve),
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request; redirects are not followed."""
        url = httpcore.URL(
            scheme=request.url.raw_scheme,
            host=request.url.raw_host,
            port=request.url.port,
            target=request.url.raw_path,
        )
        sent = httpcore.Request(
            request.method,
            url,
            headers=request.headers.raw,
            content=request.stream,
            extensions=request.extensions,
        )
        with _as_httpx():
            answer = self._pool.handle_request(sent)
        assert isinstance(answer.stream, Iterable)
        return httpx.Response(
            answer.status,
            headers=answer.headers,
            stream=_Body(answer.stream),
            extensions=answer.extensions,
        )

    def close(self) -> None:
        self._pool.close()


def tls_context(ca: Path | None) -> ssl.SSLContext:
    """Return a TLS context that trusts `ca` (PEM), by default certifi's list."""
    return ssl.create_default_context(cafile=str(ca) if ca else certifi.where())


@contextmanager
def _as_httpx() -> Iterator[None]:
    try:
        yield
    except httpcore.TimeoutException as error:
        raise httpx.TimeoutException(str(error) or "timed out") from error
    except (httpcore.NetworkError, httpcore.ProtocolError) as error:
        kind = httpx.ConnectError if isinstance(error, httpcore.ConnectError) else httpx.ReadError
        raise kind(str(error) or "the connection broke") from error

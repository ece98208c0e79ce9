"""Transport of httpx over paced sockets: guarded ones, or those of the environment's proxies."""

from __future__ import annotations

import ssl
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

import certifi
import httpcore
import httpx

from plugins_manifest.errors import UserError
from plugins_manifest.http.guard import GuardedBackend, Resolver
from plugins_manifest.http.hosts import AllowList
from plugins_manifest.http.pace import Limits, Pace, PacedBackend


class _Body(httpx.SyncByteStream):
    """Body of a response; counts its bytes and translates errors of httpcore."""

    def __init__(self, stream: Iterable[bytes], pace: Pace) -> None:
        self._stream, self._pace = stream, pace

    def __iter__(self) -> Iterator[bytes]:
        with _as_httpx():
            for chunk in self._stream:
                self._pace.count(len(chunk))
                yield chunk

    def close(self) -> None:
        close = getattr(self._stream, "close", None)
        if close is not None:
            close()


class Transport:
    """Sends requests within their limits; several threads may share one.

    With an `AllowList` every socket is opened through `GuardedBackend`, at most `n_connections` at
    once, and no setting of the environment is used; without one, its proxies and certificates are.
    """

    def __init__(
        self, allow: AllowList | None, resolve: Resolver, *, ca: Path | None, n_connections: int
    ) -> None:
        self._n_connections = n_connections
        self._is_guarded = allow is not None
        self._tls = httpx.create_ssl_context() if allow is None else tls_context(ca)
        self._backend = PacedBackend(
            httpcore.SyncBackend() if allow is None else GuardedBackend(allow, resolve)
        )
        self._pools: dict[str | None, httpcore.ConnectionPool] = {}
        self._lock = Lock()

    def send(self, request: httpx.Request, pace: Pace, limits: Limits) -> httpx.Response:
        """Send one request; redirects are not followed."""
        url = httpcore.URL(
            scheme=request.url.raw_scheme,
            host=request.url.raw_host,
            port=request.url.port,
            target=request.url.raw_path,
        )
        timeouts = {"connect": limits.connect_seconds, "read": pace, "write": limits.idle_seconds}
        sent = httpcore.Request(
            request.method,
            url,
            headers=request.headers.raw,
            content=request.stream,
            extensions={"timeout": timeouts},
        )
        pool = self._pool(None if self._is_guarded else _proxy_of(request.url))
        with _as_httpx():
            answer = pool.handle_request(sent)
        assert isinstance(answer.stream, Iterable)
        return httpx.Response(
            answer.status, headers=answer.headers, stream=_Body(answer.stream, pace)
        )

    def close(self) -> None:
        """Close every connection."""
        for pool in self._pools.values():
            pool.close()

    def _pool(self, proxy: str | None) -> httpcore.ConnectionPool:
        with self._lock:
            if proxy not in self._pools:
                self._pools[proxy] = self._connect(proxy)
            return self._pools[proxy]

    def _connect(self, proxy: str | None) -> httpcore.ConnectionPool:
        if proxy is None:
            return httpcore.ConnectionPool(
                ssl_context=self._tls,
                max_connections=self._n_connections if self._is_guarded else None,
                network_backend=self._backend,
            )
        known = httpx.Proxy(proxy)
        url = httpcore.URL(
            scheme=known.url.raw_scheme,
            host=known.url.raw_host,
            port=known.url.port,
            target=known.url.raw_path,
        )
        return httpcore.HTTPProxy(
            url, proxy_auth=known.raw_auth, ssl_context=self._tls, network_backend=self._backend
        )


def _proxy_of(url: httpx.URL) -> str | None:
    """Return the environment's proxy for an address, if any."""
    proxies = urllib.request.getproxies()
    proxy = proxies.get(url.scheme) or proxies.get("all")
    if not proxy or urllib.request.proxy_bypass(url.host):
        return None
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    if not proxy.startswith(("http://", "https://")):
        raise UserError(
            f"the proxy of the environment for {url.scheme} is of the kind "
            f"{proxy.partition(':')[0][:20]!r}: name an http proxy, or except "
            f"{url.host} in NO_PROXY"
        )
    return proxy


def tls_context(ca: Path | None) -> ssl.SSLContext:
    """Return a TLS context that trusts `ca` (PEM), by default certifi's list."""
    return ssl.create_default_context(cafile=str(ca) if ca else certifi.where())


@contextmanager
def _as_httpx() -> Iterator[None]:
    try:
        yield
    except httpcore.TimeoutException as error:
        raise httpx.TimeoutException(str(error) or "timed out") from error
    except httpcore.ProxyError as error:
        raise httpx.ProxyError(f"the proxy refuses: {error}") from error
    except (httpcore.NetworkError, httpcore.ProtocolError) as error:
        kind = httpx.ConnectError if isinstance(error, httpcore.ConnectError) else httpx.ReadError
        raise kind(str(error) or "the connection broke") from error

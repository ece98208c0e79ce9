"""Sockets to allowed hosts at allowed addresses: checked after DNS, at every connection.

The socket is opened to the very address that was checked, so that a name that changes its address
between check and use (DNS rebinding) gains nothing.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Sequence

import httpcore

from plugins_manifest.errors import HostError
from plugins_manifest.http.hosts import AllowList

_MAX_TRIED = 4  # addresses of one host
# (host, port) -> addresses as text; raises OSError if the name does not resolve.
Resolver = Callable[[str, int], Sequence[str]]


def system_resolver(host: str, port: int) -> list[str]:
    """Return every address that the system knows for a host, in its order of preference."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def checked_addresses(allow: AllowList, resolve: Resolver, host: str, port: int) -> list[str]:
    """Resolve an allowed host; raise `HostError` if any of its addresses is forbidden."""
    rule = allow.rule(host, port)
    try:
        addresses = resolve(host, port)
    except OSError as error:
        raise HostError(
            f"the host {host!r} cannot be found ({error}): check the network and the name",
            code="unreachable",
        ) from error
    forbidden = [address for address in addresses if not rule.allows(address)]
    if forbidden or not addresses:
        raise HostError(
            f"the host {host!r} has the address {', '.join(forbidden) or 'none'}, which is not on "
            "the public internet: nothing is fetched from private networks; name another source",
            code="blocked-address",
        )
    return list(addresses)


class GuardedBackend(httpcore.NetworkBackend):
    """Network backend of httpcore that connects to checked addresses only."""

    def __init__(self, allow: AllowList, resolve: Resolver) -> None:
        self._allow, self._resolve = allow, resolve
        self._sockets = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to the first checked address that accepts."""
        failure: httpcore.ConnectError | httpcore.ConnectTimeout | None = None
        for address in checked_addresses(self._allow, self._resolve, host, port)[:_MAX_TRIED]:
            try:
                return self._sockets.connect_tcp(
                    address, port, timeout, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure or httpcore.ConnectError(f"no address of {host!r} accepts a connection")

    def sleep(self, seconds: float) -> None:
        self._sockets.sleep(seconds)

"""Which hosts and addresses may be spoken to: checked after DNS, at every connection.

The socket is opened to the very address that was checked, so that a name that changes its address
between check and use (DNS rebinding) gains nothing. Proxies of the environment are not used.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import httpcore

from plugins_manifest.fetch_errors import HostError

HTTPS_PORT = 443
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# (host, port) -> addresses as text; raises OSError where there are none.
Resolver = Callable[[str, int], Sequence[str]]


@dataclass(frozen=True)
class HostRule:
    """A host that may be spoken to: a name, or with a leading dot every name below it.

    Without `networks` (CIDR) it must live on public addresses; with them, inside one of them.
    """

    host: str
    port: int = HTTPS_PORT
    gets_token: bool = False
    networks: tuple[str, ...] = ()

    def matches(self, host: str, port: int) -> bool:
        """Whether the rule is about this host and port."""
        same = host.endswith(self.host) if self.host.startswith(".") else host == self.host
        return same and port == self.port

    def allows(self, address: str) -> bool:
        """Whether a socket may be opened to the address."""
        if not self.networks:
            return is_public(address)
        ip = _parsed(address)
        return any(ip in ipaddress.ip_network(network) for network in self.networks)


def _civitai(domain: str) -> tuple[HostRule, HostRule]:
    return HostRule(domain, gets_token=True), HostRule(f".{domain}", gets_token=True)


# Civitai redirects downloads to signed addresses on civitai-delivery-worker-prod.ACCOUNT.r2.
# cloudflarestorage.com (see civitai/civitai issue 2113, vast-ai/base-image pull request 215) or on
# b2.civitai.com, which is below its own domain: the token is dropped there too, since the host is
# another. A storage host that is not here ends with a message that names --allow-host.
DEFAULT_RULES: tuple[HostRule, ...] = (
    *_civitai("civitai.com"),
    *_civitai("civitai.red"),
    *_civitai("civitai.green"),
    HostRule(".r2.cloudflarestorage.com"),
    HostRule("huggingface.co"),
    HostRule(".huggingface.co"),
    HostRule(".hf.co"),
    HostRule("github.com"),
    HostRule(".githubusercontent.com"),
)


@dataclass(frozen=True)
class AllowList:
    """The rules of one fetcher."""

    rules: tuple[HostRule, ...] = DEFAULT_RULES

    def with_hosts(self, hosts: Iterable[str]) -> AllowList:
        """More hosts, each without a token and on public addresses only."""
        return AllowList((*self.rules, *(HostRule(host.lower()) for host in hosts)))

    def rule(self, host: str, port: int) -> HostRule:
        """The rule for a host; `HostError` if there is none."""
        for rule in self.rules:
            if rule.matches(host.lower().rstrip("."), port):
                return rule
        raise HostError(
            f"the host {host!r} (port {port}) is not on the list of hosts to fetch from: if you "
            f"trust it, add --allow-host {host}",
            code="blocked-host",
        )


def is_public(address: str) -> bool:
    """Whether an address, and any IPv4 address inside it, belongs to the public internet."""
    ip = _parsed(address)
    if isinstance(ip, ipaddress.IPv6Address) and ip in _NAT64:
        return is_public(str(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)))
    return all(
        one.is_global
        and not (one.is_multicast or one.is_reserved or one.is_unspecified or one.is_loopback)
        for one in (_unmapped(ip), *_inner(ip))
    )


def _parsed(address: str) -> _Address:
    return ipaddress.ip_address(address.partition("%")[0])


def _unmapped(ip: _Address) -> _Address:
    return getattr(ip, "ipv4_mapped", None) or ip


def _inner(ip: _Address) -> list[ipaddress.IPv4Address]:
    if isinstance(ip, ipaddress.IPv4Address):
        return []
    return [inner for inner in (ip.sixtofour, *(ip.teredo or ())) if inner is not None]


def system_resolver(host: str, port: int) -> list[str]:
    """Every address that the system knows for a host, in its order of preference."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def checked_addresses(allow: AllowList, resolve: Resolver, host: str, port: int) -> list[str]:
    """The addresses of an allowed host; `HostError` if any of them is forbidden."""
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
    """Opens sockets for httpcore, to checked addresses only."""

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
        """Connect to the first checked address that answers."""
        failure: httpcore.ConnectError | httpcore.ConnectTimeout | None = None
        for address in checked_addresses(self._allow, self._resolve, host, port):
            try:
                return self._sockets.connect_tcp(
                    address, port, timeout, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure or httpcore.ConnectError(f"no address of {host!r} answers")

    def sleep(self, seconds: float) -> None:
        """Wait."""
        self._sockets.sleep(seconds)

"""Which hosts and addresses may be contacted, and the token that some of them get."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field

from plugins_manifest.errors import HostError

HTTPS_PORT = 443
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True)
class Token:
    """A bearer token; its value appears in no representation."""

    value: str = field(repr=False)


@dataclass(frozen=True)
class HostRule:
    """An allowed host: a name, or with a leading dot every name below it.

    Without `networks` (CIDR) its addresses must be public; with them, inside one of them. `login`
    is the advice for users without a valid token.
    """

    host: str
    port: int = HTTPS_PORT
    gets_token: bool = False
    networks: tuple[str, ...] = ()
    login: str = ""

    def matches(self, host: str, port: int) -> bool:
        """Return whether the rule covers this host and port."""
        same = host.endswith(self.host) if self.host.startswith(".") else host == self.host
        return same and port == self.port

    def allows(self, address: str) -> bool:
        """Return whether a socket may be opened to the address."""
        if not self.networks:
            return is_public(address)
        ip = _parsed(address)
        return any(ip in ipaddress.ip_network(network) for network in self.networks)


@dataclass(frozen=True)
class AllowList:
    """The rules of one client; without rules no host is allowed."""

    rules: tuple[HostRule, ...] = ()

    def with_hosts(self, hosts: Iterable[str]) -> AllowList:
        """Return a list with more hosts, each without a token and on public addresses only."""
        return AllowList((*self.rules, *(HostRule(host.lower()) for host in hosts)))

    def rule(self, host: str, port: int) -> HostRule:
        """Return the rule for a host; raise `HostError` if no rule covers it."""
        for rule in self.rules:
            if rule.matches(host.lower().rstrip("."), port):
                return rule
        raise HostError(
            f"the host {host!r} (port {port}) is not on the list of hosts to fetch from: if you "
            f"trust it, add --allow-host {host}",
            code="blocked-host",
        )


@dataclass(frozen=True)
class PublicHosts(AllowList):
    """Every host with public addresses, by http too: for addresses that a third party lists.

    With `networks` (CIDR) its addresses must be inside one of them instead.
    """

    networks: tuple[str, ...] = ()

    def rule(self, host: str, port: int) -> HostRule:
        """Return a rule for this host alone."""
        return HostRule(host, port, networks=self.networks)


def is_public(address: str) -> bool:
    """Return whether an address, and any IPv4 address inside it, is on the public internet."""
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
    """Return the IPv4 addresses that 6to4 and Teredo addresses contain."""
    if isinstance(ip, ipaddress.IPv4Address):
        return []
    return [inner for inner in (ip.sixtofour, *(ip.teredo or ())) if inner is not None]

"""Redirects and addresses that lead away from the allowed hosts: no connection is made."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from random import Random

import pytest

from plugins_manifest.errors import FetchError
from plugins_manifest.http.download import Wanted, fetch
from plugins_manifest.store import Store
from tests.faults.base import Fault, Kind
from tests.plugins_manifest.servers import SITE, STORAGE, World

_SCHEMES = ("http", "ftp", "file", "data", "gopher", "HTTP", "javascript", "ws")
_HOSTS = (
    "evil.test",
    "127.0.0.1",
    "2130706433",
    "0x7f000001",
    "0177.0.0.1",
    "[::1]",
    "[::ffff:127.0.0.1]",
    "169.254.169.254",
    "localhost",
    f"{SITE}.evil.test",
    f"evil{SITE}",
    f"user:word@{STORAGE}",
    f"{SITE}%00.evil.test",
    f"{SITE}\\@evil.test",
    f"evil.test\\@{SITE}",
    f"{SITE}:22",
    f"{SITE}:99999",
    "[::1",
    "",
)
_PRIVATE = ("10.0.0.1", "127.0.0.3", "192.168.0.9", "169.254.169.254", "::1", "fe80::1", "fc00::2")


def _redirect(folder: Path, *, locations: list[str]) -> None:
    world, store = World(folder), Store(folder / "store")
    try:
        for location in locations:
            world.site.script.append(
                lambda handler, _, to=location: handler.send(302, headers={"Location": to})
            )
        with world.client() as client, pytest.raises(FetchError) as caught:
            fetch(client, store, Wanted("plugin 'p'", f"{world.base_url}/x"))
        assert "plugin 'p'" in str(caught.value)
        assert world.storage.requests == [], "the storage was reached"
        assert not any(path.stat().st_size for path in store.folder.rglob("*") if path.is_file())
    finally:
        world.close()


def _resolve(folder: Path, *, addresses: list[str]) -> None:
    world, store = World(folder), Store(folder / "store")
    try:
        with (
            world.client(resolve=lambda host, port: addresses) as client,
            pytest.raises(FetchError) as caught,
        ):
            fetch(client, store, Wanted("plugin 'p'", f"{world.base_url}/x"))
        assert caught.value.code == "blocked-address"
        assert world.site.requests == [], "a forbidden address was reached"
    finally:
        world.close()


def _faults(rng: Random) -> Iterator[Fault]:
    while True:
        if rng.random() < 0.3:
            addresses = [*rng.sample(_PRIVATE, rng.randint(1, 3)), "127.0.0.1"]
            rng.shuffle(addresses)
            yield Fault(f"resolves to {addresses}", partial(_resolve, addresses=addresses))
            continue
        is_https = rng.random() < 0.7
        host = rng.choice(_HOSTS if is_https else (*_HOSTS, SITE, STORAGE))
        last = f"{'https' if is_https else rng.choice(_SCHEMES)}://{host}/x"
        locations = ["/hop"] * rng.randint(0, 3) + [last]
        yield Fault(f"{len(locations)} hops to {last!r}", partial(_redirect, locations=locations))


KIND = Kind("hosts", "D servers", "only allowed hosts are reached", _faults, count=120, sample=3)

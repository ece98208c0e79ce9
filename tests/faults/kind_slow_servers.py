"""Servers that keep a client waiting for ever, in every way that HTTP leaves open."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random

from plugins_manifest.http.client import Client
from plugins_manifest.http.download import Wanted, download
from plugins_manifest.http.ranged import Mirror
from plugins_manifest.store import Store
from tests.faults.base import Fault, Kind, refuses
from tests.plugins_manifest.http.slow_server import BEHAVIORS, hasty_client, slow_server

_LIMIT_S = 4.0
_MOST_BYTES = 1 << 20
Reader = Callable[[str, Client, Path], object]


def _get(address: str, client: Client, folder: Path) -> object:
    return client.get(address, what="the file", most_bytes=_MOST_BYTES)


def _get_json(address: str, client: Client, folder: Path) -> object:
    return client.get_json(address, what="the answer")


def _download(address: str, client: Client, folder: Path) -> object:
    store = Store(folder / "store")
    wanted = Wanted("the file", address, declared_bytes=_MOST_BYTES)
    with store.download(wanted.key) as part:
        return download(client, store, wanted, part, lambda path: path.stat().st_size)


def _read_end(address: str, client: Client, folder: Path) -> object:
    with Mirror(address, setting="XBENCH_COCO_URL", max_tries=1) as mirror:
        mirror._client = client
        return mirror.read_end("a.zip", 1000)


_READERS: dict[str, Reader] = {
    "bytes": _get,
    "JSON": _get_json,
    "download": _download,
    "end of a file": _read_end,
}


_RIGHTLY_PATIENT = ("fast enough and endless", "download")  # it advances


def _provoke(folder: Path, *, behavior: str, reader: str) -> None:
    started = time.monotonic()
    with (
        slow_server(BEHAVIORS[behavior]) as address,
        hasty_client(sleep=lambda seconds: None) as client,
    ):
        refuses(lambda: _READERS[reader](address, client, folder))
    assert time.monotonic() - started < _LIMIT_S, f"{time.monotonic() - started:.1f} s"
    assert not list(folder.rglob("file.*")), "a file was stored"


def _faults(rng: Random) -> Iterator[Fault]:
    pairs = [(b, r) for b in BEHAVIORS for r in _READERS if (b, r) != _RIGHTLY_PATIENT]
    rng.shuffle(pairs)
    while True:
        for behavior, reader in pairs:
            name = f"{behavior}: {reader}"
            yield Fault(name, partial(_provoke, behavior=behavior, reader=reader))


KIND = Kind("slow servers", "D servers", "every wait for a server ends", _faults, 107, sample=2)

"""Caches that are damaged, mixed up, a file, or full of garbage: never a wrong image or number."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from random import Random
from unittest.mock import patch

import numpy as np
from PIL import Image

from bench.store import ImageCache
from metrics.sets.reference_set import FOLDER_VARIABLE, STATISTICS_VARIABLE, UPGRADED_IMAGES
from metrics.weights.files import HASHES, file_sha256
from plugins_manifest.sealed import read_sealed, write_sealed
from plugins_manifest.store import Store
from tests.faults.base import Fault, Kind, refuses
from tests.faults.damaged_files import DAMAGES, swap

_FACTS = {"seconds": 1.0, "peak_memory_mib": 2.0, "effective_t0": None}


class _Means:
    """The mean color of each picture."""

    def recipe(self) -> str:
        return "means"

    def encode(self, pictures: list[np.ndarray]) -> np.ndarray:
        return np.array([picture.mean(axis=(0, 1)) for picture in pictures])


def _entry(folder: Path, *, suffix: str, damage: str, seed: int) -> None:
    cache = ImageCache("here", folder=folder)
    cache.put("abcd", b"pixels" * 50, _FACTS)
    path = folder / "images" / "here" / "ab" / f"abcd{suffix}"
    DAMAGES[damage](path, Random(seed))
    found = cache.get("abcd")
    assert found is None or found.png == b"pixels" * 50
    cache.put("abcd", b"pixels" * 50, _FACTS)  # one line at most


def _mixed_up(folder: Path) -> None:
    cache = ImageCache("here", folder=folder)
    cache.put("abcd", b"first", _FACTS)
    cache.put("abef", b"second", _FACTS)
    home = folder / "images" / "here" / "ab"
    for suffix in (".png", ".json"):
        swap(home / f"abcd{suffix}", home / f"abef{suffix}")
    assert cache.get("abcd") is None and cache.get("abef") is None


def _facts(folder: Path, *, value: object) -> None:
    cache = ImageCache("here", folder=folder)
    cache.put("abcd", b"pixels", _FACTS)
    path = folder / "images" / "here" / "ab" / "abcd.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "seconds": value}))
    assert cache.get("abcd") is None


def _whole(folder: Path, *, damage: str, seed: int) -> None:
    path = folder / "cache"
    path.write_bytes(b"in the way")
    DAMAGES[damage](path, Random(seed))
    if path.is_dir():
        (path / "images").write_bytes(b"in the way too")
    with patch.dict(os.environ, {"XBENCH_CACHE": str(path)}):
        cache = ImageCache("here")
        cache.put("abcd", b"pixels", _FACTS)
        found = cache.get("abcd")
    assert found is None or found.png == b"pixels"


def _statistics(folder: Path, *, damage: str, seed: int) -> None:
    pictures, kept = folder / "pictures", folder / "kept"
    pictures.mkdir()
    for i in range(3):
        Image.new("RGB", (4, 4), (i * 50, 9, 9)).save(pictures / f"{i}.png")
    names = {FOLDER_VARIABLE: str(pictures), STATISTICS_VARIABLE: str(kept)}
    with patch.dict(os.environ, names):
        encoder = _Means()
        rows, _ = UPGRADED_IMAGES.rows([], None, encoder)  # type: ignore[arg-type]
        path = next(kept.glob("*.safetensors"))
        DAMAGES[damage](path, Random(seed))
        again, _ = UPGRADED_IMAGES.rows([], None, encoder)  # type: ignore[arg-type]
    assert np.array_equal(rows, again)


def _hashes(folder: Path, *, damage: str, seed: int) -> None:
    weights = folder / "weights"
    weights.write_bytes(b"weights")
    with patch("plugins_manifest.content._SETTLED_NS", -(10**12)):  # remembered at once
        right = file_sha256(weights)
    DAMAGES[damage](folder / HASHES, Random(seed))
    assert file_sha256(weights) == right


def _sealed(folder: Path, *, damage: str, seed: int) -> None:
    path, data = folder / "sealed.json", {"a": [1, 2.5, "x"], "b": None}
    write_sealed(path, data)
    DAMAGES[damage](path, Random(seed))
    assert read_sealed(path) in (None, data)


def _store(folder: Path) -> None:
    (folder / "store").write_bytes(b"in the way")
    plugin = folder / "plugin"
    plugin.write_bytes(b"x")
    store = Store(folder / "store")
    assert store.find("a" * 64) is None
    refuses(lambda: store.copy_in(plugin, "a" * 64, suffix=".bin"), "store")


_WAYS = {
    "image": partial(_entry, suffix=".png"),
    "facts of an image": partial(_entry, suffix=".json"),
    "XBENCH_CACHE": _whole,
    "features": _statistics,
    "hashes of weights": _hashes,
    "sealed file": _sealed,
}


def _faults(rng: Random) -> Iterator[Fault]:
    yield Fault("entries mixed up", _mixed_up)
    yield Fault("a store that is a file", _store)
    for value in ("long", -1, [1], {}, 1e300):
        yield Fault(f"seconds {value!r}", partial(_facts, value=value))
    for damage, (what, make) in itertools.product(DAMAGES, _WAYS.items()):
        yield Fault(f"{what}: {damage}", partial(make, damage=damage, seed=rng.randrange(10**6)))


KIND = Kind(
    "damaged caches",
    "B files",
    "a damaged cache is left alone: nothing wrong is served from it",
    _faults,
    count=80,
    sample=6,
)

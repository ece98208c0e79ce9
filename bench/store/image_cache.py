"""The global image cache: an image that any run has rendered is not rendered again.

An entry is a PNG and a small JSON file, which is written last; both are written atomically, so
several processes can share the folder. `XBENCH_CACHE` sets it (default: the user's cache folder).
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from platformdirs import user_cache_path

from bench.errors import UserError, disk_error
from bench.store.files import json_bytes, sha256_of, write_bytes
from bench.store.parquet import read_bytes

# Increase by one whenever a change of the code changes any pixel.
RENDERER_REVISION = 1
CACHED_FACTS = ("seconds", "peak_memory_mib", "effective_t0")
_LOG = logging.getLogger(__name__)
_DAY_SECONDS = 24 * 3600
_MAX_FACT = 1e12  # seconds, MiB


@dataclass(frozen=True)
class CachedImage:
    """An image from the cache, with the cost of rendering it."""

    png: bytes
    seconds: float | None
    peak_memory_mib: float | None
    effective_t0: float | None


@dataclass(frozen=True)
class CacheInfo:
    """Size of the cache on the disk."""

    folder: Path
    n_images: int
    n_bytes: int


def cache_folder() -> Path:
    """Return `XBENCH_CACHE`, or xbench's folder in the user's cache."""
    named = os.environ.get("XBENCH_CACHE")
    return Path(named) if named else user_cache_path("xbench")


def render_context(*, dtype: str, device_kind: str) -> str:
    """Return what changes pixels besides the trial: revision, dtype, device, torch version."""
    torch_minor = ".".join(version("torch").split("+")[0].split(".")[:2])
    return f"r{RENDERER_REVISION}-{dtype}-{device_kind}-torch{torch_minor}"


class ImageCache:
    """Images by trial id within one render context."""

    def __init__(self, context: str, *, folder: Path | None = None) -> None:
        self._root = (folder or cache_folder()) / "images" / context
        self._can_write = True

    @property
    def audits(self) -> Path:
        """The folder of load audits (bench/render/audit.py) of plugins that were rendered here."""
        return self._root / "audits"

    def get(self, trial_id: str) -> CachedImage | None:
        """Return the cached image; None if it is missing or damaged."""
        image, facts_path = self._paths(trial_id)
        try:
            facts = json.loads(read_bytes(facts_path, name=facts_path.name))
            png = read_bytes(image, name=image.name)
            if sha256_of(png) != facts["sha256"]:
                return None
            if facts.get("trial_id", trial_id) != trial_id:  # entries of earlier versions lack it
                return None
            cached = CachedImage(png, **{key: _number(facts[key]) for key in CACHED_FACTS})
        except (UserError, OSError, ValueError, LookupError, TypeError, RecursionError):
            return None
        with suppress(OSError):  # a read-only cache is used too
            os.utime(facts_path)
        return cached

    def put(self, trial_id: str, png: bytes, facts: Mapping[str, float | None]) -> None:
        """Add an image; if the cache is not writable, warn once and stop writing."""
        if not self._can_write:
            return
        image, facts_path = self._paths(trial_id)
        try:
            write_bytes(image, png, durable=False)
            entry = {"trial_id": trial_id, "sha256": sha256_of(png), **facts}
            write_bytes(facts_path, json_bytes(entry), durable=False)
        except (UserError, OSError) as error:
            self._can_write = False
            _LOG.warning("the image cache is not writable: %s", error)

    def _paths(self, trial_id: str) -> tuple[Path, Path]:
        stem = self._root / trial_id[:2] / trial_id
        return stem.with_suffix(".png"), stem.with_suffix(".json")


def _number(value: object) -> float | None:
    if value is None or (isinstance(value, int | float) and 0 <= value < _MAX_FACT):
        return value
    raise ValueError(f"{value!r} is not a number")


def cache_info() -> CacheInfo:
    """Count the images of the cache and their size."""
    folder = cache_folder()
    sizes = [(p.suffix, p.stat().st_size) for p in folder.rglob("*") if p.is_file()]
    n_images = sum(suffix == ".png" for suffix, _ in sizes)
    return CacheInfo(folder, n_images, sum(size for _, size in sizes))


def clean_cache(*, unused_days: float | None = None) -> CacheInfo:
    """Remove all images, or those unused for some days; return what was removed.

    Other files in the cache folder are not touched.
    """
    images = cache_folder() / "images"
    if not images.is_dir():
        return CacheInfo(cache_folder(), 0, 0)
    limit = time.time() - (unused_days or 0) * _DAY_SECONDS
    n_images = n_bytes = 0
    try:
        for facts in list(images.rglob("*.json")):
            if unused_days is not None and facts.stat().st_mtime > limit:
                continue
            image = facts.with_suffix(".png")
            for path in (facts, image):
                n_bytes += path.stat().st_size if path.exists() else 0
                path.unlink(missing_ok=True)
            n_images += 1
        if unused_days is None:
            shutil.rmtree(images)
    except OSError as error:
        raise disk_error(error, images) from error
    return CacheInfo(cache_folder(), n_images, n_bytes)

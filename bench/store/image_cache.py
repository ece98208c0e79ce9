"""The global image cache: an image that any run has rendered is not rendered again.

An entry is a PNG and a small JSON file, which is written last; both are written atomically, so
several processes can share the folder. `XBENCH_CACHE` sets it (default: the user's cache folder).
Each context has a folder, marked by CACHEDIR.TAG; nothing is written into a folder with other
content, and only names of the cache's own form, in marked folders, are ever deleted.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from platformdirs import user_cache_path

from bench.errors import UserError, disk_error
from bench.store.files import json_bytes, sha256_of, write_bytes
from bench.store.parquet import read_bytes
from plugins_manifest.documents import read_json
from plugins_manifest.files import TEMPORARY_PREFIX

# Increase by one whenever a change of the code changes any pixel.
RENDERER_REVISION = 1
CACHED_FACTS = ("seconds", "peak_memory_mib", "effective_t0")
_LOG = logging.getLogger(__name__)
_DAY_SECONDS = 24 * 3600
TAG_FILE = "CACHEDIR.TAG"  # https://bford.info/cachedir/
_TAG = b"Signature: 8a477f597d28d172789f06886806bc55\n# Images cached by xbench.\n"
_BUCKET, _ENTRY = re.compile(r"[0-9a-f]{2}"), re.compile(r"[0-9a-f]{20,64}\.(png|json)")
_IMAGES, _AUDITS = "images", "audits"
_MAX_FACT = 1e12  # seconds, MiB


@dataclass(frozen=True)
class CachedImage:
    """An image from the cache, with the cost of rendering it."""

    png: bytes
    seconds: float | None
    peak_memory_mib: float | None
    effective_t0: float | None
    batch: int | None = None


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


def render_context(*, dtype: str, device_kind: str, marks: Sequence[str] = ()) -> str:
    """Return what changes pixels besides the trial: revision, dtype, device, torch version.

    `marks` are those of `runners.options.DeviceOptions`.
    """
    # since revision 2 of half precision, the base VAE runs in it
    # since another one on GPUs, calls have several variants where they fit
    revision = RENDERER_REVISION + (dtype != "float32") + (device_kind != "cpu")
    torch_minor = ".".join(version("torch").split("+")[0].split(".")[:2])
    return "-".join([f"r{revision}", dtype, device_kind, f"torch{torch_minor}", *marks])


class ImageCache:
    """Images by trial id within one render context."""

    def __init__(self, context: str, *, folder: Path | None = None) -> None:
        self._root = (folder or cache_folder()) / _IMAGES / context
        self._can_write = True

    @property
    def audits(self) -> Path:
        """The folder of load audits (bench/render/audit.py) of plugins that were rendered here."""
        return self._root / _AUDITS

    def get(self, trial_id: str) -> CachedImage | None:
        """Return the cached image; None if it is missing or damaged."""
        image, facts_path = self._paths(trial_id)
        try:
            facts = read_json(facts_path)
            png = read_bytes(image, name=image.name)
            if sha256_of(png) != facts["sha256"]:
                return None
            if facts.get("trial_id", trial_id) != trial_id:  # entries of earlier versions lack it
                return None
            numbers = {key: _number(facts[key]) for key in CACHED_FACTS}
            cached = CachedImage(png, **numbers, batch=_whole(facts.get("batch")))
        except (UserError, OSError, ValueError, LookupError, TypeError):
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
            _claim(self._root)
            write_bytes(image, png, durable=False)
            entry = {"trial_id": trial_id, "sha256": sha256_of(png), **facts}
            write_bytes(facts_path, json_bytes(entry), durable=False)
        except (UserError, OSError) as error:
            self._can_write = False
            _LOG.warning("the image cache is not writable: %s", error)

    def _paths(self, trial_id: str) -> tuple[Path, Path]:
        stem = self._root / trial_id[:2] / trial_id
        return stem.with_suffix(".png"), stem.with_suffix(".json")


def _claim(root: Path) -> None:
    """Mark a context's folder as a cache; raise `UserError` if it has other content."""
    if _is_marked(root):
        return
    others = [path.name for path in _listed(root) if not _is_own(path)]
    if others:
        raise UserError(f"{root} has other content ({others[0]}): set XBENCH_CACHE")
    write_bytes(root / TAG_FILE, _TAG)


def _is_marked(root: Path) -> bool:
    try:
        return (root / TAG_FILE).read_bytes() == _TAG
    except OSError:
        return False


def _is_own(path: Path) -> bool:
    """Return whether a name in a context's folder is of the cache's form."""
    is_tag = path.name == TAG_FILE or path.name.startswith(TEMPORARY_PREFIX)
    return is_tag or path.name == _AUDITS or _BUCKET.fullmatch(path.name) is not None


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _contexts() -> list[Path]:
    """Return the marked folders of the cache; a link is never followed."""
    images = cache_folder() / _IMAGES
    return [] if images.is_symlink() else [root for root in _listed(images) if _is_cache(root)]


def _is_cache(root: Path) -> bool:
    return root.is_dir() and not root.is_symlink() and _is_marked(root)


def _entries(root: Path) -> Iterator[Path]:
    """Yield the files of a marked folder that have the form of the cache's own."""
    for bucket in _listed(root):
        if bucket.is_dir() and not bucket.is_symlink() and _is_own(bucket):
            for path in _listed(bucket):
                is_here = bucket.name in (_AUDITS, path.name[:2])
                if is_here and _ENTRY.fullmatch(path.name) and not path.is_dir():
                    yield path


def _number(value: object) -> float | None:
    if value is None or (isinstance(value, int | float) and 0 <= value < _MAX_FACT):
        return value
    raise ValueError(f"{value!r} is not a number")


def _whole(value: object) -> int | None:
    number = _number(value)
    return None if number is None else int(number)


def cache_info() -> CacheInfo:
    """Count the images of the cache and their size."""
    try:
        files = [path for root in _contexts() for path in _entries(root) if path.is_file()]
        n_bytes = sum(path.stat().st_size for path in files)
    except OSError as error:
        raise disk_error(error, cache_folder()) from error
    return CacheInfo(cache_folder(), sum(path.suffix == ".png" for path in files), n_bytes)


def clean_cache(*, unused_days: float | None = None) -> CacheInfo:
    """Remove all images, or those unused for some days; return what was removed.

    Nothing else is touched: neither other files nor folders that are not marked.
    """
    limit = time.time() - (unused_days or 0) * _DAY_SECONDS
    n_images = n_bytes = 0
    try:
        for root in _contexts():
            for path, used in [(path, _last_use(path)) for path in _entries(root)]:
                if unused_days is None or used <= limit:
                    n_bytes += path.lstat().st_size
                    n_images += path.suffix == ".png"
                    path.unlink(missing_ok=True)
            _remove_empty(root)
    except OSError as error:
        raise disk_error(error, cache_folder()) from error
    return CacheInfo(cache_folder(), n_images, n_bytes)


def _last_use(path: Path) -> float:
    """Return when an entry was last used: the time of its facts, where it has some."""
    facts = path.with_suffix(".json")
    return (facts if facts.exists() else path).lstat().st_mtime


def _remove_empty(root: Path) -> None:
    """Remove the buckets of a context that are empty, and its folder if nothing else is in it."""
    for bucket in _listed(root):
        if _is_own(bucket) and bucket.is_dir() and not any(bucket.iterdir()):
            bucket.rmdir()
    if [path.name for path in _listed(root)] == [TAG_FILE]:
        (root / TAG_FILE).unlink()
        root.rmdir()

"""The content-addressed store: files under their sha256, complete and checked, or not at all.

Layout below `XBENCH_STORE` (default: the user data folder):
    sha256/ab/<sha256>/file.safetensors    one file, or a folder of files named `tree`
    partial/<key>.part, .json, .lock       downloads under way; a lock dies with its process
No name from outside becomes a path. Several processes may share the store.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock
from platformdirs import user_data_path

from plugins_manifest.documents import read_json
from plugins_manifest.errors import FetchError, UserError
from plugins_manifest.files import (
    atomic_write,
    move_into_place,
    sync,
    sync_folder,
    temporary_beside,
)

SETTING = "XBENCH_STORE"
_SPARE_BYTES = 32 << 20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_TREE = "tree"
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def store_folder() -> Path:
    """Return `XBENCH_STORE`, or xbench's folder in the user's data."""
    named = os.environ.get(SETTING)
    return Path(named) if named else user_data_path("xbench") / "store"


def free_bytes(folder: Path) -> int:
    """Return the free space of the disk that holds a folder."""
    return shutil.disk_usage(folder).free


def sha256_of_tree(files: Mapping[str, str]) -> str:
    """Return the sha256 of a folder from its files' names and hashes (as `hash_path`)."""
    digest = hashlib.sha256()
    for name in sorted(files, key=Path):
        digest.update(f"{name}\0{files[name]}\n".encode())
    return digest.hexdigest()


@dataclass(frozen=True)
class Partial:
    """One download under way: the bytes so far, and facts about the complete file."""

    part: Path
    facts_path: Path

    @property
    def n_bytes(self) -> int:
        """Bytes received so far."""
        return self.part.stat().st_size if self.part.exists() else 0

    def facts(self) -> dict[str, object]:
        """Return what `remember` wrote; empty if nothing readable exists."""
        try:
            data = read_json(self.facts_path)
        except UserError:
            return {}
        return data if isinstance(data, dict) else {}

    def remember(self, facts: Mapping[str, object]) -> None:
        """Write what a later process needs to resume (no address: signed ones are secrets)."""
        atomic_write(self.facts_path, json.dumps(dict(facts)))

    def discard(self) -> None:
        """Delete the download."""
        self.part.unlink(missing_ok=True)
        self.facts_path.unlink(missing_ok=True)


class Store:
    """Files by sha256 below one folder; `setting` is the variable that names another folder."""

    def __init__(
        self,
        folder: Path | None = None,
        *,
        setting: str = SETTING,
        free: Callable[[Path], int] = free_bytes,
    ) -> None:
        self.folder = folder or store_folder()
        self._setting, self._free = setting, free

    def find(self, sha256: str) -> Path | None:
        """Return the file or folder with this content, or None."""
        home = self._home(sha256)
        entries = sorted(home.iterdir()) if home.is_dir() else []
        return entries[0] if entries else None

    def adopt(self, file: Path, sha256: str, *, suffix: str = ".safetensors") -> Path:
        """Move a checked file of the same disk into its place, atomically."""
        path = self._home(sha256) / f"file{suffix}"
        with self._explained(path):
            move_into_place(file, path)
        return path

    def copy_in(self, file: Path, sha256: str, *, suffix: str) -> Path:
        """Add a copy of a checked file (a link where the disk allows it)."""
        found = self.find(sha256)
        if found is not None:
            return found
        temporary = self._temporary(sha256)
        with self._explained(temporary):
            temporary.parent.mkdir(parents=True, exist_ok=True)
            self.need_room(file.stat().st_size, what=file.name)
            _link_or_copy(file.resolve(), temporary)
        return self.adopt(temporary, sha256, suffix=suffix)

    def put_tree(self, files: Mapping[str, str]) -> tuple[Path, str]:
        """Add a folder of stored files (plain name -> sha256); return its path and sha256."""
        bad = [name for name in files if not _NAME.fullmatch(name)]
        if bad:
            raise UserError(f"{', '.join(map(repr, bad))} cannot be the name of a plugin's file")
        sha256 = sha256_of_tree(files)
        path = self._home(sha256) / _TREE
        if path.is_dir():
            return path, sha256
        temporary = self._temporary(sha256)
        with self._explained(temporary):
            temporary.mkdir(parents=True)
            try:
                self._fill(temporary, files)
                path.parent.mkdir(parents=True, exist_ok=True)
                temporary.rename(path)
                sync_folder(path.parent)
            except OSError as error:  # another process was first: its folder has the same content
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
        return path, sha256

    def _fill(self, folder: Path, files: Mapping[str, str]) -> None:
        for name, content in files.items():
            stored = self.find(content)
            if stored is None:
                raise UserError(f"{content} is missing in the store: run the same command again")
            _link_or_copy(stored, folder / name)
        sync(folder)

    def remove(self, sha256: str) -> None:
        """Delete a damaged entry."""
        shutil.rmtree(self._home(sha256), ignore_errors=True)

    @contextmanager
    def download(self, key: str) -> Iterator[Partial]:
        """Lock the download `key` for this process; others wait until it is released."""
        folder = self.folder / "partial"
        name = hashlib.sha256(key.encode()).hexdigest()
        lock = FileLock(folder / f"{name}.lock")
        with self._explained(folder):
            folder.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        try:
            with self._explained(folder):
                yield Partial(folder / f"{name}.part", folder / f"{name}.json")
        finally:
            lock.release()

    def need_room(self, n_bytes: int, *, what: str) -> None:
        """Raise `FetchError` unless the disk has room for so many bytes and a reserve."""
        with self._explained(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            free = self._free(self.folder)
        if free < n_bytes + _SPARE_BYTES:
            raise FetchError(
                f"{what}: needs {n_bytes / 2**20:.0f} MiB in {self.folder}, {free / 2**20:.0f} MiB "
                f"are free: free some space, or set {self._setting} to a folder on another disk",
                code="disk",
            )

    def _home(self, sha256: str) -> Path:
        if not _SHA256.fullmatch(sha256):
            raise ValueError(f"{sha256!r} is not a sha256")
        return self.folder / "sha256" / sha256[:2] / sha256

    def _temporary(self, sha256: str) -> Path:
        return temporary_beside(self.folder / "partial" / f"{sha256}.tmp")

    @contextmanager
    def _explained(self, path: Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in _NO_ROOM:
                raise FetchError(
                    f"no room left in {self.folder} ({error.strerror}): free some space and run "
                    "the same command again; downloaded parts are kept",
                    code="disk",
                ) from error
            if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR):
                raise FetchError(
                    f"{path} cannot be written ({error.strerror}): change its rights, or set "
                    f"{self._setting} to another folder",
                    code="disk",
                ) from error
            raise


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk, or one without links
        shutil.copyfile(source, target)

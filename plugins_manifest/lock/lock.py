"""The lock file: every plugin of a manifest pinned to bytes, with facts about those bytes.

M.lock.yaml is beside M.yaml. It contains no token and no signed address. Its text is untrusted, so
pydantic validates it.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from plugins_manifest.documents import read_yaml
from plugins_manifest.errors import UserError
from plugins_manifest.files import atomic_write

SUFFIX = ".lock.yaml"
_HEAD = "# Written by: xbench plugins lock. Keep it with the manifest; do not edit it.\n"
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Site = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")]
LOCAL: Site = "local"  # files of this machine; every other site is the `name` of a source


class Row(BaseModel):
    """A part of the lock file: unknown keys are errors, values do not change later."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Origin(Row):
    """Where a plugin comes from: the ids and names that its site uses."""

    site: Site
    page: str | None = None
    air: str | None = None
    model_id: int | None = None
    version_id: int | None = None
    file_id: int | None = None
    model_name: str | None = None
    version_name: str | None = None
    repository: str | None = None
    revision: str | None = Field(default=None, pattern=r"^[0-9a-f]{40}$")


class LockedFile(Row):
    """One file: its `name` in the store, its `source_name` on the site (on the Hub a path).

    `payload_sha256` covers the bytes behind the safetensors header, `tensors_sha256` every tensor
    by name; both are null for other files than safetensors, and before the first download.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    source_name: str | None = None
    url: str | None = None
    size_bytes: int | None = Field(default=None, ge=0)
    sha256: Sha256 | None = None
    git_sha1: str | None = None
    payload_sha256: Sha256 | None = None
    tensors_sha256: Sha256 | None = None


class Weights(Row):
    """Facts from the tensors, independent of labels; null where the format lacks them.

    `target_modules` counts changed modules by model and by name without numbers.
    """

    format: str
    kind: str
    base_model: str
    dtypes: tuple[str, ...]
    n_tensors: int
    rank: tuple[int, ...] | None = None
    alpha: tuple[float, ...] | None = None
    target_modules: dict[str, dict[str, int]] = {}
    problems: tuple[str, ...] = ()


class LockedLicense(Row):
    """Permissions; null if the source does not state them."""

    name: str | None = None
    allow_no_credit: bool | None = None
    allow_commercial_use: tuple[str, ...] | None = None
    allow_derivatives: bool | None = None
    allow_different_license: bool | None = None


class LockedPlugin(Row):
    """One plugin; `sha256` is its file's, or its folder's (as runners.families.registry)."""

    id: str
    source: str
    kind: str
    sha256: Sha256 | None = None
    origin: Origin
    files: tuple[LockedFile, ...] = ()
    weights: Weights | None = None
    declared_base_model: str | None = None
    trigger_words: tuple[str, ...] = ()
    license: LockedLicense = LockedLicense()
    nsfw: bool | None = None

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder of files rather than one file."""
        return len(self.files) > 1

    @property
    def is_complete(self) -> bool:
        """Whether its bytes are pinned."""
        return self.sha256 is not None and all(file.sha256 for file in self.files)

    @property
    def size_bytes(self) -> int | None:
        """Bytes of all files, None if one is unknown."""
        sizes = [file.size_bytes for file in self.files]
        known = [size for size in sizes if size is not None]
        return sum(known) if len(known) == len(sizes) else None


class Lock(Row):
    """The plugins of one manifest."""

    xbench_lock: Literal[1] = 1
    manifest: str
    plugins: tuple[LockedPlugin, ...] = ()

    def find(self, plugin_id: str, source: str) -> LockedPlugin | None:
        """Return the entry of a plugin, None if it was made for another source."""
        for entry in self.plugins:
            if (entry.id, entry.source) == (plugin_id, source):
                return entry
        return None


def lock_path(manifest_path: Path, *, is_shipped: bool) -> Path:
    """Return the path of a manifest's lock file, existing or not.

    It is beside the manifest; for shipped manifests in the working folder, since an installed
    package may not be writable.
    """
    folder = Path.cwd() if is_shipped else manifest_path.parent
    return folder / f"{manifest_path.stem}{SUFFIX}"


def read_lock(path: Path) -> Lock | None:
    """Parse a lock file; None if the file is missing, `UserError` if it is damaged."""
    if not path.exists():
        return None
    try:
        return Lock.model_validate(read_yaml(path))
    except UserError as error:
        reasons = list(error.problems)
    except ValidationError as error:
        places = [(".".join(map(str, e["loc"])), e["msg"]) for e in error.errors()]
        reasons = [f"{path.name}: {place}: {text}" for place, text in places]
    raise UserError.collect(
        [f"{reason}; take the file from version control or lock again" for reason in reasons]
    )


@lru_cache(maxsize=8)
def _read(path: Path, _n_bytes: int, _changed_ns: int) -> Lock | None:
    return read_lock(path)


def cached_lock(path: Path) -> Lock | None:
    """As `read_lock`, parsed again only after the file changed."""
    try:
        state = path.stat()
    except OSError:
        return None
    return _read(path, state.st_size, state.st_mtime_ns)


def write_lock(path: Path, lock: Lock) -> None:
    """Write the lock file atomically; the same content gives the same bytes."""
    data = lock.model_dump(mode="json", exclude_none=True)
    text = yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=100)
    try:
        atomic_write(path, _HEAD + text)
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror}): change its rights or name another file "
            "with --lock"
        ) from error

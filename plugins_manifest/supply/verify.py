"""Compare files with their lock, without network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from plugins_manifest.errors import UserError
from plugins_manifest.lock import Lock, LockedFile, LockedPlugin, fingerprint
from plugins_manifest.lock.file_facts import same_weights
from plugins_manifest.lock.lock import LOCAL
from plugins_manifest.outputs import one_line
from plugins_manifest.schema import Manifest
from plugins_manifest.schema.manifest import PluginSpec
from plugins_manifest.store import Store
from plugins_manifest.supply.resolve import Locate, beside, source_name

State = Literal[
    "ok", "metadata-changed", "weights-changed", "file-changed", "missing", "not-locked"
]
_WORDS: dict[State, str] = {
    "ok": "ok",
    "metadata-changed": "metadata changed, weights identical",
    "weights-changed": "weights changed",
    "file-changed": "a file changed",
    "missing": "not here",
    "not-locked": "not locked",
}
_ORDER: tuple[State, ...] = ("ok", "metadata-changed", "file-changed", "weights-changed", "missing")


@dataclass(frozen=True)
class Verdict:
    """The state of one plugin, and what to do about it."""

    id: str
    state: State
    detail: str = ""
    fix: str = ""

    @property
    def words(self) -> str:
        """The state for users."""
        return _WORDS[self.state]


def verify_manifest(
    manifest: Manifest, lock: Lock | None, store: Store, locate: Locate
) -> list[Verdict]:
    """Hash every locked file again and compare it with its entry."""
    return [_verify_one(spec, lock, store, locate) for spec in manifest.plugins]


def _verify_one(spec: PluginSpec, lock: Lock | None, store: Store, locate: Locate) -> Verdict:
    entry = None if lock is None else lock.find(spec.id, spec.source)
    if entry is None or not entry.is_complete:
        return Verdict(spec.id, "not-locked", spec.source, "run: xbench plugins lock")
    if entry.origin.site == LOCAL:
        return _verify_local(entry, spec, locate)
    path = store.find(str(entry.sha256))
    if path is None:
        return Verdict(spec.id, "missing", spec.source, "run: xbench plugins fetch")
    verdict = _verify_files(entry, path)
    if verdict.state == "ok":
        return verdict
    fix = f"the store is damaged: delete {path.parent} and run: xbench plugins fetch"
    return Verdict(spec.id, verdict.state, verdict.detail, fix)


def _verify_local(entry: LockedPlugin, spec: PluginSpec, locate: Locate) -> Verdict:
    try:
        path, sha256 = locate(spec)
    except (UserError, ValueError) as error:
        return Verdict(entry.id, "missing", str(error), "bring the file back or correct the source")
    verdict = _verify_files(entry, path)
    found = {source_name(file, path) for file in beside(path, spec.kind)}
    is_same = path.is_dir() or found | {None} == {file.source_name for file in entry.files}
    if verdict.state == "ok" and (sha256 != entry.sha256 or not is_same):
        verdict = Verdict(entry.id, "file-changed", "files were added or renamed")
    if verdict.state == "ok":
        return verdict
    return Verdict(
        entry.id, verdict.state, verdict.detail, "pin it with: xbench plugins lock --update"
    )


def _verify_files(entry: LockedPlugin, path: Path) -> Verdict:
    worst = Verdict(entry.id, "ok", str(entry.sha256))
    for file in entry.files:
        state = _state(file, _place(entry, file, path))
        if _ORDER.index(state) > _ORDER.index(worst.state):
            worst = Verdict(entry.id, state, one_line(file.source_name or file.name))
    return worst


def _place(entry: LockedPlugin, file: LockedFile, path: Path) -> Path:
    is_local = entry.origin.site == LOCAL
    if path.is_dir():
        return path / (file.source_name or file.name) if is_local else path / file.name
    # beside a local file are those that are read with it; on a site `source_name` is its own
    return path.parent / file.source_name if is_local and file.source_name else path


def _state(file: LockedFile, path: Path) -> State:
    if not path.is_file():
        return "missing"
    found = fingerprint(path)
    if found.sha256 == file.sha256:
        return "ok"
    if same_weights(file, found):
        return "metadata-changed"
    return "weights-changed" if file.tensors_sha256 else "file-changed"

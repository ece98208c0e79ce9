"""Whether a run directory belongs to a job, and whether anything is left to do in it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.errors import UserError, shown_path
from bench.plan.job import Job
from bench.plan.plan import Plan
from bench.plan.selection import nsfw_plugins
from bench.store import RunStore
from bench.store.documents import read_yaml
from plugins_manifest.cases import Case
from plugins_manifest.content import State, state_of
from plugins_manifest.images.folder import pictures_in, pictures_sha256
from plugins_manifest.schema import Manifest

_MARK = "2:"  # of keys with the whole state of the files


def plan_key(job: Job, *, is_first_form: bool = False) -> str | None:
    """Hash everything a plan is made from; None for a job with problems or missing files.

    Equal keys mean equal plans. The first form is that of earlier versions, which knew a file by
    its size and time and looked at none beside a plugin's.
    """
    if job.problems or job.missing:
        return None
    state = _size_and_time if is_first_form else _file_state
    cases = {
        case.case_id: [asdict(case), [state(path) for path in _files_of(case)]]
        for cases_of_set in job.cases_by_set.values()
        for case in cases_of_set
    }
    files = {
        name: [file.sha256, state(file.reference and str(file.reference))]
        for name, file in job.files.items()
    }
    if not is_first_form:
        for name, file in job.files.items():
            files[name] += [file.content_sha256, [sha256 for _, sha256 in file.side_files]]
    selection, weights = job.selection.as_data(), dict(job.weights)
    facts = [job.written.fingerprint(), selection, weights, files, cases]
    if job.adapters:
        facts.append({one.id: one.sha256 for one in job.adapters})
    if job.manifest.metrics != job.written.metrics:
        facts.append(job.manifest.metrics)  # defaults, which follow what is installed
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return key if is_first_form else f"{_MARK}{key}"


def _files_of(case: Case) -> list[str | None]:
    return [case.image_path, case.reference_path, *(path for _, path in case.condition_paths)]


def _file_state(path: str | None) -> State | None:
    """Return the state of a file; None if it does not exist."""
    return state_of(Path(path)) if path is not None and Path(path).exists() else None


def _size_and_time(path: str | None) -> list[int] | None:
    if path is None or not Path(path).exists():
        return None
    state = Path(path).stat()
    return [state.st_size, state.st_mtime_ns]


def check_identity(facts: dict[str, Any], manifest: Manifest, store: RunStore) -> None:
    """Raise `UserError` if a run directory belongs to another manifest."""
    wanted = {"manifest": manifest.name, "manifest_fingerprint": manifest.fingerprint()}
    check_same_manifest(facts, wanted, store)


def check_same_manifest(
    facts: Mapping[str, Any], wanted: Mapping[str, Any], store: RunStore
) -> None:
    """Raise `UserError` if the facts of a run directory name another manifest than those wanted."""
    if facts.get("manifest_fingerprint") != wanted.get("manifest_fingerprint"):
        found, other = (f"{f.get('manifest')!r}, {_short(f)}" for f in (facts, wanted))
        raise UserError(
            f"{shown_path(store.folder)} holds a run of another manifest ({found}; this one is "
            f"{other}): choose another --out, or delete that folder"
        )


def _short(facts: Mapping[str, Any]) -> str:
    return str(facts.get("manifest_fingerprint"))[:8]


def find_finished(store: RunStore, job: Job) -> int | None:
    """Return the number of trials of a run that has nothing left to do; None otherwise."""
    facts = store.run_facts()
    check_identity(facts, job.written, store)
    found = str(facts.get("plan_key"))
    key = plan_key(job, is_first_form=not found.startswith(_MARK))
    if key is None or facts.get("status") != "complete" or found != key:
        return None
    planned = set(store.trials()["trial_id"])
    if not planned <= store.finished_trials() or store.summary().empty:
        return None
    if not store.report_path().is_file():
        return None
    return len(planned)


def locked_manifest(plan: Plan, folder: Path) -> dict[str, Any]:
    """Return the manifest with every plugin's sha256, and nsfw as marked in its lock.

    Local paths are made relative to `folder`.
    """
    data, marked = plan.manifest.as_data(), nsfw_plugins(plan.manifest)
    for entry in data["plugins"]:
        entry["nsfw"] = entry["id"] in marked
        file = plan.plugins[entry["id"]]
        entry["sha256"] = file.sha256
        if file.reference is not None:
            entry["reference"] = _relative(file.reference, folder)
        if "samples" in entry:
            entry["samples"] = _relative(plan.manifest.folder / entry["samples"], folder)
        if ":" not in entry["source"]:
            entry["source"] = _relative(file.path, folder)
    for entry in data.get("adapters", ()):
        entry["path"] = _relative(plan.manifest.folder / entry["path"], folder)
    return _with_cases_at(data, plan.manifest.folder, folder)


def sample_hashes(manifest: Manifest) -> dict[str, str]:
    """Return plugin id -> sha256 of its sample pictures, of the plugins that name some."""
    return {
        spec.id: pictures_sha256(pictures_in(manifest.folder / spec.samples))
        for spec in manifest.plugins
        if spec.samples is not None
    }


def moved_manifest(store: RunStore, folder: Path) -> dict[str, Any]:
    """Return a run's manifest with its local paths made relative to another folder."""
    store.manifest()  # it is valid
    data: Any = read_yaml(store.manifest_path)
    for entry in data["plugins"]:
        for key in ("reference", "samples"):
            if entry.get(key) is not None:
                entry[key] = _relative(store.folder / entry[key], folder)
        if ":" not in entry["source"]:
            entry["source"] = _relative(store.folder / entry["source"], folder)
    for entry in data.get("adapters", ()):
        entry["path"] = _relative(store.folder / entry["path"], folder)
    return _with_cases_at(data, store.folder, folder)


def _with_cases_at(data: dict[str, Any], home: Path, folder: Path) -> dict[str, Any]:
    """Make the paths of the cases, which are relative to `home`, relative to `folder`."""
    cases = data["cases"]
    for key in ("path", "condition_images") if isinstance(cases, dict) else ():
        if key in cases:
            cases[key] = _relative(home / cases[key], folder)
    for case in cases if isinstance(cases, list) else ():
        for key in ("image", "reference"):
            if key in case:
                case[key] = _relative(home / case[key], folder)
        named = case.get("conditions", {})
        named.update({name: _relative(home / path, folder) for name, path in named.items()})
    return data


def _relative(path: Path, folder: Path) -> str:
    return os.path.relpath(path.resolve(), folder.resolve())

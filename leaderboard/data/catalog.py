"""Find the runs of a results folder and read their facts, manifest and gate outcome.

All files are untrusted: what cannot be read becomes a `problem` that the pages display.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from bench.errors import UserError
from bench.store import PUBLISHED, TABLES, RunStore, is_run
from bench.store.documents import read_json, read_yaml
from bench.store.run_store import GATE_FILE, MANIFEST_FILE, RUN_FILE, run_folders
from leaderboard.data.run_files import FolderFiles, ObjectStore, PublishedFiles, RunFiles

_PATTERNS = {name: TABLES[name].pattern for name in PUBLISHED}
_SINGLES = {name: name for name in (RUN_FILE, MANIFEST_FILE, GATE_FILE)}


class _File(NamedTuple):
    """Path, size and modification time of a file."""

    modified_ns: int
    path: str
    n_bytes: int


_Listing = tuple[tuple[str, tuple[_File, ...]], ...]


@dataclass(frozen=True)
class Run:
    """One run: local paths of its tables, its facts, and its problems.

    `tables` maps the names of `TABLES` to Parquet files, the newest part last; `stamp` changes
    whenever a file of the run does. A published run has a `store` with its `objects` by table;
    `leaderboard.data.published.with_tables` downloads them.
    """

    key: str
    folder: Path
    facts: Mapping[str, Any]
    tables: Mapping[str, tuple[Path, ...]]
    stamp: int
    manifest: Mapping[str, Any] = field(default_factory=dict)
    gate: Mapping[str, Any] | None = None
    problems: tuple[str, ...] = ()
    store: ObjectStore | None = None
    objects: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def files(self) -> RunFiles:
        """The pictures of the run."""
        return FolderFiles(self.folder) if self.store is None else PublishedFiles(self.store)

    @property
    def label(self) -> str:
        """The run's name with its date."""
        day = text_of(self.facts.get("created"))[:10]
        return f"{self.key} ({day})" if day else self.key

    @property
    def family(self) -> str:
        """The model family, "" if unknown."""
        return text_of(self.facts.get("family"))

    @property
    def adapter(self) -> str:
        """The first characters of the adapter's sha256, "" if unknown."""
        return text_of(self.facts.get("adapter_sha256"))[:8]


def text_of(value: Any) -> str:
    """Return a JSON value as text that can be encoded; "" for anything that is not text."""
    # JSON can contain a lone surrogate, which cannot be encoded
    return value.encode(errors="replace").decode() if isinstance(value, str) else ""


def find_runs(results: Path) -> dict[str, Run]:
    """All runs of a folder by key, the newest first; the folder may itself be a run."""
    if is_run(results):
        own = Path(os.path.abspath(results))  # "." has no name
        return {own.name: read_run(own)}
    if not results.is_dir():
        return {}
    runs = [read_run(folder) for folder in run_folders(results)]
    runs.sort(key=lambda run: text_of(run.facts.get("created")), reverse=True)
    return {run.key: run for run in runs}


def read_run(folder: Path) -> Run:
    """Read a run directory without its tables; cached until a file changes."""
    return _read(folder, _listing(folder))


@lru_cache(maxsize=256)
def _read(folder: Path, listing: _Listing) -> Run:
    problems: list[str] = []
    try:
        facts = RunStore(folder).run_facts()
    except (UserError, OSError) as error:
        facts = {}
        problems.append(str(error))
    return Run(
        key=folder.name,
        folder=folder,
        facts=facts,
        tables={n: tuple(Path(f.path) for f in files) for n, files in listing if n in _PATTERNS},
        stamp=hash((str(folder), listing)),
        manifest=_yaml(folder / MANIFEST_FILE, problems),
        gate=_json(folder / GATE_FILE, problems),
        problems=(*problems, *state_problems(facts)),
    )


def state_problems(facts: Mapping[str, Any]) -> list[str]:
    """Return warnings about incomplete or failed runs."""
    status = text_of(facts.get("status"))
    counts = facts.get("counts")
    failed = counts.get("failed") if isinstance(counts, dict) else None
    problems = []
    if facts and status != "complete":
        status = status or "unknown"
        problems.append(f"This run is not complete (status: {status}): numbers may still change.")
    if isinstance(failed, int) and failed > 0:
        problems.append(f"{failed} images of this run failed.")
    return problems


def _listing(folder: Path) -> _Listing:
    """Return the files of each table, the newest last, and the run's other files."""
    patterns = (_PATTERNS | _SINGLES).items()
    return tuple((name, _files(folder / pattern)) for name, pattern in patterns)


def _files(pattern: Path) -> tuple[_File, ...]:
    """Return the files of a folder that match the pattern of their name, the newest last."""
    found = []
    try:
        with os.scandir(pattern.parent) as entries:
            for entry in entries:
                if fnmatchcase(entry.name, pattern.name) and entry.name[0] != ".":
                    state = entry.stat()
                    found.append(_File(state.st_mtime_ns, entry.path, state.st_size))
    except OSError:  # the folder is missing or was just removed
        return ()
    return tuple(sorted(found))


def _yaml(path: Path, problems: list[str]) -> Mapping[str, Any]:
    if not path.is_file():
        return {}
    try:
        data = read_yaml(path)
    except UserError as error:
        problems.append(f"{path.name} is damaged: {error}")
        return {}
    return data if isinstance(data, dict) else {}


def _json(path: Path, problems: list[str]) -> Mapping[str, Any] | None:
    if not path.is_file():
        return None
    try:
        data = read_json(path)
    except UserError as error:
        problems.append(f"{path.name} is damaged: {error}")
        return None
    return data if isinstance(data, dict) else None

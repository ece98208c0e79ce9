"""Find the runs of a results folder and read their facts, manifest and gate outcome.

All files are untrusted: what cannot be read becomes a `problem` that the pages display, and no
run prevents another one from being listed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from bench.errors import UserError
from bench.store import PUBLISHED, TABLES, RunStore, is_run
from bench.store.documents import read_json, read_yaml
from bench.store.run_store import GATE_FILE, MANIFEST_FILE, RUN_FILE, run_folders
from bench.store.status import is_finished
from leaderboard.data.isolation import isolated
from leaderboard.data.run_files import FolderFiles, ObjectStore, PublishedFiles, RunFiles

_PATTERNS = {name: TABLES[name].pattern for name in PUBLISHED}
_SINGLES = {name: name for name in (RUN_FILE, MANIFEST_FILE, GATE_FILE)}
MAX_RUNS = 1000


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

    def with_problem(self, problem: str) -> Run:
        """Return the run with one more problem, and another stamp."""
        problems = (*self.problems, problem)
        return replace(self, problems=problems, stamp=hash((self.stamp, problems)))

    @property
    def files(self) -> RunFiles:
        """The pictures of the run."""
        return FolderFiles(self.folder) if self.store is None else PublishedFiles(self.store)

    @property
    def is_finished(self) -> bool:
        """Whether nothing of the run is left to do; other runs rank nowhere."""
        return is_finished(self.facts)

    @property
    def label(self) -> str:
        """The run's name, marked if it is unfinished."""
        return f"{self.key} (unfinished)" if self.facts and not self.is_finished else self.key

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
        return {run_key(own): read_run(own)}
    runs = [read_run(folder) for folder in listed_folders(results)[:MAX_RUNS]]
    runs.sort(key=lambda run: text_of(run.facts.get("created")), reverse=True)
    return {run.key: run for run in runs}


def listed_folders(results: Path) -> list[Path]:
    """Return the run directories of a folder; none if the folder cannot be read."""
    try:
        return run_folders(results) if results.is_dir() else []
    except OSError:
        return []


def run_key(folder: Path) -> str:
    """Return a run's name, which can be encoded also where the folder's name cannot."""
    return folder.name.encode(errors="backslashreplace").decode()


def read_run(folder: Path) -> Run:
    """Read a run directory without its tables; cached until a file changes."""
    listing = _listing(folder)
    empty = Run(
        key=run_key(folder), folder=folder, facts={}, tables={}, stamp=hash((str(folder), listing))
    )
    return isolated(lambda: _read(folder, listing), empty.with_problem, run=empty.key)


@lru_cache(maxsize=256)
def _read(folder: Path, listing: _Listing) -> Run:
    problems: list[str] = []
    facts = _facts(folder, problems)
    return Run(
        key=run_key(folder),
        folder=folder,
        facts=facts,
        tables={n: tuple(Path(f.path) for f in files) for n, files in listing if n in _PATTERNS},
        stamp=hash((str(folder), listing)),
        manifest=_yaml(folder / MANIFEST_FILE, problems),
        gate=_json(folder / GATE_FILE, problems),
        problems=(*problems, *state_problems(facts)),
    )


def _facts(folder: Path, problems: list[str]) -> Mapping[str, Any]:
    try:
        return RunStore(folder).run_facts()
    except UserError as error:
        problems.append(f"{RUN_FILE} cannot be read: {error}")
        return {}


def state_problems(facts: Mapping[str, Any]) -> list[str]:
    """Return warnings about incomplete or failed runs."""
    status = text_of(facts.get("status"))
    counts = facts.get("counts")
    failed = counts.get("failed") if isinstance(counts, dict) else None
    problems = []
    if facts and status != "complete":
        status = status or "unknown"
        rank = "" if is_finished(facts) else "it ranks nowhere and "
        problems.append(
            f"This run is not complete (status: {status}): {rank}numbers may still change."
        )
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
                    found.append(_file(entry))
    except OSError:  # the folder is missing or was just removed
        return ()
    return tuple(sorted(found))


def _file(entry: os.DirEntry[str]) -> _File:
    try:
        state = entry.stat()
    except OSError:  # removed, or a link that leads nowhere: named when it is opened
        return _File(0, entry.path, 0)
    return _File(state.st_mtime_ns, entry.path, state.st_size)


def _yaml(path: Path, problems: list[str]) -> Mapping[str, Any]:
    return _mapping(path, read_yaml, problems) or {}


def _json(path: Path, problems: list[str]) -> Mapping[str, Any] | None:
    return _mapping(path, read_json, problems)


def _mapping(
    path: Path, read: Callable[[Path], Any], problems: list[str]
) -> Mapping[str, Any] | None:
    if not os.path.lexists(path):
        return None
    try:
        data = read(path)
    except UserError as error:
        problems.append(f"{path.name} is damaged: {error}")
        return None
    if isinstance(data, dict):
        return data
    if data is not None:
        problems.append(f"{path.name} is damaged: it is not a mapping")
    return None

"""The run directory: plan, results, images, scores, tables. Written atomically, resumable.

This module alone knows where the files of a run are. Reading needs no lock; writers hold one.
Hashes of all files are recorded (bench/store/checksums.py); bench/store/verify.py compares them.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from threading import Lock
from typing import Any, Literal

import pandas as pd
import pyarrow as pa
import yaml

from bench.errors import UserError, shown_path
from bench.store.checksums import (
    CHECKSUMS_FORMAT,
    Checksums,
    read_checksums,
    write_checksums,
)
from bench.store.documents import case_of
from bench.store.files import (
    empty_table,
    json_bytes,
    link_picture,
    read_table,
    sha256_of,
    table_bytes,
    write_bytes,
)
from bench.store.lock import acquire, is_locked
from bench.store.rows import records
from bench.store.schema import RUN_FORMAT, TABLES
from plugins_manifest.cases import Case
from plugins_manifest.documents import MAX_BYTES, read_json
from plugins_manifest.files import file_sha256, sweep_temporary
from plugins_manifest.schema import Manifest, load_manifest
from plugins_manifest.schema.words import Side

RUN_FILE, MANIFEST_FILE, GATE_FILE = "run.json", "manifest.yaml", "gate.json"
_MOST_CASES_BYTES = 256 << 20
_CASES_FILE, _CONDITION_INDEX, _SHARDS = "cases.json", "index.json", "shards"
_WITH_COPY = {RUN_FILE, MANIFEST_FILE}
_IMAGES, _CONDITIONS, _TABLES, _PLOTS = "images", "conditions", "tables", "plots"
_LOG = logging.getLogger(__name__)


class RunStore:
    """One run directory. All paths in its tables are relative to it."""

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self._home: tuple[int, int] | None = None  # of the locked directory
        self._image_hashes: dict[str, str] | None = None
        self._writing = Lock()

    @classmethod
    def open(cls, folder: Path | str) -> RunStore:
        """Open an existing run; raise `UserError` if there is none."""
        store = cls(folder)
        if not store.folder.is_dir():
            raise UserError(f"there is no run directory {shown_path(store.folder)}: check the path")
        store.run_facts()
        return store

    # --- the directory

    def exists(self) -> bool:
        """Return whether a run was started here; raise `UserError` if other files are here."""
        if not self.folder.exists():
            return False
        if is_run(self.folder):
            return True
        if not self.folder.is_dir():
            raise UserError(f"{shown_path(self.folder)} is a file: choose another --out")
        others = [p.name for p in self.folder.iterdir() if p.name[0] != "." and p.name != _SHARDS]
        if others:
            raise UserError(
                f"{shown_path(self.folder)} is not a run directory: it has no {RUN_FILE} but "
                f"contains {sorted(others)[0]!r}; choose another --out or an empty folder"
            )
        return False

    @contextmanager
    def lock(self, *, fix: str = "choose another --out") -> Iterator[None]:
        """Lock the directory for writing; raise `LockedError` if another run has locked it.

        The lock ends with its process, so a killed run does not leave one behind. `fix` is what
        the message proposes besides waiting.
        """
        lock = acquire(self.folder, fix=fix)
        try:
            _LOG.info("writing into %s", shown_path(self.folder))
            sweep_temporary(self.folder)
            self._home = _identity(self.folder)
            yield
        finally:
            self._home = self._image_hashes = None
            lock.release()

    def is_locked(self) -> bool | None:
        """Return whether a process is writing into the directory; None where that is unknown."""
        return is_locked(self.folder)

    # --- writing

    def remove_file(self, path: Path) -> None:
        """Delete a file of the run, if it exists, and its checksum."""
        path.unlink(missing_ok=True)
        with self._changed_checksums() as sums:
            sums.forget(path.relative_to(self.folder).as_posix())

    def write_file(self, path: Path, content: bytes) -> None:
        """Write a file of the run and record its hash; see `write_bytes` for errors."""
        name = path.relative_to(self.folder).as_posix()
        with self._changed_checksums() as sums:
            sums.expect(name, content, with_copy=name in _WITH_COPY)
        self._write(path, content)

    def checksums(self) -> Checksums:
        """Return the recorded hashes; raise `UserError` if they are damaged."""
        return read_checksums(self.folder)

    def record_files(self, *, skip: Collection[str] = ()) -> None:
        """Record the hashes of files that are not recorded yet: those of earlier versions."""
        tables = [path for name in TABLES for path in self.table_paths(name)]
        texts = [self.folder / RUN_FILE, self.manifest_path, self.cases_path]
        more = [*self.conditions_dir.rglob("*"), *self.tables_dir.rglob("*")]
        names = {p.relative_to(self.folder).as_posix(): p for p in (*tables, *texts, *more)}
        with self._changed_checksums() as sums:
            for name in sorted(names.keys() - sums.files.keys() - {*skip}):
                if (path := names[name]).is_file():
                    sums.expect(name, path.read_bytes(), with_copy=name in _WITH_COPY)
            sums.before = {}

    def stale_scores(self) -> list[str]:
        """Return the metrics whose scored images have changed since."""
        return [Path(name).stem for name in self.checksums().stale]

    @contextmanager
    def _changed_checksums(self) -> Iterator[Checksums]:
        with self._writing:
            below = self._require_folder()
            sums = self.checksums()
            yield sums
            write_checksums(self.folder, sums, below=below)

    def _write(self, path: Path, content: bytes) -> None:
        write_bytes(path, content, below=self._require_folder())

    def _require_folder(self) -> Path | None:
        """Return the locked directory; raise `UserError` if it is not in its place any more."""
        if self._home is None:
            return None
        if _identity(self.folder) != self._home:
            raise UserError(
                f"{shown_path(self.folder)} was renamed or deleted while it was written: nothing "
                "was written elsewhere; run the same command again with --out naming its new place"
            )
        return self.folder

    # --- facts and plan

    @property
    def run_path(self) -> Path:
        """The facts of the run: run.json."""
        return self.folder / RUN_FILE

    def run_facts(self) -> dict[str, Any]:
        """Return the content of run.json; raise `UserError` if it is missing or damaged."""
        path = self.run_path
        if not path.exists():
            raise UserError(
                f"{shown_path(self.folder)} is not a run directory: it has no {RUN_FILE}"
            )
        facts = self._read_json(path)
        if facts.get("format") != RUN_FORMAT:
            raise UserError(
                f"{shown_path(path)} has format {facts.get('format')!r}, this version reads "
                f"{RUN_FORMAT}: use the version that wrote it"
            )
        return facts

    def write_run_facts(self, facts: Mapping[str, Any]) -> None:
        """Replace run.json."""
        data = {"format": RUN_FORMAT, **facts, "checksums": CHECKSUMS_FORMAT}
        self.write_file(self.run_path, json_bytes(data))

    @property
    def manifest_path(self) -> Path:
        """The resolved manifest: a manifest of its own."""
        return self.folder / MANIFEST_FILE

    def manifest(self) -> Manifest:
        """Read the resolved manifest of this run."""
        return load_manifest(self.manifest_path)

    def write_manifest(self, data: Mapping[str, Any]) -> None:
        """Write the resolved manifest."""
        text = yaml.safe_dump(dict(data), sort_keys=False, allow_unicode=True)
        self.write_file(self.manifest_path, text.encode())

    @property
    def cases_path(self) -> Path:
        """The cases, with the paths of source pictures on this machine."""
        return self.folder / _CASES_FILE

    def cases(self) -> dict[str, Case]:
        """Return every case of the run by its id."""
        path = self.cases_path
        rows: Any = self._read_json(path, most_bytes=_MOST_CASES_BYTES).get("cases")
        try:
            return {row["case_id"]: case_of(row) for row in rows}
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise self._damaged(path, "its rows are not cases") from error

    def _read_json(self, path: Path, *, most_bytes: int = MAX_BYTES) -> dict[str, Any]:
        try:
            data = read_json(path, most_bytes=most_bytes)
        except UserError as error:
            raise self._damaged(path, str(error)) from error
        if not isinstance(data, dict):
            raise self._damaged(path, "it is not a mapping")
        return data

    def _damaged(self, path: Path, reason: str) -> UserError:
        return UserError(
            f"{shown_path(path)} is damaged ({reason}): xbench repair {shown_path(self.folder)}, "
            "or delete this run directory and run the same command again; finished images are "
            "read from the cache"
        )

    def write_cases(self, cases: Iterable[Case]) -> None:
        """Write cases.json, with the paths of source pictures on this machine."""
        content = json_bytes({"cases": [asdict(case) for case in cases]})
        self.write_file(self.cases_path, content)

    # --- tables: any of `TABLES` by name

    def table_path(self, name: str, part: str = "") -> Path:
        """Return the file of a table, or of a part of a table that consists of several files."""
        return self.folder / TABLES[name].pattern.replace("*", part)

    def table_paths(self, name: str) -> list[Path]:
        """Return the existing files of a table in a fixed order."""
        found = self.folder.glob(TABLES[name].pattern)
        return sorted(path for path in found if not path.name.startswith("."))

    def read_parts(self, name: str) -> list[pd.DataFrame]:
        """Return the content of each file of a table, without files that have no rows."""
        columns = TABLES[name].columns
        frames = [self._read(path, columns) for path in self.table_paths(name)]
        return [frame for frame in frames if not frame.empty]

    def read_table(self, name: str) -> pd.DataFrame:
        """Return all rows of a table; a table without files has no rows."""
        frames = self.read_parts(name)
        return _joined(frames) if frames else empty_table(TABLES[name].columns)

    def write_table(self, name: str, frame: pd.DataFrame, part: str = "") -> None:
        """Replace a table, or a part of it; columns that the frame lacks are null."""
        content = table_bytes(frame, TABLES[name].columns)
        self.write_file(self.table_path(name, part), content)

    def read_part(self, name: str, part: str) -> pd.DataFrame:
        """Return one file of a table; without rows if it does not exist."""
        path, columns = self.table_path(name, part), TABLES[name].columns
        return self._read(path, columns) if path.exists() else empty_table(columns)

    def _read(self, path: Path, columns: pa.Schema) -> pd.DataFrame:
        try:
            return read_table(path, columns)
        except UserError as error:
            raise UserError(f"{error}: xbench repair {shown_path(self.folder)}") from error

    def trials(self) -> pd.DataFrame:
        """Return the plan, one row a trial: `schema.TRIALS`."""
        return self.read_table("trials")

    def write_trials(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Replace the plan."""
        self.write_table("trials", pd.DataFrame(list(rows)))

    def results(self) -> pd.DataFrame:
        """Return all results, the newest of each trial: `schema.RESULTS`."""
        columns = TABLES["results"].columns
        frames = [frame for p in self.result_paths() if not (frame := self._read(p, columns)).empty]
        if not frames:
            return empty_table(columns)
        rows = _joined(frames)
        doubled: Any = rows[rows["trial_id"].duplicated(keep=False)]
        pairs = zip(doubled.index, records(doubled), strict=True)
        true = [i for i, row in pairs if self.has_image(row)]
        ordered = pd.concat([rows.drop(index=true), rows.loc[true]])
        newest = ordered.drop_duplicates("trial_id", keep="last")
        return newest.sort_values("trial_id", ignore_index=True)

    def result_paths(self) -> list[Path]:
        """Return the files of the results, the oldest first."""
        order = {name: place for place, name in enumerate(self.checksums().files)}
        return sorted(self.table_paths("results"), key=lambda path: self._age(path, order))

    def _age(self, path: Path, order: Mapping[str, int]) -> tuple[int, int, str]:
        """Sort key, oldest first: the order of writing, which does not depend on a clock.

        Only files of earlier versions, which are not listed, are sorted by their times.
        """
        place = order.get(path.relative_to(self.folder).as_posix(), -1)
        return place, path.stat().st_mtime_ns if place < 0 else 0, path.name

    def has_image(self, row: Mapping[str, Any]) -> bool:
        """Return whether an image fits a row of results: of several rows of a trial, it counts."""
        if row["status"] != "ok" or not row["image"]:
            return False
        path = self.folder / row["image"]
        return path.is_file() and file_sha256(path) == row["image_sha256"]

    def write_results(self, part: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write the results of one batch as results/<part>.parquet; its other rows are kept."""
        frame = pd.DataFrame(list(rows))
        if not (old := self.read_part("results", part)).empty:
            frame = _joined([old, frame]).drop_duplicates("trial_id", keep="last")
        if self._changes_images(rows):
            scored = [
                path.relative_to(self.folder).as_posix() for path in self.table_paths("scores")
            ]
            with self._changed_checksums() as sums:
                sums.mark_stale(scored)
        self.write_table("results", frame, part)

    def _changes_images(self, rows: Sequence[Mapping[str, Any]]) -> bool:
        """Return whether a trial's image differs from the one before, and there are scores."""
        if not self.table_paths("scores"):
            return False
        if self._image_hashes is None:
            known = self.results()
            known = known[known["status"] == "ok"]
            self._image_hashes = dict(zip(known["trial_id"], known["image_sha256"], strict=True))
        new = {row["trial_id"]: row.get("image_sha256") for row in rows}
        changed = any(self._image_hashes.get(trial, sha) != sha for trial, sha in new.items())
        self._image_hashes |= {trial: sha for trial, sha in new.items() if sha}
        return changed

    def scores(self) -> pd.DataFrame:
        """Return all scores: `schema.SCORES`."""
        return self.read_table("scores")

    def scores_of(self, metric: str) -> pd.DataFrame:
        """Return a metric's scores: `schema.SCORES`, without rows if it has not been scored."""
        return self.read_part("scores", metric)

    def write_scores(self, metric: str, frame: pd.DataFrame) -> None:
        """Replace a metric's scores by rows of `schema.SCORES`; delete the file if there are none.

        One file a metric: scores/<metric>.parquet.
        """
        if frame.empty:
            self.remove_file(self.table_path("scores", metric))
        else:
            self.write_table("scores", frame, metric)

    def summary(self) -> pd.DataFrame:
        """Return the published table: `schema.SUMMARY`."""
        return self.read_table("summary")

    def compatibility(self) -> pd.DataFrame:
        """Return verdict, retention and quality of every plugin: `schema.COMPATIBILITY`."""
        return self.read_table("compatibility")

    # --- images and reports

    @property
    def shards_dir(self) -> Path:
        """The folder of shards: parts of the run, each a run directory of its own."""
        return self.folder / _SHARDS

    def image_path(self, trial_id: str) -> Path:
        """Return the path of a trial's image, whether it exists or not."""
        return self.folder / image_name(trial_id)

    def finished_trials(self) -> set[str]:
        """Return ids of the trials whose image exists; failed ones are not among them."""
        results = self.results()
        done = results.loc[results["status"] == "ok", "trial_id"]
        return set(done) & self.image_ids()

    def image_ids(self) -> set[str]:
        """Return the ids of the trials whose image file exists."""
        return {path.stem for path in (self.folder / _IMAGES).glob("*/*.png")}

    def write_image_file(self, trial_id: str, png: bytes) -> tuple[str, str]:
        """Store a finished PNG file; return its relative path and sha256."""
        self._write(self.image_path(trial_id), png)
        return image_name(trial_id), sha256_of(png)

    def adopt_file(self, path: Path, *, name: str) -> None:
        """Take a picture of another run over: as a link on the same disk, else as a copy."""
        link_picture(path, self.folder / name, below=self._require_folder())

    @property
    def conditions_dir(self) -> Path:
        """The folder of condition images."""
        return self.folder / _CONDITIONS

    def condition_path(self, case_id: str, detector: str) -> Path:
        """Return the path of a case's condition image, whether it exists or not."""
        return self.folder / condition_name(case_id, detector)

    @property
    def condition_index_path(self) -> Path:
        """The hashes of the condition images."""
        return self.conditions_dir / _CONDITION_INDEX

    def condition_hashes(self) -> dict[str, str]:
        """Return path -> sha256 of the pixels of the condition images; empty if not recorded."""
        try:
            data = read_json(self.condition_index_path, most_bytes=_MOST_CASES_BYTES)
        except UserError:
            return {}  # the index is only a shortcut: it is rebuilt
        is_index = isinstance(data, dict) and all(isinstance(v, str) for v in data.values())
        return data if is_index else {}

    def write_condition_hashes(self, hashes: Mapping[str, str]) -> None:
        """Record the hashes of the condition images, if they have changed."""
        old = self.condition_hashes()
        if not hashes or hashes == old:
            return
        changed = sorted(name for name, sha256 in hashes.items() if old.get(name) != sha256)
        with self._changed_checksums() as sums:
            for name in changed:
                if (path := self.folder / name).is_file():
                    sums.expect(name, path.read_bytes())
        self.write_file(self.condition_index_path, json_bytes(dict(sorted(hashes.items()))))

    @property
    def tables_dir(self) -> Path:
        """The folder of the summary, the compatibility table, the report and its plots."""
        return self.folder / _TABLES

    @property
    def plots_dir(self) -> Path:
        """The folder of the report's plots."""
        return self.tables_dir / _PLOTS

    def report_path(self, ending: Literal["html", "md"] = "html") -> Path:
        """Return the path of the report, whether it exists or not."""
        return self.tables_dir / f"report.{ending}"

    @property
    def gate_path(self) -> Path:
        """The outcome of the last gate that had this run as candidate."""
        return self.folder / GATE_FILE


def is_run(folder: Path) -> bool:
    """Return whether a folder is a run directory."""
    return (folder / RUN_FILE).is_file()


def run_folders(folder: Path) -> list[Path]:
    """Return the run directories directly below a folder."""
    return sorted(path.parent for path in folder.glob(f"*/{RUN_FILE}"))


def condition_name(case_id: str, detector: str, *, side: Side = "base") -> str:
    """Return the path of a condition image, relative to the run directory."""
    kind = detector if side == "base" else f"{detector}-{side}"
    return f"{_CONDITIONS}/{kind}/{case_id}.png"


def image_name(trial_id: str) -> str:
    """Return the path of a trial's image, relative to the run directory."""
    return f"{_IMAGES}/{trial_id[:2]}/{trial_id}.png"


def _joined(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    return pd.concat(frames, ignore_index=True)


def _identity(folder: Path) -> tuple[int, int] | None:
    """Return what identifies a directory whatever its name; None if it does not exist."""
    try:
        state = folder.stat()
    except OSError:
        return None
    return state.st_dev, state.st_ino

"""The run directory: plan, results, images, scores, tables. Written atomically, resumable.

This module alone knows where the files of a run are. Reading needs no lock. Writers hold one, so
that two runs cannot write into one directory at the same time.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import yaml
from filelock import FileLock, Timeout

from bench.errors import UserError, disk_error, shown_path
from bench.store.files import (
    empty_table,
    read_table,
    sha256_of,
    write_bytes,
    write_json,
    write_table,
)
from bench.store.schema import RUN_FORMAT, TABLES
from plugins_manifest.cases import Case
from plugins_manifest.documents import MAX_BYTES, read_json
from plugins_manifest.files import TEMPORARY_PREFIX, is_temporary
from plugins_manifest.schema import Manifest, load_manifest
from plugins_manifest.schema.words import Side

RUN_FILE, MANIFEST_FILE, GATE_FILE = "run.json", "manifest.yaml", "gate.json"
_MOST_CASES_BYTES = 256 << 20
_CASES_FILE, _LOCK_FILE = "cases.json", ".lock"
_IMAGES, _CONDITIONS, _TABLES, _PLOTS = "images", "conditions", "tables", "plots"
_LOG = logging.getLogger(__name__)


class RunStore:
    """One run directory. All paths in its tables are relative to it."""

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)

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
        others = [p.name for p in self.folder.iterdir() if not p.name.startswith(".")]
        if others:
            raise UserError(
                f"{shown_path(self.folder)} is not a run directory: it has no {RUN_FILE} but "
                f"contains {sorted(others)[0]!r}; choose another --out or an empty folder"
            )
        return False

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Lock the directory for writing; raise `UserError` if another run has locked it.

        The lock ends with its process, so a killed run does not leave one behind.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.folder / _LOCK_FILE, timeout=0)
            lock.acquire()
        except Timeout as error:
            raise UserError(
                f"another run is writing into {shown_path(self.folder)}: wait for it, stop it, or "
                "choose another --out"
            ) from error
        except OSError as error:
            raise disk_error(error, self.folder) from error
        try:
            _LOG.info("writing into %s", shown_path(self.folder))
            self._sweep()
            yield
        finally:
            lock.release()

    def _sweep(self) -> None:
        """Remove temporary files of a killed run, and nothing else."""
        for path in self.folder.rglob(f"{TEMPORARY_PREFIX}*"):
            if is_temporary(path):
                path.unlink(missing_ok=True)

    # --- facts and plan

    def run_facts(self) -> dict[str, Any]:
        """Return the content of run.json; raise `UserError` if it is missing or damaged."""
        path = self.folder / RUN_FILE
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
        write_json(self.folder / RUN_FILE, {"format": RUN_FORMAT, **facts})

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
        write_bytes(self.manifest_path, text.encode())

    def cases(self) -> dict[str, Case]:
        """Return every case of the run by its id."""
        path = self.folder / _CASES_FILE
        rows: Any = self._read_json(path, most_bytes=_MOST_CASES_BYTES).get("cases")
        try:
            return {row["case_id"]: _case(row) for row in rows}
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
            f"{shown_path(path)} is damaged ({reason}): delete this run directory and run the "
            "same command again; finished images are read from the cache"
        )

    def write_cases(self, cases: Iterable[Case]) -> None:
        """Write cases.json, with the paths of source pictures on this machine."""
        write_json(self.folder / _CASES_FILE, {"cases": [asdict(case) for case in cases]})

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
        frames = [read_table(path, columns) for path in self.table_paths(name)]
        return [frame for frame in frames if not frame.empty]

    def read_table(self, name: str) -> pd.DataFrame:
        """Return all rows of a table; a table without files has no rows."""
        frames = self.read_parts(name)
        return _joined(frames) if frames else empty_table(TABLES[name].columns)

    def write_table(self, name: str, frame: pd.DataFrame, part: str = "") -> None:
        """Replace a table, or a part of it; columns that the frame lacks are null."""
        write_table(self.table_path(name, part), frame, TABLES[name].columns)

    def trials(self) -> pd.DataFrame:
        """Return the plan, one row a trial: `schema.TRIALS`."""
        return self.read_table("trials")

    def write_trials(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Replace the plan."""
        self.write_table("trials", pd.DataFrame(list(rows)))

    def results(self) -> pd.DataFrame:
        """Return all results, the newest of each trial: `schema.RESULTS`."""
        columns = TABLES["results"].columns
        paths = sorted(self.table_paths("results"), key=_written)
        frames = [frame for p in paths if not (frame := read_table(p, columns)).empty]
        if not frames:
            return empty_table(columns)
        newest = _joined(frames).drop_duplicates("trial_id", keep="last")
        return newest.sort_values("trial_id", ignore_index=True)

    def write_results(self, part: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write the results of one batch as results/<part>.parquet; its other rows are kept."""
        path = self.table_path("results", part)
        frame = pd.DataFrame(list(rows))
        if path.exists():
            both = _joined([read_table(path, TABLES["results"].columns), frame])
            frame = both.drop_duplicates("trial_id", keep="last")
        self.write_table("results", frame, part)

    def scores(self) -> pd.DataFrame:
        """Return all scores: `schema.SCORES`."""
        return self.read_table("scores")

    def scores_of(self, metric: str) -> pd.DataFrame:
        """Return a metric's scores: `schema.SCORES`, without rows if it has not been scored."""
        path, columns = self.table_path("scores", metric), TABLES["scores"].columns
        return read_table(path, columns) if path.exists() else empty_table(columns)

    def write_scores(self, metric: str, frame: pd.DataFrame) -> None:
        """Replace a metric's scores by rows of `schema.SCORES`; delete the file if there are none.

        One file a metric: scores/<metric>.parquet.
        """
        if frame.empty:
            self.table_path("scores", metric).unlink(missing_ok=True)
        else:
            self.write_table("scores", frame, metric)

    def summary(self) -> pd.DataFrame:
        """Return the published table: `schema.SUMMARY`."""
        return self.read_table("summary")

    def compatibility(self) -> pd.DataFrame:
        """Return retention, quality gain and score of every plugin: `schema.COMPATIBILITY`."""
        return self.read_table("compatibility")

    # --- images and reports

    def image_path(self, trial_id: str) -> Path:
        """Return the path of a trial's image, whether it exists or not."""
        return self.folder / _image_name(trial_id)

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
        write_bytes(self.image_path(trial_id), png)
        return _image_name(trial_id), sha256_of(png)

    @property
    def conditions_dir(self) -> Path:
        """The folder of condition images."""
        return self.folder / _CONDITIONS

    def condition_path(self, case_id: str, detector: str) -> Path:
        """Return the path of a case's condition image, whether it exists or not."""
        return self.folder / condition_name(case_id, detector)

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


def _case(row: Mapping[str, Any]) -> Case:
    pairs = tuple((name, path) for name, path in row.get("condition_paths", ()))
    scene = tuple(row["scene"]) if row["scene"] else None
    return Case(**{**row, "scene": scene, "condition_paths": pairs})


def _image_name(trial_id: str) -> str:
    return f"{_IMAGES}/{trial_id[:2]}/{trial_id}.png"


def _joined(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    return pd.concat(frames, ignore_index=True)


def _written(path: Path) -> tuple[int, str]:
    return path.stat().st_mtime_ns, path.name

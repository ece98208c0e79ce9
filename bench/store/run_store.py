"""The run directory: plan, results, images, scores, tables. Written atomically, resumable.

Reading needs no lock. Writers hold one, so that two runs into one directory cannot mix.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from filelock import FileLock, Timeout

from bench.errors import UserError, disk_error, shown_path
from bench.store import schema
from bench.store.files import (
    TEMPORARY,
    empty_table,
    read_table,
    sha256_of,
    write_bytes,
    write_json,
    write_table,
)
from plugins_manifest.cases.cases import Case
from plugins_manifest.schema.load import load_manifest
from plugins_manifest.schema.manifest import Manifest
from plugins_manifest.schema.words import Side

_RUN_FILE, _LOCK_FILE = "run.json", ".lock"


class RunStore:
    """One run directory; see DESIGN's list of files. All paths in tables are relative to it."""

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)

    @classmethod
    def open(cls, folder: Path | str) -> RunStore:
        """A run that exists; `UserError` otherwise."""
        store = cls(folder)
        if not store.folder.is_dir():
            raise UserError(f"there is no run directory {shown_path(store.folder)}: check the path")
        store.run_facts()
        return store

    # --- the directory

    def exists(self) -> bool:
        """Whether a run was started here; `UserError` where other files are in the way."""
        if not self.folder.exists():
            return False
        if (self.folder / _RUN_FILE).is_file():
            return True
        if not self.folder.is_dir():
            raise UserError(f"{shown_path(self.folder)} is a file: choose another --out")
        strangers = [p.name for p in self.folder.iterdir() if not p.name.startswith(".")]
        if strangers:
            raise UserError(
                f"{shown_path(self.folder)} is no run directory: it has no {_RUN_FILE} but holds "
                f"{sorted(strangers)[0]!r}; choose another --out or an empty folder"
            )
        return False

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the directory for writing; `UserError` if another run holds it.

        The lock dies with its process, so a killed run leaves none behind.
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
            self._sweep()
            yield
        finally:
            lock.release()

    def _sweep(self) -> None:
        """Remove temporary files that a killed run left."""
        for path in self.folder.rglob(f"{TEMPORARY}*"):
            path.unlink(missing_ok=True)

    # --- facts and plan

    def run_facts(self) -> dict[str, Any]:
        """The content of run.json; `UserError` if it is missing or damaged."""
        path = self.folder / _RUN_FILE
        try:
            facts = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise UserError(
                f"{shown_path(self.folder)} is no run directory: it has no {_RUN_FILE}"
            ) from error
        except ValueError as error:
            raise UserError(
                f"{shown_path(path)} is damaged ({error}): delete this run directory and run the "
                "same command again; finished images come back from the cache"
            ) from error
        if facts.get("format") != schema.RUN_FORMAT:
            raise UserError(
                f"{shown_path(path)} has format {facts.get('format')!r}, this version reads "
                f"{schema.RUN_FORMAT}: use the version that wrote it"
            )
        return facts

    def write_run_facts(self, facts: Mapping[str, Any]) -> None:
        """Replace run.json."""
        write_json(self.folder / _RUN_FILE, {"format": schema.RUN_FORMAT, **facts})

    def manifest(self) -> Manifest:
        """The resolved manifest of this run."""
        return load_manifest(self.folder / "manifest.yaml")

    def write_manifest(self, data: Mapping[str, Any]) -> None:
        """Write the resolved manifest."""
        text = yaml.safe_dump(dict(data), sort_keys=False, allow_unicode=True)
        write_bytes(self.folder / "manifest.yaml", text.encode())

    def cases(self) -> dict[str, Case]:
        """Every case of the run by its id."""
        rows = json.loads((self.folder / "cases.json").read_text(encoding="utf-8"))["cases"]
        return {row["case_id"]: _case(row) for row in rows}

    def write_cases(self, cases: Iterable[Case]) -> None:
        """Write cases.json; where a source picture lies on this machine is left out of no case."""
        write_json(self.folder / "cases.json", {"cases": [asdict(case) for case in cases]})

    def trials(self) -> pd.DataFrame:
        """The plan, one row a trial: `schema.TRIALS`."""
        path = self.folder / "trials.parquet"
        return read_table(path, schema.TRIALS) if path.exists() else empty_table(schema.TRIALS)

    def write_trials(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Replace the plan."""
        write_table(self.folder / "trials.parquet", pd.DataFrame(list(rows)), schema.TRIALS)

    # --- results and images

    def results(self) -> pd.DataFrame:
        """All results, one row a trial: `schema.RESULTS`; the newest part of a trial wins."""
        parts = sorted((self.folder / "results").glob("*.parquet"), key=_written)
        frames = [frame for p in parts if not (frame := read_table(p, schema.RESULTS)).empty]
        if not frames:
            return empty_table(schema.RESULTS)
        merged = pd.concat(frames, ignore_index=True)
        merged = merged.drop_duplicates("trial_id", keep="last")
        return merged.sort_values("trial_id", ignore_index=True)

    def write_results(self, part: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write the results of one batch as results/<part>.parquet, whole or not at all."""
        path = self.folder / "results" / f"{part}.parquet"
        frame = pd.DataFrame(list(rows))
        if path.exists():
            both = pd.concat([read_table(path, schema.RESULTS), frame], ignore_index=True)
            frame = both.drop_duplicates("trial_id", keep="last")
        write_table(path, frame, schema.RESULTS)

    def finished_trials(self) -> set[str]:
        """Return ids of the trials whose image exists; failed ones are not among them."""
        results = self.results()
        done = results.loc[results["status"] == "ok", "trial_id"]
        return set(done) & {path.stem for path in (self.folder / "images").glob("*/*.png")}

    def image_path(self, trial_id: str) -> Path:
        """Where the image of a trial lies (or would lie)."""
        return self.folder / _image_name(trial_id)

    def write_image_file(self, trial_id: str, png: bytes) -> tuple[str, str]:
        """Store a finished PNG file; returns its relative path and sha256."""
        write_bytes(self.image_path(trial_id), png)
        return _image_name(trial_id), sha256_of(png)

    def condition_path(self, case_id: str, detector: str) -> Path:
        """Where the condition image of a case lies (or would lie)."""
        return self.folder / condition_name(case_id, detector)

    # --- scores and tables

    def write_scores(self, metric: str, frame: pd.DataFrame) -> None:
        """Replace a metric's scores by rows of `schema.SCORES`; delete the file if there are none.

        One file a metric: scores/<metric>.parquet.
        """
        path = self._scores_path(metric)
        if frame.empty:
            path.unlink(missing_ok=True)
        else:
            write_table(path, frame, schema.SCORES)

    def scores_of(self, metric: str) -> pd.DataFrame:
        """Return a metric's scores: `schema.SCORES`, without rows if it has not been scored."""
        path = self._scores_path(metric)
        return read_table(path, schema.SCORES) if path.exists() else empty_table(schema.SCORES)

    def score_tables(self) -> list[pd.DataFrame]:
        """Return the scores of each metric that has any: `schema.SCORES`, in a fixed order."""
        paths = sorted((self.folder / "scores").glob("*.parquet"))
        return [frame for p in paths if not (frame := read_table(p, schema.SCORES)).empty]

    def scores(self) -> pd.DataFrame:
        """All scores: `schema.SCORES`."""
        frames = self.score_tables()
        return pd.concat(frames, ignore_index=True) if frames else empty_table(schema.SCORES)

    def _scores_path(self, metric: str) -> Path:
        return self.folder / "scores" / f"{metric}.parquet"

    @property
    def tables_dir(self) -> Path:
        """The folder of summary.parquet, compatibility.parquet, the report and its plots."""
        return self.folder / "tables"

    def write_summary(self, frame: pd.DataFrame) -> None:
        """Replace tables/summary.parquet with rows of `schema.SUMMARY`."""
        write_table(self.tables_dir / "summary.parquet", frame, schema.SUMMARY)

    def summary(self) -> pd.DataFrame:
        """The published table: `schema.SUMMARY`."""
        path = self.tables_dir / "summary.parquet"
        return read_table(path, schema.SUMMARY) if path.exists() else empty_table(schema.SUMMARY)

    def write_compatibility(self, frame: pd.DataFrame) -> None:
        """Replace tables/compatibility.parquet with rows of `schema.COMPATIBILITY`."""
        write_table(self.tables_dir / "compatibility.parquet", frame, schema.COMPATIBILITY)

    def compatibility(self) -> pd.DataFrame:
        """Retention, quality gain and score of every plugin: `schema.COMPATIBILITY`."""
        path, columns = self.tables_dir / "compatibility.parquet", schema.COMPATIBILITY
        return read_table(path, columns) if path.exists() else empty_table(columns)


def condition_name(case_id: str, detector: str, *, side: Side = "base") -> str:
    """Path of a condition image, relative to the run directory."""
    kind = detector if side == "base" else f"{detector}-{side}"
    return f"conditions/{kind}/{case_id}.png"


def _case(row: Mapping[str, Any]) -> Case:
    pairs = tuple((name, path) for name, path in row.get("condition_paths", ()))
    scene = tuple(row["scene"]) if row["scene"] else None
    return Case(**{**row, "scene": scene, "condition_paths": pairs})


def _image_name(trial_id: str) -> str:
    return f"images/{trial_id[:2]}/{trial_id}.png"


def _written(path: Path) -> tuple[int, str]:
    return path.stat().st_mtime_ns, path.name

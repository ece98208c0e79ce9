"""Find what is damaged in a run directory: files against hashes, and rows against each other."""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import pandas as pd

from bench.errors import UserError, shown_path
from bench.store.checksums import CHECKSUMS_FILE, Checksums
from bench.store.files import pixels_sha256, read_image, table_frame
from bench.store.parquet import read_bytes
from bench.store.rows import Row, records
from bench.store.run_store import RUN_FILE, RunStore
from bench.store.schema import TABLES
from bench.store.status import is_finished
from plugins_manifest.files import file_sha256
from plugins_manifest.progress import Progress
from plugins_manifest.text import first_line

Part = Literal[
    "run", "plan", "results", "images", "conditions", "scores", "audit", "tables", "gate"
]
PARTS: tuple[Part, ...] = get_args(Part)
# what scoring reads; reports and gates read the scores too and write the tables anew
TO_SCORE: tuple[Part, ...] = ("run", "plan", "results", "images", "conditions")
TO_REPORT: tuple[Part, ...] = (*TO_SCORE, "scores", "audit")
_FOLDERS: dict[str, Part] = {
    "results": "results",
    "images": "images",
    "conditions": "conditions",
    "scores": "scores",
    "tables": "tables",
    "audit.parquet": "audit",
    "gate.json": "gate",
    RUN_FILE: "run",
    CHECKSUMS_FILE: "run",
}
_STATUSES = ("ok", "failed", "skipped")
_SETTINGS = ("method", "t0", "plugin_scale", "adapter_scale", "adapter", "case_id", "seed")
_N_NAMED = 10


@dataclass(frozen=True)
class Damage:
    """A damaged file of a run, relative to its directory; `trial_id` is that of an image.

    `is_missing` includes scores that are out of date: a run that goes on makes both anew.
    """

    file: str
    problem: str
    is_missing: bool = False
    trial_id: str | None = None

    @property
    def part(self) -> Part:
        """The part of the run that the file belongs to."""
        return _FOLDERS.get(self.file.split("/")[0], "plan")

    def __str__(self) -> str:
        return f"{self.file}: {self.problem}"


def require_sound(
    store: RunStore, parts: Collection[Part] = PARTS, *, may_miss: Collection[Part] = ()
) -> None:
    """Raise one `UserError` that lists what is damaged in some parts of a run, with the command.

    Files of the parts `may_miss` are made anew, so they may be missing.
    """
    with Progress(f"verifying the files of {shown_path(store.folder)}"):
        found = [
            damage
            for damage in find_damage(store, parts)
            if not (damage.is_missing and damage.part in may_miss)
        ]
    if found:
        text = f"{shown_path(store.folder)} is damaged, {len(found)} files or rows:"
        lines = damage_lines(store, found)
        raise UserError("\n".join([text, *(f"  - {line}" for line in lines)]), [text, *lines])


def damage_lines(store: RunStore, found: Sequence[Damage]) -> list[str]:
    """Return a line for each damaged file, the first ones if there are many, and the command."""
    if not found:
        return []
    lines = [str(damage) for damage in found[:_N_NAMED]]
    more = [f"... and {len(found) - _N_NAMED} more"] if len(found) > _N_NAMED else []
    return [*lines, *more, f"xbench repair {shown_path(store.folder)} repairs what it can"]


def find_damage(store: RunStore, parts: Collection[Part] = PARTS) -> list[Damage]:
    """Return everything in some parts of a run that is damaged, each file once."""
    found: dict[tuple[str, str | None], Damage] = {}
    for damage in _all(store, parts):
        if damage.part in parts:
            found.setdefault((damage.file, damage.trial_id), damage)
    return list(found.values())


def n_unplanned(store: RunStore) -> int:
    """Count results of trials that the plan does not have; they are left over and not counted."""
    return len(set(store.results()["trial_id"]) - set(store.trials()["trial_id"]))


def _all(store: RunStore, parts: Collection[Part]) -> Iterator[Damage]:
    sums, facts = Checksums(), {}
    try:
        sums = store.checksums()
    except UserError:
        yield Damage(CHECKSUMS_FILE, "its content does not fit its hash")
    recorded = list(_recorded(store.folder, sums))
    yield from recorded
    broken = {damage.file for damage in recorded}
    try:
        facts = store.run_facts()
        has_sums = (store.folder / CHECKSUMS_FILE).exists()
        if facts.get("checksums") and not has_sums:
            yield Damage(CHECKSUMS_FILE, "is missing", is_missing=True)
    except UserError as error:
        yield Damage(RUN_FILE, str(error).partition(": xbench repair")[0])
    tables = _Tables(store, broken)
    yield from _plan(store, tables, sums)
    if "results" in parts or "images" in parts:
        yield from _results(store, tables, is_whole=is_finished(facts))
    if "conditions" in parts:
        yield from _conditions(store, sums)
    if "scores" in parts:
        yield from _scores(tables, sums)
    for name in ("ceilings", "audit", "summary", "compatibility"):
        tables.parts(name)
    yield from tables.damaged


# --- files


def _recorded(folder: Path, sums: Checksums) -> Iterator[Damage]:
    for name in sums.files:
        yield from _file(folder / name, name, sums.accepted(name))


def _file(
    path: Path, name: str, accepted: Collection[str], trial_id: str | None = None
) -> Iterator[Damage]:
    """Yield what is wrong with a file that has to have one of some hashes."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a FIFO would wait for ever
            yield Damage(name, "is not a file", trial_id=trial_id)
        elif file_sha256(path) not in accepted:
            yield Damage(name, "its sha256 is not the recorded one", trial_id=trial_id)
    except (FileNotFoundError, NotADirectoryError):
        yield Damage(name, "is missing", is_missing=True, trial_id=trial_id)
    except OSError as error:
        yield Damage(name, f"cannot be read ({error.strerror})", trial_id=trial_id)


def _in_parallel(check: Callable[..., Iterator[Damage]], jobs: Sequence[tuple]) -> Iterator[Damage]:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for found in pool.map(lambda job: list(check(*job)), jobs):
            yield from found


class _Tables:
    """The tables of a run, each file read once; unreadable ones are collected in `damaged`."""

    def __init__(self, store: RunStore, broken: Collection[str]) -> None:
        self._store, self._broken = store, broken
        self._read: dict[str, dict[str, pd.DataFrame]] = {}
        self.damaged: list[Damage] = []

    def parts(self, table: str) -> dict[str, pd.DataFrame]:
        """Return path -> content of the readable files of a table."""
        if table not in self._read:
            found = {}
            for path in self._store.table_paths(table):
                name = path.relative_to(self._store.folder).as_posix()
                if name in self._broken:
                    continue
                try:
                    content = read_bytes(path, name="it")
                    found[name] = table_frame(content, TABLES[table].columns, name="it")
                except UserError as error:
                    self.damaged.append(Damage(name, str(error)))
            self._read[table] = found
        return self._read[table]

    def whole(self, table: str) -> pd.DataFrame | None:
        """Return all rows; None if a file of the table is damaged."""
        parts = [frame for frame in self.parts(table).values() if not frame.empty]
        prefix = TABLES[table].pattern.partition("*")[0]
        names = {*self._broken, *(damage.file for damage in self.damaged)}
        if not parts or any(name.startswith(prefix) for name in names):
            return None
        return pd.concat(parts, ignore_index=True)


# --- rows


def _plan(store: RunStore, tables: _Tables, sums: Checksums) -> Iterator[Damage]:
    checks = {store.manifest_path: store.manifest, store.cases_path: store.cases}
    for path, read in checks.items():
        if path.name in sums.files:
            continue
        try:
            if not stat.S_ISREG(path.stat().st_mode):
                yield Damage(path.name, "is not a file")
            else:
                read()
        except FileNotFoundError:
            yield Damage(path.name, "is missing", is_missing=True)
        except (UserError, OSError) as error:
            yield Damage(path.name, first_line(error).partition(": xbench repair")[0])
    if not store.table_paths("trials"):
        yield Damage("trials.parquet", "is missing", is_missing=True)
    for name, frame in tables.parts("trials").items():
        if not _are_unique(frame["trial_id"].tolist()):
            yield Damage(name, "trial ids are missing or doubled")


def _results(store: RunStore, tables: _Tables, *, is_whole: bool) -> Iterator[Damage]:
    trials = tables.whole("trials")
    known = set() if trials is None else set(trials["trial_id"])
    for name, frame in tables.parts("results").items():
        for problem in _result_problems(frame, known):
            yield Damage(name, problem)
    if (results := _newest(store, tables)) is None:
        return
    jobs = [
        (store.folder / row["image"], row["image"], {row["image_sha256"]}, row["trial_id"])
        for row in records(results)
        if row["status"] == "ok" and row["image"] and _is_inside(row["image"])
    ]
    yield from _in_parallel(_file, jobs)
    if is_whole and trials is not None and tables.whole("results") is not None:
        lost = set(trials["trial_id"]) - set(results["trial_id"])
        if lost:
            yield Damage("results", f"{len(lost)} trials have no result", is_missing=True)


def _newest(store: RunStore, tables: _Tables) -> pd.DataFrame | None:
    try:
        return store.results()
    except UserError:
        frames = [frame for frame in tables.parts("results").values() if not frame.empty]
        return pd.concat(frames).drop_duplicates("trial_id", keep="last") if frames else None


def _is_inside(name: str) -> bool:
    return not Path(name).is_absolute() and ".." not in Path(name).parts


def _result_problems(frame: pd.DataFrame, known: Collection[str]) -> Iterator[str]:
    if not _are_unique(frame["trial_id"].tolist()):
        yield "trial ids are missing or doubled"
    if not set(frame["status"]) <= set(_STATUSES):
        yield f"a status is none of {', '.join(_STATUSES)}"
    for row in records(frame):
        if row["status"] != "ok":
            continue
        trial, image = row["trial_id"], row["image"]
        if not (image and row["image_sha256"]):
            yield f"trial {trial} is ok and has no image"
        elif not _is_inside(image):
            yield f"the image of trial {trial} is outside of the run directory"
        elif Path(image).stem != trial and Path(image).stem in known:
            yield f"trial {trial} has the image of another one ({image})"


def _conditions(store: RunStore, sums: Checksums) -> Iterator[Damage]:
    root = store.conditions_dir.resolve()
    hashes = store.condition_hashes()
    jobs = [(store.folder / n, n, sha) for n, sha in hashes.items() if n not in sums.files]
    yield from _in_parallel(_condition, [job for job in jobs if _is_below(job[0], root)])
    outside = [name for path, name, _ in jobs if not _is_below(path, root)]
    if outside or (not hashes and store.condition_index_path.exists()):
        yield Damage(_index_name(store), "is damaged: it has no paths of condition images")


def _is_below(path: Path, root: Path) -> bool:
    return Path(os.path.normpath(path)).resolve().is_relative_to(root)


def _index_name(store: RunStore) -> str:
    return store.condition_index_path.relative_to(store.folder).as_posix()


def _condition(path: Path, name: str, sha256: str) -> Iterator[Damage]:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            yield Damage(name, "is not a file")
        elif pixels_sha256(read_image(path)) != sha256:
            yield Damage(name, "its pixels are not those that trials were planned with")
    except (FileNotFoundError, NotADirectoryError):
        yield Damage(name, "is missing", is_missing=True)
    except (UserError, OSError, ValueError, SyntaxError) as error:
        yield Damage(name, f"is not readable ({type(error).__name__})")


def _scores(tables: _Tables, sums: Checksums) -> Iterator[Damage]:
    for name in sums.stale:
        yield Damage(name, "an image that it scores has changed since", is_missing=True)
    trials, results = tables.whole("trials"), tables.whole("results")
    planned, failed = {}, set()
    if trials is not None and results is not None:
        planned = {row["trial_id"]: _settings(row) for row in records(trials)}
        failed = set(results["trial_id"]) - set(results.loc[results["status"] == "ok", "trial_id"])
    for name, frame in tables.parts("scores").items():
        rows = records(frame)
        for problem in _score_problems(rows, Path(name).stem, planned):
            yield Damage(name, problem)
        if old := {row["trial_id"] for row in rows if row["value"] is not None} & failed:
            problem = f"{len(old)} scores are of trials that have no image any more"
            yield Damage(name, problem, is_missing=True)


def _score_problems(
    rows: Sequence[Row],
    metric: str,
    planned: Mapping[str, tuple[Any, ...]],
) -> Iterator[str]:
    """Yield how scores contradict the plan and the results; rows of other plans are left out."""
    if {row["metric"] for row in rows} - {metric}:
        yield "it has scores of another metric"
    if not {row["level"] for row in rows} <= {"image", "group"}:
        yield "a level is neither image nor group"
    if any(row["value"] is not None and not math.isfinite(row["value"]) for row in rows):
        yield "a score is not finite"
    images = [row for row in rows if row["level"] == "image"]
    if not _are_unique([row["trial_id"] and (row["trial_id"], row["plugin"]) for row in images]):
        yield "trial ids are missing or doubled"
    for row in images:
        settings = planned.get(row["trial_id"])
        if settings is not None and settings != _settings(row):
            yield f"the scores of trial {row['trial_id']} are those of another one"


def _settings(row: Row) -> tuple[Any, ...]:
    return tuple(row[name] for name in _SETTINGS)


def _are_unique(ids: Sequence[object]) -> bool:
    return len({one for one in ids if isinstance(one, str | tuple)}) == len(ids)

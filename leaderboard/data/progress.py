"""How far an unfinished run is, from its directory as it is written; cheap however large the run.

The rows of a batch are written at its end, its images as they come. A refresh reads the parts of
the results that are new, and looks at the files of one batch: its work does not grow with the run.
"""

from __future__ import annotations

import heapq
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from math import ceil
from pathlib import Path
from threading import Lock
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from bench.errors import UserError
from bench.store import Row, RunStore, records
from bench.store.parquet import open_parquet, read_bytes
from bench.store.run_store import image_name
from bench.store.status import SHARD_DONE, is_finished, n_to_make
from leaderboard.data.catalog import text_of

State = Literal["preparing", "rendering", "scoring", "stopped", "finished"]
N_NEWEST = 6
_N_PACED = 120  # images whose times give the pace: batches come in bursts
_MAX_BATCH = 500  # images of one batch that are looked for
_QUIET_SECONDS = {False: 30.0, None: 300.0}  # without a new file; by whether the lock is held
_QUIET_GAPS = 4  # or this many of the longest gaps between images
_FRESH_SECONDS = 2.0  # a folder that changed so lately may change again in the same clock tick
_PLAN = ("trial_id", "plugin", "method", "t0", "plugin_scale", "adapter_scale", "base_prompt")
_NUMBERS = ("t0", "plugin_scale", "adapter_scale")
_SAFE_ID = re.compile(r"[\w.-]+")  # any other id has no image inside of the run
_Stamp = tuple[int, int]  # time of change in ns, size


@dataclass(frozen=True)
class Progress:
    """How far a run is; `newest` are rows of the plan with `image`, the last finished one first."""

    state: State
    status: str = ""
    command: str = ""
    n_trials: int = 0
    n_done: int = 0
    n_failed: int = 0
    seconds_left: float | None = None
    newest: tuple[Row, ...] = ()

    @property
    def is_running(self) -> bool:
        """Whether the numbers will change without a new command."""
        return self.state in ("preparing", "rendering", "scoring")

    @property
    def share(self) -> float:
        """The part of the images that is done, 0 to 1."""
        return self.n_done / self.n_trials if self.n_trials else 0.0

    @property
    def sentence(self) -> str:
        """How far the run is, in one sentence."""
        if self.state == "finished":
            return "Finished."
        if self.state == "preparing":
            return "Unfinished: the images are being planned."
        if self.state == "scoring":
            return f"Unfinished: all {self.n_trials:,} images are done, scores follow."
        failed = f", {self.n_failed:,} of them failed" if self.n_failed else ""
        count = f"{self.n_done:,} of {self.n_trials:,} images are done{failed}"
        if self.status == SHARD_DONE:
            return (
                f"This shard is done: {self.n_done:,} images. The tables come with the last shard."
            )
        if self.state == "stopped":
            why = "" if self.status in ("", "running", "stopped") else f" ({self.status})"
            return f"Unfinished, stopped{why}: {count}. The same command continues it."
        left = "" if self.seconds_left is None else f"; {_duration(self.seconds_left)} left"
        return f"Unfinished: {count}{left}."


def run_progress(folder: Path, *, now: float | None = None) -> Progress:
    """Return how far the run of a folder is; `UserError` if it is not a run or is damaged."""
    return _watch(str(folder)).refresh(time.time() if now is None else now)


class _Part(NamedTuple):
    """One file of results: its time in seconds, and its rows."""

    written: float
    stamp: _Stamp
    n_rows: int
    n_failed: int


class _Plan(NamedTuple):
    rows: pd.DataFrame
    stamp: _Stamp


class _Last(NamedTuple):
    """The newest file of results: its trials, and those that the plan lists after them."""

    key: tuple[str, _Stamp]
    ids: Sequence[str]
    following: Sequence[str]


@lru_cache(maxsize=16)
def _watch(folder: str) -> _Watch:
    return _Watch(RunStore(folder))


@dataclass
class _Watch:
    """What is known of one run directory, read again where a file has changed."""

    store: RunStore
    lock: Lock = field(default_factory=Lock)
    facts: tuple[_Stamp, dict[str, Any]] | None = None
    plan: _Plan | None = None
    parts: dict[str, _Part] = field(default_factory=dict)
    listed_ns: int | None = None
    last: _Last | None = None

    def refresh(self, now: float) -> Progress:
        """Return the progress at a time in seconds since 1970."""
        with self.lock:
            facts = self._facts()
            status, command = text_of(facts.get("status")), text_of(facts.get("command"))
            if is_finished(facts):
                return Progress("finished", status, command)
            plan = self._plan()
            n_trials = 0 if plan is None else len(plan)
            if plan is None or not n_trials:
                state = "preparing" if self._is_alive(facts, (), now) else "stopped"
                return Progress(state, status, command)
            self._list_parts(now)
            return self._of_plan(plan, facts, now)

    def _of_plan(self, plan: pd.DataFrame, facts: Mapping[str, Any], now: float) -> Progress:
        name, newest = self._newest_part()
        last = self._last(plan, name, newest)
        begun = self.facts[0][0] / 1e9 if self.facts else 0.0
        n_done = sum(part.n_rows for part in self.parts.values())
        n_failed = sum(part.n_failed for part in self.parts.values())
        made = self._images(last.ids, after=0.0)
        is_pending = newest is not None and newest.n_rows == newest.n_failed and newest.n_rows > 0
        after = max(begun, newest.written if newest else 0.0)
        batch = self._images(last.ids if is_pending else last.following, after=after)
        events = sorted([*self._events(), *((at, 1) for at, _ in batch)])
        if len(self.parts) < 2:  # too few to know the pace without the loading of the models
            events.insert(0, (begun, 0))
        is_alive = self._is_alive(facts, [at for at, _ in events], now)
        if is_alive:  # a batch that is broken off is rendered again
            n_done += len(batch)
            if is_pending and newest is not None:  # written ahead, in case the process is ended
                n_done, n_failed = n_done - newest.n_rows, n_failed - newest.n_failed
        n_trials = n_to_make(facts, len(plan))
        n_done = min(n_done, n_trials)
        n_left = n_trials - n_done
        state: State = "stopped" if not is_alive else "rendering" if n_left else "scoring"
        shown = sorted({*made, *batch}, reverse=True)[:N_NEWEST]
        pace = _pace(events, now) if state == "rendering" else None
        return Progress(
            state=state,
            status=text_of(facts.get("status")),
            command=text_of(facts.get("command")),
            n_trials=n_trials,
            n_done=n_done,
            n_failed=n_failed,
            seconds_left=None if pace is None else pace * n_left,
            newest=tuple(_rows(plan, [trial for _, trial in shown])),
        )

    def _is_alive(self, facts: Mapping[str, Any], times: Sequence[float], now: float) -> bool:
        """Return whether a process still works on the run: it holds the lock, or wrote lately."""
        if facts.get("status") != "running":
            return False
        is_locked = self.store.is_locked()
        if is_locked:
            return True
        gaps = [b - a for a, b in pairwise(times)]
        changed = max([*times[-1:], self.store.folder.stat().st_mtime])
        return now - changed <= max(_QUIET_SECONDS[is_locked], _QUIET_GAPS * max(gaps, default=0.0))

    # --- reading what has changed

    def _facts(self) -> dict[str, Any]:
        stamp = _stamp_of(self.store.run_path)
        if self.facts is None or stamp is None or self.facts[0] != stamp:
            self.facts = stamp or (0, 0), self.store.run_facts()
        return self.facts[1]

    def _plan(self) -> pd.DataFrame | None:
        path = self.store.table_path("trials")
        stamp = _stamp_of(path)
        if stamp is None:
            return None
        if self.plan is None or self.plan.stamp != stamp:
            self.plan, self.last = _Plan(_plan_rows(path), stamp), None
        return self.plan.rows

    def _list_parts(self, now: float) -> None:
        """List the files of results if their folder has changed, and read the new ones."""
        folder = self.store.table_path("results", "part").parent
        changed = _stamp_of(folder)
        if changed is None:
            self.parts, self.listed_ns = {}, None
            return
        if changed[0] == self.listed_ns and now - changed[0] / 1e9 > _FRESH_SECONDS:
            return
        found: dict[str, _Part] = {}
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith(".") or not entry.name.endswith(".parquet"):
                    continue
                stamp, known = _stamp_of(entry), self.parts.get(entry.name)
                if known is not None and known.stamp == stamp:
                    found[entry.name] = known
                elif stamp is not None:
                    found[entry.name] = _read_part(Path(entry.path), stamp)
        self.parts, self.listed_ns = found, changed[0]

    def _newest_part(self) -> tuple[str, _Part | None]:
        name = max(self.parts, key=lambda name: self.parts[name].stamp, default="")
        return name, self.parts.get(name)

    def _events(self) -> list[tuple[float, int]]:
        """Return when the newest files of results were written, each with its number of rows."""
        newest = heapq.nlargest(_N_PACED, self.parts.values())
        return [(part.written, part.n_rows) for part in newest]

    def _last(self, plan: pd.DataFrame, name: str, part: _Part | None) -> _Last:
        key = (name, part.stamp if part else (0, 0))
        if self.last is None or self.last.key != key:
            ids, start = [], 0
            if part is not None:
                path = self.store.table_path("results", name.removesuffix(".parquet"))
                ids = [i for i in _columns(path, ("trial_id",))["trial_id"].to_pylist() if i]
                start = 1 + max(_places(plan, ids), default=-1)
            following = plan["trial_id"].iloc[start : start + _MAX_BATCH].tolist()
            self.last = _Last(key, ids[:_MAX_BATCH], following)
        return self.last

    def _images(self, trials: Sequence[str], *, after: float) -> list[tuple[float, str]]:
        """Return the trials with an image that is newer than a time, each with the image's time."""
        found = []
        for trial in trials:
            if isinstance(trial, str) and _SAFE_ID.fullmatch(trial):  # an id may be missing
                stamp = _stamp_of(self.store.image_path(trial))
                if stamp is not None and stamp[0] / 1e9 > after:
                    found.append((stamp[0] / 1e9, trial))
        return found


def _pace(events: Sequence[tuple[float, int]], now: float) -> float | None:
    """Return the seconds an image takes, from the last events (time, images done by then).

    None where the last images came all at once.
    """
    n_images = 0
    for at, n in reversed(events):
        if at < events[-1][0] and (n_images >= _N_PACED or at == events[0][0]):
            return (now - at) / n_images
        n_images += n
    return None


def _duration(seconds: float) -> str:
    if seconds < 60:
        return "less than a minute"
    minutes = ceil(seconds / 60)
    return f"about {minutes} min" if minutes < 120 else f"about {minutes / 60:.0f} h"


def _stamp_of(path: Path | os.DirEntry[str]) -> _Stamp | None:
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_mtime_ns, state.st_size


def _plan_rows(path: Path) -> pd.DataFrame:
    """Return the columns of the plan that are displayed, in Arrow's compact form."""
    found = _columns(path, _PLAN)
    for i, name in enumerate(_PLAN):  # repeated texts are kept once
        if name not in ("trial_id", *_NUMBERS):
            found = found.set_column(i, name, found[name].dictionary_encode())
    return found.to_pandas(types_mapper=pd.ArrowDtype)


def _read_part(path: Path, stamp: _Stamp) -> _Part:
    """Return the counts of a file of results; one that cannot be read has no rows."""
    try:
        statuses = _columns(path, ("status",))["status"].to_pylist()
    except UserError:
        return _Part(stamp[0] / 1e9, stamp, 0, 0)
    return _Part(stamp[0] / 1e9, stamp, len(statuses), statuses.count("failed"))


def _columns(path: Path, names: Sequence[str]) -> pa.Table:
    """Return columns of a table as text or numbers, null where missing; `UserError` if damaged."""
    file = open_parquet(read_bytes(path, name=path.name), name=path.name)
    try:
        table = file.read(columns=list(names))
        table.validate(full=True)
        kinds = {name: pa.float64() if name in _NUMBERS else pa.string() for name in names}
        blank = {name: pa.nulls(table.num_rows, kind) for name, kind in kinds.items()}
        known = {n: table[n].cast(kinds[n]) for n in names if n in table.column_names}
        return pa.table({**blank, **known})
    except (pa.ArrowException, OSError, OverflowError, ValueError, MemoryError) as error:
        raise UserError(f"{path.name} is damaged") from error


def _places(plan: pd.DataFrame, trials: Sequence[str]) -> list[int]:
    """Return the places of trials in the plan."""
    return np.flatnonzero(plan["trial_id"].isin(trials).to_numpy(dtype=bool)).tolist()


def _rows(plan: pd.DataFrame, trials: Sequence[str]) -> list[Row]:
    """Return the rows of trials in their order, each with the name of its image."""
    found = plan.iloc[_places(plan, trials)].astype(object) if trials else plan.head(0)
    rows = {row["trial_id"]: row for row in records(found)}
    return [{**rows[trial], "image": image_name(trial)} for trial in trials if trial in rows]

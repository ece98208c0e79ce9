"""Read published stores: a local folder, S3 or the Hugging Face Hub.

The index is listed again every half minute. Tables are downloaded once into a local cache, pictures
on request. While a store cannot be reached, the runs known so far stay listed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any

from bench.errors import UserError
from bench.publish import StoreLocation, UnreachableError
from bench.publish.format import (
    INDEX,
    MAX_INDEX_BYTES,
    MAX_JSON_BYTES,
    MAX_PICTURE_BYTES,
    MAX_TABLE_BYTES,
    MAX_TABLE_PARTS,
    PUBLISHED_FORMAT,
    Ending,
    index_name,
    is_object,
    key_of,
)
from bench.publish.object_cache import TableCache, read_object
from bench.store import PUBLISHED
from bench.store.documents import parse_json
from bench.store.recent import RecentItems
from leaderboard.data.catalog import Run, state_problems, text_of
from leaderboard.data.isolation import isolated, reason_of

REFRESH_SECONDS, LOCAL_REFRESH_SECONDS = 30.0, 1.0
MAX_RUNS = 1000
MAX_MEMORY_BYTES = 64 << 20  # of pictures
_N_READERS = 8


@dataclass(frozen=True)
class _Known:
    """A parsed index file; read again unless it is complete."""

    stamp: str
    run: Run
    is_whole: bool


class PublishedStore:
    """One published store; thread-safe."""

    def __init__(
        self,
        place: StoreLocation,
        cache: TableCache,
        *,
        clock: Callable[[], float] = time.monotonic,
        refresh_seconds: float | None = None,
    ) -> None:
        self._place, self._cache, self._clock = place, cache, clock
        usual = LOCAL_REFRESH_SECONDS if place.is_local else REFRESH_SECONDS
        self._refresh_seconds = usual if refresh_seconds is None else refresh_seconds
        self._pictures = RecentItems[str, bytes](MAX_MEMORY_BYTES, size=len)
        self._lock = Lock()
        self._known: dict[str, _Known] = {}
        self._listed_at: float | None = None
        self._down: tuple[float, UnreachableError] | None = None
        self.problems: tuple[str, ...] = ()

    def runs(self) -> dict[str, Run]:
        """Return all runs by key, the newest first."""
        # one thread refreshes; the others wait only if nothing is known yet
        if self._is_old() and self._lock.acquire(blocking=self._listed_at is None):
            try:
                if self._is_old():
                    self._refresh()
                    self._listed_at = self._clock()
            finally:
                self._lock.release()
        found = sorted((known.run for known in self._known.values()), key=lambda run: run.key)
        found.sort(key=lambda run: text_of(run.facts.get("created")), reverse=True)
        return {run.key: run for run in found}

    def _is_old(self) -> bool:
        listed_at = self._listed_at
        return listed_at is None or self._clock() - listed_at >= self._refresh_seconds

    def fetch(self, name: str) -> Path:
        """Return a local file of a table, downloaded if needed; `UserError` on failure."""
        return self._cache.path(name, lambda: self._content(name, MAX_TABLE_BYTES))

    def picture(self, name: str) -> bytes | None:
        """Return a picture's content; None if it is missing, damaged or unreachable."""
        try:
            return self._pictures.get(name, lambda: self._content(name, MAX_PICTURE_BYTES))
        except UserError:
            return None

    # --- the index

    def _refresh(self) -> None:
        try:
            listing = self._request(lambda: self._place.listing(INDEX))
        except UserError as error:
            self.problems = (str(error),)
            return
        stamps = {key: file.stamp for name, file in listing.items() if (key := key_of(name))}
        problems = []
        if len(stamps) > MAX_RUNS:
            problems.append(f"The store has {len(stamps)} runs: only {MAX_RUNS} are shown.")
        wanted = dict(sorted(stamps.items(), reverse=True)[:MAX_RUNS])
        old = {
            key: known
            for key, known in self._known.items()
            if known.is_whole and wanted.get(key) == known.stamp
        }
        missing = [(key, stamp) for key, stamp in wanted.items() if key not in old]
        with ThreadPoolExecutor(_N_READERS) as pool:
            new = pool.map(lambda item: self._read_index(*item), missing)
            self._known = {**old, **{known.run.key: known for known in new}}
        self.problems = tuple(problems)

    def _read_index(self, key: str, stamp: str) -> _Known:
        """Build the run of an index file, without facts and tables if it cannot be read."""
        identity = hash((self._place.address, key, stamp))
        folder = Path(self._place.address) / key
        empty = Run(key=key, folder=folder, facts={}, tables={}, stamp=identity, store=self)
        return isolated(
            lambda: self._parse_index(key, stamp),
            lambda line: _Known(stamp, empty.with_problem(line), is_whole=False),
            run=key,
        )

    def _parse_index(self, key: str, stamp: str) -> _Known:
        """Build the run of an index file; invalid content becomes problems."""
        problems: list[str] = []
        data, is_reached = self._index(index_name(key), problems)
        facts = data.get("facts")
        facts = facts if isinstance(facts, dict) else {}
        manifest, has_manifest = self._json_of(data.get("manifest"), "The manifest", problems)
        gate, has_gate = self._json_of(data.get("gate"), "The gate's outcome", problems)
        objects = _table_objects(data.get("tables"), problems)
        run = Run(
            key=key,
            folder=Path(self._place.address) / key,
            facts=facts,
            tables={},
            stamp=hash((self._place.address, key, stamp)),
            manifest=manifest or {},
            gate=gate,
            problems=(*problems, *state_problems(facts)),
            store=self,
            objects=objects,
        )
        return _Known(stamp, run, is_reached and has_manifest and has_gate)

    def _index(self, name: str, problems: list[str]) -> tuple[dict[str, Any], bool]:
        """Return a parsed index file ({} if damaged), and whether the store was reached."""
        try:
            content = self._request(lambda: self._place.read(name, limit_bytes=MAX_INDEX_BYTES))
        except UserError as error:
            problems.append(str(error))
            return {}, False
        data = _parsed(content or b"", name, problems)
        if data is not None and data.get("format") != PUBLISHED_FORMAT:
            found = repr(data.get("format"))[:40]
            problems.append(f"{name} has format {found}, this version reads {PUBLISHED_FORMAT}.")
            return {}, True
        return data or {}, True

    def _json_of(
        self, name: Any, title: str, problems: list[str]
    ) -> tuple[Mapping[str, Any] | None, bool]:
        """Return a parsed JSON object, and whether it could be read."""
        if name is None:
            return None, True
        if not is_object(name, "json"):
            problems.append(f"{title} does not name an object of this store.")
            return None, True
        try:
            path = self._cache.path(name, lambda: self._content(name, MAX_JSON_BYTES))
            return _parsed(path.read_bytes(), title, problems), True
        except (UserError, OSError) as error:
            problems.append(f"{title} cannot be read: {reason_of(error)}")
            return None, False

    # --- reading from the location

    def _content(self, name: str, limit_bytes: int) -> bytes:
        return self._request(lambda: read_object(self._place, name, limit_bytes))

    def _request(self, read: Callable[[], Any]) -> Any:
        """Return the result of `read`; after a failure no request is made for a while."""
        down = self._down
        if down is not None and self._clock() - down[0] < REFRESH_SECONDS:
            raise down[1]
        try:
            return read()
        except UnreachableError as error:
            self._down = (self._clock(), error)
            raise


def with_tables(run: Run) -> Run:
    """Return the run with its tables downloaded; failures become problems of the run."""
    store = run.store
    if store is None:
        return run
    problems: list[str] = []

    def fetched(name: str) -> Path | None:
        try:
            return store.fetch(name)
        except UserError as error:
            problems.append(f"A table cannot be read: {error}")
            return None

    names = [name for parts in run.objects.values() for name in parts]
    with ThreadPoolExecutor(_N_READERS) as pool:
        paths = dict(zip(names, pool.map(fetched, names), strict=True))
    tables = {
        table: tuple(path for name in parts if (path := paths[name]))
        for table, parts in run.objects.items()
    }
    failures = tuple(sorted(set(problems)))
    return replace(
        run,
        tables=tables,
        problems=(*run.problems, *failures),
        stamp=hash((run.stamp, failures)),
    )


def _parsed(content: bytes, title: str, problems: list[str]) -> dict[str, Any] | None:
    try:
        data = parse_json(content, name=title)
    except UserError as error:
        problems.append(f"{title} is damaged: {error}")
        return None
    if not isinstance(data, dict):
        problems.append(f"{title} is damaged: it is not a mapping")
        return None
    return data


def _table_objects(value: Any, problems: list[str]) -> dict[str, tuple[str, ...]]:
    """Return the objects of each table; report and skip invalid names."""
    ending: Ending = "parquet"
    listed = value if isinstance(value, dict) else {}
    found: dict[str, tuple[str, ...]] = {}
    for table in PUBLISHED:
        names = listed.get(table, [])
        names = names if isinstance(names, list) else [names]
        good = [name for name in names[:MAX_TABLE_PARTS] if is_object(name, ending)]
        if len(good) < len(names):
            problems.append(f"Table {table} names files that are not objects of this store.")
        found[table] = tuple(dict.fromkeys(good))
    return found

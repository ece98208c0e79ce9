"""Locate and open the served results, for the pages and the image route."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from threading import Lock

from bench.errors import UserError
from bench.publish import is_remote, local_folder, open_location
from bench.publish.format import INDEX
from bench.publish.object_cache import TableCache
from bench.store import cache_folder, is_run
from bench.store.recent import RecentItems
from leaderboard.data.catalog import Run, find_runs, listed_folders
from leaderboard.data.isolation import isolated
from leaderboard.data.published import PublishedStore, with_tables
from leaderboard.data.tables import RunTables

RESULTS_VARIABLE = "XBENCH_RESULTS"
SHIPPED = Path(__file__).parents[1] / "shipped"
_OWN = "runs"


@dataclass
class _Opening:
    """Tables of a run; one thread loads them while others wait."""

    lock: Lock = field(default_factory=Lock)
    tables: RunTables | None = None


_Place = tuple[str, int]  # folder, stamp
_OPEN = RecentItems[_Place, _Opening](16)


def shown_results() -> tuple[str, bool]:
    """Return the folder or URL of the served results, and whether it is the shipped ones.

    XBENCH_RESULTS, else `runs/` if it holds any run, else the results that come with xbench.
    """
    named = os.environ.get(RESULTS_VARIABLE)
    if named:
        return named, False
    own = Path(_OWN)
    if is_run(own) or listed_folders(own) or not _is_store(SHIPPED):
        return _OWN, False
    return str(SHIPPED), True


def results_address() -> str:
    """Return the folder or URL of the served results."""
    return shown_results()[0]


def current_runs() -> dict[str, Run]:
    """Return all current runs by key, the newest first."""
    try:
        store = _store()
    except UserError:  # not the address of a store: see `results_problems`
        return {}
    return find_runs(local_folder(results_address())) if store is None else store.runs()


def results_problems() -> tuple[str, ...]:
    """Return the problems of the results location itself."""
    try:
        store = _store()
    except UserError as error:
        return (str(error),)
    if store is None:
        return ()
    store.runs()  # refreshes the listing if it is old
    return store.problems


def open_tables(run: Run) -> RunTables:
    """Return a run's tables, cached until a file of the run changes.

    Loading one run does not block requests for another.
    """
    run = isolated(lambda: with_tables(run), run.with_problem, run=run.key)
    place = (str(run.folder), run.stamp)
    opening = _OPEN.get(place, _Opening)
    with opening.lock:
        if opening.tables is None:
            opening.tables = _tables_of(run)
        return opening.tables


def _tables_of(run: Run) -> RunTables:
    """Return a run's tables; empty ones, with the reason, if they cannot be read at all."""
    without = replace(run, tables={})
    return isolated(
        lambda: RunTables(run), lambda line: RunTables(without.with_problem(line)), run=run.key
    )


def _store() -> PublishedStore | None:
    """Return the served published store; None for a folder of run directories."""
    address = results_address()
    if is_remote(address) or _is_store(local_folder(address)):
        return _opened(address, str(cache_folder()))
    return None


@lru_cache(maxsize=4)
def _opened(address: str, cache: str) -> PublishedStore:
    source = None if is_remote(address) else local_folder(address)
    tables = TableCache(Path(cache) / "published", source=source)
    return PublishedStore(open_location(address), tables)


def _is_store(folder: Path) -> bool:
    return any((folder / INDEX).glob("*.json")) and not is_run(folder)

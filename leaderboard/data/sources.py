"""The results that this server shows, shared by the pages and the image route."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from threading import Lock

import pandas as pd

from bench.errors import UserError
from bench.publish.format import INDEX
from bench.publish.locations import is_remote, local_folder, open_location
from bench.store.image_cache import cache_folder
from bench.store.recent import RecentItems
from bench.store.run_store import is_run, run_folders
from leaderboard.data.cache import TableCache
from leaderboard.data.catalog import Run, find_runs
from leaderboard.data.published import PublishedStore, with_tables
from leaderboard.data.tables import RunTables
from leaderboard.figures.standings import plugin_rows

RESULTS_VARIABLE = "XBENCH_RESULTS"
SHIPPED = Path(__file__).parents[1] / "shipped"
_OWN = "runs"


@dataclass
class _Opening:
    """Tables that are there, or that one thread reads while others wait for them."""

    lock: Lock = field(default_factory=Lock)
    tables: RunTables | None = None


_Place = tuple[str, int]  # folder, stamp
_Standings = tuple[pd.DataFrame, tuple[str, ...]]  # rows, problems
_OPEN = RecentItems[_Place, _Opening](8)
_STANDINGS = RecentItems[_Place, _Standings](1000)


def shown_results() -> tuple[str, bool]:
    """The folder or URL that this server shows, and whether it is the shipped results.

    XBENCH_RESULTS, else `runs/` if it holds any run, else the results that come with xbench.
    """
    named = os.environ.get(RESULTS_VARIABLE)
    if named:
        return named, False
    own = Path(_OWN)
    if is_run(own) or run_folders(own) or not _is_store(SHIPPED):
        return _OWN, False
    return str(SHIPPED), True


def results_address() -> str:
    """The folder or URL that this server shows."""
    return shown_results()[0]


def current_runs() -> dict[str, Run]:
    """All runs by key, the newest first, as they are now."""
    try:
        store = _store()
    except UserError:  # no address of a store: `results_problems` says so
        return {}
    return find_runs(local_folder(results_address())) if store is None else store.runs()


def results_problems() -> tuple[str, ...]:
    """What is wrong with the place of the results itself."""
    try:
        store = _store()
    except UserError as error:
        return (str(error),)
    if store is None:
        return ()
    store.runs()  # asks the place where that was long ago
    return store.problems


def open_tables(run: Run) -> RunTables:
    """A run's tables; read once as long as no file of the run changes.

    One run that is slow to read keeps nobody waiting who looks at another.
    """
    run = with_tables(run)
    place = (str(run.folder), run.stamp)
    opening = _OPEN.get(place, _Opening)
    with opening.lock:
        if opening.tables is None:
            opening.tables = RunTables(run)
        return opening.tables


def open_standings(run: Run) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """A run's rows for the overview, and what is wrong with it; kept as long as it is the same.

    A place of many runs is ranked without keeping the tables of all of them open.
    """
    place = (str(run.folder), run.stamp)
    known = _STANDINGS.find(place)
    if known is not None:
        return known
    tables = open_tables(run)
    found = plugin_rows(run, tables), tuple(tables.problems)
    # what is wrong with a table may be over the next time
    return _STANDINGS.add(place, found) if found[1] == run.problems else found


def _store() -> PublishedStore | None:
    """The published store that is shown; None for a folder of run directories."""
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

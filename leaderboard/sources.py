"""The results that this server shows, shared by the pages and the image route."""

from __future__ import annotations

import os
from collections import OrderedDict
from pathlib import Path
from threading import Lock

from leaderboard.catalog import Run, find_runs
from leaderboard.tables import RunTables
from leaderboard.votes_source import RESULTS_VARIABLE

_MAX_OPEN = 8
_OPEN: OrderedDict[tuple[str, int], RunTables] = OrderedDict()
_LOCK = Lock()


def results_address() -> str:
    """The folder or URL that this server shows."""
    return os.environ.get(RESULTS_VARIABLE) or "runs"


def current_runs() -> dict[str, Run]:
    """All runs by key, the newest first, as they are now."""
    return find_runs(Path(results_address()))


def open_tables(run: Run) -> RunTables:
    """A run's tables; read once as long as no file of the run changes."""
    place = (str(run.folder), run.stamp)
    with _LOCK:
        if place not in _OPEN:
            _OPEN[place] = RunTables(run)
        _OPEN.move_to_end(place)
        while len(_OPEN) > _MAX_OPEN:
            _OPEN.popitem(last=False)
        return _OPEN[place]

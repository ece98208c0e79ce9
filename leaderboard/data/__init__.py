"""Read runs and published stores for the leaderboard."""

from leaderboard.data.catalog import Run
from leaderboard.data.sources import current_runs, open_tables, results_problems, shown_results
from leaderboard.data.tables import RunTables, plugins_of

__all__ = [
    "Run",
    "RunTables",
    "current_runs",
    "open_tables",
    "plugins_of",
    "results_problems",
    "shown_results",
]

"""What a page of the leaderboard is made of, for group `xbench.pages`."""

from leaderboard.data import Run, RunTables, current_runs, open_tables, plugins_of
from leaderboard.ui import Page, choose_plugin, choose_run, heading, interval

__all__ = [
    "Page",
    "Run",
    "RunTables",
    "choose_plugin",
    "choose_run",
    "current_runs",
    "heading",
    "interval",
    "open_tables",
    "plugins_of",
]

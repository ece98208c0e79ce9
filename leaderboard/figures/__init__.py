"""Pure transforms from tables to rows and charts."""

from leaderboard.figures.arms import setting_label, settings_of
from leaderboard.figures.standings import method_rows, open_standings
from leaderboard.figures.tradeoff import tradeoff_rows

__all__ = [
    "method_rows",
    "open_standings",
    "setting_label",
    "settings_of",
    "tradeoff_rows",
]

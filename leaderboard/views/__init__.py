"""The pages of the leaderboard: each module describes one page in its `show`."""

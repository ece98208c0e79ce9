"""Read runs and published stores for the leaderboard."""

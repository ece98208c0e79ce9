"""The study as a site of its own, for raters who should not see the leaderboard."""

from __future__ import annotations

from leaderboard.serve import serve


def serve_study(results: str | None, *, port: int, host: str) -> None:
    """Show the study of the results at http://host:port until interrupted; blocks."""
    serve(results, port=port, host=host, script="study_page.py")

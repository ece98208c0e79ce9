"""Runs as sources of studies."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from bench.errors import UserError
from bench.store import records
from leaderboard.data import Run, current_runs, open_tables
from leaderboard.data.catalog import text_of
from leaderboard.data.run_files import RunFiles
from leaderboard.data.sources import RESULTS_VARIABLE
from leaderboard.study.design import Study, design_study

__all__ = ["RESULTS_VARIABLE", "StudySource", "files_of_run", "study_of", "study_sources"]

# raters see the thumbnails of a run that was published without pictures; if several methods have a
# condition image, the base model's comes last and therefore represents the scene
_PICTURES = """
SELECT trial_id, plugin, kind, method, t0, plugin_scale, adapter_scale, case_id, upgraded_prompt,
    condition_path, seed, status, coalesce(image, thumbnail) AS image
FROM images ORDER BY (method = 'base'), trial_id
"""


@dataclass(frozen=True)
class StudySource:
    """A run as source of a study; `stamp` changes when the run does."""

    key: str
    run_id: str
    family: str
    stamp: int


def study_sources() -> dict[str, StudySource]:
    """Return the finished runs, by key: the pictures of others, and so their pairs, change."""
    return {key: _source(run) for key, run in current_runs().items() if run.is_finished}


def files_of_run(run_id: str) -> RunFiles | None:
    """Return the pictures of a study's run; None if the run is missing."""
    runs = current_runs()
    sources = {_source(run).run_id: run for run in runs.values() if run.facts}
    return sources[run_id].files if run_id in sources else None


@lru_cache(maxsize=16)
def study_of(source: StudySource) -> Study:
    """Design the study of a run; `UserError` if it has nothing to compare or cannot be read."""
    run = current_runs().get(source.key)
    if run is None:
        raise UserError(f"run {source.key!r} no longer exists: reload the page")
    rows = records(open_tables(run).query(_PICTURES))
    return design_study(rows, run_id=source.run_id, run_name=source.key, family=source.family)


def _source(run: Run) -> StudySource:
    return StudySource(
        key=run.key,
        run_id=text_of(run.facts.get("run_id")) or run.key,
        family=run.family,
        stamp=run.stamp,
    )

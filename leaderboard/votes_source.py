"""The runs that a study can be made of."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from bench.errors import UserError
from bench.rows import records
from bench.store import RunStore
from leaderboard.votes_design import Study, design_study

RESULTS_VARIABLE = "XBENCH_RESULTS"


@dataclass(frozen=True)
class StudySource:
    """A run directory as a study sees it; `stamp` changes when the run does."""

    key: str
    folder: Path
    run_id: str
    family: str
    stamp: int


def study_sources() -> dict[str, StudySource]:
    """Every readable run of XBENCH_RESULTS (a folder of runs, or one run) by its folder's name."""
    results = Path(os.environ.get(RESULTS_VARIABLE) or "runs")
    single = (results / "run.json").is_file()
    folders = [results] if single else sorted(path.parent for path in results.glob("*/run.json"))
    found = (_source(folder) for folder in folders)
    return {source.key: source for source in found if source is not None}


def folder_of_run(run_id: str) -> Path | None:
    """Where the run of a study lies; None where it has gone."""
    return next((s.folder for s in study_sources().values() if s.run_id == run_id), None)


@lru_cache(maxsize=16)
def study_of(source: StudySource) -> Study:
    """The study of a run; `UserError` where it has nothing to compare or cannot be read."""
    store = RunStore(source.folder)
    rows = records(store.trials().merge(store.results(), on="trial_id", how="left"))
    return design_study(rows, run_id=source.run_id, run_name=source.key, family=source.family)


def _source(folder: Path) -> StudySource | None:
    """None for a run whose facts cannot be read: other pages say so."""
    try:
        facts = RunStore(folder).run_facts()
    except (UserError, OSError):
        return None
    run_id, family = facts.get("run_id"), facts.get("family")
    parts = [folder / "trials.parquet", *(folder / "results").glob("*.parquet")]
    stamps = tuple(sorted((p.name, p.stat().st_mtime_ns) for p in parts if p.is_file()))
    return StudySource(
        key=folder.name,
        folder=folder,
        run_id=run_id if isinstance(run_id, str) else folder.name,
        family=family if isinstance(family, str) else "",
        stamp=hash(stamps),
    )

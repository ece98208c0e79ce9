"""A run restricted to some of its cases, scored as if there were no others.

Scores that look at other images (a style bank, a kernel distance) are comparable only between sets
of the same cases. The restricted run lies in a folder of its own and points to the run's images.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from bench.scoring.suite import score_by_names
from bench.store.rows import records
from bench.store.run_store import RunStore


def restricted_run(
    store: RunStore, case_ids: Collection[str], folder: Path, *, metrics: Sequence[str]
) -> RunStore:
    """Write and score the part of a run that belongs to the cases; scores are kept."""
    view = RunStore(folder)
    folder.mkdir(parents=True, exist_ok=True)
    view.write_run_facts(_facts(store))
    view.write_manifest(store.manifest().as_data())
    view.write_cases(case for case in store.cases().values() if case.case_id in case_ids)
    trials = [row for row in records(store.trials()) if row["case_id"] in case_ids]
    view.write_trials(trials)
    wanted = {row["trial_id"] for row in trials}
    home = store.folder.resolve()
    results = [
        {**row, "image": row["image"] and str(home / row["image"])}
        for row in records(store.results())
        if row["trial_id"] in wanted
    ]
    view.write_results("view", results)
    conditions = folder / "conditions"
    if not conditions.exists() and (home / "conditions").is_dir():
        conditions.symlink_to(home / "conditions", target_is_directory=True)
    score_by_names(view, metrics, show_progress=False)
    return view


def _facts(store: RunStore) -> dict[str, Any]:
    return {key: value for key, value in store.run_facts().items() if key != "format"}

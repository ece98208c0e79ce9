"""How fast this machine renders: measured by runs, read by the estimate of a plan.

A ratio is seconds per unit of a family's cost, seconds of one core or 10^12 operations.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

from bench.errors import UserError
from bench.plan.cost import GPU_TFLOPS, work_of
from bench.plan.plan import Plan
from bench.store import cache_folder
from bench.store.documents import read_json
from bench.store.files import write_json
from runners.families import family_traits

_N_KEPT = 5  # of the last runs of a family
_SPREAD = 2.0  # how far from the truth an estimate is that was not measured here


def record_speed(plan: Plan, seconds_of: dict[str, float]) -> None:
    """Record the speed of the batches that were rendered whole; `seconds_of` is by trial.

    Images take longer in a batch of which a part is already there, so such batches do not count.
    """
    whole = [g for g in plan.groups if all(t.trial_id in seconds_of for t in g.trials)]
    work = work_of(plan, whole)
    seconds = sum(seconds_of[trial.trial_id] for group in whole for trial in group.trials)
    if not work or seconds <= 0:
        return
    known = _known()
    family = plan.manifest.family
    known[family] = [*_ratios(known, family), seconds / work][-_N_KEPT:]
    try:
        write_json(cache_folder() / "speed.json", known)
    except UserError:  # a cache that cannot be written is no reason to fail a run
        return


def seconds_range(plan: Plan) -> tuple[float, float, bool] | None:
    """Return the least and the most seconds of a plan, and whether they were measured here.

    None where the family's cost is not known.
    """
    work, costs = work_of(plan, plan.groups), family_traits(plan.manifest.family).cost
    if work is None or costs is None:
        return None
    if ratios := _ratios(_known(), plan.manifest.family):
        return work * min(ratios), work * max(ratios), True
    per_unit = 1.0 if costs.unit == "seconds" else 1 / GPU_TFLOPS
    return work * per_unit / _SPREAD, work * per_unit * _SPREAD, False


def _known() -> dict[str, Any]:
    try:
        data = read_json(cache_folder() / "speed.json")
    except UserError:
        return {}
    return data if isinstance(data, dict) else {}


def _ratios(known: dict[str, Any], family: str) -> Collection[float]:
    listed = known.get(family)
    found = listed if isinstance(listed, list) else []
    return [r for r in found if isinstance(r, float) and math.isfinite(r) and r > 0]

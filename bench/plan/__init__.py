"""Resolve a manifest and a selection into a job, and the job into trials with their cost."""

from typing import TYPE_CHECKING

from plugins_manifest.lazy import lazy_names

if TYPE_CHECKING:
    from bench.plan.checks import preflight as preflight
    from bench.plan.conditions import ConditionSet as ConditionSet
    from bench.plan.cost import estimate as estimate
    from bench.plan.job import Job as Job
    from bench.plan.job import MissingItem as MissingItem
    from bench.plan.job import resolve_job as resolve_job
    from bench.plan.plan import Plan as Plan
    from bench.plan.plan import make_plan as make_plan
    from bench.plan.selection import Selection as Selection
    from bench.plan.trial import Trial as Trial

__all__ = [
    "ConditionSet",
    "Job",
    "MissingItem",
    "Plan",
    "Selection",
    "Trial",
    "estimate",
    "make_plan",
    "preflight",
    "resolve_job",
]
__getattr__ = lazy_names(
    __name__,
    {
        "ConditionSet": "bench.plan.conditions",
        "Job": "bench.plan.job",
        "MissingItem": "bench.plan.job",
        "Plan": "bench.plan.plan",
        "Selection": "bench.plan.selection",
        "Trial": "bench.plan.trial",
        "estimate": "bench.plan.cost",
        "make_plan": "bench.plan.plan",
        "preflight": "bench.plan.checks",
        "resolve_job": "bench.plan.job",
    },
)

"""Render the trials of a plan: cached, resumable, interruptible."""

from bench.render.audit import LoadAudit, audits_of, read_audits, remarks
from bench.render.budget import Budget
from bench.render.execute import Execution, Stopwatch
from bench.render.family import FamilyRenderer, context_of

__all__ = [
    "Budget",
    "Execution",
    "FamilyRenderer",
    "LoadAudit",
    "Stopwatch",
    "audits_of",
    "context_of",
    "read_audits",
    "remarks",
]

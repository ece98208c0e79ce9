"""Render the trials of a plan: cached, resumable, interruptible."""

from bench.render.audit import LoadAudit, audits_of, read_audits, remarks
from bench.render.budget import Budget
from bench.render.clock import Stopwatch
from bench.render.execute import Execution
from bench.render.family import FamilyRenderer

__all__ = [
    "Budget",
    "Execution",
    "FamilyRenderer",
    "LoadAudit",
    "Stopwatch",
    "audits_of",
    "read_audits",
    "remarks",
]

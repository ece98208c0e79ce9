"""Render the trials of a plan: cached, resumable, interruptible."""

from typing import TYPE_CHECKING

from plugins_manifest.lazy import lazy_names

if TYPE_CHECKING:
    from bench.render.audit import LoadAudit, audits_of, read_audits, remarks
    from bench.render.budget import Budget
    from bench.render.clock import Stopwatch
    from bench.render.execute import Execution
    from bench.render.family import FamilyRenderer, KeptModels, context_of

__all__ = [
    "Budget",
    "Execution",
    "FamilyRenderer",
    "KeptModels",
    "LoadAudit",
    "Stopwatch",
    "audits_of",
    "context_of",
    "read_audits",
    "remarks",
]
_HOMES = {
    "Budget": "bench.render.budget",
    "Execution": "bench.render.execute",
    "Stopwatch": "bench.render.clock",
    **dict.fromkeys(("FamilyRenderer", "KeptModels", "context_of"), "bench.render.family"),
    **dict.fromkeys(("LoadAudit", "audits_of", "read_audits", "remarks"), "bench.render.audit"),
}
__getattr__ = lazy_names(__name__, _HOMES)

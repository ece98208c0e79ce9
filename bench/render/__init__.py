"""Render the trials of a plan: cached, resumable, interruptible."""

from typing import TYPE_CHECKING

from plugins_manifest.lazy import lazy_names

if TYPE_CHECKING:
    from bench.render.audit import LoadAudit as LoadAudit
    from bench.render.audit import read_audits as read_audits
    from bench.render.audit import remarks as remarks
    from bench.render.execute import Execution as Execution
    from bench.render.execute import Stopwatch as Stopwatch
    from bench.render.family import FamilyRenderer as FamilyRenderer
    from bench.render.interrupts import watched_interrupts as watched_interrupts

__all__ = [
    "Execution",
    "FamilyRenderer",
    "LoadAudit",
    "Stopwatch",
    "read_audits",
    "remarks",
    "watched_interrupts",
]
__getattr__ = lazy_names(
    __name__,
    {
        "Execution": "bench.render.execute",
        "FamilyRenderer": "bench.render.family",
        "LoadAudit": "bench.render.audit",
        "Stopwatch": "bench.render.execute",
        "read_audits": "bench.render.audit",
        "remarks": "bench.render.audit",
        "watched_interrupts": "bench.render.interrupts",
    },
)

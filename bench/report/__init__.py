"""Write the tables of a run as text, Markdown, HTML and plots."""

from typing import TYPE_CHECKING

from plugins_manifest.lazy import lazy_names

if TYPE_CHECKING:
    from bench.report.cells import aligned as aligned
    from bench.report.cells import number as number
    from bench.report.cells import with_ends as with_ends
    from bench.report.text import format_compatibility as format_compatibility
    from bench.report.text import format_summary as format_summary
    from bench.report.write import write_report as write_report

_HOMES = {
    "write_report": "bench.report.write",
    "format_summary": "bench.report.text",
    "format_compatibility": "bench.report.text",
    "aligned": "bench.report.cells",
    "number": "bench.report.cells",
    "with_ends": "bench.report.cells",
}
__all__ = [
    "aligned",
    "format_compatibility",
    "format_summary",
    "number",
    "with_ends",
    "write_report",
]
__getattr__ = lazy_names(__name__, _HOMES)

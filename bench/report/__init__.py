"""Write the tables of a run as text, Markdown, HTML and plots."""

from typing import TYPE_CHECKING

from plugins_manifest.lazy import lazy_names

if TYPE_CHECKING:
    from bench.report.cells import aligned, number, with_ends
    from bench.report.sheets import draw_overview
    from bench.report.text import format_answers, format_summary
    from bench.report.write import write_report
    from plugins_manifest.outputs import csv_cell, one_line

__all__ = [
    "aligned",
    "csv_cell",
    "draw_overview",
    "format_answers",
    "format_summary",
    "number",
    "one_line",
    "with_ends",
    "write_report",
]
_HOMES = {
    "cells": ["aligned", "number", "with_ends"],
    "sheets": ["draw_overview"],
    "text": ["format_answers", "format_summary"],
    "write": ["write_report"],
}
_OUTPUTS = dict.fromkeys(("csv_cell", "one_line"), "plugins_manifest.outputs")
__getattr__ = lazy_names(
    __name__,
    {name: f"{__name__}.{module}" for module, names in _HOMES.items() for name in names} | _OUTPUTS,
)

"""Figures and tables fit for a paper: PDF and SVG in the width of a column, LaTeX and CSV.

The same tables give the same bytes. Fonts are embedded, methods differ without color, and bold
marks what a corrected test allows: settings that are not told from the plugin's best one.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from bench.analysis.glossary import method_name
from bench.analysis.numbers import number
from bench.analysis.words import is_judged, look, row_line, share, short_verdict
from bench.errors import UserError, shown_path
from bench.report.drawing import Look
from bench.report.plots import draw, sketches
from bench.report.text import worst_first
from bench.site.folder import FolderKind, SiteFolder
from bench.store import Row, RunStore, grouped, records
from plugins_manifest.folders import refuse_overlap
from plugins_manifest.outputs import csv_cell, latex

IN_A_COLUMN = Look(
    3.35,
    2.5,
    7.5,
    with_title=False,
    settings={"pdf.fonttype": 42, "svg.fonttype": "path"},
)
_KIND = FolderKind("--figures", "figures.json", "xbench-figures-1")
_FORMATS = {
    "pdf": {"metadata": {"CreationDate": None}},
    "svg": {"transparent": True, "metadata": {"Date": None}},
}
_HEADER = ("Plugin", "Method", "$t_0$", "Verdict", "Effect kept", "Look", "s / image")
_TEXTS = ("plugin", "kind", "method", "adapter")
_NUMBERS = (
    *("t0", "plugin_scale", "adapter_scale", "retention", "retention_low", "retention_high"),
    *("quality", "quality_low", "quality_high", "seconds", "peak_memory_mib"),
)


def open_figures(folder: Path, run: Path) -> SiteFolder:
    """Return a folder to write; raise `UserError` if it is the run's or has files of others."""
    refuse_overlap(folder, [run], option=_KIND.option)
    return SiteFolder(folder, _KIND)


def write_figures(store: RunStore, folder: SiteFolder) -> int:
    """Write the plots and tables of a run's verdicts into a folder; return the number of files.

    Those of an earlier call that the run does not have are removed.
    """
    rows = records(store.compatibility())
    if not is_judged(rows):
        raise UserError(f"{shown_path(store.folder)} has no verdicts, so there is nothing to draw")
    for _, sketch in sketches(rows):
        for ending, content in draw(sketch, IN_A_COLUMN, _FORMATS).items():
            folder.write(f"{sketch.name}.{ending}", content)
    for level in ("method", "setting"):
        of_level = [row for row in rows if row["level"] == level]
        order = worst_first({row["plugin"] for row in of_level}, rows)
        there = sorted(of_level, key=lambda row: order.index(row["plugin"]))
        folder.write(f"{level}s.tex", latex_table(there))
        folder.write(f"{level}s.csv", csv_table(there))
    folder.close()
    return len(folder.names)


def latex_table(rows: Sequence[Row]) -> str:
    """Return rows of `schema.COMPATIBILITY` as a LaTeX table for the package booktabs."""
    lines = [
        "% Written by xbench; needs \\usepackage{booktabs}.",
        "% Effect kept: 0 % as without the plugin, 100 % as on the base model, with 95 % intervals",
        "% over prompts. Bold: not told from the plugin's best setting by corrected paired tests.",
        "\\begin{tabular}{llllllr}",
        "\\toprule",
        " & ".join(_HEADER) + " \\\\",
    ]
    for group in grouped(rows, "plugin").values():
        lines.append("\\midrule")
        for i, row in enumerate(group):
            name = latex(row["plugin"]) if i == 0 else ""
            lines.append(" & ".join([name, *_latex_cells(row)]) + " \\\\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", ""])


def csv_table(rows: Sequence[Row]) -> str:
    """Return rows of `schema.COMPATIBILITY` as CSV: words, then numbers with their intervals."""
    words = ("verdict", "keeps", "images", "recommended", "among_best")
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*_TEXTS, *words, *_NUMBERS])
    for row in rows:
        cells = [row.get(name) or "" for name in _TEXTS]
        cells += [short_verdict(row), share(row), look(row)]
        cells += [_yes(row["recommended"]), _yes(row["among_best"])]
        cells += ["" if row[name] is None else row[name] for name in _NUMBERS]
        writer.writerow([csv_cell(cell) for cell in cells])
    return stream.getvalue()


def _latex_cells(row: Row) -> list[str]:
    kept = latex(share(row)) or "--"
    scales = [("plugin", row["plugin_scale"]), ("adapter", row["adapter_scale"])]
    marks = [f"{name} {scale:g}" for name, scale in scales if scale not in (None, 1.0)]
    return [
        latex(", ".join([method_name(row_line(row)), *marks])),
        "--" if row["t0"] is None else f"{row['t0']:g}",
        latex(short_verdict(row)) or "--",
        f"\\textbf{{{kept}}}" if row["among_best"] else kept,
        latex(row["quality_word"] or "") or "--",
        number(row["seconds"], digits=2, missing="--"),
    ]


def _yes(value: bool | None) -> str:
    return "" if value is None else "yes" if value else "no"

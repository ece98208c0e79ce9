"""Claims about the imports of the leaderboard: it reads result files and nothing else."""

import ast
import subprocess
import sys
from pathlib import Path

import leaderboard

FOLDER = Path(leaderboard.__file__).parent
OTHERS = ("bench", "metrics", "runners", "xadapter", "pocket", "plugins_manifest")
# readers of results, words, statistics and pages; nothing that renders, plans, scores or publishes
ALLOWED = (
    *("bench.analysis.words", "bench.analysis.answers", "bench.analysis.Answer"),
    "bench.analysis.glossary",
    *("bench.analysis.run_sentence", "bench.analysis.Arm", "bench.analysis.arm_order"),
    *("bench.analysis.summary.arm_of", "bench.publish.select.is_finished"),
    *("bench.render.audits_of", "bench.site.Addresses", "bench.site.Parts", "bench.site.asset"),
    *("bench.site.SiteContent", "bench.site.SitePlugin", "bench.site.SiteRun"),
    *("bench.analysis.numbers", "bench.registry.method_order", "bench.site.rendering"),
    *("bench.registry.line_of", "bench.registry.REFERENCES"),
    *("bench.site.examples", "bench.site.sources", "bench.site.runs", "bench.site.views"),
    *("bench.store", "bench.errors", "bench.report.styles", "bench.report.cells"),
    *("bench.report.number", "bench.report.with_ends"),
    *("bench.report.csv_cell", "bench.report.one_line"),
    *("bench.publish.base", "bench.publish.format", "bench.publish.locations"),
    *("bench.publish.StoreLocation", "bench.publish.UnreachableError", "bench.publish.is_remote"),
    *("bench.publish.local_folder", "bench.publish.open_location"),
    *("bench.publish.object_cache", "bench.registry.installed", "bench.registry.load_entry"),
    "metrics.stats",
)


def imported(path: Path) -> set[str]:
    """Return the names that a file imports from other packages of the project."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name.split(".")[0] in OTHERS}


def test_the_leaderboard_imports_only_what_reads_results() -> None:
    used = {name for path in FOLDER.rglob("*.py") for name in imported(path)}
    others = {name for name in used if not f"{name}.".startswith(tuple(f"{a}." for a in ALLOWED))}
    assert not others
    assert {name.rpartition(".")[0] for name in used} >= {"bench.errors", "bench.publish.format"}


def test_no_page_loads_torch() -> None:
    views = ", ".join(path.stem for path in (FOLDER / "views").glob("[a-z]*.py"))
    code = "import sys, leaderboard.serve, leaderboard.web.pictures"
    code += f"; from leaderboard.views import {views}"
    code += "; sys.exit(any(m in sys.modules for m in ('torch', 'diffusers', 'transformers')))"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)

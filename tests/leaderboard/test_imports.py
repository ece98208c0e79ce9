"""Claims about what the leaderboard is made of: results are files to it, nothing else."""

import ast
import subprocess
import sys
from pathlib import Path

import leaderboard

FOLDER = Path(leaderboard.__file__).parent
# the public files of a run, where they lie, and statistics; nothing that renders, plans or scores
ALLOWED = {
    *(
        "bench.store.schema",
        "bench.store.run_store",
        "bench.store.files",
        "bench.store.rows",
        "bench.errors",
        "bench.store.image_cache",
    ),
    *("bench.report.styles", "bench.publish.locations", "bench.publish.format"),
    *("metrics.stats.intervals", "metrics.stats.agreement", "metrics.stats.ratio"),
    "metrics.stats.preference",
}


def imported(path: Path) -> set[str]:
    """The modules of this project that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            whole = node.module == "bench"
            found |= {f"bench.{a.name}" for a in node.names} if whole else {node.module}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    ours = ("bench", "metrics", "runners", "xadapter", "pocket", "plugins_manifest")
    return {name for name in found if name.split(".")[0] in ours}


def test_the_leaderboard_imports_only_what_reads_results() -> None:
    used = {name for path in FOLDER.rglob("*.py") for name in imported(path)}
    assert used <= ALLOWED, used - ALLOWED
    assert used >= ALLOWED, f"no longer used: {ALLOWED - used}"


def test_no_page_loads_torch() -> None:
    views = ", ".join(path.stem for path in (FOLDER / "views").glob("[a-z]*.py"))
    code = "import sys, leaderboard.serve, leaderboard.web.pictures"
    code += f"; from leaderboard.views import {views}"
    code += "; sys.exit(any(m in sys.modules for m in ('torch', 'diffusers', 'transformers')))"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)

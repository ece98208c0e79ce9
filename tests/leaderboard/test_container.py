"""Claims about the Dockerfile; building it needs a container engine, which tests do not have."""

import re
import shlex
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

from click.testing import CliRunner

from bench.cli.main import main

ROOT = Path(__file__).resolve().parents[2]
_LEFT_OUT = re.compile(r"for name in (.*?); *\\?\n", re.DOTALL)


def left_out(path: str) -> set[str]:
    """Return the distributions that an overrides file leaves out."""
    found = _LEFT_OUT.search((ROOT / path).read_text())
    assert found is not None
    return set(found[1].replace("\\", " ").split())


def test_the_container_and_the_docs_leave_out_the_same() -> None:
    assert left_out("Dockerfile") == left_out("docs/deploy.md") >= {"torch", "diffusers"}


def test_the_site_and_what_runs_beside_it_load_without_what_is_left_out() -> None:
    without = {name.replace("-", "_").lower() for name in left_out("Dockerfile")}
    modules = [
        module
        for module, names in packages_distributions().items()
        if {name.replace("-", "_").lower() for name in names} & without
    ]
    assert {"torch", "cv2", "cleanfid"} <= set(modules)
    parts = [p.stem for p in (ROOT / "leaderboard").glob("[a-z]*.py")]
    code = f"import importlib, sys\nfor name in {modules!r}: sys.modules[name] = None\n"
    code += f"for name in {sorted(set(parts) - {'app', 'study_page'})!r}:\n"
    code += "    importlib.import_module(f'leaderboard.{name}')\n"
    code += "from leaderboard.views import compare, handover, overview, plugin, provenance, study\n"
    code += (
        "from leaderboard.views import tradeoff\nimport bench.publish.publish, bench.publish.s3\n"
    )
    code += "from metrics.stats.agreement import *\n"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_container_starts_a_command_that_exists_and_does_not_run_as_root() -> None:
    text = (ROOT / "Dockerfile").read_text()
    entry = re.search(r"ENTRYPOINT \[(.*)\]", text)
    assert entry is not None
    program, *arguments = shlex.split(entry[1].replace(",", " "))
    assert program == "xbench"
    assert CliRunner().invoke(main, [*arguments, "--help"]).exit_code == 0
    assert text.rindex("USER 10001:10001") > text.rindex("useradd --uid 10001")

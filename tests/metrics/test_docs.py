import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_tables_of_the_docs_are_those_of_the_registry():
    command = [sys.executable, str(ROOT / "scripts" / "metrics-table"), "--check"]
    done = subprocess.run(command, check=False, cwd=ROOT)
    assert done.returncode == 0, "run: scripts/metrics-table"

"""A third-party package that is installed for one Python process: entry points and a module."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.warm import run_warm


def in_process_with(
    folder: Path,
    *,
    module: str,
    entry_points: dict[str, dict[str, str]],
    code: str,
    renders: bool = False,
) -> Any:
    """Run code where the package `theirs` is installed; return what it prints as JSON.

    `entry_points` maps a group to name -> object of the module `theirs`. With `renders` the
    process starts with torch imported.
    """
    install(folder, module=module, entry_points=entry_points)
    env = {**os.environ, "PYTHONPATH": str(folder)}
    if renders:
        done = run_warm(code, env=env)
    else:
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def install(folder: Path, *, module: str, entry_points: dict[str, dict[str, str]]) -> None:
    """Install the package for processes that have the folder in PYTHONPATH."""
    info = folder / "theirs-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    lines = []
    for group, points in entry_points.items():
        lines += [f"[{group}]", *(f"{name} = theirs:{what}" for name, what in points.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    (folder / "theirs.py").write_text(module)

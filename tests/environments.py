"""Virtual environments of one test: with the libraries of the tests, without network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
STRANGER = """\
[project]
name = "metrics-tools"
version = "2.1"

[build-system]
requires = ["uv_build>=0.8,<1"]
build-backend = "uv_build"

[tool.uv.build-backend]
module-name = "metrics"
module-root = ""
"""


@dataclass(frozen=True)
class Environment:
    """A virtual environment; commands run in `work` with it activated."""

    folder: Path
    work: Path
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def packages(self) -> Path:
        (found,) = self.folder.glob("lib/python*/site-packages")
        return found

    def run(self, *command: object, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command as a user who activated the environment does."""
        own = {
            "VIRTUAL_ENV": str(self.folder),
            "PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "UV_OFFLINE": "1",
            "HF_HUB_OFFLINE": "1",
        }
        kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "UV_PYTHON")}
        return subprocess.run(
            [str(word) for word in command],
            check=False,
            capture_output=True,
            text=True,
            cwd=self.work,
            env={**kept, **own, **self.variables, **variables},
        )

    def xbench(self, *arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
        return self.run(self.python, "-m", "xbench", *arguments, **variables)

    def install(self, *arguments: object) -> None:
        """Install packages without their dependencies."""
        done = self.run("uv", "pip", "install", "-q", "--no-deps", *arguments)
        assert done.returncode == 0, done.stderr

    def uninstall(self, name: str) -> None:
        done = self.run("uv", "pip", "uninstall", "-q", name)
        assert done.returncode == 0, done.stderr


def make_environment(folder: Path, *, checkout: bool = True, **variables: str) -> Environment:
    """Make an environment with the libraries of this one.

    With `checkout` xbench is installed too, as an editable install of this checkout.
    """
    uv = shutil.which("uv")
    assert uv is not None, "the README's first command installs uv"
    made = folder / "environment"
    subprocess.run([uv, "venv", "-q", "--python", sys.executable, made], check=True)
    work = folder / "work"
    work.mkdir()
    found = Environment(made, work, variables)
    libraries = sysconfig.get_path("purelib")
    # sorted after the files of editable installs, as those of a shared environment are
    (found.packages / "zz_libraries.pth").write_text(f"{libraries}\n")
    if checkout:
        (found.packages / "zz_xbench.pth").write_text(f"{ROOT}\n")
    scripts = {"xbench": "xbench", "pytest": "pytest"}
    for name, module in scripts.items():
        script = made / "bin" / name
        script.write_text(f'#!/bin/sh\nexec "{found.python}" -P -m {module} "$@"\n')
        script.chmod(0o755)
    return found


def write_stranger(folder: Path, content: str = "score = 1.0\n") -> Path:
    """Write the project of another author whose package is named `metrics`, too."""
    package = folder / "metrics"
    package.mkdir(parents=True)
    (folder / "pyproject.toml").write_text(STRANGER)
    (package / "__init__.py").write_text(content)
    return folder

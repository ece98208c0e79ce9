"""Where a result comes from: versions, commit, device, command; without private paths."""

from __future__ import annotations

import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bench.errors import UserError, shown_path

PACKAGES = (
    *("xbench", "torch", "diffusers", "transformers", "peft", "accelerate", "safetensors"),
    *("numpy", "scipy", "pandas", "pyarrow", "open_clip_torch", "opencv-python-headless"),
)
_GIT_TIMEOUT_SECONDS = 5


def utc_now() -> str:
    """The time in ISO format, to the second."""
    return datetime.now(UTC).replace(microsecond=0).isoformat()


@cache
def versions() -> dict[str, str]:
    """Versions of Python and of every package that can change a pixel or a number."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def git_state() -> dict[str, Any] | None:
    """Commit of the project's checkout and whether it was changed; None if it is no checkout."""
    root = Path(__file__).parents[1]
    if not (root / ".git").exists():
        return None
    try:
        commit = _git(root, "rev-parse", "HEAD")
        return {"commit": commit, "changed": bool(_git(root, "status", "--porcelain", "-uno"))}
    except (OSError, subprocess.SubprocessError):
        return None


def _git(root: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", *words],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
        timeout=_GIT_TIMEOUT_SECONDS,
    )
    return done.stdout.strip()


def command_line() -> str:
    """The command as typed, with paths shortened."""
    words = [shown_path(Path(word)) if Path(word).is_absolute() else word for word in sys.argv[1:]]
    return shlex.join(["xbench", *words])


def choose_device(name: str) -> str:
    """The device meant by `--device`; imports torch. `UserError` for one that is not there."""
    import torch

    there = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        return next(kind for kind, is_there in there.items() if is_there)
    if not there.get(name):
        usable = ", ".join(kind for kind, is_there in there.items() if is_there)
        raise UserError(f"--device {name}: this machine has none that torch can use; try {usable}")
    return name


def device_facts(device: str) -> dict[str, Any]:
    """Kind and name of the device and the number of CPU threads; imports torch."""
    import torch

    is_cuda = device.startswith("cuda")
    name = torch.cuda.get_device_name() if is_cuda else platform.processor() or platform.machine()
    return {"kind": device, "name": name, "threads": torch.get_num_threads()}

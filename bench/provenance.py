"""Provenance of a result: versions, commit, device, command; without private paths."""

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
from plugins_manifest.installed import distributions

PACKAGES = (
    *("xbench", "torch", "diffusers", "transformers", "peft", "accelerate", "safetensors"),
    *("numpy", "scipy", "pandas", "pyarrow", "open_clip_torch", "opencv-python-headless"),
)
_GIT_TIMEOUT_SECONDS = 5


def utc_now() -> str:
    """Return the time in ISO format, to the second."""
    return datetime.now(UTC).replace(microsecond=0).isoformat()


@cache
def versions() -> dict[str, str]:
    """Return versions of Python and of every package that can change a pixel or a number."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def took_part(before: object) -> list[dict[str, Any]]:
    """Return the packages whose extensions took part, with those of earlier sessions of a run.

    Each has name, version, and its extensions as "group: name".
    """
    found: dict[tuple[str, str], set[str]] = {}
    earlier = before if isinstance(before, list) else []
    for package in (*earlier, *distributions()):
        if isinstance(package, dict):
            key = (str(package.get("name")), str(package.get("version")))
            found.setdefault(key, set()).update(map(str, package.get("extensions") or ()))
    return [
        {"name": name, "version": version, "extensions": sorted(extensions)}
        for (name, version), extensions in sorted(found.items())
    ]


def git_state() -> dict[str, Any] | None:
    """Return the checkout's commit and whether it was changed; None without a checkout."""
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
        ["git", "--no-optional-locks", *words],  # a full disk would leave the checkout locked
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
        timeout=_GIT_TIMEOUT_SECONDS,
    )
    return done.stdout.strip()


def command_line() -> str:
    """Return the command as typed, with paths shortened."""
    words = [shown_path(Path(word)) if Path(word).is_absolute() else word for word in sys.argv[1:]]
    return shlex.join(["xbench", *words])


def choose_device(name: str) -> str:
    """Resolve `--device`; imports torch. `UserError` for a device that is not available."""
    import torch

    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        return next(kind for kind, is_usable in available.items() if is_usable)
    if not available.get(name):
        usable = ", ".join(kind for kind, is_usable in available.items() if is_usable)
        kind, _, number = name.partition(":")
        if kind == "cuda" and number.isdecimal():
            raise UserError(f"--device {name}: use CUDA_VISIBLE_DEVICES={number} and --device cuda")
        raise UserError(f"--device {name}: this machine has none that torch can use; try {usable}")
    return name


def device_facts(device: str) -> dict[str, Any]:
    """Return kind and name of the device and the number of CPU threads; imports torch."""
    import torch

    is_cuda = device.startswith("cuda")
    name = torch.cuda.get_device_name() if is_cuda else platform.processor() or platform.machine()
    return {"kind": device, "name": name, "threads": torch.get_num_threads()}

"""What a kind of faults is, and what to survive one means."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Literal

import pytest

from plugins_manifest.errors import UserError

Group = Literal["A numbers", "B files", "C messages", "D servers"]
LONGEST_MESSAGE = 4000  # characters of one error


@dataclass(frozen=True)
class Fault:
    """One fault: `provoke` takes an empty folder and raises `AssertionError` if not survived."""

    name: str
    provoke: Callable[[Path], None]


@dataclass(frozen=True)
class Kind:
    """A kind of faults: named ones first, then drawn ones; the same seed gives the same faults."""

    name: str  # short, in lower case, as in a table
    group: Group
    title: str  # what must hold, as a sentence
    faults: Callable[[Random], Iterator[Fault]]
    count: int = 100  # faults that scripts/break-it tries
    sample: int = 5  # faults that the default tests try
    limit_s: int = 10  # per fault; more is a hang


def refuses(call: Callable[[], object], *words: str) -> str:
    """Assert that a call raises one clear `UserError` that contains the words; return its text."""
    with pytest.raises(UserError) as caught:
        call()
    text = str(caught.value)
    assert text.strip(), "the error is empty"
    assert len(text) <= LONGEST_MESSAGE, f"an error of {len(text)} characters"
    assert "Traceback" not in text, text
    for word in words:
        assert word in text, f"{word!r} is not in {text!r}"
    return text


def run_xbench(
    *arguments: str | Path,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    timeout: float = 300,
    before: Callable[[], None] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own, with caches and settings below `cwd`.

    `before` is called in that process first.
    """
    own = {
        "HOME": str(cwd),
        "XBENCH_CACHE": str(cwd / "xbench-cache"),
        "HF_HUB_OFFLINE": "1",
        "NO_COLOR": "1",
    }
    return subprocess.run(
        [sys.executable, "-m", "bench.cli.main", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **own, "PYTHONPATH": str(_ROOT), **(env or {})},
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout,
        check=False,
        preexec_fn=before,
    )


_ROOT = Path(__file__).resolve().parents[2]

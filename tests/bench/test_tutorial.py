"""Every command and file of docs/tutorial.md works, in order, in a fresh folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bench.store import RunStore, records
from bench.store.files import read_image

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial.md"
FILES = {"python": "train_lora.py", "yaml": "my-hatched.yaml"}
# of the default test: the same commands, with little work
SHORT = {
    "--n 400": "--n 16",
    "--steps 300": "--steps 2",
    "n: 16}": "n: 1}",
    "t0: [0.7, 0.9]": "t0: [0.7]",
    "methods:": "settings: {steps: 2}\nmethods:",
}


def blocks(text: str) -> list[tuple[str, str]]:
    """Return the fenced blocks, (language, content), in order."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def follow(text: str, folder: Path) -> list[str]:
    """Write the files of a text and run its commands; return what these print."""
    binaries = Path(sys.executable).parent
    environment = {
        **os.environ,
        "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
        "XBENCH_CACHE": str(folder / "cache"),
        "OMP_NUM_THREADS": "1",
    }
    printed = []
    for language, content in blocks(text):
        if language in FILES:
            (folder / FILES[language]).write_text(content)
        for command in content.splitlines() if language == "sh" else ():
            done = subprocess.run(
                command,
                shell=True,
                cwd=folder,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, f"{command}: {done.stderr}"
            printed.append(done.stdout)
    return printed


def shortened(text: str) -> str:
    for old, new in SHORT.items():
        assert old in text
        text = text.replace(old, new)
    return re.sub(
        r"my-run [0-9a-f]{6,}",
        "my-run $(ls my-run/images/*/* | head -1 | xargs basename -s .png)",
        text,
    )


@pytest.mark.timeout(600)
def test_the_tutorial_works_in_a_fresh_folder(tmp_path: Path, pocket_weights: None) -> None:
    printed = follow(shortened(TUTORIAL.read_text()), tmp_path)
    assert any("judged by  function pocket-style-rate" in text for text in printed)
    assert (tmp_path / "published").is_dir() and (tmp_path / "my-hatched.safetensors").is_file()
    made = read_image(tmp_path / "again.png").astype(int)
    images = [read_image(path) for path in sorted((tmp_path / "my-run/images").glob("*/*.png"))]
    assert min(np.abs(made - i).max() for i in images if i.shape == made.shape) <= 1


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_verdict_of_the_tutorial_holds(tmp_path: Path, pocket_weights: None) -> None:
    follow(TUTORIAL.read_text(), tmp_path)
    rows = records(RunStore.open(tmp_path / "my-run").compatibility())
    arms = {(r["method"], r["t0"]): r["retention"] for r in rows if r["level"] == "setting"}
    assert arms["xadapter", 0.9] > arms["sdedit", 0.9]

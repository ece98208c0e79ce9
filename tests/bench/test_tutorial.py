"""Every command and file of docs/tutorial.md works, in order, in a fresh folder."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from bench.analysis import answers
from bench.store import RunStore, read_image, records
from tests.warm_commands import warm_commands

pytestmark = pytest.mark.system

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial.md"
FILES = {"python": "train_lora.py", "yaml": "my-hatched.yaml"}
# of the default test: the same commands, with little work
SHORT = {
    "--n 400": "--n 16",
    "--steps 300": "--steps 2",
    "n: 32}": "n: 1}",
    "t0: [0.7, 0.9]": "t0: [0.7]",
    "methods:": "settings: {steps: 2}\nmethods:",
}


def blocks(text: str) -> list[tuple[str, str]]:
    """Return the fenced blocks, (language, content), in order."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def follow(text: str, folder: Path) -> list[str]:
    """Write the files of a text and run its commands; return what these print."""
    with warm_commands() as commands:
        return _follow(text, folder, f"{commands}{os.pathsep}{os.environ['PATH']}")


def _follow(text: str, folder: Path, path: str) -> list[str]:
    own = {"PATH": path, "XBENCH_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    environment = {**os.environ, **own}
    printed = []
    for language, content in blocks(text):
        if language in FILES:
            (folder / FILES[language]).write_text(content)
        if language == "sh":
            done = subprocess.run(
                ["bash", "-ec", content],
                cwd=folder,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, f"{content}: {done.stderr}"
            printed.append(done.stdout)
    return printed


def shortened(text: str) -> str:
    for old, new in SHORT.items():
        assert old in text
        text = text.replace(old, new)
    return text


@pytest.mark.timeout(600)
def test_the_tutorial_works_in_a_fresh_folder(tmp_path: Path, pocket_weights: None) -> None:
    printed = follow(shortened(TUTORIAL.read_text()), tmp_path)
    assert any("judged by  function pocket-style-projection" in text for text in printed)
    assert (tmp_path / "my-hatched.safetensors").is_file()
    assert (tmp_path / "published").is_dir()
    made = read_image(tmp_path / "again.png").astype(int)
    first = min((tmp_path / "my-run" / "images").glob("*/*.png"))
    assert np.abs(made - read_image(first)).max() <= 1


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_verdict_of_the_tutorial_holds(tmp_path: Path, pocket_weights: None) -> None:
    follow(TUTORIAL.read_text(), tmp_path)
    (answer,) = answers(records(RunStore.open(tmp_path / "my-run").compatibility()))
    assert answer.word == "lost"
    shown = " ".join(TUTORIAL.read_text().split())
    assert answer.sentence in shown

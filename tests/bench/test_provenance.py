"""Claims about what a run records of its origin."""

import os
import subprocess
from pathlib import Path

import pytest

from bench import provenance


def test_reading_the_state_of_a_checkout_does_not_write_its_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = ["-c", "user.name=a", "-c", "user.email=a@example.com"]
    (tmp_path / "file").write_text("one")
    for words in (["init", "-q"], ["add", "."], [*name, "commit", "-qm", "one"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    os.utime(tmp_path / "file", (1, 1))  # what the index has of it is out of date
    index = tmp_path / ".git" / "index"
    before = index.read_bytes()
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "bench" / "provenance.py"))
    state = provenance.git_state()
    assert state is not None and state["changed"] is False
    assert index.read_bytes() == before

"""Claims about the Dockerfile; building it needs a container engine, which tests do not have."""

import re
import shlex
from pathlib import Path

from click.testing import CliRunner

from bench.cli.main import main

ROOT = Path(__file__).resolve().parents[2]


def test_the_container_and_the_docs_install_the_same_extra() -> None:
    for path in ("Dockerfile", "docs/deploy.md"):
        text = (ROOT / path).read_text()
        assert re.findall(r'uv pip install[^"]*"[^"]*\[(\w+)\]"', text) == ["leaderboard"], path


def test_the_container_starts_a_command_that_exists_and_does_not_run_as_root() -> None:
    text = (ROOT / "Dockerfile").read_text()
    entry = re.search(r"ENTRYPOINT \[(.*)\]", text)
    assert entry is not None
    program, *arguments = shlex.split(entry[1].replace(",", " "))
    assert program == "xbench"
    assert CliRunner().invoke(main, [*arguments, "--help"]).exit_code == 0
    assert text.rindex("USER 10001:10001") > text.rindex("useradd --uid 10001")

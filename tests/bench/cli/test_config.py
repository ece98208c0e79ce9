"""Defaults of a user: which file, what wins, what is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from bench.cli.main import main
from bench.cli.user_config import configurable
from bench.cli.variables import SECRETS, VARIABLES
from tests.test_environment import named_in_the_page

PAGE = Path(__file__).resolve().parents[3] / "docs" / "environment.md"


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "folder" / "config.yaml"
    monkeypatch.setenv("XBENCH_CONFIG", str(path))
    for name in VARIABLES:  # also removes what a command of a test has set
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return path


def xbench(*words: str) -> Result:
    return CliRunner().invoke(main, list(words))


def refused(*words: str) -> str:
    result = xbench(*words)
    assert result.exit_code == 2, result.output
    return result.output


def test_a_variable_of_the_file_is_used_unless_the_environment_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert xbench("config", "set", "XBENCH_CACHE", str(tmp_path / "mine")).exit_code == 0
    assert "mine" in xbench("cache", "info").output
    monkeypatch.setenv("XBENCH_CACHE", str(tmp_path / "other"))
    assert "other" in xbench("cache", "info").output
    assert "(the environment has" in xbench("config").output


def test_an_option_of_the_file_is_used_unless_the_command_line_has_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert xbench("config", "set", "new.out", "made").exit_code == 0
    assert xbench("new", "method", "one").exit_code == 0
    assert xbench("new", "method", "two", "--out", "elsewhere").exit_code == 0
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["elsewhere", "folder", "made"]


def test_what_is_set_is_printed_and_can_be_unset(file: Path) -> None:
    xbench("config", "set", "run.batch-timeout", "600")
    xbench("config", "set", "HF_HOME", "/models")
    found = json.loads(xbench("config", "--json").output)
    assert found == {
        "path": str(file),
        "environment": {"HF_HOME": "/models"},
        "commands": {"run": {"batch-timeout": 600}},
    }
    xbench("config", "unset", "run.batch-timeout")
    xbench("config", "unset", "HF_HOME")
    assert json.loads(xbench("config", "--json").output)["commands"] == {}
    assert "no default for 'HF_HOME'" in refused("config", "unset", "HF_HOME")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("XBENCH_CASHE", "x", "did you mean 'XBENCH_CACHE'"),
        ("HF_TOKEN", "hf_x", "HF_TOKEN is a secret"),
        ("run.t0", "0.5", "run.t0 decides what is measured"),
        ("run.manifest", "pocket", "decides what is measured"),
        ("run.batch-timeuot", "1", "did you mean 'batch-timeout'"),
        ("run.batch-timeout", "soon", "run.batch-timeout: 'soon' is not a valid"),
        ("runn.device", "cpu", "did you mean 'run'"),
    ],
)
def test_a_mistake_is_one_message_and_changes_nothing(
    file: Path, name: str, value: str, message: str
) -> None:
    assert message in refused("config", "set", name, value)
    assert not file.exists()


def test_all_mistakes_of_a_file_are_listed_at_once(file: Path) -> None:
    file.parent.mkdir()
    file.write_text("environment: {XBENCH_CASHE: 1, HF_TOKEN: x}\ncommands: {run: {t0: 1}}\n")
    output = refused("cache", "info")
    for part in ("XBENCH_CASHE", "HF_TOKEN", "run.t0", str(file)):
        assert part in output
    file.write_text("environment: [1\n")
    assert "config.yaml" in refused("cache", "info")


def test_variables_are_those_of_the_page() -> None:
    page, own = PAGE.read_text(encoding="utf-8"), named_in_the_page()
    for name in (*VARIABLES, *SECRETS):
        assert name in own if name.startswith("XBENCH_") else f"`{name}`" in page, name


def test_every_command_can_be_configured_or_has_no_options() -> None:
    context = click.Context(main)
    for name in main.list_commands(context):
        assert isinstance(configurable(main, name), dict)
    assert "batch-timeout" in configurable(main, "run")
    assert "XBENCH_CONFIG" in os.environ

"""Claims about the command line as a whole: sections, verbosity, colors, shell completion."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from bench.cli.main import main
from bench.cli.output import LOGGERS, echo, is_quiet, note

ROOT = Path(__file__).parents[3]


def call(*words: str) -> Result:
    return CliRunner().invoke(main, list(words))


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Return a folder `photos` with one picture in the working folder."""
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save("photos/a.png")


@pytest.fixture
def probe() -> Iterator[str]:
    """Return a command that prints a colored result and a note."""

    @main.command("probe")
    def command() -> None:
        click.secho("result", fg="red")
        note("a note")
        note("another", err=True)

    yield "probe"
    del main.commands["probe"]


def test_help_lists_every_command_once_in_a_section() -> None:
    lines = call("--help").stdout.splitlines()
    listed = [line.split()[0] for line in lines if line.startswith("  ") and line[2].isalpha()]
    names = [word for word in listed if word in main.commands]
    assert sorted(names) == sorted(main.commands)
    titles = [line for line in lines if line.endswith(":") and not line.startswith(" ")]
    assert titles == ["Options:", "Run:", "Plugins and prompts:", "Results:", "Tools:"]


def test_every_command_has_a_help_text() -> None:
    def commands(group: click.Group, prefix: str) -> Iterator[tuple[str, click.Command]]:
        for name, command in group.commands.items():
            yield f"{prefix} {name}", command
            if isinstance(command, click.Group):
                yield from commands(command, f"{prefix} {name}")

    for name, command in commands(main, "xbench"):
        assert command.help, name
        assert command.get_short_help_str(200)[0].isupper(), name


def test_quiet_keeps_results_and_leaves_notes_out(probe: str) -> None:
    loud, quiet = call(probe), call("-q", probe)
    assert (loud.stdout, loud.stderr) == ("result\na note\n", "another\n")
    assert (quiet.stdout, quiet.stderr) == ("result\n", "")
    assert not is_quiet()


def test_quiet_keeps_errors_and_json(photos: None) -> None:
    failed = call("-q", "score", "nowhere")
    assert failed.exit_code == 2 and "there is no run directory nowhere" in failed.stderr
    plan = call("-q", "cache", "info", "--json")
    assert json.loads(plan.stdout)["images"] == 0


def test_quiet_runs_without_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    displayed = []

    def stop(request: object) -> None:
        displayed.append(vars(request)["show_progress"])
        raise KeyboardInterrupt

    monkeypatch.setattr("bench.run.run_benchmark", stop)
    for words in ([], ["--quiet"]):
        assert call(*words, "run", "--manifest", "pocket").exit_code == 130
    assert displayed == [True, False]


def test_verbose_prints_the_log_on_stderr_while_the_command_runs(photos: None) -> None:
    import logging

    words = ["conditions", "photos", "--detector", "canny", "--size", "64x64", "--out"]
    plain, detailed = call(*words, "one"), call("-vv", *words, "two")
    assert "wrote" not in plain.output
    assert "DEBUG bench.store.files: wrote two/a.png" in detailed.stderr
    assert detailed.stdout == "1 condition images in two\n"
    assert "DEBUG" not in call("--verbose", *words, "three").stderr
    for name in LOGGERS:
        assert logging.getLogger(name).handlers == []
        assert logging.getLogger(name).level == logging.NOTSET


def test_secrets_do_not_reach_the_log(probe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import logging

    def speak(text: str, **_: object) -> None:
        logging.getLogger("bench.probe").warning("got https://host/x?token=%s", text)

    monkeypatch.setattr("click.secho", speak)
    result = call("-v", probe)
    assert "got https://host/x?..." in result.stderr and "result" not in result.stderr


def test_verbose_and_quiet_exclude_each_other(probe: str) -> None:
    result = call("-q", "-v", probe)
    assert result.exit_code == 2 and "exclude each other" in result.stderr


def test_no_color_switches_colors_off(probe: str) -> None:
    def color(env: dict[str, str | None]) -> bool:
        return "\x1b[" in CliRunner().invoke(main, [probe], color=True, env=env).output

    assert color({"NO_COLOR": None}) and color({"NO_COLOR": ""})
    assert not color({"NO_COLOR": "1"})


def test_commands_print_through_one_module() -> None:
    for path in (ROOT / "bench").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        is_home = path.name in ("output.py", "start.py")
        assert is_home or not re.search(r"click\.s?echo|\bprint\(|std(out|err)\.write", text), path


@pytest.mark.parametrize("err", [False, True])
def test_text_of_others_reaches_the_terminal_without_codes_or_lines(err: bool) -> None:
    @main.command("probe")
    def command() -> None:
        echo("name \x1b[2J\nverdict: pass \u202e\ud800", err=err)

    result = call("probe")
    del main.commands["probe"]
    printed = result.stderr if err else result.stdout
    assert printed == "name \\x1b[2J\\nverdict: pass \\u202e\\ud800\n"


def test_log_lines_and_their_tracebacks_have_no_codes(probe: str) -> None:
    import logging

    @main.command("probe-log")
    def command() -> None:
        try:
            raise ValueError("\x1b]0;title\x07 token=abcdefgh")
        except ValueError:
            logging.getLogger("bench.probe").exception("failed \x9b31m")

    text = call("probe-log").stderr
    del main.commands["probe-log"]
    assert "Traceback" in text and "\\x1b]0;title\\x07 token=..." in text
    assert all(c.isprintable() or c == "\n" for c in text)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_get_a_completion_script(shell: str) -> None:
    done = complete({"_XBENCH_COMPLETE": f"{shell}_source"})
    assert "_XBENCH_COMPLETE" in done and "xbench" in done


def test_completion_knows_commands_and_options() -> None:
    shell = {"_XBENCH_COMPLETE": "bash_complete"}
    commands = complete({**shell, "COMP_WORDS": "xbench pl", "COMP_CWORD": "1"})
    assert commands.split() == ["plain,plan", "plain,plugins"]
    options = complete({**shell, "COMP_WORDS": "xbench run --dr", "COMP_CWORD": "2"})
    assert options.split() == ["plain,--dry-run"]


def complete(env: dict[str, str]) -> str:
    code = "from bench.cli.main import main; main(prog_name='xbench')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout

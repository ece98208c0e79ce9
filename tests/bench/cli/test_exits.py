"""Claims about exit codes: a crash is never a verdict, and leaves one message and a traceback."""

import errno
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from bench.cli import exits
from bench.cli.main import main
from plugins_manifest.errors import UserError

ROOT = Path(__file__).parents[3]


@pytest.fixture
def ends_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Result]]:
    """Return a function that runs a command which raises an error."""
    monkeypatch.setenv("XBENCH_CACHE", str(tmp_path / "cache"))

    def call(error: BaseException) -> Result:
        @main.command("probe")
        def command() -> None:
            raise error

        return CliRunner().invoke(main, ["probe"])

    yield call
    main.commands.pop("probe", None)


CRASHES = [
    *(ValueError("bad"), RuntimeError("no"), KeyError("k"), AssertionError(), TypeError("t")),
    *(MemoryError(), RecursionError("deep"), ImportError("torch"), SystemExit(1), SystemExit(0)),
    *(SystemExit("text"), GeneratorExit(), OSError(errno.EIO, "broken"), BrokenPipeError()),
    *(ExceptionGroup("two", [ValueError("a")]), UnicodeDecodeError("utf-8", b"x", 0, 1, "r")),
]


@pytest.mark.parametrize("error", CRASHES, ids=repr)
def test_an_unexpected_error_is_70_with_the_traceback_in_a_file(
    ends_with: Callable[..., Result], tmp_path: Path, error: BaseException
) -> None:
    result = ends_with(error)
    assert result.exit_code == exits.CRASH == 70
    assert result.stdout == "" and result.stderr.count("\n") == 1
    (file,) = (tmp_path / "cache" / "crashes").iterdir()
    assert str(file) in result.stderr and "Traceback" not in result.stderr
    assert "Traceback" in file.read_text() and type(error).__name__ in file.read_text()
    assert file.stat().st_mode & 0o077 == 0


def test_a_traceback_that_cannot_be_written_is_printed(
    ends_with: Callable[..., Result], tmp_path: Path
) -> None:
    (tmp_path / "cache").write_text("in the way")
    result = ends_with(ValueError("bad"))
    assert result.exit_code == 70
    assert "Traceback" in result.stderr and "no file can be written" in result.stderr
    assert (tmp_path / "cache").read_text() == "in the way"


def test_secrets_and_terminal_codes_of_an_error_are_neither_printed_nor_written(
    ends_with: Callable[..., Result], tmp_path: Path
) -> None:
    result = ends_with(ValueError("\x1b[2J https://user:pass@host/x?token=abc\nError: fine"))
    (file,) = (tmp_path / "cache" / "crashes").iterdir()
    for text in (result.stderr, file.read_text()):
        assert "pass@" not in text and "token=abc" not in text
        assert all(c.isprintable() or c == "\n" for c in text)
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UserError("fix it"), 2),
        (click.UsageError("usage"), 2),
        (click.ClickException("click"), 2),
        (click.FileError("f", "hint"), 2),
        (click.Abort(), 2),
        (OSError(errno.ENOSPC, "No space left on device", "file"), 2),
        (KeyboardInterrupt(), 130),
    ],
    ids=repr,
)
def test_what_a_user_can_fix_has_one_message_and_no_file(
    ends_with: Callable[..., Result], tmp_path: Path, error: BaseException, code: int
) -> None:
    result = ends_with(error)
    assert result.exit_code == code
    assert result.stderr.strip() and not (tmp_path / "cache").exists()


def test_a_command_ends_with_the_code_of_its_result() -> None:
    @main.command("probe")
    def command() -> None:
        exits.finish(exits.INCONCLUSIVE)

    assert CliRunner().invoke(main, ["probe"]).exit_code == 3
    del main.commands["probe"]


def xbench(words: str, tmp_path: Path, *, code: str = "", shell: str = "") -> tuple[int, str]:
    """Return exit code and standard error of the program, run by bash after some Python code."""
    program = f"{code}\nfrom bench.cli.start import main\nmain()"
    (tmp_path / "program.py").write_text(program)
    env = {**os.environ, "PYTHONPATH": str(ROOT), "XBENCH_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{sys.executable} program.py {words} {shell}"],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr


def test_a_broken_installation_is_70_and_not_a_verdict(tmp_path: Path) -> None:
    broken = "import sys\nsys.modules['bench.cli.gate'] = None"
    code, message = xbench("gate a b", tmp_path, code=broken)
    assert code == 70 and "install xbench again" in message and message.count("\n") == 1
    worse = "import sys\nsys.modules['plugins_manifest'] = None"
    code, message = xbench("gate a b", tmp_path, code=worse)
    assert code == 70 and "Traceback" in message


def test_a_closed_pipe_is_quiet_and_no_verdict(tmp_path: Path) -> None:
    code, message = xbench("metrics list", tmp_path, shell="| true")  # gone before the first byte
    assert code == 141 and message == ""
    code, message = xbench("metrics list", tmp_path, shell=">&-")
    assert code == 0 and message == ""


def test_a_full_disk_behind_the_output_is_a_user_error(tmp_path: Path) -> None:
    for words in ("--help", "metrics list", "metrics list --json"):
        code, message = xbench(words, tmp_path, shell="> /dev/full")
        assert code == 2 and message.startswith("Error: no room left"), words
        assert message.count("\n") == 1


def test_characters_that_the_output_cannot_encode_are_escaped(tmp_path: Path) -> None:
    code, message = xbench("plan --manifest é.yaml", tmp_path, code="")
    assert code == 2 and "é" in message
    encoded = "import sys\nsys.stderr.reconfigure(encoding='latin-1', errors='strict')"
    code, message = xbench("plan --manifest 東.yaml", tmp_path, code=encoded)
    assert code == 2 and "\\u6771" in message


def test_the_table_of_exit_codes_is_the_programs() -> None:
    text = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    section = text.partition("## Exit codes")[2].partition("\n## ")[0]
    codes = [int(code) for code in re.findall(r"^\| (\d+) \|", section, re.MULTILINE)]
    declared = {exits.OK, exits.NEGATIVE, exits.USER_ERROR, exits.INCONCLUSIVE, exits.CRASH}
    assert codes == sorted({*declared, 129, 130, exits.BROKEN_PIPE, 143})


def test_no_command_ends_the_interpreter_itself() -> None:
    for path in (ROOT / "bench").rglob("*.py"):
        ends = re.search(r"sys\.exit\(|os\._exit|raise SystemExit", path.read_text("utf-8"))
        assert path.name in ("start.py", "serve.py") or not ends  # the two that begin a process

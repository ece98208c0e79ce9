"""Claims about installations: the wheel, and packages of others with the names of ours."""

import re
import subprocess
import zipfile
from pathlib import Path

import pytest

from tests.environments import ROOT, Environment, make_environment, write_stranger
from xbench.packages import NAMES

pytestmark = pytest.mark.system

COMMAND = ("metrics", "--help")


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    """Make an environment where this checkout is installed."""
    return make_environment(tmp_path)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    build = ["uv", "build", "-q", "--offline", "--wheel", "--out-dir", out]
    subprocess.run(build, check=True, cwd=ROOT)
    (found,) = out.glob("*.whl")
    return found


def message(done: subprocess.CompletedProcess[str]) -> str:
    """Return the one message of a command that was refused."""
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("Error: ") and "uv tool install" in line
    return line


def test_without_a_stranger_the_command_runs(environment: Environment) -> None:
    done = environment.xbench(*COMMAND)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("options", [(), ("--editable",)], ids=["installed", "editable"])
def test_an_installed_package_that_hides_ours_is_named(
    environment: Environment, tmp_path: Path, options: tuple[str, ...]
) -> None:
    stranger = write_stranger(tmp_path / "stranger")
    environment.install(*options, stranger)
    home = stranger if options else environment.packages
    text = message(environment.xbench(*COMMAND))
    assert str(home / "metrics" / "__init__.py") in text
    assert "(metrics-tools 2.1) hides xbench's own package 'metrics'" in text
    assert "uninstall metrics-tools 2.1" in text
    environment.uninstall("metrics-tools")
    assert environment.xbench(*COMMAND).returncode == 0


def test_a_folder_of_pythonpath_is_named(environment: Environment, tmp_path: Path) -> None:
    stranger = write_stranger(tmp_path / "stranger")
    text = message(environment.xbench(*COMMAND, PYTHONPATH=str(stranger)))
    assert f"remove '{stranger}' from PYTHONPATH" in text


@pytest.mark.parametrize("name", ["metrics.py", "bench.py"])
def test_a_module_in_the_working_folder_is_named(environment: Environment, name: str) -> None:
    """`python -m` searches the working folder first, the command `xbench` does not."""
    (environment.work / name).write_text("score = 1.0\n")
    text = message(environment.xbench(*COMMAND))
    assert str(environment.work / name) in text and "run it in another folder" in text
    assert environment.run("xbench", *COMMAND).returncode == 0


def test_a_folder_that_is_not_a_package_hides_nothing(environment: Environment) -> None:
    (environment.work / "metrics").mkdir()
    (environment.work / "metrics" / "notes.py").write_text("score = 1.0\n")
    assert environment.xbench(*COMMAND).returncode == 0


def test_all_hidden_packages_are_in_one_message(environment: Environment) -> None:
    for name in ("metrics.py", "runners.py", "bench.py"):
        (environment.work / name).write_text("")
    text = message(environment.xbench(*COMMAND))
    assert all(f"'{name}'" in text for name in ("metrics", "runners", "bench"))
    assert text.count("uv tool install") == 1


def test_importing_a_public_name_gives_the_same_message(environment: Environment) -> None:
    (environment.work / "metrics.py").write_text("")
    done = environment.run(environment.python, "-c", "from xbench import Score")
    assert "ImportError: " in done.stderr and "hides xbench's own package 'metrics'" in done.stderr


def test_a_package_that_was_installed_over_ours_is_named(tmp_path: Path, wheel: Path) -> None:
    environment = make_environment(tmp_path, checkout=False)
    environment.install(wheel)
    assert environment.xbench(*COMMAND).returncode == 0
    environment.install(write_stranger(tmp_path / "stranger"))
    text = message(environment.xbench(*COMMAND))
    assert "metrics-tools 2.1 has overwritten" in text
    assert "uninstall metrics-tools 2.1 and install xbench again" in text
    environment.uninstall("metrics-tools")  # takes our file with it
    text = message(environment.xbench(*COMMAND))
    assert f"'{environment.packages / 'metrics' / '__init__.py'}' is missing" in text
    environment.install("--reinstall", wheel)
    assert environment.xbench(*COMMAND).returncode == 0


def test_ours_that_was_installed_over_a_package_works_and_is_reported(
    tmp_path: Path, wheel: Path
) -> None:
    environment = make_environment(tmp_path, checkout=False)
    environment.install(write_stranger(tmp_path / "stranger"))
    environment.install(wheel)
    assert environment.xbench(*COMMAND).returncode == 0
    report = "from xbench.packages import package_problems; print(*package_problems(), sep='\\n')"
    done = environment.run(environment.python, "-c", report)
    assert done.stdout.count("Problem(") == 1, done.stderr
    assert "metrics-tools 2.1 claims the same file" in done.stdout


def test_a_file_of_ones_own_change_is_reported_and_not_refused(tmp_path: Path, wheel: Path) -> None:
    environment = make_environment(tmp_path, checkout=False)
    environment.install(wheel)
    with (environment.packages / "metrics" / "__init__.py").open("a") as file:
        file.write("\n")
    assert environment.xbench(*COMMAND).returncode == 0
    report = "from xbench.packages import package_problems; print(*package_problems(), sep='\\n')"
    done = environment.run(environment.python, "-c", report)
    assert "changed or missing" in done.stdout


def test_the_wheel_has_what_commands_need_and_nothing_else(wheel: Path) -> None:
    assert wheel.stat().st_size < 95e6  # PyPI takes 100 MB
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
        metadata = next(name for name in names if name.endswith(".dist-info/METADATA"))
        text = archive.read(metadata).decode()
    info = metadata.partition("/")[0]
    assert {name.partition("/")[0] for name in names} == {*NAMES, info}
    tracked = subprocess.run(
        ["git", "ls-files", *NAMES], check=True, cwd=ROOT, capture_output=True, text=True
    )
    assert set(tracked.stdout.splitlines()) <= names
    head, _, body = text.partition("\n\n")
    assert "Description-Content-Type: text/markdown" in head
    assert "License-Expression: Apache-2.0" in head and f"{info}/licenses/LICENSE" in names
    assert set(re.findall(r"Provides-Extra: (\w+)", head)) == {"leaderboard", "ray", "render"}
    base = [line for line in head.splitlines() if line.startswith("Requires-Dist")]
    assert not [line for line in base if "torch" in line and "extra ==" not in line]
    # a package index does not resolve relative links
    assert body.strip() and re.findall(r"\]\((?!https://)[^)]*\)", body) == []


def test_pyright_accepts_packages_that_use_the_public_names(environment: Environment) -> None:
    for kind in ("method", "metric", "family"):
        done = environment.xbench("-q", "new", kind, f"typed-{kind}")
        assert done.returncode == 0, done.stderr
    command = ("pyright", "--pythonpath", environment.python, *environment.work.glob("*/src"))
    done = environment.run(*command)
    assert done.returncode == 0, done.stdout

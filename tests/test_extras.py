"""Claims about the extras: what works without their packages, and the message of what does not."""

import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from plugins_manifest.extras import EXTRAS, missing_extra
from tests.environments import ROOT

pytestmark = pytest.mark.system

BLOCKED = """\
import sys
from plugins_manifest.extras import EXTRAS
for module in EXTRAS[sys.argv.pop(1)]:
    sys.modules[module] = None
"""
COMMAND = f"{BLOCKED}from xbench.start import main\nmain()\n"
LORA = "pocket/weights/lora-outline.safetensors"
# commands that work without `render`, with their exit codes
WITHOUT_RENDER = {
    "plan": ("plan --manifest pocket-smoke", 0),
    "report": ("report run", 0),
    "explain": ("explain run {trial}", 0),
    "repair": ("repair run", 0),
    "gate": ("gate run other", 0),
    "publish": ("publish run --to published", 0),
    "plugins list": ("plugins list --manifest pocket-smoke", 0),
    "plugins inspect": (f"plugins inspect {ROOT / LORA}", 1),
    "metrics list": ("metrics list", 0),
    "new": ("new metric brightness", 0),
}
NEED_RENDER = (
    "run --manifest pocket-smoke --out new-run",
    "score run",
    "train --out trained",
    "metrics selftest pocket-clip",
    f"conditions {ROOT / 'docs' / 'images'} --detector canny --out conditions",
)
NEED_LEADERBOARD = ("leaderboard run", "votes collect run", "votes export --out votes")


def call(folder: Path, extra: str, arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command where no package of an extra can be imported."""
    return subprocess.run(
        [sys.executable, "-c", COMMAND, extra, *arguments.split()],
        check=False,
        capture_output=True,
        text=True,
        cwd=folder,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder with two finished runs."""
    folder = tmp_path_factory.mktemp("extras")
    for name in ("run", "other"):
        shutil.copytree(ROOT / "tests" / "data" / "old-run", folder / name)
    return folder


@pytest.mark.parametrize("name", WITHOUT_RENDER)
def test_reading_works_without_the_packages_that_render(name: str, folder: Path) -> None:
    command, code = WITHOUT_RENDER[name]
    trial = next(path.stem for path in sorted((folder / "run" / "images").rglob("*.*")))
    done = call(folder, "render", command.format(trial=trial))
    assert done.returncode == code, done.stdout + done.stderr
    assert "extra" not in done.stderr


@pytest.mark.parametrize("arguments", NEED_RENDER)
def test_rendering_names_the_extra_that_it_lacks(arguments: str, folder: Path) -> None:
    done = call(folder, "render", arguments)
    assert done.returncode == 2, done.stdout + done.stderr
    assert (
        done.stderr.startswith("Error: torch is not installed") and "xbench[render]" in done.stderr
    )
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("arguments", NEED_LEADERBOARD)
def test_serving_names_the_extra_that_it_lacks(arguments: str, folder: Path) -> None:
    done = call(folder, "leaderboard", arguments)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "xbench[leaderboard]" in done.stderr and len(done.stderr.splitlines()) == 1


def test_the_pages_load_without_the_packages_that_render() -> None:
    code = f"{BLOCKED}from leaderboard.ui import pages\nassert len(pages()) > 6\n"
    code += "import leaderboard.serve, leaderboard.study.admin, bench.publish.s3\n"
    command = [sys.executable, "-c", code, "render"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "left out" not in done.stderr


def test_doctor_reports_a_missing_extra_once(folder: Path) -> None:
    done = call(folder, "render", "doctor")
    assert done.returncode == 1
    problems = [line for line in done.stdout.splitlines() if line.startswith("problem")]
    assert len(problems) == 1 and "xbench[render]" in problems[0]


def test_the_modules_of_an_extra_are_those_of_its_packages() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    declared = project["project"]["optional-dependencies"]
    providers = packages_distributions()
    for extra, modules in EXTRAS.items():
        names = {re.split(r"[\[>]", requirement)[0] for requirement in declared[extra]}
        plain = {re.sub(r"[-_.]+", "-", name).lower() for name in names}
        found = {
            re.sub(r"[-_.]+", "-", name).lower() for m in modules for name in providers.get(m, [])
        }
        assert found & plain == plain, extra


def test_only_a_missing_package_of_an_extra_is_explained() -> None:
    assert missing_extra(ModuleNotFoundError("no", name="a_package_that_is_nowhere")) is None
    assert missing_extra(ModuleNotFoundError("no", name="torch.nowhere")) is None  # it is here
    assert missing_extra(ImportError("no", name="torch")) is None

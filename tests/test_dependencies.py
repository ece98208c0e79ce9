"""Claims about the bounds of dependencies, and about what holds them: workflows and a script."""

import importlib
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = (
    "bench",
    "leaderboard",
    "metrics",
    "plugins_manifest",
    "pocket",
    "runners",
    "xadapter",
    "xbench",
)
PAGES = ("leaderboard.app", "leaderboard.study_page")  # scripts that Streamlit runs
LOWEST = ROOT / "scripts" / "lowest-versions"
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


_REQUIREMENT = re.compile(r"([\w.-]+)(?:\[\w+\])?>=(\d[\d.]*)(?:,<\d[\d.]*)?")


_PIN = re.compile(r"([\w.-]+)==([^\s;]+)(?: ; .+)?")


def plain(name: str) -> str:
    """Return a distribution's name as pip compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


EXTRAS = PROJECT["project"]["optional-dependencies"]


def needed() -> list[str]:
    """Return what a checkout installs."""
    base, dev = PROJECT["project"]["dependencies"], PROJECT["dependency-groups"]["dev"]
    return [*base, *EXTRAS["render"], *EXTRAS["leaderboard"], *dev]


def requirements() -> list[str]:
    return [*needed(), *EXTRAS["ray"]]


def numbers(release: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", release)]


def test_every_dependency_has_a_lower_bound() -> None:
    assert [r for r in requirements() if not _REQUIREMENT.fullmatch(r)] == []


def test_installed_versions_keep_the_bounds_and_the_lowest_are_the_bounds() -> None:
    """A bound below what another library demands would be a claim that nothing tests."""
    is_lowest = os.environ.get("XBENCH_LOWEST") == "1"
    for name, bound in (found.groups() for r in needed() if (found := _REQUIREMENT.fullmatch(r))):
        installed, least = numbers(version(name)), numbers(bound)
        assert installed >= least, name
        assert not is_lowest or installed[: len(least)] == least, name


def test_bounds_that_are_explained_are_the_declared_ones() -> None:
    text = (ROOT / "docs" / "dependencies.md").read_text()
    explained = re.findall(r"^\| `([^`]+[<>=][^`]+)` \|", text, re.MULTILINE)
    assert len(explained) > 5
    assert set(explained) <= set(requirements())


def test_every_module_can_be_imported() -> None:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            if name not in PAGES and not name.endswith("__main__"):
                importlib.import_module(name)


def test_the_image_is_built_with_exact_versions_within_the_bounds() -> None:
    """The file names no package index: the builder's own is used."""
    lines = (ROOT / "docker" / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert [line for line in pins if not _PIN.fullmatch(line)] == []
    assert [line for line in pins if re.search(r"://|@|--", line)] == []
    versions: dict[str, list[str]] = {}
    for name, release in (found.groups() for line in pins if (found := _PIN.match(line))):
        versions.setdefault(plain(name), []).append(release)
    assert "uv" in versions
    assert "torch" not in versions
    for requirement in (*PROJECT["project"]["dependencies"], *EXTRAS["leaderboard"]):
        found = _REQUIREMENT.fullmatch(requirement)
        assert found is not None
        below = requirement.partition("<")[2]
        for release in versions[plain(found[1])]:
            assert numbers(release) >= numbers(found[2]), requirement
            assert not below or numbers(release) < numbers(below), requirement


def test_bounds_that_keep_loading_safe_hold() -> None:
    """From torch 2.10 on `weights_only` is safe; the next diffusers may change its pipelines."""
    bounds = EXTRAS["render"]
    (torch,) = (b for b in bounds if b.startswith("torch>="))
    assert numbers(torch) >= [2, 10]
    assert [b for b in bounds if b.startswith("diffusers>=") and b.endswith(",<1")]


def test_the_image_is_pinned_and_its_user_is_a_number() -> None:
    text = (ROOT / "Dockerfile").read_text()
    (image,) = re.findall(r"^ARG PYTHON_IMAGE=(.*)$", text, re.MULTILINE)
    assert re.fullmatch(r"python:3\.11-slim@sha256:[0-9a-f]{64}", image)
    assert set(re.findall(r"^FROM (\S+)", text, re.MULTILINE)) == {"${PYTHON_IMAGE}"}
    assert re.findall(r"^USER (.*)$", text, re.MULTILINE) == ["10001:10001"]
    assert text.count("--constraint") == 2


@pytest.mark.parametrize("path", [*WORKFLOWS, ROOT / "action.yml"], ids=lambda path: path.name)
def test_every_action_is_pinned_by_its_commit_with_its_version(path: Path) -> None:
    used = re.findall(r"uses: (.*)$", path.read_text(), re.MULTILINE)
    assert used != []
    for action in used:
        assert re.fullmatch(r"[\w-]+(/[\w-]+)+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action)


@pytest.mark.network
def test_pins_are_what_their_names_mean_today() -> None:
    """A release pins again: `scripts/pin`."""
    subprocess.run([sys.executable, ROOT / "scripts" / "pin", "--check"], check=True)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_run_scripts_that_exist_and_pin_their_actions(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text())
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"] > 0 and "permissions" not in job
        steps = job["steps"]
        for action in (step["uses"] for step in steps if "uses" in step):
            assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action)
        named = re.findall(r"\.ci/\w+|scripts/[\w-]+", "\n".join(s.get("run", "") for s in steps))
        assert named != []
        assert [name for name in named if not os.access(ROOT / name, os.X_OK)] == []


def test_a_change_and_a_week_are_tested() -> None:
    triggers = {path.name: yaml.safe_load(path.read_text())[True] for path in WORKFLOWS}  # "on"
    assert {"push", "pull_request"} <= set(triggers["tests.yml"])
    assert "schedule" in triggers["weekly.yml"]


def test_the_script_for_lowest_versions_runs_tests_that_exist() -> None:
    subprocess.run(["bash", "-n", LOWEST], check=True)
    named = re.findall(r"\btests/[\w/]+(?:\.py)?", LOWEST.read_text())
    assert len(named) > 10
    assert [name for name in named if not (ROOT / name).exists()] == []

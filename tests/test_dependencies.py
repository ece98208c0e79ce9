"""Claims about the bounds of dependencies, and about what holds them: workflows and a script."""

import importlib
import os
import re
import subprocess
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("bench", "leaderboard", "metrics", "plugins_manifest", "pocket", "runners", "xadapter")
PAGES = ("leaderboard.app", "leaderboard.study_page")  # scripts that Streamlit runs
LOWEST = ROOT / "scripts" / "lowest-versions"
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


_REQUIREMENT = re.compile(r"([\w.-]+)(?:\[\w+\])?>=(\d[\d.]*)(?:,<\d[\d.]*)?")


def needed() -> list[str]:
    return [*PROJECT["project"]["dependencies"], *PROJECT["dependency-groups"]["dev"]]


def requirements() -> list[str]:
    extras = PROJECT["project"]["optional-dependencies"].values()
    return [*needed(), *(requirement for extra in extras for requirement in extra)]


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
    explained = re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)
    assert len(explained) > 5
    assert set(explained) <= set(requirements())


def test_every_module_can_be_imported() -> None:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            if name not in PAGES:
                importlib.import_module(name)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_run_scripts_that_exist_and_pin_their_actions(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text())
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"] > 0
        steps = job["steps"]
        for action in (step["uses"] for step in steps if "uses" in step):
            assert re.fullmatch(r"[\w-]+/[\w-]+@(v\d+|[0-9a-f]{40})", action)
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

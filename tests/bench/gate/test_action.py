"""The GitHub Action's own script, run by bash over drawn runs."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.bench.gate.gate_runs import POLICY, write_run

ROOT = Path(__file__).parents[3]
ACTION = yaml.safe_load((ROOT / "action.yml").read_text())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("action")
    write_run(root / "baseline")
    write_run(root / "equal", noise_seed=1, mapper="c" * 64)
    write_run(root / "worse", noise_seed=2, mapper="d" * 64, losses={"edge-f1": 0.1})
    write_run(root / "few", noise_seed=3, mapper="d" * 64, failed=3)
    (root / "policy.yaml").write_text(yaml.safe_dump(POLICY))
    uv = root / "bin" / "uv"  # stands for `uv run [options] xbench`
    uv.parent.mkdir()
    call = f'exec "{sys.executable}" -m bench.cli.main "$@"'
    uv.write_text(f'#!/bin/sh\nwhile [ "$1" != xbench ]; do shift; done\nshift\n{call}\n')
    uv.chmod(0o755)
    (uv.parent / "python").symlink_to(sys.executable)
    return root


def gate_step() -> dict:
    return next(step for step in ACTION["runs"]["steps"] if step.get("id") == "gate")


def run_step(
    folder: Path, tmp_path: Path, *, program: str = "bin", **inputs: str
) -> tuple[int, dict[str, str], str]:
    """Exit code, outputs and step summary of the gate step; `program` is the folder of `uv`."""
    given = {
        "out": "unused",
        "adapter": "",
        "manifest": "",
        "policy": "",
        "candidate": "",
        **inputs,
    }
    env = {
        name: given.get(name.lower().replace("_", "-"), "false")
        for name, value in gate_step()["env"].items()
        if "inputs." in value
    }
    files = {"GITHUB_OUTPUT": tmp_path / "output", "GITHUB_STEP_SUMMARY": tmp_path / "summary"}
    for path in files.values():
        path.touch()
    search = os.pathsep.join([str(folder / program), str(folder / "bin"), os.environ["PATH"]])
    env |= {**os.environ, **env, **{k: str(v) for k, v in files.items()}, "PATH": search}
    env |= {"GITHUB_ACTION_PATH": str(ROOT), "PYTHONPATH": str(ROOT)}
    env |= {"XBENCH_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        ["bash", "-e", "-c", gate_step()["run"]], cwd=tmp_path, env=env, check=False
    )
    lines = files["GITHUB_OUTPUT"].read_text().splitlines()
    outputs = dict(line.split("=", 1) for line in lines)
    return done.returncode, outputs, files["GITHUB_STEP_SUMMARY"].read_text()


def replaced_program(folder: Path, name: str, script: str) -> str:
    """Write another `uv` into a folder; return the folder's name."""
    uv = folder / name / "uv"
    uv.parent.mkdir(exist_ok=True)
    uv.write_text(f"#!/bin/sh\n{script}\n")
    uv.chmod(0o755)
    return name


@pytest.mark.parametrize(
    ("candidate", "code", "verdict"),
    [("equal", 0, "pass"), ("worse", 1, "regression"), ("few", 3, "inconclusive")],
)
def test_the_job_ends_as_the_gate_does(
    folder: Path, tmp_path: Path, candidate: str, code: int, verdict: str
):
    names = {"baseline": folder / "baseline", "candidate": folder / candidate}
    found, outputs, summary = run_step(
        folder,
        tmp_path,
        policy=str(folder / "policy.yaml"),
        **{k: str(v) for k, v in names.items()},
    )
    assert found == code
    assert outputs["verdict"] == verdict and outputs["exit-code"] == str(code)
    assert f"gate: {verdict}" in summary
    assert (tmp_path / outputs["junit"]).is_file() and (tmp_path / outputs["markdown"]).is_file()


def test_an_inconclusive_gate_may_be_let_through(folder: Path, tmp_path: Path):
    code, outputs, _ = run_step(
        folder,
        tmp_path,
        baseline=str(folder / "baseline"),
        candidate=str(folder / "few"),
        policy=str(folder / "policy.yaml"),
        **{"allow-inconclusive": "true"},
    )
    assert code == 0 and outputs["verdict"] == "inconclusive"


def test_a_user_error_fails_the_job_with_2(folder: Path, tmp_path: Path):
    missing = str(folder / "nowhere")
    code, outputs, _ = run_step(folder, tmp_path, baseline=missing, candidate=str(folder / "equal"))
    assert code == 2 and outputs == {}


@pytest.mark.parametrize("code", [0, 1, 3, 70, 137])
@pytest.mark.parametrize("has_old_verdict", [False, True])
def test_a_program_that_does_not_run_is_no_verdict(
    folder: Path, tmp_path: Path, code: int, has_old_verdict: bool
):
    candidate = tmp_path / "candidate"
    candidate.mkdir()
    if has_old_verdict:
        verdict = {0: "pass", 1: "regression", 3: "inconclusive"}.get(code, "pass")
        (candidate / "gate.json").write_text(f'{{"verdict": "{verdict}"}}')
    for inputs in ({"candidate": str(candidate)}, {"out": str(candidate)}):
        program = replaced_program(folder, f"ends-{code}", f"exit {code}")
        found, outputs, summary = run_step(
            folder, tmp_path, program=program, baseline="b", **inputs
        )
        assert found == (70 if code in (0, 1, 3) else code)
        assert outputs == {} and summary == ""


def test_a_verdict_that_contradicts_the_exit_code_is_none(folder: Path, tmp_path: Path):
    (tmp_path / "candidate").mkdir()
    script = 'echo \'{"verdict": "pass"}\' > candidate/gate.json; exit 1'
    program = replaced_program(folder, "contradicts", script)
    code, outputs, _ = run_step(
        folder, tmp_path, program=program, baseline="b", candidate="candidate"
    )
    assert code == 70 and outputs == {}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("baseline", "--help"), ("candidate", "--version"), ("policy", "-h")),
        *(("adapter", "--dry-run"), ("manifest", "x; exit 0"), ("out", "--help")),
    ],
)
def test_an_input_is_never_an_option_or_code(folder: Path, tmp_path: Path, name: str, value: str):
    inputs = {"baseline": str(folder / "baseline"), "candidate": str(folder / "equal")}
    if name in ("adapter", "manifest", "out"):
        inputs["candidate"] = ""
    code, outputs, _ = run_step(folder, tmp_path, **{**inputs, name: value})
    assert code == 2 and outputs == {}


def test_names_that_begin_with_a_dash_are_compared(folder: Path, tmp_path: Path):
    for new, old in (("-baseline", "baseline"), ("--candidate", "worse")):
        shutil.copytree(folder / old, tmp_path / new)
    shutil.copy(folder / "policy.yaml", tmp_path / "-policy.yaml")
    code, outputs, _ = run_step(
        folder, tmp_path, baseline="-baseline", candidate="--candidate", policy="-policy.yaml"
    )
    assert code == 1 and outputs["verdict"] == "regression"


def test_inputs_never_become_part_of_a_script():
    scripts = [step["run"] for step in ACTION["runs"]["steps"] if "run" in step]
    assert scripts and not [script for script in scripts if "${{" in script]

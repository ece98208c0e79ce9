"""The GitHub Action, all its steps run in a sandbox folder over drawn runs."""

import json
import re
import shutil
from pathlib import Path

import click
import pytest
import yaml

from bench.cli.main import main
from tests.bench.gate.gate_runs import POLICY, write_run
from tests.github_runner import ROOT, Runner

pytestmark = pytest.mark.system

ACTION = yaml.safe_load((ROOT / "action.yml").read_text())
# options of `xbench run` and `xbench gate` that are no inputs
NOT_INPUTS = {
    "verdict-policy": "it is of the report; a gate has a policy of its own",
    "only": "single images have no verdict",
    "json": "the outputs and gate.json are what scripts read",
    "engine": "a job is one machine",
    "workers": "a job's machine has one device",
    "devices": "a job's machine has one device",
    "cache": "the input of that name is about keeping the cache, which the command always uses",
    "dry-run": "it prints and compares nothing",
    "shard": "a gate compares whole runs",
    "metric-device": "auto is the device of the baseline's scores, which alone are comparable",
    "compile": "a job on a GPU sets it in its own command; the baseline needs it too",
    "low-memory": "it is about the memory of a machine, as batch",
    "batch": "it is about the memory of a machine; pixels may differ by rounding",
    "junit": "an output has its path",
    "markdown": "an output has its path",
}
NOT_OPTIONS = {
    "task": "which command is run",
    "candidate": "an argument of `xbench gate`",
    "allow-inconclusive": "the job's own outcome",
    "cpu": "about the installation",
    "python-version": "about the installation",
    "cache": "see above",
}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("drawn")
    write_run(root / "baseline")
    write_run(root / "equal", noise_seed=1, mapper="c" * 64)
    write_run(root / "copy")
    write_run(root / "real", noise_seed=4, mapper="e" * 64, losses={"edge-f1": 0.03})
    write_run(root / "worse", noise_seed=2, mapper="d" * 64, losses={"edge-f1": 0.1})
    write_run(root / "few", noise_seed=3, mapper="d" * 64, failed=3)
    (root / "policy.yaml").write_text(yaml.safe_dump(POLICY))
    return root


@pytest.fixture
def runner(drawn: Path, tmp_path: Path) -> Runner:
    action = {"OWNER/xbench": ROOT}
    return Runner(tmp_path / "runner", drawn, action, {"XBENCH_LOOPBACK_ONLY": "1"})


def run_action(runner: Runner, **inputs: object) -> tuple[int, dict[str, str]]:
    """Return the exit code of the gate's step, and the action's outputs."""
    given = {name.replace("_", "-"): value for name, value in inputs.items()}
    steps = [
        {"uses": "actions/checkout@v4"},
        {"uses": "OWNER/xbench@v0.1.0", "id": "gate", "with": given},
    ]
    passed, context = runner.job({"steps": steps}, {})
    codes = dict(runner.log)
    assert passed == (codes["Gate"] == 0)
    outputs = context["steps"]["gate"]["outputs"]
    return codes["Gate"], {name: value for name, value in outputs.items() if value}


@pytest.mark.parametrize(
    ("candidate", "code", "verdict"),
    [
        ("equal", 0, "pass"),
        ("copy", 0, "identical"),
        ("real", 0, "real loss inside the margin"),
        ("worse", 1, "regression"),
        ("few", 3, "inconclusive"),
    ],
)
def test_the_job_ends_as_the_gate_does(runner: Runner, candidate: str, code: int, verdict: str):
    found, outputs = run_action(
        runner, baseline="baseline", candidate=candidate, policy="policy.yaml"
    )
    assert found == code
    assert outputs["verdict"] == verdict and outputs["exit-code"] == str(code)
    assert f"gate: {verdict}" in runner.summary
    for name in ("junit", "markdown"):
        assert (runner.workspace / outputs[name]).is_file()
    assert (runner.workspace / outputs["run"] / "gate.json").is_file()


def test_images_are_kept_whatever_the_verdict_is(runner: Runner):
    made = "mkdir -p .xbench-cache; echo image > .xbench-cache/a; exit 1"
    runner.program("uv", f"if [ $1 = run ]; then {made}; fi")
    assert run_action(runner, baseline="baseline")[0] == 70
    (key,) = runner.caches
    assert key.startswith("xbench-Linux-X64-")
    runner.program("uv", "if [ $1 = run ]; then cp .xbench-cache/a seen; exit 70; fi")
    run_action(runner, baseline="baseline")
    assert (runner.workspace / "seen").read_text() == "image\n"
    run_action(runner, baseline="baseline", cache=False)
    assert len(runner.caches) == 2 and not (runner.workspace / "seen").exists()


def test_an_inconclusive_gate_may_be_let_through(runner: Runner):
    code, outputs = run_action(
        runner,
        baseline="baseline",
        candidate="few",
        policy="policy.yaml",
        allow_inconclusive=True,
    )
    assert code == 0 and outputs["verdict"] == "inconclusive"


@pytest.mark.parametrize(
    "inputs",
    [
        {"baseline": "nowhere", "candidate": "equal"},
        {"baseline": ""},
        {"task": "baseline"},
        {"task": "gates", "baseline": "baseline"},
    ],
)
def test_a_user_error_fails_the_job_with_2(runner: Runner, inputs: dict[str, str]):
    code, outputs = run_action(runner, **inputs)
    assert code == 2 and "verdict" not in outputs


@pytest.mark.parametrize("code", [0, 1, 3, 70, 137])
@pytest.mark.parametrize("has_old_verdict", [False, True])
def test_a_program_that_does_not_run_is_no_verdict(
    runner: Runner, tmp_path: Path, code: int, has_old_verdict: bool
):
    candidate = tmp_path / "candidate"
    runner.program("uv", f"if [ $1 = run ]; then exit {code}; fi")
    for inputs in ({"candidate": str(candidate)}, {"out": str(candidate)}):
        shutil.rmtree(candidate, ignore_errors=True)
        candidate.mkdir()
        if has_old_verdict:
            verdict = {0: "pass", 1: "regression", 3: "inconclusive"}.get(code, "pass")
            (candidate / "gate.json").write_text(f'{{"verdict": "{verdict}"}}')
        found, outputs = run_action(runner, baseline="b", **inputs)
        assert found == (70 if code in (0, 1, 3) else code)
        assert outputs == {} and runner.summary == ""


def test_a_verdict_that_contradicts_the_exit_code_is_none(runner: Runner):
    script = 'if [ $1 = run ]; then echo \'{"verdict": "pass"}\' > equal/gate.json; exit 1; fi'
    runner.program("uv", script)
    code, outputs = run_action(runner, baseline="baseline", candidate="equal")
    assert code == 70 and outputs == {}


@pytest.mark.parametrize(
    ("name", "value"),
    [("baseline", "--help"), ("candidate", "--version"), ("policy", "-h"), ("out", "--help")],
)
def test_an_input_is_never_an_option_or_code(runner: Runner, name: str, value: str):
    inputs = {"baseline": "baseline", "candidate": "" if name == "out" else "equal"}
    code, outputs = run_action(runner, **{**inputs, name: value})
    assert code == 2 and outputs == {}


def test_names_that_begin_with_a_dash_are_compared(runner: Runner, drawn: Path, tmp_path: Path):
    runner.repository = tmp_path / "repository"
    for new, old in (("-baseline", "baseline"), ("--candidate", "worse")):
        shutil.copytree(drawn / old, runner.repository / new)
    shutil.copy(drawn / "policy.yaml", runner.repository / "-policy.yaml")
    code, outputs = run_action(
        runner, baseline="-baseline", candidate="--candidate", policy="-policy.yaml"
    )
    assert code == 1 and outputs["verdict"] == "regression"


def test_inputs_never_become_part_of_a_script():
    scripts = [step["run"] for step in ACTION["runs"]["steps"] if "run" in step]
    assert scripts and not [script for script in scripts if "${{" in script]


def test_every_option_of_the_commands_is_an_input_or_listed_with_a_reason():
    options = {
        name.removeprefix("--")
        for command in ("run", "gate")
        for parameter in main.commands[command].params
        if isinstance(parameter, click.Option)
        for name in parameter.opts
    }
    inputs = set(ACTION["inputs"])
    assert options - inputs - NOT_INPUTS.keys() == set()
    assert inputs - options - NOT_OPTIONS.keys() == set()
    assert (NOT_INPUTS.keys() - {"cache"}) & inputs == set() and NOT_INPUTS.keys() <= options


def test_every_input_reaches_the_command(runner: Runner):
    record = 'for word; do echo "$word" >> "$CALLS"; done; exit 2'
    runner.program("uv", f"if [ $1 = run ]; then {record}; fi")
    of_step = next(step for step in ACTION["runs"]["steps"] if step.get("id") == "gate")["env"]
    inputs = set(re.findall(r"inputs\.([\w-]+)", json.dumps(of_step)))
    others = {"task", "candidate", "allow-inconclusive", "fetch"}
    values = {name: f"--help; exit 0 {name}" for name in inputs - others}
    run_action(runner, **{**values, "fetch": True})
    words = runner.calls
    assert "--fetch" in words
    assert {f"--{name}={value}" for name, value in values.items()} <= set(words)


@pytest.mark.parametrize("cpu", [False, True])
def test_torch_without_cuda_is_installed_on_demand_in_the_locked_versions(
    runner: Runner, cpu: bool
):
    run_action(runner, baseline="baseline", candidate="equal", policy="policy.yaml", cpu=cpu)
    install = [call for call in runner.calls if not call.startswith("uv run")]
    if not cpu:
        assert install == ["uv sync -q --frozen --no-dev"]
        return
    assert [call.split()[1] for call in install] == ["export", "venv", "pip"]
    constraints = install[0].split(" -o ")[1]
    assert f"--torch-backend=cpu -c {constraints} ." in install[2]

"""scripts/gate-calibration: right gates pass it, a gate that never decides does not."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file, save_file

from tests.bench.gate.gate_runs import POLICY, write_run

pytestmark = pytest.mark.system

SCRIPT = Path(__file__).parents[3] / "scripts" / "gate-calibration"


def calibrate(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *map(str, words)]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def cells(text: str, scenario: str) -> list[str]:
    """Return the cells of a scenario's row, from the number of gates on."""
    (row,) = [line for line in text.splitlines() if line.startswith(f"| {scenario} |")]
    return [cell.strip() for cell in row.split("|")[2:-1]]


def test_the_gate_passes_its_calibration_where_the_rules_before_do_not():
    scenario = "rate, 4 images alike, margin lost, 62 prompts, looks"
    done = calibrate("simulate", "--gates", 1000, "--only", scenario)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "All rates hold." in done.stdout
    now, before = cells(done.stdout, scenario)[1:3]
    rates = [float(cell.removeprefix("false pass ").split("%")[0]) for cell in (now, before)]
    assert rates[0] < 3 and rates[1] > 5


def test_a_bound_that_so_few_gates_cannot_show_fails():
    done = calibrate("simulate", "--gates", 40, "--only", "rate, 4 images alike, equal, 62")
    assert done.returncode == 1 and "FAILS: rate, 4 images alike, equal" in done.stdout


def test_a_known_limit_is_printed_with_its_number():
    scenario = "exponential gains, equal, 20 prompts, one look"
    done = calibrate("simulate", "--gates", 1000, "--only", scenario)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"Known limit: {scenario}, up to 7.5%" in done.stdout


def test_a_gate_that_is_always_inconclusive_fails_the_calibration():
    for only, problem in (("difference 0, one", "too few passes"), ("planted: twice", "caught in")):
        words = ("simulate", "--gates", 40, "--gate", "always-inconclusive", "--only", only)
        done = calibrate(*words)
        assert done.returncode == 1 and problem in done.stdout, done.stdout + done.stderr
        assert "planned number of prompts" in done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("calibration")
    write_run(root / "a")
    write_run(root / "b", noise_seed=1, mapper="c" * 64)
    write_run(root / "bad", noise_seed=2, mapper="d" * 64, losses={"edge-f1": 0.15})
    (root / "policy.yaml").write_text(yaml.safe_dump(POLICY))
    return root


def test_two_runs_are_resampled_with_swapped_labels(folder: Path):
    words = ("resample", folder / "a", folder / "b", "--gates", 300, "--planted", folder / "bad")
    done = calibrate(*words, "--policy", folder / "policy.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "pool of 60 prompts" in done.stdout and "not independent" in done.stdout
    planted = next(line for line in done.stdout.splitlines() if "planted: bad" in line)
    assert planted.split("|")[5].strip() == "100.0%"
    row = next(line for line in done.stdout.splitlines() if line.startswith("| net | edge-f1"))
    unpaired, paired = (float(cell) for cell in row.split("|")[4:6])
    assert paired < unpaired / 2


def test_a_regression_passed_off_as_a_planted_equal_is_told(folder: Path):
    words = ("resample", folder / "a", folder / "b", "--gates", 40, "--planted", folder / "b")
    done = calibrate(*words, "--policy", folder / "policy.yaml")
    assert done.returncode == 1 and "FAILS: planted: b" in done.stdout


def test_a_mapper_is_damaged_by_what_was_asked_for(tmp_path: Path):
    (tmp_path / "mapper").mkdir()
    tensors = {"zero_out.0.weight": np.ones((2, 2), np.float32), "body.0.x": np.eye(3, dtype="f4")}
    save_file(tensors, tmp_path / "mapper" / "m.safetensors")
    assert (
        calibrate("damage", tmp_path / "mapper", tmp_path / "out", "--scale", 0.7).returncode == 0
    )
    found = load_file(tmp_path / "out" / "m.safetensors")
    assert np.allclose(found["zero_out.0.weight"], 0.7)
    assert np.array_equal(found["body.0.x"], tensors["body.0.x"])

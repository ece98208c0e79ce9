"""scripts/verdict-calibration: the shipped judge passes it, a judge that never decides does not."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "scripts" / "verdict-calibration"


def calibrate(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *map(str, words)]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def test_a_judge_that_is_always_open_fails_for_lack_of_power() -> None:
    done = calibrate("--runs", 10, "--whole-runs", 0, "--judge", "always-open")
    assert done.returncode == 1
    assert "retention .95 is 'works' is 0.000" in done.stdout


@pytest.mark.slow
def test_the_shipped_judge_passes_its_calibration() -> None:
    done = calibrate("--runs", 300, "--whole-runs", 20)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "All rates hold." in done.stdout

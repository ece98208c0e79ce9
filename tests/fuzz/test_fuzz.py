"""Damaged files of every kind give a value or one `UserError`; `scripts/fuzz` reads many more."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.kinds import FUZZ_KINDS, FuzzKind, check

ROOT = Path(__file__).resolve().parents[2]
N_INPUTS = 300


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", FUZZ_KINDS, ids=lambda kind: kind.name)
def test_damaged_files_are_read_or_refused(kind: FuzzKind, tmp_path: Path) -> None:
    answers = {check(kind, seed, tmp_path) for seed in range(N_INPUTS)}
    assert any(answer.endswith("refused") for answer in answers) or kind.name == "safetensors"
    assert any(answer.endswith("read") for answer in answers)


def test_same_seed_gives_the_same_answer(tmp_path: Path) -> None:
    kind = next(kind for kind in FUZZ_KINDS if kind.name == "yaml")
    assert [check(kind, 5, tmp_path) for _ in range(2)] == [check(kind, 5, tmp_path)] * 2


def test_the_script_reports_every_input() -> None:
    command = [sys.executable, "scripts/fuzz", "--kind", "csv", "--inputs", "40", "--seed", "7"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.match(r"csv: 40 files, 0 failures, peak \d+ MiB", done.stdout)

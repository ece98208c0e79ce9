"""A run killed at random moments and resumed ends with the tables of an uninterrupted run."""

import random
from pathlib import Path

import pytest

from tests.bench.chaos import killed_run, start_run, tables

pytestmark = pytest.mark.system


@pytest.mark.usefixtures("pocket_weights")
@pytest.mark.timeout(1800)
def test_run_killed_twice_equals_uninterrupted_run(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    assert start_run(whole, cache=tmp_path / "cache-1").wait() == 0
    killed = tmp_path / "killed"
    kills = killed_run(killed, n_kills=2, cache=tmp_path / "cache-2", rng=random.Random(0))
    assert len(kills) == 2
    assert tables(whole) == tables(killed)

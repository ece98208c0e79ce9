from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.plugins_manifest.zoo import fuzz


@pytest.fixture(scope="module")
def one_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "random.safetensors"


@settings(
    max_examples=500,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
@given(rng=st.randoms(use_true_random=True))
def test_every_random_file_gets_an_answer(one_file: Path, rng: Random) -> None:
    assert fuzz.check(fuzz.random_file(rng), one_file)

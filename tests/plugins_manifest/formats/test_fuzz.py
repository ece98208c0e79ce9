from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from tests.plugins_manifest.zoo import fuzz


@pytest.fixture(scope="module")
def one_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "random.safetensors"


@settings(
    max_examples=2_000,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
@given(data=fuzz.files)
def test_every_random_file_gets_an_answer(one_file: Path, data: bytes) -> None:
    assert fuzz.check(data, one_file)

"""scripts/damaged-mappers: a mapper above one that the gate finds it worse than fails it."""

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from safetensors.numpy import load_file

from plugins_manifest.schema.load import parse_manifest
from pocket.weights import WeightsError, part_path
from tests.scripts import load_script

PATH = Path(__file__).parents[3] / "scripts" / "damaged-mappers"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script("damaged-mappers")


@pytest.fixture(scope="module")
def mapper() -> Path:
    try:
        return part_path("mapper")
    except WeightsError:
        pytest.skip("pocket weights are missing: make them with scripts/train-pocket")


def ladder(script: ModuleType, values: dict[float, float]) -> list:
    return [script.Rung(f, Path(), {"a": v}, {"a": v, "b": 9.0}) for f, v in values.items()]


@pytest.mark.parametrize(("verdict", "n_wrong"), [("regression", 1), ("inconclusive", 0)])
def test_only_differences_that_the_gate_finds_have_to_stand_in_order(
    script: ModuleType, verdict: str, n_wrong: int
):
    rungs = ladder(script, {1.0: 0.8184, 0.5: 0.8206})  # by both numbers
    pairs = [script.Pair(1.0, 0.5, verdict)]
    text, found = script.report(rungs, pairs, n_scenes=24)
    assert found == n_wrong and ("wrong order" in text) == bool(n_wrong)
    assert f"| 1 | 0.5 | {verdict} | wrong | wrong |" in text


def test_means_are_over_the_plugins_that_all_runs_have(script: ModuleType):
    rungs = ladder(script, {1.0: 0.8, 0.5: 0.6})
    rungs[1].sort_values.pop("b")
    assert script.means(rungs, "sort_values") == {1.0: 0.8, 0.5: 0.6}
    rungs[1].sort_values.clear()
    with pytest.raises(Exception, match="no plugin has sort_values"):
        script.means(rungs, "sort_values")


def test_damage_scales_convolutions_and_leaves_biases(
    script: ModuleType, mapper: Path, tmp_path: Path
):
    out = script.damaged(mapper, tmp_path / "mapper", 0.5)
    (before,), (after,) = (list(f.glob("*.safetensors")) for f in (mapper, out))
    old, new = load_file(before), load_file(after)
    assert old.keys() == new.keys()
    for name, tensor in old.items():
        factor = 0.5 if name.endswith("weight") else 1.0
        np.testing.assert_array_equal(new[name], tensor * np.float16(factor))


@pytest.mark.parametrize("natives", [True, False])
def test_the_manifest_is_valid_with_and_without_native_plugins(
    script: ModuleType, tmp_path: Path, natives: bool
):
    text = script.manifest_text(n_scenes=12, steps=4, natives=natives)
    manifest = parse_manifest(text, tmp_path / "m.yaml")
    assert len(manifest.plugins) == (8 if natives else 4)
    assert ("oracle" in {m.name for m in manifest.methods}) == natives
    assert "pocket-rest" in manifest.metrics


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_small_ladder_stands_in_order(mapper: Path, tmp_path: Path):
    words = ["--scenes", "12", "--steps", "8", "--factors", "1,0.2", "--work", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, str(PATH), *words], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| 1 | 0.2 |" in done.stdout and "12 scenes" in done.stdout

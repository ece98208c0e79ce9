"""`xbench run --baseline` with real models: only what the new weights change is rendered."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner, Result
from safetensors.numpy import load_file, save_file

from bench.cli.main import main
from bench.store.run_store import RunStore
from pocket.weights import part_path

pytestmark = pytest.mark.system

MANIFEST = {
    "schema": 1,
    "name": "tiny",
    "family": "pocket",
    "plugins": [
        {
            "id": "pocket-canny",
            "kind": "controlnet",
            "source": "pocket:controlnet-canny",
            "condition": "canny",
        }
    ],
    "cases": {"source": "pocket", "seed": 104, "n": 10},
    "methods": [
        {"name": "sdedit", "t0": [0.9]},
        {"name": "xadapter", "t0": [0.9], "adapter_scale": [1.0]},
    ],
    "metrics": ["edge-f1-1px"],
    "settings": {
        "base_size": [64, 64],
        "upgraded_size": [128, 128],
        "steps": 5,
        "guidance_scale": 3.0,
    },
}
POLICY = {
    "schema": 1,
    "min_prompts": 5,
    "min_prompts_regression": 5,
    "looks": [0.6, 1.0],
    "metrics": [{"name": "edge-f1-1px", "margin": 0.05}],
}


def call(*words: object) -> Result:
    return CliRunner().invoke(main, ["run", *map(str, words)], catch_exceptions=False)


def damaged_mapper(folder: Path) -> Path:
    """Return the shipped mapper with noise on every weight."""
    shutil.copytree(part_path("mapper"), folder)
    (path,) = folder.glob("*.safetensors")
    rng, tensors = np.random.default_rng(0), load_file(path)
    noisy = {k: v + rng.normal(0, 0.3, v.shape).astype(v.dtype) for k, v in tensors.items()}
    save_file(noisy, path)
    return folder


@pytest.mark.usefixtures("pocket_weights")
def test_a_damaged_mapper_exits_1_after_the_first_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(yaml.safe_dump(MANIFEST))
    Path("policy.yaml").write_text(yaml.safe_dump(POLICY))
    assert call("--manifest", "tiny.yaml", "--out", "baseline").exit_code == 0
    mapper = damaged_mapper(tmp_path / "damaged")

    other = call("--baseline", "baseline", "--seeds", "3", "--policy", "policy.yaml")
    assert other.exit_code == 2 and "seeds: baseline [0], candidate [3]" in other.stderr

    words = ("--adapter", mapper, "--baseline", "baseline", "--policy", "policy.yaml", "--json")
    result = call(*words)
    assert result.exit_code == 1, result.output
    facts = json.loads(result.stdout)
    (test,) = facts["tests"]
    assert (test["plugin"], test["metric"]) == ("pocket-canny", "edge-f1-1px")
    assert test["difference"] < 0 and facts["look"] == 1 and test["n_prompts"] == 6

    candidate = RunStore.open(facts["candidate"]["folder"])
    origins = candidate.trials().merge(candidate.results(), on="trial_id")
    made = set(zip(origins["method"], origins["origin"], strict=True))
    assert made == {("sdedit", "cache"), ("xadapter", "rendered")}

    again = CliRunner().invoke(
        main, ["gate", "baseline", str(candidate.folder), "--policy", "policy.yaml", "--json"]
    )
    assert again.exit_code == 1
    assert json.loads(again.stdout)["tests"] == facts["tests"]

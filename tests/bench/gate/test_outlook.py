"""What a gate can decide, before a candidate is rendered."""

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from bench.cli.main import main
from bench.gate import compare, gate_outlook
from bench.gate.policy import Policy
from tests.bench.gate.gate_runs import POLICY, write_run

METRICS = [
    {"name": "edge-f1", "margin": 0.05, "spread": 0.06},
    {"name": "style-rate", "margin": 0.15},
    {"name": "kid", "margin": 0.2},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("outlook")
    write_run(root / "few", n_cases=24)
    write_run(root / "many")
    return root


def policy(**changes: object) -> Policy:
    return Policy.model_validate({**POLICY, "metrics": METRICS, **changes})


def plan(*words: object) -> Result:
    return CliRunner().invoke(main, ["plan", *map(str, words)], catch_exceptions=False)


def test_few_prompts_cannot_pass_and_the_needed_number_is_named(folder: Path) -> None:
    found = gate_outlook(folder / "few", policy())
    assert not found["can_pass"] and found["needed_prompts"] >= 60
    by_name = {test["metric"]: test for test in found["tests"]}
    assert {test["n_prompts"] for test in found["tests"]} == {24}
    assert by_name["edge-f1"]["spread"] == pytest.approx(0.06)
    assert by_name["style-rate"]["spread"] == pytest.approx((0.15 * 0.85) ** 0.5)
    assert by_name["kid"]["spread"] is None and by_name["kid"]["needed_prompts"] == 60


def test_a_test_whose_best_case_cannot_pass_is_told_beforehand(folder: Path) -> None:
    tight = policy(metrics=[{"name": "edge-f1", "margin": 0.01, "spread": 0.06}])
    found = gate_outlook(folder / "many", tight)
    assert not found["can_pass"] and found["tests"][0]["needed_prompts"] > 200
    assert gate_outlook(folder / "many", policy())["can_pass"]
    assert not gate_outlook(folder / "many", policy(), limit=40)["can_pass"]


def test_what_cannot_pass_beforehand_does_not_pass_afterwards(folder: Path) -> None:
    write_run(folder / "other", n_cases=24, noise_seed=3, mapper="c" * 64)
    found = compare(folder / "few", folder / "other", policy())
    assert found.judgment.verdict in {"inconclusive", "regression"}


def test_plan_prints_the_tests_of_a_baseline(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    Path("policy.yaml").write_text(yaml.safe_dump({**POLICY, "metrics": METRICS}))
    manifest = {
        "schema": 1,
        "name": "tiny",
        "family": "pocket",
        "plugins": [
            {
                "id": "net",
                "kind": "controlnet",
                "source": "pocket:controlnet-canny",
                "condition": "canny",
            }
        ],
        "cases": {"source": "pocket", "seed": 1, "n": 2},
        "methods": [{"name": "xadapter", "t0": [0.9]}],
    }
    Path("tiny.yaml").write_text(yaml.safe_dump(manifest))
    words = ("--manifest", "tiny.yaml", "--baseline", "few", "--policy", "policy.yaml")
    text = plan(*words).stdout
    assert "24 prompts cannot pass: make a baseline of" in text
    assert "identical images are recognized at any number" in text
    (row,) = [line for line in text.splitlines() if "edge-f1" in line and "at least" in line]
    assert row.split()[-1] == "no"
    facts = json.loads(plan(*words, "--json").stdout)
    assert facts["gate"]["tests"][0]["n_prompts"] == 24 and "trials" in facts
    refused = plan("--manifest", "tiny.yaml", "--policy", "policy.yaml")
    assert refused.exit_code == 2 and "--policy needs a --baseline" in refused.stderr

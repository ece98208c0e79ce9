"""The gate over drawn runs: verdicts, exit codes, refusals, files."""

import json
import re
import shutil
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml
from click.testing import CliRunner, Result

from bench.cli.main import main
from bench.errors import UserError
from bench.gate.comparable import differences
from bench.gate.gate import compare
from bench.gate.mismatch import Difference, refuse
from bench.gate.policy import SHIPPED_POLICY, Policy, load_policy
from bench.store import RunStore
from plugins_manifest.text import shell_command
from tests.bench.gate.gate_runs import POLICY, write_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return runs that tests only read; gate.json is written beside them."""
    root = tmp_path_factory.mktemp("gate")
    write_run(root / "baseline")
    write_run(root / "equal", noise_seed=1, mapper="c" * 64)
    write_run(root / "worse", noise_seed=2, mapper="d" * 64, losses={"edge-f1": 0.1})
    write_run(root / "far", noise_seed=3, mapper="d" * 64, losses={"kid": 0.5, "style-rate": 0.4})
    return root


@pytest.fixture(scope="module")
def policy_file(folder: Path) -> Path:
    path = folder / "policy.yaml"
    path.write_text(yaml.safe_dump(POLICY))
    return path


def call(*words: object) -> Result:
    return CliRunner().invoke(main, ["gate", *map(str, words)])


def policy(**changes: object) -> Policy:
    return Policy.model_validate({**POLICY, **changes})


def by_name(facts: dict) -> dict[str, dict]:
    return {test["metric"]: test for test in facts["tests"]}


def test_an_equal_mapper_passes(folder: Path, policy_file: Path):
    result = call(folder / "baseline", folder / "equal", "--policy", policy_file, "--json")
    facts = json.loads(result.stdout)
    assert result.exit_code == 0, result.output
    assert facts["verdict"] == "pass" and facts["exit_code"] == 0
    assert {test["verdict"] for test in facts["tests"]} == {"pass"}
    assert json.loads((folder / "equal" / "gate.json").read_text()) == facts


def test_a_worse_mapper_is_a_regression_and_named(folder: Path, policy_file: Path):
    result = call(folder / "baseline", folder / "worse", "--policy", policy_file)
    assert result.exit_code == 1
    line = next(line for line in result.stdout.splitlines() if line.startswith("net"))
    assert "edge-f1" in line and "regression" in line and "-0.1" in line and "[-0.1" in line
    test = by_name(json.loads((folder / "worse" / "gate.json").read_text()))["edge-f1"]
    assert test["low"] < -0.1 < test["high"] < 0
    assert test["p_loss"] < 0.01 and test["further_images"] is None


def test_a_copy_of_a_run_is_identical_at_any_number_of_prompts(tmp_path: Path):
    write_run(tmp_path / "a", n_cases=3)
    shutil.copytree(tmp_path / "a", tmp_path / "copy")
    found = compare(tmp_path / "a", tmp_path / "copy", policy()).facts
    assert (found["verdict"], found["exit_code"]) == ("identical", 0)
    assert {test["verdict"] for test in found["tests"]} == {"identical"}
    assert "byte-identical" in found["tests"][0]["sentence"]


def test_one_other_picture_behind_the_looks_is_not_identical(folder: Path, tmp_path: Path):
    write_run(tmp_path / "copy", redrawn=1)  # the last case of the plugin style
    found = compare(folder / "baseline", tmp_path / "copy", policy())
    verdicts = {(test["plugin"], test["verdict"]) for test in found.facts["tests"]}
    assert ("net", "identical") in verdicts and ("style", "identical") not in verdicts
    assert found.facts["verdict"] != "identical"


def test_a_candidate_of_few_prompts_gets_an_outcome_and_the_number_that_a_pass_needs(
    tmp_path: Path,
):
    write_run(tmp_path / "a", n_cases=24)
    write_run(tmp_path / "b", n_cases=24, noise_seed=5, mapper="c" * 64)
    write_run(tmp_path / "bad", n_cases=24, noise_seed=6, losses={"edge-f1": 0.2}, mapper="d" * 64)
    chosen = policy(metrics=[{"name": "edge-f1", "margin": 0.05}])
    found = compare(tmp_path / "a", tmp_path / "b", chosen).facts
    assert found["exit_code"] == 3 and "the policy's 60 for a pass" in found["reason"]
    assert compare(tmp_path / "a", tmp_path / "bad", chosen).exit_code == 1


def test_every_test_has_one_sentence_in_all_formats(
    folder: Path, policy_file: Path, tmp_path: Path
):
    files = tmp_path / "gate.xml", tmp_path / "gate.md"
    words = ("--policy", policy_file, "--junit", files[0], "--markdown", files[1])
    text = call(folder / "baseline", folder / "worse", *words).stdout
    facts = json.loads((folder / "worse" / "gate.json").read_text())
    for test in facts["tests"]:
        assert test["sentence"] and "\n" not in test["sentence"]
        assert test["sentence"].replace("<", "&lt;") in files[0].read_text()
        if test["verdict"] == "regression":
            assert test["sentence"] in text and test["sentence"] in facts["reason"]
            assert "leaderboard" in files[1].read_text()


def test_collapsed_prompts_are_a_regression_of_their_own(folder: Path, tmp_path: Path):
    store = write_run(tmp_path / "holes", noise_seed=1, mapper="c" * 64)
    scores = store.scores()
    lost = (scores["metric"] == "edge-f1") & scores["case_id"].isin(
        [f"case-{i:03}" for i in (30, 31, 32, 33, 34, 35)]
    )
    scores.loc[lost, "value"] -= 0.4
    store.write_scores("edge-f1", scores[scores["metric"] == "edge-f1"])
    spec = {"name": "edge-f1", "margin": 0.1, "collapse": 0.25}
    (test,) = compare(folder / "baseline", tmp_path / "holes", policy(metrics=[spec])).facts[
        "tests"
    ]
    assert test["verdict"] == "regression" and test["n_collapsed"] == 6
    assert test["p_margin"] <= 0.05 and test["p_collapse"] < 0.01
    assert test["sentence"].startswith("6 of 60 prompts lost 0.250 or more")


def test_a_distance_that_grows_and_a_rate_that_falls_are_regressions(folder: Path):
    found = by_name(compare(folder / "baseline", folder / "far", policy()).facts)
    assert found["kid"]["verdict"] == "regression" and found["kid"]["difference"] > 0.3
    assert found["style-rate"]["verdict"] == "regression"
    assert found["style-rate"]["difference"] < -0.2


def test_pairs_are_counted_once(folder: Path):
    facts = compare(folder / "baseline", folder / "equal", policy(looks=[1.0])).facts
    found = by_name(facts)
    assert found["edge-f1"]["n_prompts"] == 60
    assert found["edge-f1"]["n_images"] == 60 * 2 * 2
    assert found["edge-f1"]["spread"] == pytest.approx(0.08 * 2**0.5 / 4**0.5, rel=0.3)


def test_too_few_images_are_inconclusive_and_tell_how_many_more(tmp_path: Path):
    write_run(tmp_path / "a", n_cases=20)
    write_run(tmp_path / "b", n_cases=20, noise_seed=5, mapper="c" * 64)
    tight = policy(metrics=[{"name": "edge-f1", "margin": 0.005}], looks=[1.0])
    gate = compare(tmp_path / "a", tmp_path / "b", tight)
    (test,) = gate.facts["tests"]
    assert gate.exit_code == 3 and test["verdict"] == "inconclusive"
    assert test["further_images"] > 200 and test["further_images"] % 4 == 0
    assert gate.facts["planned_prompts"] > 500


def test_a_missing_image_is_never_a_pass(folder: Path, tmp_path: Path):
    write_run(tmp_path / "holes", noise_seed=1, mapper="c" * 64, failed=2)
    gate = compare(folder / "baseline", tmp_path / "holes", policy())
    test = by_name(gate.facts)["edge-f1"]
    assert gate.exit_code == 3
    assert test["verdict"] == "inconclusive"
    assert "2 of" in test["reason"] and "holds NaN" in test["reason"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"settings": {"steps": 5}}, "settings.steps: baseline 4, candidate 5"),
        ({"settings": {"guidance_scale": 3.0}}, "settings.guidance_scale"),
        ({"seeds": (0, 2)}, "seeds: baseline [0, 1], candidate [0, 2]"),
        ({"device": "cuda"}, "device_kind: baseline cpu, candidate cuda"),
    ],
)
def test_other_settings_are_refused_by_name(
    folder: Path, policy_file: Path, tmp_path: Path, change: dict, named: str
):
    write_run(tmp_path / "other", mapper="c" * 64, **change)
    result = call(folder / "baseline", tmp_path / "other", "--policy", policy_file)
    assert result.exit_code == 2
    assert named in result.stderr and "Traceback" not in result.output
    assert not (tmp_path / "other" / "gate.json").exists()


def test_other_recipes_are_refused_by_name(folder: Path, tmp_path: Path):
    store = write_run(tmp_path / "other", mapper="c" * 64)
    scores = store.scores()
    changed = scores[scores["metric"] == "edge-f1"].assign(recipe="another resize")
    store.write_scores("edge-f1", changed)
    with pytest.raises(UserError, match=r"metrics.edge-f1.recipe.*another resize"):
        compare(folder / "baseline", tmp_path / "other", policy())


def test_a_run_is_not_compared_with_itself(folder: Path):
    with pytest.raises(UserError, match="given twice"):
        compare(folder / "baseline", folder / "baseline", policy())


def test_a_metric_that_was_not_scored_is_told(folder: Path):
    chosen = policy(metrics=[{"name": "cmmd", "margin": 0.1}])
    with pytest.raises(UserError, match=r"'cmmd'.*xbench score"):
        compare(folder / "baseline", folder / "equal", chosen)


def test_junit_and_markdown_name_plugin_metric_and_interval(
    folder: Path, policy_file: Path, tmp_path: Path
):
    files = tmp_path / "gate.xml", tmp_path / "gate.md"
    words = ("--policy", policy_file, "--junit", files[0], "--markdown", files[1])
    assert call(folder / "baseline", folder / "worse", *words).exit_code == 1
    suite = ElementTree.parse(files[0]).getroot().find("testsuite")
    assert suite is not None and suite.get("failures") == "1" and suite.get("tests") == "3"
    failure = suite.find("testcase[@name='edge-f1']/failure")
    assert failure is not None and "[-0.1" in (failure.get("message") or "")
    text = files[1].read_text()
    assert "| net | edge-f1 | regression |" in text and "gate: regression" in text


def test_the_shipped_policy_is_valid_and_names_no_frechet_distance():
    shipped = load_policy(None)
    assert SHIPPED_POLICY.is_file()
    assert not [m.name for m in shipped.metrics if "fid" in m.name]


@pytest.mark.parametrize("name", ["fid", "pocket-fid", "fid-infinity", "fd-dinov2", "FID"])
def test_frechet_distances_are_refused_in_policies(tmp_path: Path, name: str):
    path = tmp_path / "policy.yaml"
    path.write_text(yaml.safe_dump({"schema": 1, "metrics": [{"name": name, "margin": 1}]}))
    with pytest.raises(UserError, match="Frechet"):
        load_policy(path)


def test_all_mistakes_of_a_policy_come_at_once(tmp_path: Path):
    path = tmp_path / "policy.yaml"
    path.write_text("schema: 1\nalfa: 0.1\nlooks: [0.5, 0.4]\nmetrics: [{name: a, margin: -1}]\n")
    with pytest.raises(UserError) as caught:
        load_policy(path)
    message = str(caught.value)
    assert "unknown key 'alfa'" in message and "alpha" in message
    assert "looks must rise" in message and "margin" in message
    assert len(caught.value.problems) == 3


@pytest.mark.parametrize(
    ("change", "cause", "n_lines"),
    [
        ({"settings": {"steps": 5}}, "other settings", 1),
        ({"settings": {"upgraded_size": (96, 96)}}, "another size in pixels", 1),
        ({"seeds": (0, 2)}, "other seeds", 1),
        ({"n_cases": 70}, "prompts that the baseline lacks", 1),
        (
            {"settings": {"upgraded_size": (96, 96)}, "n_cases": 70},
            "another size .* and prompts .*",
            2,
        ),
    ],
)
def test_a_run_that_does_not_pair_gets_one_cause_and_the_command(
    folder: Path, tmp_path: Path, change: dict, cause: str, n_lines: int
):
    write_run(tmp_path / "other", mapper="c" * 64, **change)
    with pytest.raises(UserError) as caught:
        compare(folder / "baseline", tmp_path / "other", policy())
    first, *lines = str(caught.value).splitlines()
    assert re.search(rf"does not pair with .*: it has ({cause})$", first)
    listed = [line for line in lines if line.startswith("  - ")]
    assert len(listed) == n_lines == len(caught.value.problems)
    assert shell_command(["xbench", "run", "--baseline", folder / "baseline"]) in lines[n_lines]


def test_what_follows_from_the_cause_is_not_listed(folder: Path):
    found = [
        Difference("settings.base_size", "baseline [64, 64], candidate [48, 48]"),
        *(Difference("conditions", f"{n} images of the two runs differ") for n in range(50)),
    ]
    with pytest.raises(UserError) as caught:
        refuse(found, RunStore.open(folder / "baseline"), adapter="my mapper")
    assert len(caught.value.problems) == 1
    assert "it has another size in pixels\n" in str(caught.value)
    assert "--adapter 'my mapper'" in str(caught.value)


def test_a_plugin_of_one_side_is_one_difference_and_other_t0_has_its_own_words():
    left = {"plugins": {"a": {"id": "a", "kind": "lora"}}, "methods": {"xadapter": {"t0": [0.5]}}}
    right = {"plugins": {"b": {"id": "b", "kind": "lora"}}, "methods": {"xadapter": {"t0": [0.7]}}}
    assert [(one.cause, str(one)) for one in differences(left, right)] == [
        ("other t0", "methods.xadapter.t0: baseline [0.5], candidate [0.7]"),
        ("other plugins", "plugins: only the baseline has a"),
        ("other plugins", "plugins: only the candidate has b"),
    ]

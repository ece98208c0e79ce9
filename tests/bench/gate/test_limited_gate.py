"""A limit on time or images leaves a gate open, never passed; the same command goes on."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from bench.cli.main import main
from bench.publish import publish_run
from bench.run.benchmark import BUDGET_REACHED
from bench.store.run_store import RunStore
from tests.bench.gate.test_gated_run import MANIFEST, POLICY, damaged_mapper

pytestmark = [pytest.mark.system, pytest.mark.usefixtures("pocket_weights")]
TIMES = ["seconds", "peak_memory_mib"]


def call(*words: object) -> Result:
    return CliRunner().invoke(main, [*map(str, words)], catch_exceptions=False)


def tables(folder: Path) -> list[object]:
    store = RunStore.open(folder)
    frames = (store.summary(), store.compatibility())
    return [frame.drop(columns=TIMES).to_json() for frame in frames] + [store.scores().to_json()]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a baseline, which is published too, and a policy."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(MANIFEST))
    (folder / "policy.yaml").write_text(yaml.safe_dump({**POLICY, "looks": [1.0]}))
    damaged_mapper(folder / "damaged")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XBENCH_CACHE", str(folder / "cache"))
        patch.chdir(folder)
        assert call("run", "--manifest", "tiny.yaml", "--out", "baseline").exit_code == 0
        publish_run(Path("baseline"), "board")
    return folder


def test_a_limited_run_says_so_and_the_same_command_ends_as_an_unlimited_one(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    words = ("run", "--manifest", "tiny.yaml", "--out", tmp_path / "out", "--max-images", "9")
    first = call(*words)
    store = RunStore.open(tmp_path / "out")
    facts = store.run_facts()
    assert first.exit_code == 3 and facts["status"] == BUDGET_REACHED
    assert facts["stopped"] == "--max-images 9"
    assert facts["counts"] == {"trials": 20, "failed": 0, "from_cache": 0, "open": 10}
    assert first.stderr.endswith(
        "stopped by --max-images 9: 10 of 20 images are done; run the same command again to go on\n"
    )
    assert store.report_path().is_file() and len(store.scores().dropna(subset="value")) == 10
    refused = call("publish", tmp_path / "out", "--to", tmp_path / "board")
    assert refused.exit_code == 2 and BUDGET_REACHED in refused.stderr
    assert call(*words).exit_code == 0
    assert RunStore.open(tmp_path / "out").run_facts()["status"] == "complete"
    assert "stopped" not in RunStore.open(tmp_path / "out").run_facts()
    assert tables(tmp_path / "out") == tables(home / "baseline")


def test_a_limited_gate_is_open_and_goes_on_to_its_verdict(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    words = ("run", "--baseline", "board#baseline", "--adapter", "damaged")
    words = (*words, "--policy", "policy.yaml")
    words = (*words, "--out", tmp_path / "out", "--max-images", "5", "--json")
    opened = call(*words)
    facts = json.loads(opened.stdout)
    assert opened.exit_code == 3 and facts["verdict"] == "inconclusive"
    assert facts["stopped"] == "--max-images 5"
    assert "images of the candidate are missing" in facts["tests"][0]["reason"]
    alone = call("gate", "board#baseline", tmp_path / "out", "--policy", "policy.yaml")
    assert alone.exit_code == 3 and "stopped by --max-images 5: run the same" in alone.stdout
    for _ in range(3):
        result = call(*words)
        if result.exit_code != 3:
            break
    assert result.exit_code == 1 and json.loads(result.stdout)["stopped"] is None


def test_early_looks_need_a_baseline_with_its_images(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    publish_run(Path("baseline"), "board", key="pictures", images=True)
    words = ("run", "--adapter", "damaged", "--policy", "looks.yaml", "--json", "--baseline")
    (home / "looks.yaml").write_text(yaml.safe_dump(POLICY))
    early = call(*words, "board#pictures", "--out", tmp_path / "early")
    facts = json.loads(early.stdout)
    assert early.exit_code == 1 and facts["look"] == 1 and facts["tests"][0]["n_prompts"] == 6
    local = call("gate", "baseline", tmp_path / "early", "--policy", "looks.yaml", "--json")
    assert json.loads(local.stdout)["tests"] == facts["tests"]
    refused = call(*words, "board#baseline", "--limit", "6", "--out", tmp_path / "late")
    assert refused.exit_code == 2 and "published without its images" in refused.stderr


def test_a_baseline_with_other_files_names_the_manifest_that_is_needed(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = RunStore(home / "baseline")
    data = store.manifest().as_data()
    data["plugins"][0]["source"] = "my-net.safetensors"
    monkeypatch.chdir(tmp_path)
    copy = RunStore(shutil.copytree(store.folder, tmp_path / "own"))
    copy.write_manifest(data)
    publish_run(copy.folder, "board")
    result = call("run", "--baseline", "board")
    assert result.exit_code == 2
    assert "published without the files of pocket-canny: name the manifest" in result.stderr

"""docs/ci.md as written: its commands and its workflow, executed in a fresh folder."""

import json
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from huggingface_hub import constants

from bench.cli.main import main
from pocket.weights import part_path
from tests.bench.dataset_hub import REPOSITORY, TOKEN, DatasetHub
from tests.bench.gate.test_gated_run import MANIFEST, damaged_mapper
from tests.github_runner import ROOT, Runner

pytestmark = [
    pytest.mark.system,
    pytest.mark.usefixtures("pocket_weights"),
    pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"),
]
PAGE = (ROOT / "docs" / "ci.md").read_text()
SMALL = {**MANIFEST, "name": "ci", "cases": {"source": "pocket", "seed": 104, "n": 3}}
SMALL["methods"] = [{"name": "xadapter", "t0": [0.5, 0.9], "adapter_scale": [1.0]}]
SMALL["settings"] = {**SMALL["settings"], "steps": 2}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Return a folder with what the page names: plugins.yaml and weights/mapper."""
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / "plugins.yaml").write_text(yaml.safe_dump(SMALL))
    shutil.copytree(part_path("mapper"), folder / "weights" / "mapper")
    return folder


@pytest.fixture
def hub(online: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[DatasetHub]:
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    with DatasetHub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield server


def test_every_command_of_the_page_runs(
    repository: Path, hub: DatasetHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repository)
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    assert len(lines) == 6
    for line in lines:
        command = re.sub(r"\s+#.*", "", line)  # a comment, unlike the # in URL#KEY
        program, *words = shlex.split(command.replace("ORG/NAME", REPOSITORY))
        assert program == "xbench"

        result = CliRunner().invoke(main, words, catch_exceptions=False)
        assert result.exit_code == 0, result.output  # the same mapper: identical images
    assert (repository / "gate.md").is_file()
    facts = json.loads((repository / "runs" / "other" / "gate.json").read_text())
    assert facts["verdict"] == "identical"
    assert re.search(r"#baseline@sha256:[0-9a-f]{64}$", facts["baseline"]["folder"])


def test_every_yaml_block_is_valid_and_names_existing_inputs() -> None:
    inputs = yaml.safe_load((ROOT / "action.yml").read_text())["inputs"]
    used = 0
    for block in blocks("yaml"):
        data = yaml.safe_load(block)
        jobs = data.get("jobs", {}).values() if isinstance(data, dict) else [{"steps": data}]
        for step in (step for job in jobs for step in job["steps"]):
            if step.get("uses", "").startswith("OWNER/xbench@"):
                assert set(step["with"]) <= set(inputs)
                used += 1
    assert used == 3
    table = re.findall(r"^\| (`.*?) \|", PAGE[PAGE.index("| input |") :], re.MULTILINE)
    assert set(inputs) - {"allow-inconclusive", "python-version"} == set(
        re.findall(r"`([\w-]+)`", " ".join(table))
    )


@pytest.mark.slow
def test_the_workflow_renders_a_baseline_and_compares_later_changes_with_it(
    repository: Path, tmp_path: Path
) -> None:
    workflow = yaml.safe_load(next(b for b in blocks("yaml") if b.startswith("name: xbench")))
    assert workflow["permissions"] == {"contents": "read"}
    runner = Runner(tmp_path / "runner", repository, {"OWNER/xbench": ROOT})
    runner.program("gh", 'echo "gh $*" >> "$CALLS"')
    jobs = workflow["jobs"]
    assert jobs["baseline"]["if"] == "github.event_name == 'push'"
    passed, _ = runner.job(jobs["baseline"], {"sha": "a1"})
    assert passed and "xbench-baseline-a1" in runner.caches
    shutil.rmtree(repository / "weights" / "mapper")
    damaged_mapper(repository / "weights" / "mapper")
    event = {"event": {"number": 7, "pull_request": {"base": {"sha": "a1"}}}, "token": "t"}

    gate = jobs["gate"]
    with_limit = json.loads(json.dumps(gate).replace('"40m"', '"1s"'))
    passed, context = runner.job(with_limit, event)
    outputs = context["steps"]["gate"]["outputs"]
    assert not passed and outputs["verdict"] == "inconclusive" and outputs["exit-code"] == "3"
    assert "stopped by --max-time 1s" in runner.summary
    status = json.loads((runner.workspace / outputs["run"] / "run.json").read_text())
    assert status["status"] == "budget reached"

    passed, context = runner.job(gate, event)  # goes on with the images of the cache
    outputs = context["steps"]["gate"]["outputs"]
    assert not passed and outputs["verdict"] == "inconclusive"
    assert "stopped by" not in runner.summary and "fewer than the policy" in runner.summary
    artifacts = sorted(p.name for p in (tmp_path / "runner/artifacts/xbench-gate").iterdir())
    assert artifacts == ["gate.json", "xbench-gate.md", "xbench-gate.xml"]
    comments = [call for call in runner.calls if call.startswith("gh ")]
    assert comments == ["gh pr comment 7 --body-file xbench-gate.md"] * 2

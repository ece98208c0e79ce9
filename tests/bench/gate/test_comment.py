"""The comment of a gate: short for any number of tests, with the images that lost most."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import CliRunner, Result
from huggingface_hub import constants
from markdown_it import MarkdownIt
from PIL import Image

from bench.cli.main import main
from bench.gate import as_markdown, compare, load_policy
from bench.gate.worst import MAX_PAIRS
from bench.publish import publish_run
from bench.store import RunStore, records
from tests.bench.dataset_hub import REPOSITORY, TOKEN, DatasetHub
from tests.bench.gate.gate_runs import POLICY, write_run
from tests.bench.gate.test_published_baseline import publishable
from tests.bench.gate.test_report import outline
from tests.plugins_manifest.test_outputs import HOSTILE

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a baseline, a copy, a worse candidate, all with images, and a policy."""
    root = tmp_path_factory.mktemp("runs")
    publishable(write_run(root / "baseline", n_cases=30, seeds=(0,)))
    publishable(write_run(root / "copy", n_cases=30, seeds=(0,)))
    worse = write_run(
        root / "worse",
        n_cases=30,
        seeds=(0,),
        noise_seed=2,
        mapper="d" * 64,
        losses={"edge-f1": 0.3},
    )
    publishable(worse)
    (root / "policy.yaml").write_text(yaml.safe_dump({**POLICY, "min_prompts": 15}))
    return root


@pytest.fixture(scope="module")
def facts(runs: Path) -> dict[str, Any]:
    policy = load_policy(runs / "policy.yaml")
    return compare(runs / "baseline", runs / "worse", policy).facts


def gate(runs: Path, *words: object) -> Result:
    own = [str(runs / "baseline"), str(runs / "worse"), "--policy", str(runs / "policy.yaml")]
    return CliRunner().invoke(main, ["gate", *own, *map(str, words)])


def links_of(text: str) -> list[str]:
    tokens = MarkdownIt("gfm-like", {"linkify": False}).parse(text)
    inline = [child for token in tokens for child in token.children or ()]
    return [str(one.attrs["src"]) for one in inline if one.type == "image"]


@pytest.mark.parametrize("n_tests", [1, 15, 16, 1000])
def test_a_comment_of_any_number_of_tests_is_below_60_lines_and_worst_first(
    facts: dict, n_tests: int
) -> None:
    one = next(test for test in facts["tests"] if test["verdict"] == "regression")
    many = [{**one, "plugin": f"plugin-{i}", "verdict": "pass"} for i in range(n_tests - 1)]
    links = [{"baseline": "https://a.example/b", "candidate": "https://a.example/c"}] * 3
    text = as_markdown({**facts, "tests": [*many, one]}, links)
    lines = text.splitlines()
    assert len(lines) < 60 and len(text.encode()) < 60_000
    assert lines[2].startswith("The candidate is worse than the baseline (1 of ")
    rows = [line for line in lines if line.startswith("| \u274c") or line.startswith("| \u2705")]
    assert rows[0].startswith(f"| \u274c | {one['plugin']} |") and len(rows) == min(n_tests, 15)
    left = f"{n_tests - 15:,} more tests"
    assert (left in text and "gate.json" in text) == (n_tests > 15)


def test_sentences_of_very_many_regressions_are_counted(facts: dict) -> None:
    one = next(test for test in facts["tests"] if test["verdict"] == "regression")
    text = as_markdown({**facts, "tests": [one] * 1000})
    assert len(text.splitlines()) < 60 and "996 more such sentences are in gate.json" in text


def test_the_worst_pairs_lost_a_margin_or_more_and_the_worst_is_first(
    facts: dict, runs: Path
) -> None:
    pairs = facts["worst_pairs"]
    losses = [pair["baseline"] - pair["candidate"] for pair in pairs]
    assert len(pairs) == MAX_PAIRS and len({pair["case_id"] for pair in pairs}) == MAX_PAIRS
    stores = [RunStore.open(runs / name) for name in ("baseline", "worse")]
    scores = [
        {row["trial_id"]: row["value"] for row in records(store.scores_of("edge-f1"))}
        for store in stores
    ]
    trials = [
        {(r["case_id"], r["seed"], r["t0"]): r["trial_id"] for r in records(store.trials())
         if r["plugin"] == "net"} for store in stores
    ]  # fmt: skip
    every = [scores[0][trials[0][key]] - scores[1][trials[1][key]] for key in trials[0]]
    assert losses[0] == max(every) and losses == sorted(losses, reverse=True)
    assert min(losses) >= 0.05
    assert {pair["plugin"] for pair in pairs} == {"net"}


def test_pictures_are_written_beside_the_comment_and_linked_at_the_address(
    facts: dict, runs: Path, tmp_path: Path
) -> None:
    comment, folder = tmp_path / "gate.md", tmp_path / "gate-pictures"
    url = "https://host.example/pr(7)"
    result = gate(runs, "--markdown", comment, "--pictures-url", url)
    assert result.exit_code == 1, result.output
    links = links_of(comment.read_text())
    assert len(links) == 2 * MAX_PAIRS
    assert {link.rpartition("/")[0] for link in links} == {
        "https://host.example/pr%287%29/gate-pictures"
    }
    for link, side in zip(links, ["baseline", "candidate"] * MAX_PAIRS, strict=True):
        path = folder / link.rpartition("/")[2]
        pair = facts["worst_pairs"][int(path.name.split("-")[1]) - 1]
        run = RunStore.open(runs / {"baseline": "baseline", "candidate": "worse"}[side])
        original = run.folder / pair[f"{side}_image"]
        with Image.open(path) as shown, Image.open(original) as image:
            assert np.abs(np.subtract(shown.convert("RGB"), image, dtype=int)).max() < 8
    (folder / "pair-9-baseline-00000000.webp").write_bytes(b"of an earlier call")
    gate(runs, "--markdown", comment, "--pictures-url", ".")
    assert links_of(comment.read_text()) == [
        link.replace("https://host.example/pr%287%29/", "") for link in links
    ]
    assert len(list(folder.iterdir())) == 2 * MAX_PAIRS


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--pictures-url", "."], "needs --markdown"),
        (["--markdown", "gate.md", "--pictures-url", "javascript:alert(1)"], "--pictures-url"),
        (["--markdown", "gate.md", "--pictures-url", "https://u:p@host/"], "password"),
        (["--markdown", "gate.md", "--pictures-url", "https://host/) <b>"], "characters"),
    ],
)
def test_an_address_that_no_comment_can_have_is_refused_before_anything_is_written(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], why: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = gate(runs, *words)
    assert result.exit_code == 2 and why in result.output
    assert list(tmp_path.iterdir()) == []


def test_files_of_others_are_not_in_the_way_of_pictures(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "gate-pictures").mkdir()
    (tmp_path / "gate-pictures" / "holiday.jpg").write_bytes(b"mine")
    result = gate(runs, "--markdown", tmp_path / "gate.md", "--pictures-url", ".")
    assert result.exit_code == 2 and "holiday.jpg" in result.output


def test_without_an_address_the_pairs_have_scores_and_no_picture(
    runs: Path, tmp_path: Path
) -> None:
    comment = tmp_path / "gate.md"
    gate(runs, "--markdown", comment)
    text = comment.read_text()
    assert links_of(text) == [] and text.count("net, edge-f1 (X-Adapter") == MAX_PAIRS
    assert [path.name for path in tmp_path.iterdir()] == ["gate.md"]


def test_a_published_baseline_is_displayed_from_where_it_is(
    runs: Path, tmp_path: Path, online: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    with DatasetHub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        pinned = publish_run(runs / "baseline", f"hf://datasets/{REPOSITORY}").baseline
        comment = tmp_path / "gate.md"
        words = ["gate", str(pinned), str(runs / "worse"), "--policy", str(runs / "policy.yaml")]
        result = CliRunner().invoke(main, [*words, "--markdown", str(comment)])
        assert result.exit_code == 1, result.output
        links = links_of(comment.read_text())
        base = f"{server.url}/datasets/{REPOSITORY}/resolve/main/"
        assert len(links) == MAX_PAIRS and all(link.startswith(base) for link in links)
        assert all(link.removeprefix(base) in server.files for link in links)


def test_identical_runs_have_no_worst_pair(runs: Path, tmp_path: Path) -> None:
    policy = load_policy(runs / "policy.yaml")
    found = compare(runs / "baseline", runs / "copy", policy).facts
    assert found["worst_pairs"] == []
    assert "largest losses of single" not in as_markdown(found)


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_prompt_changes_nothing_but_its_own_text(facts: dict, text: str) -> None:
    links = [{"baseline": "https://a.example/b", "candidate": "https://a.example/c"}] * 3

    def commented(words: str) -> str:
        changed = copy.deepcopy(facts)
        for pair in changed["worst_pairs"]:
            pair |= {"prompt": words, "plugin": words, "metric": words}
        return as_markdown(changed, links)

    assert outline(commented(text)) == outline(commented("x"))
    assert links_of(commented(text)) == links_of(commented("x"))


def test_an_outcome_of_an_earlier_version_has_a_comment(facts: dict) -> None:
    old = json.loads(json.dumps({k: v for k, v in facts.items() if k != "worst_pairs"}))
    assert "gate: regression" in as_markdown(old)

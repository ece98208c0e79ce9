import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bench.cli import main


@pytest.fixture(autouse=True)
def no_weights(monkeypatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XBENCH_METRIC_WEIGHTS", str(tmp_path / "weights"))
    return tmp_path / "weights"


def call(*words: str) -> Result:
    return CliRunner().invoke(main, ["metrics", *words])


def test_the_list_tells_what_runs_here_from_what_wants_weights() -> None:
    lines = call("list").stdout.splitlines()
    titles = [line for line in lines if not line.startswith("  ")]
    assert len(titles) == 3 and "xbench metrics fetch" in titles[2]
    needy = lines[lines.index(titles[2]) :]
    assert any("clip-score" in line and "[clip-vit-l-14]" in line for line in needy)
    assert not any("edge-f1" in line for line in needy)
    assert max(map(len, lines)) <= 130


def test_the_list_as_json_has_the_message_about_weights(no_weights: Path) -> None:
    facts = {fact["name"]: fact for fact in json.loads(call("list", "--json").stdout)}
    assert facts["fid"]["level"] == "group" and facts["fid"]["recipe"] is None
    assert str(no_weights) in facts["fid"]["unavailable"]
    assert facts["edge-f1"]["unavailable"] is None


def test_a_self_test_without_weights_fails_only_where_it_is_asked_for() -> None:
    good = call("selftest", "edge-f1", "tile-psnr")
    assert good.exit_code == 0 and good.stdout.split() == ["edge-f1", "ok", "tile-psnr", "ok"]
    asked = call("selftest", "fid")
    assert asked.exit_code == 1 and "xbench metrics fetch inception-2015-12-05" in asked.stdout
    assert call("selftest", "no-such").exit_code == 2


def test_fetch_lists_what_there_is_and_refuses_unknown_names(no_weights: Path) -> None:
    listed = call("fetch", "--list").stdout
    assert "dinov2-large" in listed and "Apache-2.0" in listed
    refused = call("fetch", "dinov3")
    assert refused.exit_code == 2 and "dinov2-large" in refused.stderr
    assert not no_weights.exists()
